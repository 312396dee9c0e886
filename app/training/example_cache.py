"""Encoded examples on disk, shared by all runs that encode the same data in the same way.

runs/encoded/<task>/<hash of data, settings and ops>/<part>/
    lock                 held by the process that encodes
    encoded.json         what the shards contain; written last, so its presence means complete
    00000.tfrecord ...   shards of a few megabytes

A record is a `tf.train.Example` of a block of rows: under each key of `Task.encode` the bytes
of all its values, and under KEY/ends the offsets at which the values of each row end.

Shapes: N rows.
"""

import collections
import contextlib
import hashlib
import json
import math
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from filelock import FileLock

from app.core import checksums
from app.core.atomic import atomic_write
from app.training import fingerprint, run_state
from app.training.cached_corpora import LOCK, RECORD, mark_used
from tasks.core.errors import UserError
from tasks.core.examples import Example, Stream
from tasks.core.settings import affecting
from tasks.core.task import Config, Task

_FORMAT = 3  # of the files; another number encodes every corpus again
_CHUNK = 512  # examples encoded at once
_ENCODERS: weakref.WeakKeyDictionary[Task, dict] = weakref.WeakKeyDictionary()
_BLOCK, _SHARD = 2**20, 2**22  # maximum bytes of a record and of a file, except for a single row


def identity(config: Config, checksum: str, assets: Path, ops: str) -> str:
    """Returns the hash that names an encoded corpus.

    Args:
        config: Settings of the task; those that affect encoding count.
        checksum: Checksum of the data.
        assets: Folder with the assets of the task.
        ops: Result of `ops_fingerprint`.
    """
    settings = affecting(config, "encoding")
    files = run_state.checksums(assets)
    text = json.dumps([_FORMAT, tf.__version__, ops, settings, checksum, files])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def ops_fingerprint(task: Task, example: Example) -> str:
    """Returns the fingerprint of the ops with which a task encodes examples.

    It changes when the code of a task computes something else, and not when code is edited
    that has no part in encoding.

    Args:
        task: The task.
        example: An example of its corpus, such as the first one.
    """
    return fingerprint.fingerprint(_encoder(task, example).get_concrete_function(), task)


def _encoder(task: Task, example: Example) -> tf.types.experimental.PolymorphicFunction:
    """Returns `task.encode` as one graph for batches of any size of such examples.

    The fingerprint and all parts of a corpus share it, because tracing it takes seconds.
    """
    encoders = _ENCODERS.setdefault(task, {})
    is_ragged = tuple((key, isinstance(value, tuple)) for key, value in example.values.items())
    if is_ragged not in encoders:
        specs = {
            key: tf.RaggedTensorSpec([None, None], tf.string)
            if ragged
            else tf.TensorSpec([None], tf.string)
            for key, ragged in is_ragged
        }
        reference = weakref.ref(task)  # the cache must not keep the task alive

        @tf.function(input_signature=[specs], autograph=False)
        def encode(examples: dict) -> dict:
            return reference().encode(examples)

        encoders[is_ragged] = encode
    return encoders[is_ragged]


class Block(NamedTuple):
    """Consecutive rows: their numbers, and by key all values and where those of a row end."""

    numbers: np.ndarray
    values: dict[str, np.ndarray]
    ends: dict[str, np.ndarray]


class Rows:
    """Encoded rows in memory, in the blocks in which they were read.

    Attributes:
        numbers: Numbers of the rows in their part, (N,).
        lengths: Number of steps of each row, (N,).
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

    def take(self, indices: np.ndarray) -> "Rows":
        """Returns the rows at some indices, as a copy that does not refer to the others."""
        if not len(indices):
            return Rows([], self._specs)
        pieces = {key: self._pieces(key, indices) for key in self._specs}
        values = {key: np.concatenate(arrays) for key, arrays in pieces.items()}
        ends = {key: np.cumsum([len(array) for array in arrays]) for key, arrays in pieces.items()}
        return Rows([Block(self.numbers[indices], values, ends)], self._specs)

    def padded(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the rows at some indices as a batch, padded with 0 to the longest of them."""
        return {key: self._padded(key, indices) for key in self._specs}

    def _padded(self, key, indices):
        pieces = self._pieces(key, indices)
        if self._specs[key].shape.rank == pieces[0].ndim:  # one value per row
            return np.concatenate(pieces)
        longest = max(len(piece) for piece in pieces)
        padded = np.zeros((len(indices), longest, *pieces[0].shape[1:]), pieces[0].dtype)
        for row, piece in zip(padded, pieces, strict=True):
            row[: len(piece)] = piece
        return padded

    def _pieces(self, key, indices):
        """Returns the values of a key for each row."""
        blocks = np.searchsorted(self._first, indices, side="right") - 1
        pieces = []
        for block, row in zip(blocks, indices - self._first[blocks], strict=True):
            ends, values = self._blocks[block].ends[key], self._blocks[block].values[key]
            pieces.append(values[ends[row - 1] if row else 0 : ends[row]])
        return pieces


class EncodedExamples:
    """The encoded examples of a part, in a folder, which is marked as used.

    Args:
        folder: The folder; it must be complete.

    Raises:
        UserError: The record is damaged.

    Attributes:
        specs: Specs of a padded batch, by key.
        lengths: Number of rows of each length.
        sizes: Size in bytes of the values of each shard.
    """

    def __init__(self, folder: Path):
        try:
            record = checksums.load_json((folder / RECORD).read_bytes())
        except (OSError, checksums.DamagedFile) as error:
            raise UserError(
                f"{folder / RECORD}, the record of encoded examples, cannot be read: {error}. "
                f"Remove the folder {folder}, and they will be encoded again."
            ) from error
        mark_used(folder)
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
        """Encodes examples into a folder, or returns what an earlier call has written there.

        If another process is writing to the folder, it waits for that process.

        Args:
            task: The task that encodes.
            examples: The examples of the part.
            folder: The folder; it is created if it does not exist.
        """
        with _locked(folder):
            if not (folder / RECORD).exists():
                record = _write(_encode(task, examples), folder)
                # Last, because its presence means that all shards are complete.
                atomic_write(folder / RECORD, checksums.dump_json(record))
            return cls(folder)

    def read(self, shards: Iterable[int]) -> Rows:
        """Reads the rows of some shards.

        Raises:
            UserError: A shard is missing or damaged.
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
                # TensorFlow's message describes its ops, not the file.
                is_op_error = isinstance(error, tf.errors.OpError)
                reason = type(error).__name__ if is_op_error else error
                raise UserError(
                    f"{path}: encoded examples cannot be read: {reason}. Remove the folder "
                    f"{self._folder}, and they will be encoded again."
                ) from error
        return Rows(blocks, self.specs)

    def _block(self, record: bytes, first: int) -> Block:
        """Returns the rows of a record, numbered from `first`."""
        features = tf.train.Example.FromString(record).features.feature
        values, ends = {}, {}
        for key, (dtype, inner, _) in self._kinds.items():
            data = features[key].bytes_list.value[0]
            values[key] = np.frombuffer(data, dtype).reshape(-1, *inner)
            ends[key] = np.frombuffer(features[f"{key}/ends"].bytes_list.value[0], "<i4")
        return Block(np.arange(first, first + len(ends["length"])), values, ends)


def origins(task: Task, examples: Stream, rows: Iterable[int]) -> list[str]:
    """Returns the origins of the examples of some encoded rows; reads the examples again.

    Args:
        task: The task that encoded the examples.
        examples: All examples of the part.
        rows: Row numbers.
    """
    encode = None
    numbers, result, first = set(rows), [], 0
    for batch in examples.batches(_CHUNK):
        encode = encode or _encoder(task, batch[0])
        last = first + len(encode(_columns(batch))["length"])
        if not numbers.isdisjoint(range(first, last)):
            for example in batch:  # an example can have several rows, or none
                count = len(encode(_columns([example]))["length"])
                if not numbers.isdisjoint(range(first, first + count)):
                    result.append(example.origin)
                first += count
        first = last
    return result


# --- Writing -----------------------------------------------------------------


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Creates a folder and locks it, after waiting for other processes."""
    lock = FileLock(folder / LOCK)
    while not lock.is_locked:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # `app.cache` has removed the folder
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _encode(task: Task, examples: Stream) -> Iterator[dict[str, tf.Tensor | tf.RaggedTensor]]:
    encode = None
    for batch in examples.batches(_CHUNK):
        encode = encode or _encoder(task, batch[0])
        yield encode(_columns(batch))


def _columns(batch: list[Example]) -> dict[str, tf.Tensor | tf.RaggedTensor]:
    """Returns the values of a batch of examples, by key."""
    return {key: _column([example.values[key] for example in batch]) for key in batch[0].values}


def _column(values: list) -> tf.Tensor | tf.RaggedTensor:
    """Returns the values of one key as a tensor, ragged if they are tuples."""
    if not isinstance(values[0], tuple):
        return tf.constant(values)
    flat = tf.constant([piece for value in values for piece in value], tf.string)
    return tf.RaggedTensor.from_row_lengths(flat, [len(value) for value in values])


def _write(encoded: Iterable[dict], folder: Path) -> dict:
    """Writes the shards, and returns the content of encoded.json."""
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


def _kinds(batch: dict) -> dict[str, list]:
    """Returns the dtype, the inner shape of a value, and whether rows are ragged, by key."""
    kinds = {}
    for key, value in batch.items():
        ragged = isinstance(value, tf.RaggedTensor)
        flat = value.flat_values if ragged else value
        kinds[key] = [flat.dtype.name, list(flat.shape[1:]), ragged]
    return kinds


def _records(batch: dict) -> Iterator[tuple[bytes, int, int]]:
    """Yields the records of a batch, with the number of rows and the bytes of their values."""
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
            data = values[key][first:last].tobytes()
            size += len(data)
            features[key] = _feature(data)
            own = ends[key][start + 1 : stop + 1] - first
            features[f"{key}/ends"] = _feature(own.astype("<i4").tobytes())
        example = tf.train.Example(features=tf.train.Features(feature=features))
        yield example.SerializeToString(), stop - start, size


def _feature(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def _shard(folder: Path, number: int) -> Path:
    return folder / f"{number:05}.tfrecord"
