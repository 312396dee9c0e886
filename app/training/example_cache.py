"""Examples encoded once, and kept on disk for every run that reads the same data alike.

runs/encoded/<task>/<hash of data, settings and code>/<part>/
    encoded.json         what the shards hold; its presence says that all is there
    00000.tfrecord ...   shards of a few megabytes

A record is a `tf.train.Example` of a block of rows: under each key of `Task.encode` the bytes
of all its values, and under KEY/ends where those of each row end among them.
"""

import collections
import functools
import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from filelock import FileLock

from app.atomic import atomic_write
from app.training import run_state
from tasks.core.errors import UserError
from tasks.core.examples import Stream
from tasks.core.settings import affecting
from tasks.core.task import Config, Task

_FORMAT = 1
_AT_ONCE = 512  # examples encoded at once
_BLOCK, _SHARD = 2**20, 2**22  # bytes of a record and of a file, at most but for one row


def identity(config: Config, checksum: str, learnt: Path) -> str:
    """The hash that names what is encoded: of the data, and of all that reads it.

    Args:
        config: The settings.
        checksum: That of the data.
        learnt: The folder of what the task learnt of the data, and was given in files.
    """
    told = affecting(config, "encoding")
    assets = run_state.checksums(learnt)
    text = json.dumps([_FORMAT, tf.__version__, code_version(), told, checksum, assets])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.cache
def code_version() -> str:
    """The hash of the code that encodes: all of `models`, all of `tasks`, and this file."""
    here = Path(__file__)
    root = here.parents[2]
    sources = [path for name in ("models", "tasks") for path in (root / name).rglob("*.py")]
    digest = hashlib.sha256()
    for path in sorted([*sources, here]):
        digest.update(b"%s %s\n" % (path.relative_to(root).as_posix().encode(), path.read_bytes()))
    return digest.hexdigest()


class Block(NamedTuple):
    """Some rows: their numbers, and by key all values and where those of each row end."""

    numbers: np.ndarray
    values: dict[str, np.ndarray]
    ends: dict[str, np.ndarray]


class Rows:
    """Encoded rows in memory, in blocks as they were read.

    Attributes:
        numbers: Which rows of the part they are, (N,).
        lengths: How many steps each takes, (N,).
    """

    def __init__(self, blocks: list[Block], specs: dict[str, tf.TensorSpec]):
        self._blocks, self._specs = blocks, specs
        self._first = np.cumsum([0] + [len(block.numbers) for block in blocks])
        self.numbers = np.concatenate([np.zeros(0, int)] + [block.numbers for block in blocks])
        self.lengths = np.concatenate(
            [np.zeros(0, np.int32)] + [block.values["length"] for block in blocks]
        )

    def __len__(self):
        return len(self.numbers)

    def __add__(self, other: "Rows") -> "Rows":
        return Rows(self._blocks + other._blocks, self._specs)

    def take(self, at: np.ndarray) -> "Rows":
        """The rows at some places, as a copy that needs none of the others."""
        if not len(at):
            return Rows([], self._specs)
        pieces = {key: self._pieces(key, at) for key in self._specs}
        values = {key: np.concatenate(some) for key, some in pieces.items()}
        ends = {key: np.cumsum([len(piece) for piece in some]) for key, some in pieces.items()}
        return Rows([Block(self.numbers[at], values, ends)], self._specs)

    def padded(self, at: np.ndarray) -> dict[str, np.ndarray]:
        """A batch of the rows at some places, padded with 0 to the longest of them."""
        return {key: self._padded(key, at) for key in self._specs}

    def _padded(self, key, at):
        pieces = self._pieces(key, at)
        if self._specs[key].shape.rank == pieces[0].ndim:  # one value a row
            return np.concatenate(pieces)
        longest = max(len(piece) for piece in pieces)
        padded = np.zeros((len(at), longest, *pieces[0].shape[1:]), pieces[0].dtype)
        for row, piece in zip(padded, pieces, strict=True):
            row[: len(piece)] = piece
        return padded

    def _pieces(self, key, at):
        """The values of a key, of each row."""
        of = np.searchsorted(self._first, at, side="right") - 1
        pieces = []
        for block, row in zip(of, at - self._first[of], strict=True):
            ends, values = self._blocks[block].ends[key], self._blocks[block].values[key]
            pieces.append(values[ends[row - 1] if row else 0 : ends[row]])
        return pieces


class EncodedExamples:
    """The encoded examples of a part, in a folder.

    Attributes:
        specs: What a batch of them has, by key.
        lengths: How many rows have each length.
        sizes: The bytes of each shard's values.
    """

    def __init__(self, folder: Path):
        record = json.loads((folder / "encoded.json").read_text(encoding="utf-8"))
        self._folder, self._kinds = folder, record["kinds"]
        self._counts = record["rows"]
        self.sizes: list[int] = record["bytes"]
        self.lengths = {int(length): count for length, count in record["lengths"].items()}
        self.specs = {
            key: tf.TensorSpec([None, *[None] * ragged, *inner], dtype)
            for key, (dtype, inner, ragged) in self._kinds.items()
        }

    def __len__(self):
        return sum(self._counts)

    @classmethod
    def write(cls, task: Task, examples: Stream, folder: Path) -> "EncodedExamples":
        """Encodes `examples` into `folder`, or returns what is there from before.

        Where another process is at it, this one waits.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            if not (folder / "encoded.json").exists():
                record = _write(_encoded(task, examples), folder)
                # Last, because its presence says that all shards are there.
                atomic_write(folder / "encoded.json", json.dumps(record))
        return cls(folder)

    def read(self, shards: Iterable[int]) -> Rows:
        """The rows of some shards.

        Raises:
            UserError: One is not as it was written.
        """
        first = np.cumsum([0, *self._counts])
        blocks = []
        for shard in shards:
            number, path = int(first[shard]), _shard(self._folder, shard)
            try:
                for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                    blocks.append(self._block(record, number))
                    number += len(blocks[-1].numbers)
                if number != first[shard + 1]:
                    raise ValueError(f"{number - first[shard]} rows of {self._counts[shard]}")
            except (tf.errors.OpError, ValueError) as error:
                # TensorFlow's own words tell of its ops
                why = type(error).__name__ if isinstance(error, tf.errors.OpError) else error
                raise UserError(
                    f"{path}: what was encoded cannot be read: {why}. Remove its folder, and it "
                    "will be made anew."
                ) from error
        return Rows(blocks, self.specs)

    def _block(self, record, first):
        """The rows of a record, the first of them with this number."""
        told = tf.train.Example.FromString(record).features.feature
        values, ends = {}, {}
        for key, (dtype, inner, _) in self._kinds.items():
            values[key] = np.frombuffer(told[key].bytes_list.value[0], dtype).reshape(-1, *inner)
            ends[key] = np.frombuffer(told[f"{key}/ends"].bytes_list.value[0], "<i4")
        return Block(np.arange(first, first + len(ends["length"])), values, ends)


def origins(task: Task, examples: Stream, rows: Iterable[int]) -> list[str]:
    """Origins of the examples behind some rows of `EncodedExamples.write`; reads the examples.

    Args:
        task: The task that encoded them.
        examples: All of them.
        rows: The numbers of the rows.
    """
    encode = tf.function(task.encode, reduce_retracing=True)
    wanted, found, first = set(rows), [], 0
    for batch in examples.batches(_AT_ONCE):
        last = first + len(encode(_columns(batch))["length"])
        if not wanted.isdisjoint(range(first, last)):
            for example in batch:  # some are several rows, some none
                count = len(encode(_columns([example]))["length"])
                if not wanted.isdisjoint(range(first, first + count)):
                    found.append(example.origin)
                first += count
        first = last
    return found


# --- Writing -----------------------------------------------------------------


def _encoded(task: Task, examples: Stream) -> Iterator[dict[str, tf.Tensor | tf.RaggedTensor]]:
    encode = tf.function(task.encode, reduce_retracing=True)
    return (encode(_columns(batch)) for batch in examples.batches(_AT_ONCE))


def _columns(batch):
    """The values of a batch of examples, by key."""
    return {key: _column([example.values[key] for example in batch]) for key in batch[0].values}


def _column(values):
    """One key's values of a batch as a tensor, ragged where they are tuples."""
    if not isinstance(values[0], tuple):
        return tf.constant(values)
    flat = tf.constant([piece for value in values for piece in value], tf.string)
    return tf.RaggedTensor.from_row_lengths(flat, [len(value) for value in values])


def _write(encoded: Iterable[dict], folder: Path) -> dict:
    """Writes the shards, and returns what encoded.json says of them."""
    kinds, rows, sizes, lengths = {}, [], [], collections.Counter()
    writer = None
    try:
        for batch in encoded:
            kinds = kinds or _kinds(batch)
            lengths.update(batch["length"].numpy().tolist())
            for record, count, size in _records(batch):
                if writer is None or sizes[-1] + size > _SHARD:
                    if writer is not None:
                        writer.close()
                    writer = tf.io.TFRecordWriter(str(_shard(folder, len(sizes))))
                    rows.append(0)
                    sizes.append(0)
                writer.write(record)
                rows[-1] += count
                sizes[-1] += size
    finally:
        if writer is not None:
            writer.close()
    return {"kinds": kinds, "rows": rows, "bytes": sizes, "lengths": dict(lengths)}


def _kinds(batch):
    """Of each key the dtype, the inner shape of a value, and whether rows differ in size."""
    kinds = {}
    for key, value in batch.items():
        ragged = isinstance(value, tf.RaggedTensor)
        flat = value.flat_values if ragged else value
        kinds[key] = [flat.dtype.name, list(flat.shape[1:]), ragged]
    return kinds


def _records(batch) -> Iterator[tuple[bytes, int, int]]:
    """The records of a batch, each with how many rows it has and the bytes of their values."""
    values, ends = {}, {}
    for key, value in batch.items():
        ragged = isinstance(value, tf.RaggedTensor)
        values[key] = (value.flat_values if ragged else value).numpy()
        lengths = value.row_lengths().numpy() if ragged else np.ones(len(values[key]), int)
        ends[key] = np.cumsum(np.concatenate([[0], lengths]))
    count = len(values["length"])
    size = sum(value.nbytes for value in values.values())
    step = max(1, count // max(1, math.ceil(size / _BLOCK)))
    for start in range(0, count, step):
        stop = min(start + step, count)
        features, size = {}, 0
        for key in values:
            first, last = ends[key][start], ends[key][stop]
            piece = values[key][first:last].tobytes()
            size += len(piece)
            features[key] = _feature(piece)
            own = ends[key][start + 1 : stop + 1] - first
            features[f"{key}/ends"] = _feature(own.astype("<i4").tobytes())
        example = tf.train.Example(features=tf.train.Features(feature=features))
        yield example.SerializeToString(), stop - start, size


def _feature(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def _shard(folder: Path, number: int) -> Path:
    return folder / f"{number:05}.tfrecord"
