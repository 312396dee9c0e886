"""The command that lists, compares and removes published versions, and what training keeps."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app import cli, deploy, models
from app.training import run_state
from app.training.run_state import Progress, Run
from tasks.core.errors import UserError

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
        (extra.parent / "saved_model.pb").touch()
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


def test_folders_without_a_model_are_listed_and_never_removed(saved_models, capsys):
    files = [saved_models / "sentiment/11/note", saved_models / "diary/2024/note"]
    for path in files:
        path.parent.mkdir(parents=True)
        path.touch()
    run(saved_models)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines if "it has no saved_model.pb" in line] == [
        ["diary", "2024"],
        ["sentiment", "11"],
    ]
    run(saved_models, "--prune", "--keep", "1")
    with pytest.raises(
        UserError, match=r"sentiment/11 has no saved_model\.pb, so it is no version"
    ):
        run(saved_models, "sentiment", "--delete", "10", "11")
    assert numbers(saved_models) == [10, 11] and all(path.exists() for path in files)
    deploy.main(["--saved-models", str(saved_models), "--to", str(saved_models.parent / "deploy")])
    output = capsys.readouterr().out
    assert f"left out: {files[0].parent}, which has no saved_model.pb" in output
    assert "sentiment  10      10" in output and "diary  " not in output


def test_a_deployed_version_is_not_removed_by_another_path(saved_models, capsys):
    folder = saved_models.parent / "deploy"
    argv = ["--saved-models", str(saved_models), "--to", str(folder)]
    deploy.main([*argv, "--stable", "sentiment=1"])
    (saved_models / "alias").symlink_to("sentiment")
    run(saved_models, "alias", "--delete", "1")
    assert "not removed: " in capsys.readouterr().out and 1 in numbers(saved_models)
    (folder / "models.config").rename(folder / "elsewhere")
    (folder / "models.config").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"models\.config cannot be read: No such file"):
        run(saved_models, "sentiment", "--delete", "1")
    assert 1 in numbers(saved_models)


def test_links_and_what_an_interrupted_removal_left_are_removed(saved_models, capsys):
    (saved_models / "tagging/2").symlink_to(saved_models / "sentiment/1")
    (saved_models / "tagging/draft-removed-7").mkdir()
    run(saved_models, "tagging", "--delete", "2")
    assert "draft-removed-7, which an interrupted removal left" in capsys.readouterr().out
    assert sorted(path.name for path in (saved_models / "tagging").iterdir()) == ["1"]
    assert 1 in numbers(saved_models)


def test_versions_that_another_process_removes_do_not_stop_the_command(
    saved_models, capsys, monkeypatch
):
    published = models.find(saved_models)
    monkeypatch.setattr(models, "find", lambda folder: published)
    shutil.rmtree(saved_models / "sentiment/1")
    shutil.rmtree(saved_models / "sentiment/2/assets.extra")
    run(saved_models)
    assert "sentiment  2" in capsys.readouterr().out
    monkeypatch.setattr("app.serving.versions.is_complete", lambda folder: True)
    run(saved_models, "sentiment", "--prune", "--keep", "1")
    output = capsys.readouterr().out
    assert "sentiment/1, which another process has removed" in output
    assert numbers(saved_models) == [10]


@pytest.mark.parametrize(
    "entry",
    [
        {"config": None}, {"scores": None}, {"scores": {"accuracy": None}}, {"networks": 3},
        {"base": "sentiment/1"}, {"data": "sample"}, {"intervals": [1, 2]}, {"task": ["x"]},
    ],
)  # fmt: skip
def test_records_of_other_programs_are_listed_as_far_as_they_can_be_read(
    saved_models, capsys, entry
):
    path = saved_models / "sentiment/1/assets.extra/run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entry))
    run(saved_models)
    assert capsys.readouterr().out.count("\n") == 5
    run(saved_models, "--json")


def test_settings_of_earlier_formats_are_compared_by_their_present_names(saved_models, capsys):
    for number, config in ((1, {"rate": 0.5, "units": 3}), (2, {"learning_rate": 0.5, "units": 4})):
        path = saved_models / f"sentiment/{number}/assets.extra/run.json"
        path.write_text(json.dumps({"task": "sentiment", "config": config}))
    run(saved_models, "--compare", "sentiment/1", "sentiment/2")
    output = capsys.readouterr().out
    changed = [line.split()[0] for line in output.splitlines() if line.startswith("--")]
    assert changed == ["--units"]
    assert f"sentiment/2 --saved-models {saved_models}" in output


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
        (["--runs", "sentiment"], "sentiment is not a folder. For the runs of one model: python"),
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
    command = "python -m app.evaluate sentiment --compare sentiment/1 sentiment/2"
    assert last.endswith(f"{command} --saved-models {saved_models}")
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
    for name in ("notes.txt", "network-2.txt", "distilled-notes"):
        (runs / "sentiment" / ("c" * 16) / name).write_text("mine")
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
    left = sorted(path.name for path in removed.iterdir() if path.name != "lock")
    assert left == ["distilled-notes", "network-2.txt", "notes.txt"]
