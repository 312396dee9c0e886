"""The command that lists and removes published versions."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from app import cli, deploy, models

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
            "config": {"cell": "gru"},
            "data": {"source": "reviews.csv"},
            "base": {"version": "sentiment/1"} if number == 2 else None,
            "networks": [{}] * (3 if number == 10 else 0),
        }
        if model == "sentiment":
            (extra / "run.json").write_text(json.dumps(record), encoding="utf-8")
        else:
            (extra / "run.json").write_text("[" * 100_000, encoding="utf-8")
        (extra / "weights").write_bytes(bytes(2**20))
    (tmp_path / "saved_models/sentiment/draft-1").mkdir()
    return tmp_path / "saved_models"


def run(saved_models, *argv):
    folders = ["--saved-models", str(saved_models), "--deploy", str(saved_models.parent / "deploy")]
    models.main([*argv, *folders])


def numbers(saved_models, model="sentiment"):
    return sorted(int(p.name) for p in (saved_models / model).iterdir() if p.name.isdigit())


def test_every_version_is_listed_with_what_is_recorded(saved_models, capsys):
    run(saved_models)
    header, *rows = (line.split() for line in capsys.readouterr().out.splitlines())
    assert header[:3] == ["model", "version", "cell"]
    assert [row[:2] for row in rows] == [
        ["sentiment", "1"], ["sentiment", "2"], ["sentiment", "10"], ["tagging", "1"],
    ]  # fmt: skip
    assert "accuracy 0.1000 (0.2500 to 0.7500) sentiment/1" in " ".join(rows[1])
    assert rows[2][2:6] == ["gru", "x", "3", "reviews.csv"]
    assert all(row[-2:] in (["1.0", "MiB"], ["1.1", "MiB"]) for row in rows)
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
