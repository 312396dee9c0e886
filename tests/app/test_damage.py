"""A flipped bit in stored state is reported, and never read as if it were whole."""

import dataclasses
import errno
import json

import numpy as np
import pytest

import tasks
from app.core import checksums
from app.serving import bulk
from app.training import run_state
from app.training.example_cache import EncodedExamples
from app.training.run_state import Progress, Run
from tasks.core.errors import UserError
from tests.support import untrained

ARRAYS = {"weights": [np.arange(6.0).reshape(2, 3), np.zeros(0)], "seed": [np.array(7)]}
HISTORY = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}]


def flips(path, step=1):
    """Writes a file with a flipped bit in one byte after another, and restores it at the end."""
    whole = path.read_bytes()
    for place in range(0, len(whole), step):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        yield
    path.write_bytes(whole)


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path / "run")
    run.save(Progress(epoch=2, history=HISTORY), ARRAYS)
    yield run
    run.close()


def test_every_flipped_bit_of_a_state_is_reported(run):
    for _ in flips(run.folder / "state.npz"):
        for read in (run.progress, run.arrays):
            with pytest.raises(UserError, match="the state of a run, cannot be read"):
                read()
    assert run.progress() == Progress(epoch=2, history=HISTORY)
    for name, arrays in run.arrays().items():
        for found, expected in zip(arrays, ARRAYS[name], strict=True):
            np.testing.assert_array_equal(found, expected)


def test_a_state_that_ends_early_is_reported(run):
    path = run.folder / "state.npz"
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match="the state of a run, cannot be read"):
            run.progress()


def test_a_damaged_state_of_other_data_stops_no_run(run, tmp_path):
    run.assets.mkdir()
    config = tasks.find("sentiment").Config(epochs=9, patience=5)
    record = json.dumps(dataclasses.asdict(config))
    (run.assets / "config.json").write_text(record, encoding="utf-8")
    assert run_state.unfinished(tmp_path / "other", config) == [run.folder]
    path = run.folder / "state.npz"
    path.write_bytes(path.read_bytes()[1:])
    assert run_state.unfinished(tmp_path / "other", config) == []


def test_the_state_is_complete_if_its_table_could_not_be_written(run, monkeypatch):
    def full_disk(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    longer = [*HISTORY, {"epoch": 3, "loss": 0.125}]
    monkeypatch.setattr(run_state, "atomic_write", full_disk)
    with pytest.raises(OSError, match="No space"):
        run.save(Progress(epoch=3, history=longer), ARRAYS)
    assert run.progress().history == longer
    table = run_state.history_table(run.progress().history)
    assert table.splitlines() == ["epoch,loss", "1,0.5", "2,0.25", "3,0.125"]


@pytest.fixture(scope="module")
def encoded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoded")
    cls, examples = tasks.find("sentiment"), untrained.examples("sentiment", 2)
    (folder / "assets").mkdir()
    task = cls.learn(cls.Config(max_length=4), examples, folder / "assets")
    EncodedExamples.write(task, examples, folder / "train")
    return folder / "train"


@pytest.mark.parametrize(("name", "step"), [("encoded.json", 1), ("00000.tfrecord", 11)])
def test_flipped_bits_of_encoded_examples_are_reported(encoded, name, step):
    for _ in flips(encoded / name, step):
        with pytest.raises(UserError, match="Remove the folder"):
            EncodedExamples(encoded).read([0])
    assert len(EncodedExamples(encoded).read([0])) == 2


@pytest.mark.parametrize("name", ["out.txt.part", "out.txt.part.json"])
def test_every_flipped_bit_of_a_partial_output_is_reported(tmp_path, name):
    output = bulk.PartialOutput(tmp_path / "out.txt", {"task": "sentiment"})
    output.append("positive\nnegative\n", bulk.Checkpoint(2, "hash", 2))
    checkpoint = output.checkpoint
    output.close()
    for _ in flips(tmp_path / name):
        with pytest.raises(UserError, match="to start over, remove"):
            bulk.PartialOutput(tmp_path / "out.txt", {"task": "sentiment"})
    output = bulk.PartialOutput(tmp_path / "out.txt", {"task": "sentiment"})
    assert output.checkpoint == checkpoint
    output.append("neutral\n", bulk.Checkpoint(3, "hash", 3))
    output.close()
    bulk.PartialOutput(tmp_path / "out.txt", {"task": "sentiment"}).close()


def test_records_are_read_as_they_will_be_written():
    record = {"counts": {10: 1, 9: 2}, "shape": (1, 2), "é": None}
    found = checksums.load_json(checksums.dump_json(record))
    assert found == {"counts": {"10": 1, "9": 2}, "shape": [1, 2], "é": None}
    for text in ("", "[]", "{}", '{"record": 1}', "[" * 100_000, b"\xff"):
        with pytest.raises(checksums.DamagedFile):
            checksums.load_json(text)
