"""Settings from files: YAML, JSON, records of versions; errors that name the file."""

import argparse
import dataclasses
import importlib
import json
import shlex

import pytest
import yaml

import tasks
from app import cache, cli, inspect_data, train
from app.__main__ import commands
from app.core import config_file
from tasks.core.errors import UserError
from tests.conftest import SMALL, where


def settings_of(capsys, monkeypatch, argv):
    """The settings that `app.train` would train with."""
    found = []
    monkeypatch.setattr("app.training.pipeline.train", lambda *args: found.append(args))
    train.main(argv)
    (_, config, corpus, options) = found[0]
    return config, corpus, options


@pytest.mark.parametrize("kind", ["yaml", "json"])
def test_flags_take_precedence_over_a_file(kind, tmp_path, capsys, monkeypatch):
    content = {
        "units": 7,
        "learning_rate": 0.5,
        "batch-tokens": None,
        "calibrate": False,
        "cell": {"equation": "gru", "bias": {"update": 1.0}},
        "data": "sample",
    }
    path = tmp_path / f"settings.{kind}"
    path.write_text(json.dumps(content) if kind == "json" else yaml.safe_dump(content))
    argv = ["sentiment", "--config", str(path), "--learning-rate", "0.25"]
    config, corpus, _ = settings_of(capsys, monkeypatch, argv)
    assert (config.units, config.learning_rate, config.calibrate) == (7, 0.25, False)
    assert config.batch_tokens is None and corpus.data == "sample"
    cell = json.loads(config.cell)
    assert cell["equation"] == "gru" and cell["bias"] == {"update": 1.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("unit: 3", "has the setting 'unit', which does not exist; did you mean units?"),
        ("[1, 2]", "must have a value for each setting, such as units: 64, got list"),
        ("units: [3]", r"units must be a string, a number, true or false, got \['3'\]"),
        ("data: '--'", "data must be a string, a number, true or false, got '--'"),
        ("units: 3\nunits: 4", "has 'units' twice"),
        ('{"units": 3, "units": 4}', "has 'units' twice"),
        (
            "learning-rate: 1\nlearning_rate: 2",
            "'learning-rate' and 'learning_rate', which are one",
        ),
        ("rate: 1\nlearning_rate: 2", "has 'rate' and 'learning_rate', which are one setting"),
        ("data:", "data has no value; add one, or remove the line"),
        ("units: null", "units has no value"),
        ("fold_case: maybe", "fold_case must be true or false, got 'maybe'"),
        ("fold_case: 0", "fold_case must be true or false, got '0'"),
        ('{"name": true}', "name must not be true or false; put a text in quotes"),
        ("a: b: c", "is neither YAML nor JSON"),
        ("[" * 100_000, "is neither YAML nor JSON"),
        ('{"task": "tagging", "config": {"units": 3}}', "is a record of tagging, got the task"),
        (b"\xff\xfe\x00", "is not UTF-8"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_file_that_is_invalid_is_an_error(text, message, tmp_path):
    path = tmp_path / "settings"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=f"--config: .*{message}"):
        train.main(["sentiment", "--config", str(path)])


def test_a_value_that_is_invalid_is_an_error_of_its_flag(tmp_path, capsys):
    path = tmp_path / "settings"
    path.write_text("units: many")
    with pytest.raises(SystemExit):
        cli.run(lambda: train.main(["sentiment", "--config", str(path)]))
    assert "--units" in capsys.readouterr().err


def test_a_record_and_its_command_repeat_a_run(corpus, tmp_path, capsys, monkeypatch):
    flags = [*SMALL, "--label-smoothing", "0.05", "--no-calibrate", "--report-examples", "0"]
    version = train.main(["sentiment", "--data", str(corpus), *flags, *where(tmp_path)])
    output = capsys.readouterr().out
    (line,) = (line for line in output.splitlines() if line.startswith("repeat "))
    record = json.loads((version / "assets.extra/run.json").read_text())
    page = (version / "assets.extra/report.html").read_text()
    for text in (json.dumps(record), page):
        assert str(tmp_path) not in text and str(corpus) not in text
        assert "app.train sentiment" in text
    assert "most confident" not in page  # examples of the test part
    assert "stopped after epoch 1: --epochs is 1" in output

    words = shlex.split(line.removeprefix("repeat "))
    assert words[:4] == ["python", "-m", "app.train", "sentiment"]
    expected = settings_of(capsys, monkeypatch, words[3:])[:2]
    path = version / "assets.extra/run.json"
    argv = ["sentiment", "--config", str(path), "--data", str(corpus)]
    # What was chosen by the size of the training part is in the record, too.
    assert dataclasses.asdict(settings_of(capsys, monkeypatch, argv)[0]) == record["config"]
    assert expected[0].label_smoothing == 0.05 and expected[1].data == str(corpus)


def test_every_setting_of_every_task_can_be_in_a_file(tmp_path, capsys, monkeypatch):
    for name in tasks.names():
        cls = tasks.declaration(name)
        path = tmp_path / name
        path.write_text(yaml.safe_dump(dataclasses.asdict(cls.Config())))
        argv = [name, "--config", str(path), "--no-calibrate"]
        expected = cls.Config(calibrate=False) if hasattr(cls.Config, "calibrate") else cls.Config()
        argv = argv if hasattr(cls.Config, "calibrate") else argv[:-1]
        assert settings_of(capsys, monkeypatch, argv)[0] == expected


# --- Other commands ----------------------------------------------------------


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_reads_a_file(name, capsys):
    module = importlib.import_module(f"app.{name}")
    first = {"study": [["adding"], ["memory"], ["evolve"]], "look": [["gradients"], ["tagging"]]}
    takes_task = name not in ("cache", "cells", "demo", "deploy", "models")
    for words in first.get(name, [["sentiment"]] if takes_task else [[]]):
        with pytest.raises(SystemExit):
            module.main([*words, "--help"])
        output = capsys.readouterr().out
        assert "--config FILE" in output
        assert "\nexample" in output


@pytest.mark.parametrize("kind", ["yaml", "json"])
def test_each_kind_of_flag_can_be_in_a_file(kind, tmp_path):
    parser = cli.Parser("python -m app.models")
    parser.add_argument("model", nargs="?")
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--title", default="")
    parser.add_argument("--pair", nargs=2)
    parser.add_argument("--list", nargs="+", type=int, default=[])
    parser.add_argument("--folder", action="append", default=[])
    parser.add_argument("--switch", action="store_true")
    parser.add_argument("--no-tuning", dest="tuning", action="store_false")
    parser.add_argument("--other", action=argparse.BooleanOptionalAction, default=True)
    content = {
        "count": 3,
        "title": "-x y",
        "pair": ["a", "b"],
        "list": [1, 2],
        "folder": ["c", "d"],
        "switch": True,
        "no-tuning": True,
        "other": False,
    }
    path = tmp_path / "settings"
    path.write_text(json.dumps(content) if kind == "json" else yaml.safe_dump(content))
    values = vars(parser.parse_args(["--config", str(path), "films", "--count", "4"]))
    assert values == {
        "config": path,
        "model": "films",
        "count": 4,
        "title": "-x y",
        "pair": ["a", "b"],
        "list": [1, 2],
        "folder": ["c", "d"],
        "switch": True,
        "tuning": False,
        "other": False,
    }
    path.write_text(json.dumps({"switch": False, "no_tuning": False, "list": [5]}))
    values = vars(parser.parse_args(["films", f"--config={path}"]))
    assert (values["switch"], values["tuning"], values["list"]) == (False, True, [5])


def test_values_in_yaml_are_as_they_are_written(tmp_path, capsys, monkeypatch):
    path = tmp_path / "settings"
    lines = ["name: on", "text_key: Yes", "label_key: off", "data: 007", "learning_rate: 1e-3"]
    lines += ["fold_case: off", "batch_tokens: ~", "cell: {equation: lstm, bias: {forget: 2}}"]
    path.write_text("\n".join(lines))
    monkeypatch.setattr("tasks.corpora.labelled_text.LabelledTexts.check_paths", lambda self: None)
    check = "tasks.corpora.labelled_text.LabelledTexts.check_first_examples"
    monkeypatch.setattr(check, lambda self: None)
    argv = ["sentiment", "--config", str(path)]
    config, corpus, options = settings_of(capsys, monkeypatch, argv)
    assert (corpus.text_key, corpus.label_key, corpus.data) == ("Yes", "off", "007")
    assert (options.model, config.learning_rate, config.fold_case) == ("on", 0.001, False)
    assert json.loads(config.cell)["bias"] == {"forget": 2} and config.batch_tokens is None


def test_words_for_true_and_false_are_values_of_flags_with_yes_and_no(tmp_path):
    parser = cli.Parser("python -m app.models")
    parser.add_argument("--tree", nargs="+", metavar=config_file.YES_NO)
    parser.add_argument("--runs", nargs="?", const="runs")
    path = tmp_path / "settings"
    for text, tree, runs in (
        ("tree: true\nruns: yes", ["yes"], "runs"),
        ('{"tree": [true, false], "runs": false}', ["yes", "no"], None),
        ("tree: [on, no]\nruns: folder", ["yes", "no"], "folder"),
    ):
        path.write_text(text)
        args = parser.parse_args(["--config", str(path)])
        assert (args.tree, args.runs) == (tree, runs)


def test_a_record_gives_other_commands_the_settings_that_they_have(tmp_path, capsys, monkeypatch):
    record = {"task": "sentiment", "config": {"units": 3, "target": "number"}}
    path = tmp_path / "run.json"
    path.write_text(json.dumps(record))
    corpora = []
    monkeypatch.setattr(
        "tasks.corpora.labelled_text.LabelledTexts.check_paths", lambda self: corpora.append(self)
    )
    monkeypatch.setattr("tasks.core.survey.survey", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        inspect_data.main(["sentiment", "--config", str(path)])
    assert corpora[0].target == "number"
    path.write_text("unused-day: 1")
    with pytest.raises(UserError, match="'unused-day', which does not exist; did you mean unused"):
        cache.main(["--config", str(path)])


def test_a_version_to_continue_is_not_named_in_a_file(tmp_path):
    path = tmp_path / "settings"
    path.write_text("from: 3")
    with pytest.raises(UserError, match="--from must be on the command line, not in a file"):
        train.main(["sentiment", "--config", str(path)])
