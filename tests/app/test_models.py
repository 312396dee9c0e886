"""The command that lists, compares and removes published versions, and what training keeps."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app import cli, deploy, models
from app.training import run_state
from app.training.run_state import Progress, Run

ROOT = Path(__file__).parents[2]


@pytest.fixture
def saved_models(tmp_path):
    """Versions of two models, one of them without a record."""
    for model, number in (("sentiment", 1), ("sentiment", 2), ("sentiment", 10), ("tagging", 1)):
        extra = tmp_path / "saved_models" / model / str(number) / "assets.extra"
        extra.mkdir(parents=True)
        record = {
            "task": model,
            "scores": {"accuracy": number / 20, "macro_f1": 0.1},
            "intervals": {"accuracy": [0.25, 0.75]},
            "config": {"cell": "gru", "distill": number == 2},
            "data": {"source": "reviews.csv"},
            "base": {"version": "sentiment/1"} if number == 2 else None,
            "networks": [{}] * (0 if number == 1 else 3),
        }
        if model == "sentiment":
            (extra / "run.json").write_text(json.dumps(record), encoding="utf-8")
        else:
            (extra / "run.json").write_text("[" * 100_000, encoding="utf-8")
        (extra / "weights").write_bytes(bytes(2**20))
    (tmp_path / "saved_models/sentiment/draft-1").mkdir()
    return tmp_path / "saved_models"


def run(saved_models, *argv):
    deployment = saved_models.parent / "deploy"
    folders = ["--saved-models", str(saved_models)]
    folders += ["--deploy", str(deployment)] if deployment.exists() else []
    models.main([*argv, *folders])


def numbers(saved_models, model="sentiment"):
    return sorted(int(p.name) for p in (saved_models / model).iterdir() if p.name.isdigit())


def test_every_version_is_listed_with_what_is_recorded(saved_models, capsys):
    run(saved_models)
    header, *rows = (line.split() for line in capsys.readouterr().out.splitlines())
    assert header[:3] == ["model", "version", "task"]
    assert [row[:2] for row in rows] == [
        ["sentiment", "1"], ["sentiment", "2"], ["sentiment", "10"], ["tagging", "1"],
    ]  # fmt: skip
    assert " ".join(rows[1]).endswith("accuracy 0.1000 (0.2500 to 0.7500), macro_f1 0.1000")
    assert rows[1][2:6] == ["sentiment", "gru", "reviews.csv", "sentiment/1"]
    assert rows[2][3:7] == ["gru", "x", "3", "reviews.csv"]
    assert all("1.0 MiB" in " ".join(row) or "1.1 MiB" in " ".join(row) for row in rows)
    run(saved_models, "sentiment", "--json")
    listed = json.loads(capsys.readouterr().out)
    assert [item["version"] for item in listed] == [1, 2, 10]
    assert listed[1]["scores"]["accuracy"] == 0.1 and listed[1]["bytes"] > 2**20


def test_named_versions_are_removed(saved_models, capsys):
    run(saved_models, "sentiment", "--delete", "1", "10")
    output = capsys.readouterr().out
    assert numbers(saved_models) == [2] and numbers(saved_models, "tagging") == [1]
    assert f"removed {saved_models / 'sentiment' / '1'}: 1.0 MiB" in output
    assert "the next version of sentiment will be 3 again" in output
    assert "2 of 2 removed, 2.0 MiB freed" in output
    assert not list(saved_models.glob("*/draft-removed-*"))


def test_a_removal_that_was_interrupted_before_does_not_prevent_one(saved_models, capsys):
    left = saved_models / "sentiment/draft-removed-1/assets.extra"
    left.mkdir(parents=True)
    (left / "weights").write_bytes(b"of an earlier version 1")
    run(saved_models, "sentiment", "--delete", "1")
    assert numbers(saved_models) == [2, 10]
    assert not list(saved_models.glob("*/draft-removed-*"))


def test_pruning_keeps_the_latest_and_what_is_deployed(saved_models, capsys):
    deploy.main(
        [
            "--saved-models",
            str(saved_models),
            "--to",
            str(saved_models.parent / "deploy"),
            "--stable",
            "sentiment=1",
        ]
    )
    capsys.readouterr()
    run(saved_models, "--prune", "--keep", "1")
    output = capsys.readouterr().out
    assert numbers(saved_models) == [1, 10] and numbers(saved_models, "tagging") == [1]
    assert "sentiment/1, which models.config names" in output
    assert "1 of 2 removed" in output and "again" not in output


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["sentiment", "--delete", "3"], "must be of the versions [1, 2, 10], got [3]"),
        (["--delete", "3"], "--delete needs the name of a model"),
        (["--prune", "--keep", "0"], "--keep must be at least 1, got 0"),
        (["translation"], "holds no published version of translation"),
        (["--prune", "--deploy", "elsewhere"], "elsewhere/models.config does not exist"),
        (["--clean"], "--clean needs --runs"),
        (["--compare", "1", "2"], "--compare needs the models, too, such as sentiment/1; got 1"),
        (["--compare", "sentiment/1", "sentiment/3"], "sentiment/10', 'tagging/1'], got sentime"),
        (["--compare", "sentiment/1", "tagging/1"], "tagging/1 has no record of its training"),
        (["--compare", "sentiment/1", "a/b/c"], "must be versions such as 3"),
    ],
)
def test_invalid_requests_remove_nothing(saved_models, capsys, argv, message):
    with pytest.raises(SystemExit):
        cli.run(lambda: run(saved_models, *argv))
    assert message in capsys.readouterr().err
    assert numbers(saved_models) == [1, 2, 10]


def test_the_list_needs_no_tensorflow(saved_models):
    script = "import sys, runpy\nsys.argv = ['models', '--saved-models', sys.argv[1]]\n"
    script += "runpy.run_module('app.models', run_name='__main__')\n"
    script += "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules"
    subprocess.run([sys.executable, "-c", script, str(saved_models)], cwd=ROOT, check=True)


def test_versions_that_a_server_has_without_a_label_are_not_removed(saved_models, capsys):
    folder = saved_models.parent / "deploy"
    deploy.main(["--saved-models", str(saved_models), "--to", str(folder)])
    text = (folder / "models.config").read_text().replace("versions: 10", "versions: [1, 10]")
    assert "[1, 10]" in text
    (folder / "models.config").write_text(text.replace('name: "sentiment"', 'name: "films"'))
    run(saved_models, "--prune", "--keep", "1")
    assert numbers(saved_models) == [1, 10]


def test_settings_and_scores_that_differ_are_compared(saved_models, capsys):
    path = saved_models / "sentiment/2/assets.extra/run.json"
    record = json.loads(path.read_text())
    record["config"] |= {"cell": "lstm", "units": 7}
    path.write_text(json.dumps(record))
    run(saved_models, "sentiment", "--compare", "1", "2")
    header, *rows, last = capsys.readouterr().out.splitlines()
    assert header.split() == ["sentiment/1", "sentiment/2"]
    assert {row.split()[0]: row.split()[1:] for row in rows} == {
        "--cell": ["gru", "lstm"],
        "--distill": ["false", "true"],
        "--units": ["7"],
        "continues": ["sentiment/1"],
        "score": [
            "accuracy",
            "0.0500",
            "(0.2500",
            "to",
            "0.7500)",
            "0.1000",
            "(0.2500",
            "to",
            "0.7500)",
        ],
    }
    assert last.endswith("python -m app.evaluate sentiment --compare sentiment/1 sentiment/2")
    run(saved_models, "--compare", "sentiment/10", "sentiment/10")
    assert "have the same settings" in capsys.readouterr().out


OLD = 40 * 24 * 60 * 60  # seconds


def trained_run(runs, letter, epochs, version=None, model="sentiment"):
    """Writes the state of a run that was last changed forty days ago."""
    open_run = Run(runs / model / (letter * 16))
    open_run.assets.mkdir()
    (open_run.assets / "config.json").write_text(json.dumps({"epochs": 3, "patience": 2}))
    published = [] if version is None else [{"version": version, "serving": {}}]
    open_run.save(Progress(epoch=epochs, history=[{"loss": 1.0}], published=published), {})
    open_run.close()
    age(open_run.folder)
    return open_run.folder


def age(folder):
    for path in folder.rglob("*"):
        os.utime(path, (path.stat().st_mtime - OLD, path.stat().st_mtime - OLD))


@pytest.fixture
def runs(saved_models):
    """Runs of which one has ended and is published as a version that exists, and six have not."""
    runs = saved_models.parent / "runs"
    for letter, epochs, version in (("a", 2, None), ("b", 3, None), ("c", 3, 2), ("d", 3, 7)):
        trained_run(runs, letter, epochs, version)
    trained_run(runs, "e", 3, 2)
    (runs / "sentiment" / ("e" * 16) / "state.npz").write_bytes(b"damaged")
    trained_run(runs, "f", 3, 10)  # of other settings: the number belongs to another version
    alone = trained_run(runs, "0", 3, 2)  # which has become the first network of an ensemble
    settings = {"epochs": 3, "patience": 2, "ensemble": 2, "distill": True}
    (alone / "assets" / "config.json").write_text(json.dumps(settings))
    age(alone)
    for number, epochs in ((2, 3), (10, 4)):
        assets = saved_models / "sentiment" / str(number) / "assets"
        assets.mkdir()
        (assets / "config.json").write_text(json.dumps({"epochs": epochs, "patience": 2}))
    return runs


def test_what_training_keeps_is_listed(saved_models, runs, capsys):
    run(saved_models, "--runs", str(runs))
    _, *rows, total = capsys.readouterr().out.splitlines()
    assert total.startswith("7 in all")
    states = [row.split("  ")[-1] for row in rows]
    assert states == [
        "unfinished, 1 of 3 networks",
        "unfinished, 2 of at most 3 epochs",
        "trained for 3 epochs, not published",
        "published as version 2",
        "published as version 7",
        "damaged",
        "published as version 10",
    ]
    run(saved_models, "tagging", "--runs", str(runs))
    assert "belongs to tagging" in capsys.readouterr().out


def test_a_run_that_has_just_begun_is_not_removed(saved_models, runs):
    begun = Run(runs / "sentiment" / ("9" * 16))
    run(saved_models, "--runs", str(runs), "--clean")
    assert begun.folder.is_dir()
    with pytest.raises(cli.UserError, match="another process is training the same run"):
        Run(begun.folder)
    begun.close()
    run(saved_models, "--runs", str(runs), "--clean")
    assert not begun.folder.exists()


def test_only_the_state_of_published_versions_is_removed(saved_models, runs, capsys):
    (runs / "sentiment" / ("c" * 16) / "notes.txt").write_text("mine")
    run(saved_models, "--runs", str(runs), "--clean", "--unused-days", "50")
    assert "0 removed" in capsys.readouterr().out
    with run_state.FileLock(runs / "sentiment" / ("c" * 16) / "lock"):
        run(saved_models, "--runs", str(runs), "--clean")
    assert "0 removed" in capsys.readouterr().out
    age(runs)
    run(saved_models, "--runs", str(runs), "--clean")
    output = capsys.readouterr().out
    assert "1 removed" in output and f"removed {runs / 'sentiment' / ('c' * 16)}" in output
    present = {path.parent.name[0] for path in runs.glob("*/*/state.npz")}
    assert present == set("0abdef")
    removed = runs / "sentiment" / ("c" * 16)
    assert [path.name for path in removed.iterdir() if path.name != "lock"] == ["notes.txt"]
