"""Settings from files: YAML, JSON, records of versions; errors that name the file."""

import dataclasses
import json
import shlex

import pytest
import yaml

import tasks
from app import cli, train
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
        ("units: [3]", r"units must be a text, a number, true or false, got \[3\]"),
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
