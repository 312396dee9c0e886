"""What is encoded once is read back as it was, and never for what it is not."""

import dataclasses
import gc
import shutil
import threading
import weakref

import numpy as np
import pytest
import tensorflow as tf

import tasks
from app.core import checksums
from app.training import example_cache
from app.training.example_cache import EncodedExamples
from tasks.core.errors import UserError
from tasks.core.examples import Stream
from tests.support import untrained
from tests.support.cells import slow_except

COUNT = 16


def read(part):
    return part.read(range(len(part.sizes)))


@pytest.fixture(scope="module", params=slow_except(["sentiment", "translation"], tasks.names()))
def encoded(request, tmp_path_factory):
    """A task, its examples, and where they are encoded, in blocks that are small."""
    cls, folder = tasks.find(request.param), tmp_path_factory.mktemp(request.param)
    examples = untrained.examples(request.param, COUNT)
    sizes = {key: size for key, size in untrained.SIZES.items() if hasattr(cls.Config, key)}
    config = cls.Config(**untrained.SMALL, **sizes)
    (folder / "assets").mkdir()
    task = cls.learn(config, examples, folder / "assets")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(example_cache, "_BLOCK", 300)
        patched.setattr(example_cache, "_SHARD", 900)
        EncodedExamples.write(task, examples, folder / "train")
    return task, examples, folder


def values(example):
    """An example as `Task.encode` takes a batch of it."""
    return {
        key: tf.ragged.constant([list(value)]) if isinstance(value, tuple) else tf.constant([value])
        for key, value in example.values.items()
    }


def test_what_is_read_back_is_what_was_encoded(encoded):
    task, examples, folder = encoded
    part = EncodedExamples(folder / "train")
    rows, row = read(part), 0
    assert len(part.sizes) > 1
    for example in examples:
        want = task.encode(values(example))
        for own in range(len(want["length"])):
            given = rows.padded(np.array([row]))
            assert given.keys() == want.keys() == part.specs.keys()
            for key, value in want.items():
                np.testing.assert_array_equal(given[key][0], value[own])
                assert given[key].dtype == value.dtype.as_numpy_dtype
            assert rows.lengths[row] == int(want["length"][own])
            row += 1
    assert row == len(rows) == len(part)
    np.testing.assert_array_equal(rows.numbers, np.arange(row))
    counts = dict(zip(*np.unique(rows.lengths, return_counts=True), strict=True))
    assert part.lengths == counts


def test_a_batch_is_padded_with_zeros_to_its_longest(encoded):
    _, _, folder = encoded
    rows = read(EncodedExamples(folder / "train"))
    at = np.array([3, len(rows) - 1, 7, 3])
    batch, taken = rows.padded(at), rows.take(at)
    np.testing.assert_array_equal(taken.numbers, rows.numbers[at])
    for key, value in batch.items():
        np.testing.assert_array_equal(taken.padded(np.arange(4))[key], value)
        for own, padded in zip(at, value, strict=True):
            alone = rows.padded(np.array([own]))[key][0]
            if alone.ndim == 0 or alone.shape == padded.shape:
                np.testing.assert_array_equal(padded, alone)
                continue
            np.testing.assert_array_equal(padded[: len(alone)], alone)
            assert not padded[len(alone) :].any()


def test_records_are_examples_that_other_programs_read(encoded):
    _, _, folder = encoded
    part = EncodedExamples(folder / "train")
    (record,) = tf.data.TFRecordDataset(str(folder / "train" / "00000.tfrecord")).take(1)
    keys = [each for key in part.specs for each in (key, f"{key}/ends")]
    read_by = tf.io.parse_single_example(
        record, {key: tf.io.FixedLenFeature([], tf.string) for key in keys}
    )
    rows = read(part)
    lengths = tf.io.decode_raw(read_by["length"], part.specs["length"].dtype)
    np.testing.assert_array_equal(lengths, rows.lengths[: len(lengths)])


def test_what_is_there_is_not_encoded_again(encoded, monkeypatch):
    task, examples, folder = encoded
    monkeypatch.setattr(task, "encode", None)
    assert len(EncodedExamples.write(task, examples, folder / "train")) == len(
        EncodedExamples(folder / "train")
    )


def test_encoding_is_traced_once_and_its_graph_is_freed_with_the_task(tmp_path, monkeypatch):
    cls, examples = tasks.find("sentiment"), untrained.examples("sentiment", COUNT)
    task, traced = cls.learn(cls.Config(**untrained.SMALL), examples, tmp_path), []
    encode = cls.encode

    def counted(self, values):
        traced.append(self)
        return encode(self, values)

    monkeypatch.setattr(cls, "encode", counted)
    example_cache.ops_fingerprint(task, next(iter(examples)))
    for part in ("train", "valid"):
        EncodedExamples.write(task, examples, tmp_path / part)
    assert traced == [task]
    traced.clear()
    reference = weakref.ref(task)
    del task
    gc.collect()
    assert reference() is None


def test_incomplete_encoding_is_repeated(encoded, tmp_path):
    task, examples, folder = encoded
    shutil.copytree(folder / "train", tmp_path / "train")
    (tmp_path / "train/encoded.json").unlink()
    for shard in sorted((tmp_path / "train").glob("*.tfrecord"))[1:]:
        shard.write_bytes(b"half")
    given, want = (
        read(EncodedExamples.write(task, examples, tmp_path / "train")),
        read(EncodedExamples(folder / "train")),
    )
    everything = np.arange(len(want))
    for key, value in want.padded(everything).items():
        np.testing.assert_array_equal(given.padded(everything)[key], value)


@pytest.mark.parametrize("broken", ["cut", "gone", "changed", "short"])
def test_damaged_files_are_an_error(encoded, tmp_path, broken):
    _, _, folder = encoded
    shutil.copytree(folder / "train", tmp_path / "train")
    shard = sorted((tmp_path / "train").glob("*.tfrecord"))[-1]
    raw = shard.read_bytes()
    if broken == "gone":
        shard.unlink()
    elif broken == "short":
        shard.write_bytes(b"")
    else:
        changed = raw[:20] + bytes([raw[20] ^ 1]) + raw[21:]
        shard.write_bytes(raw[:-5] if broken == "cut" else changed)
    with pytest.raises(
        UserError, match=rf"{shard.name}: encoded examples cannot be read: .*Remove"
    ):
        read(EncodedExamples(tmp_path / "train"))


def test_who_comes_second_waits_and_encodes_nothing(encoded, tmp_path, monkeypatch):
    task, examples, _ = encoded
    made, begun, go_on = [], threading.Event(), threading.Event()

    def slowly():
        made.append(1)
        begun.set()
        go_on.wait(60)
        yield from examples

    counts = []

    def write():
        counts.append(len(EncodedExamples.write(task, Stream(slowly), tmp_path / "train")))

    first, second = threading.Thread(target=write), threading.Thread(target=write)
    first.start()
    assert begun.wait(60)
    second.start()
    second.join(0.2)
    assert second.is_alive()
    go_on.set()
    first.join(60)
    second.join(60)
    assert made == [1] and len(counts) == 2 and counts[0] == counts[1] > 0


# --- What names it -----------------------------------------------------------


def test_the_name_tells_data_settings_and_ops_apart_and_training_not(encoded, tmp_path):
    task, _, folder = encoded
    config, assets = task.config, tmp_path / "assets"
    shutil.copytree(folder / "assets", assets)

    def identity(config, checksum="data", ops="ops"):
        return example_cache.identity(config, checksum, assets, ops)

    names = {identity(config)}
    for other in (
        {"units": 9},
        {"cell": "gru"},
        {"seed": 5},
        {"epochs": 3},
        {"learning_rate": 0.5},
    ):
        assert identity(dataclasses.replace(config, **other)) in names
    longer = dataclasses.replace(config, max_length=config.max_length + 1)
    names |= {identity(longer), identity(config, "other"), identity(config, ops="other")}
    file = next(path for path in sorted(assets.iterdir()) if path.name != "config.json")
    file.write_bytes(file.read_bytes() + b"more\n")
    names.add(identity(config))
    assert len(names) == 5


def test_the_record_says_what_the_shards_hold(encoded):
    _, _, folder = encoded
    record = checksums.load_json((folder / "train/encoded.json").read_text())
    rows = read(EncodedExamples(folder / "train"))
    assert sum(record["rows"]) == len(rows) and len(record["rows"]) == len(record["bytes"])
    assert {path.name for path in (folder / "train").glob("*.tfrecord")} == {
        f"{shard:05}.tfrecord" for shard in range(len(record["rows"]))
    }
