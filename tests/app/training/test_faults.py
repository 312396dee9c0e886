"""What goes wrong in training is reported, and loses nothing that was finished."""

import errno
import json
import math
import os
import re
import shutil
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import tasks
from app import train
from app.serving import export
from app.training import loop, memory, run_state
from tests.app.test_train import assert_same_as_published, fails, trained
from tests.conftest import SMALL, labelled, where
from tests.support.fitted import fitted

TWO = ["--epochs", "2", "--patience", "2", "--batch-tokens", "64"]
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def command(corpus, folder, *more):
    flags = [*SMALL, "--learning-rate", "0.03", *TWO, *where(folder), *more]
    return ["sentiment", "--data", str(corpus), *flags]


def run_of(folder):
    (path,) = (folder / "runs/sentiment").iterdir()
    return path


def epochs(run):
    with np.load(run / "state.npz") as state:
        return json.loads(str(state["progress"]))["epoch"]


def train_one_epoch(corpus, folder):
    """Trains one epoch of two, and then stops as by Ctrl-C."""
    save = run_state.Run.save

    def save_and_die(self, progress, groups):
        save(self, progress, groups)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run_state.Run, "save", save_and_die)
        train.main(command(corpus, folder))
    return run_of(folder)


@pytest.fixture(scope="module")
def one_epoch(tmp_path_factory):
    """The folder of runs after one epoch of two on a corpus as `corpus` is."""
    folder = tmp_path_factory.mktemp("one_epoch")
    train_one_epoch(labelled(folder / "corpus"), folder)
    return folder / "runs"


def one_epoch_kept(one_epoch, folder):
    """Copies the run of one epoch to a folder."""
    shutil.copytree(one_epoch, folder / "runs")
    return run_of(folder)


def test_a_loss_that_is_no_number_names_the_lines_of_its_batch(
    corpus, tmp_path, monkeypatch, capsys
):
    lines = (corpus / "train.tsv").read_text().splitlines()
    lines[6] = "poison and nothing else here\tgood"
    (corpus / "train.tsv").write_text("\n".join(lines))
    kept = train_one_epoch(corpus, tmp_path)
    task_class = tasks.find("sentiment")
    to_inputs = task_class.to_inputs

    def poisoned(self, encoded, *, training):
        bad = self.words.encode(tf.constant(["poison"]))[0]
        weight = tf.where(tf.reduce_any(encoded["ids"] == bad, axis=1), math.nan, 1.0)
        return *to_inputs(self, encoded, training=training), weight

    with monkeypatch.context() as patch:
        patch.setattr(task_class, "to_inputs", poisoned)
        said = fails(capsys, train.main, command(corpus, tmp_path))
    assert re.search(r"the loss is nan in epoch 2, step \d+: lower --learning-rate", said)
    assert "1 finished epochs are kept" in said and epochs(kept) == 1
    named = re.search(
        rf"of that batch: {re.escape(str(corpus))}/train.tsv:([\d, ]+)$", said, re.MULTILINE
    )
    numbers = [int(number) for number in named[1].split(",")]
    assert 7 in numbers and len(set(numbers)) == len(numbers) <= 64 // 5
    assert all(1 <= number <= 40 for number in numbers)


def test_a_model_that_is_no_number_after_an_epoch_is_not_kept(corpus, tmp_path, capsys):
    more = [
        "--learning-rate",
        "1e38",
        "--clip-norm",
        "0",
        "--batch-tokens",
        "1024",
    ]  # an epoch is one step
    said = fails(capsys, train.main, command(corpus, tmp_path, *more))
    assert "the validation loss is nan after epoch 1: lower --learning-rate" in said
    assert not (run_of(tmp_path) / "state.npz").exists()


def test_out_of_memory_halves_the_batches_and_goes_on(corpus, tmp_path, monkeypatch, capsys):
    met = []

    def exhausted(self, step, logs=None):
        met.append(step)
        if len(met) in (7, 8):  # in the second epoch, and again when it is tried anew
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    with monkeypatch.context() as patch:
        patch.setattr(keras.callbacks.TensorBoard, "on_train_batch_end", exhausted)
        version = train.main(command(corpus, tmp_path))
    said = capsys.readouterr().out
    assert re.findall(r"out of memory: continuing .* with --batch-tokens (\d+)", said) == [
        "32",
        "16",
    ]
    assert [int(epoch) for epoch in re.findall(r"Epoch (\d)/2", said)] == [1, 2, 2, 2]
    record = json.loads((version / "assets.extra/run.json").read_text())
    assert (record["epochs"], record["batch_tokens"]) == (2, 16)
    assert record["config"]["batch_tokens"] == 64
    fitted(train.main, command(corpus, tmp_path, "--epochs", "3", "--patience", "3"))
    resumed = capsys.readouterr().out
    assert f"{len(met[8:])}/{len(met[8:])} - " in resumed  # as many steps as it came down to


def test_a_network_beyond_the_memory_is_refused(corpus, tmp_path, monkeypatch, capsys):
    def exhausted(config, steps):
        place = "{{function_node __wrapped__Fill_device_/job:localhost/device:CPU:0}} "
        message = "OOM when allocating tensor with shape[9,9] on /job:localhost/replica:0"
        raise tf.errors.ResourceExhaustedError(None, None, place + message)

    monkeypatch.setattr(loop, "optimizer_of", exhausted)
    said = fails(capsys, train.main, command(corpus, tmp_path))
    assert "network do not fit into memory (OOM when allocating tensor with shape[9,9]);" in said


def test_a_budget_beyond_the_memory_of_a_cpu_is_refused(corpus, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    said = fails(capsys, train.main, command(corpus, tmp_path))
    assert "--batch-tokens 64: a batch needs at least 0.0 GiB of memory" in said


def test_memory_counts_as_unlimited_where_the_system_does_not_report_it(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_CGROUP_LIMIT", tmp_path / "memory.max")
    if hasattr(os, "sysconf"):
        assert 0 < memory.available_bytes() < sys.maxsize
    monkeypatch.delattr(os, "sysconf", raising=False)  # as on Windows
    assert memory.available_bytes() == sys.maxsize
    for text, limit in (("max\n", sys.maxsize), ("4096\n", 4096)):
        (tmp_path / "memory.max").write_text(text)
        assert memory.available_bytes() == limit


def test_a_full_disk_is_an_error_and_the_last_state_is_kept(
    corpus, one_epoch, tmp_path, monkeypatch, capsys
):
    straight = fitted(trained, corpus, tmp_path / "straight", *TWO)
    kept = one_epoch_kept(one_epoch, tmp_path / "full")
    savez, draft = np.savez, export.draft
    argv = command(corpus, tmp_path / "full")

    def half(file, **arrays):
        file.write(b"half of it")
        raise FULL

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", half)
        said = fails(capsys, train.main, argv)
    assert "no space left on device. What was finished is kept" in said
    assert epochs(kept) == 1 and not list(kept.glob("state.npz.draft*"))

    def full(*args):
        draft(*args)
        raise tf.errors.ResourceExhaustedError(None, None, f"{args[-1]}; {FULL.strerror}")

    with monkeypatch.context() as patch:
        patch.setattr(export, "draft", full)
        assert "no space left" in fails(capsys, train.main, argv)
    assert epochs(kept) == 2 and np.savez is savez
    assert_same_as_published(straight, train.main(argv))


def test_an_unreadable_file_is_an_error(corpus, one_epoch, tmp_path, monkeypatch, capsys):
    kept, argv = one_epoch_kept(one_epoch, tmp_path), command(corpus, tmp_path)
    opened = Path.open

    def closed(self, *args, **options):
        if self.name == "train.tsv":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return opened(self, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", closed)
        said = fails(capsys, train.main, argv)
        assert f"{corpus / 'train.tsv'}: cannot be read: Permission denied" in said
    file = str(corpus / "train.tsv")  # where a folder should be
    said = fails(capsys, train.main, [*argv, "--runs", file])
    assert f"--runs: {file} must be a folder that can be written" in said
    state = (kept / "state.npz").read_bytes()
    (kept / "state.npz").write_bytes(state[:-100])
    said = fails(capsys, train.main, argv)
    assert f"{kept / 'state.npz'}, the state of a run, cannot be read" in said
    assert (kept / "state.npz").read_bytes() == state[:-100]


def test_a_changed_corpus_is_reported_and_its_run_is_kept(corpus, one_epoch, tmp_path, capsys):
    kept = one_epoch_kept(one_epoch, tmp_path)
    before = (corpus / "train.tsv").read_text()
    (corpus / "train.tsv").write_text(before + "one film more\tgood\n")
    fitted(train.main, command(corpus, tmp_path))
    assert (
        f"starting a new run; {kept} belongs to other data and is kept" in capsys.readouterr().out
    )
    assert epochs(kept) == 1
    (corpus / "train.tsv").write_text(before)
    assert fitted(train.main, command(corpus, tmp_path)).progress.epoch == 2
    assert f"resuming {kept} after epoch 1" in capsys.readouterr().out
