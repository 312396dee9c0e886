"""The command that lists encoded examples and removes stale ones, and nothing else."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from filelock import FileLock

import tasks
from app import cache
from app.training import cached_corpora
from app.training.example_cache import EncodedExamples
from app.training.run_state import Run
from tests.app.test_train import fails, trained
from tests.support import untrained

ROOT = Path(__file__).parents[2]
DAY = 24 * 60 * 60
OLD, RECENT, HALF = (letter * 16 for letter in "abc")


def make(runs, name, days=0, parts=("train", "valid"), task="sentiment"):
    """Writes the files of an encoded corpus that was last used some days ago."""
    folder = runs / "encoded" / task / name
    for part in ("train", "valid"):
        (folder / part).mkdir(parents=True)
        (folder / part / "lock").touch()
        (folder / part / "00000.tfrecord").write_bytes(b"x" * 2**19)
        if part in parts:
            (folder / part / "encoded.json").write_text("{}")
            used = time.time() - days * DAY
            os.utime(folder / part / "encoded.json", (used, used))
    return folder


def refer(runs, corpus, name="run"):
    """Writes the folder of a run that uses an encoded corpus."""
    folder = runs / corpus.parent.name / name
    folder.mkdir(parents=True)
    (folder / "cache.txt").write_text(corpus.name + "\n")
    return folder


@pytest.fixture
def runs(tmp_path):
    """A folder of runs with three encoded corpora."""
    make(tmp_path, OLD, days=40)
    refer(tmp_path, make(tmp_path, RECENT, days=5))
    make(tmp_path, HALF, parts=["train"], task="tagging")
    return tmp_path


def output(capsys, runs, *flags):
    cache.main(["--runs", str(runs), *flags])
    return capsys.readouterr().out.splitlines()


def names(runs):
    return {path.name for path in (runs / "encoded").glob("*/*")}


def test_it_lists_task_size_last_use_and_whether_a_run_refers_to_it(runs, capsys):
    before = sorted(runs.rglob("*"))
    header, *rows, total = output(capsys, runs)
    assert header.split() == ["task", "folder", "size", "last", "used", "run", "state"]
    assert total == "3 in all, 3.0 MiB"
    folders = [runs / "encoded" / path for path in (f"sentiment/{OLD}", f"sentiment/{RECENT}")]
    folders.append(runs / "encoded/tagging" / HALF)
    states = [("no", "not used for 40 days"), ("yes", "complete"), ("no", "incomplete")]
    for row, folder, (run, state) in zip(rows, folders, states, strict=True):
        assert row.split()[:4] == [folder.parent.name, str(folder), "1.0", "MiB"]
        assert row.endswith(state) and f"  {run}  " in row
    day = time.strftime("%Y-%m-%d", time.localtime(time.time() - 40 * DAY))
    assert day in rows[0]
    assert sorted(runs.rglob("*")) == before


def test_it_removes_what_is_unused_or_incomplete_and_says_so(runs, capsys):
    first, second, total = output(capsys, runs, "--remove")
    assert first.endswith(f"{OLD}: 1.0 MiB, not used for 40 days")
    assert second.endswith(f"{HALF}: 1.0 MiB, incomplete")
    assert total == "2 of 3 removed, 2.0 MiB freed"
    assert names(runs) == {RECENT}
    assert output(capsys, runs, "--remove") == ["0 of 1 removed, 0.0 MiB freed"]
    output(capsys, runs, "--remove", "--unused-days", "5")
    assert not names(runs) and (runs / "sentiment/run/cache.txt").exists()
    assert output(capsys, runs) == [f"no encoded examples in {runs / 'encoded'}"]


@pytest.mark.parametrize("part", ["train", "valid"])
def test_what_a_process_encodes_is_kept(runs, capsys, part):
    with FileLock(runs / "encoded/tagging" / HALF / part / "lock"):
        assert len(output(capsys, runs, "--remove")) == 2
    assert names(runs) == {RECENT, HALF}


def test_what_a_process_trains_from_is_kept(runs, capsys):
    refer(runs, runs / "encoded/sentiment" / OLD, "other")
    run = Run(refer(runs, runs / "encoded/tagging" / HALF))
    training = Run(runs / "sentiment/other")
    output(capsys, runs, "--remove")
    assert names(runs) == {OLD, RECENT, HALF}
    run.close()
    training.close()
    output(capsys, runs, "--remove")
    assert names(runs) == {RECENT}


def test_what_is_used_while_it_is_removed_is_kept(runs, monkeypatch):
    find = cached_corpora.find

    def find_and_use(folder):
        corpora = find(folder)
        cached_corpora.mark_used(runs / "encoded/sentiment" / OLD / "train")
        return corpora

    monkeypatch.setattr(cached_corpora, "find", find_and_use)
    removed = [corpus.folder.name for corpus, _ in cached_corpora.remove_stale(runs, 30)]
    assert removed == [HALF] and names(runs) == {OLD, RECENT}


def test_other_files_are_kept(runs, capsys, tmp_path_factory):
    others = [
        runs / "encoded/sentiment" / OLD / "train/notes.txt",
        runs / "encoded/sentiment/notes/train/00000.tfrecord",
        runs / "encoded/notes.txt",
        runs / "sentiment/run/state.npz",
    ]
    for path in others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    output(capsys, runs, "--remove", "--unused-days", "0")
    assert all(path.read_text() == "mine" for path in others)
    assert not list((runs / "encoded").glob("*/*/*/encoded.json"))
    kept = {path.name for path in (runs / "encoded/sentiment" / OLD).rglob("*")}
    assert kept == {"train", "notes.txt"}


def test_a_process_that_waits_for_a_removed_folder_encodes_there_again(tmp_path):
    examples = untrained.examples("sentiment", 8)
    (tmp_path / "assets").mkdir()
    task = tasks.find("sentiment").learn(
        tasks.find("sentiment").Config(**untrained.SMALL), examples, tmp_path / "assets"
    )
    folder = make(tmp_path, OLD, days=40) / "train"
    lock, parts = FileLock(folder / "lock"), []
    lock.acquire()
    waiting = threading.Thread(
        target=lambda: parts.append(EncodedExamples.write(task, examples, folder))
    )
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    lock.release()
    waiting.join(60)
    assert len(parts[0]) == 8 and (folder / "encoded.json").exists()


def test_training_marks_what_it_uses(corpus, tmp_path, capsys):
    trained(corpus, tmp_path)
    (first,) = cached_corpora.find(tmp_path / "runs")
    (run,) = (tmp_path / "runs/sentiment").iterdir()
    assert first.complete and first.task == "sentiment" and first.runs == (run,)
    shards = list(first.folder.rglob("*.tfrecord"))
    assert first.size > sum(path.stat().st_size for path in shards) > 0
    for path in first.folder.rglob("encoded.json"):
        os.utime(path, (0, 0))
    before = {path: path.stat().st_mtime_ns for path in shards}
    trained(corpus, tmp_path, "--units", "9")
    (again,) = cached_corpora.find(tmp_path / "runs")
    assert len(again.runs) == 2 and abs(again.last_used - time.time()) < DAY
    assert {path: path.stat().st_mtime_ns for path in shards} == before


def test_a_negative_number_of_days_is_an_error(capsys, tmp_path):
    message = fails(capsys, cache.main, ["--runs", str(tmp_path), "--unused-days", "-1"])
    assert "--unused-days must be at least 0, got -1." in message


def test_the_help_ends_with_an_example_and_needs_no_tensorflow():
    script = "import sys, runpy; sys.argv = ['cache', '--help']\ntry:\n"
    script += "  runpy.run_module('app.cache', run_name='__main__')\nfinally:\n"
    script += "  assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules"
    process = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.rstrip().endswith("python -m app.cache --remove --unused-days 7")
