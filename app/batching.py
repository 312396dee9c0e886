"""Examples encoded once, on disk, and the batches that training makes of them.

Shapes: N examples, B batch, T time.
"""

import itertools
import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tasks.corpora import Stream
from tasks.shapes.task import Task

_AT_ONCE = 512  # examples encoded at once
_GROWTH = 1.15  # of one bucket's length to the next


class Encoded:
    """The encoded examples of a part, in a folder that is read through the page cache.

    Each key of `Task.encode` is a file of all its values in a row and one of
    where each example's end.
    """

    def __init__(self, folder: Path):
        record = json.loads((folder / "encoded.json").read_text(encoding="utf-8"))
        self._ends = {key: np.load(folder / f"{key}.ends.npy", mmap_mode="r") for key in record}
        self._values = {
            key: _mapped(folder / f"{key}.values", dtype, inner)
            for key, (dtype, inner, _) in record.items()
        }
        self.specs = {
            key: tf.TensorSpec([None, *[None] * ragged, *inner], dtype)
            for key, (dtype, inner, ragged) in record.items()
        }
        self.lengths = np.array(self._values["length"])

    def __len__(self):
        return len(self.lengths)

    @classmethod
    def write(cls, task: Task, examples: Stream, folder: Path) -> "Encoded":
        """Encodes `examples` into `folder`, or returns what is there from before."""
        if not (folder / "encoded.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            record = _write(task, examples, folder)
            draft = folder / "encoded.json.draft"
            draft.write_text(json.dumps(record), encoding="utf-8")
            draft.replace(folder / "encoded.json")  # last: its presence says all is there
        return cls(folder)

    def batch(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """The examples of some rows, padded with 0 to the longest of them."""
        return {key: self._padded(key, rows) for key in self._values}

    def _padded(self, key, rows):
        ends, values = self._ends[key], self._values[key]
        starts = [int(ends[row - 1]) if row else 0 for row in rows]
        pieces = [values[start : int(ends[row])] for start, row in zip(starts, rows, strict=True)]
        if self.specs[key].shape.rank == values.ndim:  # one value an example
            return np.concatenate(pieces)
        longest = max(len(piece) for piece in pieces)
        padded = np.zeros((len(rows), longest, *values.shape[1:]), values.dtype)
        for row, piece in zip(padded, pieces, strict=True):
            row[: len(piece)] = piece
        return padded


def _write(task, examples, folder):
    """Writes the values of each key, and returns (dtype, inner shape, ragged) of each."""
    encode = tf.function(task.encode, reduce_retracing=True)
    files, ends, record = {}, {}, {}
    try:
        for batch in examples.batches(_AT_ONCE):
            for key, value in encode(_columns(batch)).items():
                ragged = isinstance(value, tf.RaggedTensor)
                flat = (value.flat_values if ragged else value).numpy()
                if key not in files:
                    files[key], ends[key] = (folder / f"{key}.values").open("wb"), []
                    record[key] = [flat.dtype.name, list(flat.shape[1:]), ragged]
                flat.tofile(files[key])
                ends[key].append(value.row_lengths().numpy() if ragged else np.ones(len(flat), int))
    finally:
        for file in files.values():
            file.close()
    for key, lengths in ends.items():
        np.save(folder / f"{key}.ends.npy", np.cumsum(np.concatenate(lengths)))
    return record


def origins(task: Task, examples: Stream, rows: Collection[int]) -> list[str]:
    """Where the examples came from that `Encoded.write` made some rows of; it reads them anew.

    Args:
        task: The task that encoded them.
        examples: All of them.
        rows: The rows.
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


def _columns(batch):
    """The values of a batch of examples, by key."""
    return {key: _column([example.values[key] for example in batch]) for key in batch[0].values}


def _column(values):
    """One key's values of a batch as a tensor, ragged where they are tuples."""
    if not isinstance(values[0], tuple):
        return tf.constant(values)
    flat = tf.constant([piece for value in values for piece in value], tf.string)
    return tf.RaggedTensor.from_row_lengths(flat, [len(value) for value in values])


def _mapped(path, dtype, inner):
    if not path.stat().st_size:  # an empty file cannot be mapped
        return np.zeros((0, *inner), dtype)
    return np.memmap(path, dtype, "r").reshape(-1, *inner)


class Share(NamedTuple):
    """Which of the replicas of a model are fed here, and how many there are.

    Replica n has the rows n, n + count, n + 2 * count and so on of each batch, so that all
    of them together have the batch.
    """

    replicas: Collection[int]
    count: int


ALONE = Share((0,), 1)


class Batches:
    """Batches of examples of like length, the padded size of each within a token budget.

    A batch is a function of the seed and of its number alone, so training goes
    on after any step as if it had never stopped. How many there are in a pass
    depends on the lengths only.

    Args:
        encoded: The examples.
        tokens: The budget: B times T is no more, unless one example alone is.
        seed: Of the order; None keeps one order, each time the same.
    """

    def __init__(self, encoded: Encoded, tokens: int, seed: int | None = None):
        self._encoded, self._seed = encoded, seed
        bound = _bounds(int(encoded.lengths.max()))
        of = bound[np.searchsorted(bound, np.maximum(encoded.lengths, 1))]
        self._buckets = [(np.flatnonzero(of == b), max(1, tokens // int(b))) for b in np.unique(of)]
        self.steps = sum(-(-len(rows) // size) for rows, size in self._buckets)

    def plan(self, number: int) -> list[np.ndarray]:
        """The rows of each batch of pass `number`."""
        rng = None if self._seed is None else np.random.default_rng([self._seed, number])
        batches = []
        for rows, size in self._buckets:
            rows = rows if rng is None else rng.permutation(rows)
            batches += [rows[at : at + size] for at in range(0, len(rows), size)]
        if rng is not None:
            batches = [batches[at] for at in rng.permutation(len(batches))]
        return batches

    def rows(self, number: int) -> np.ndarray:
        """The rows of batch `number`, counted over all passes."""
        number, at = divmod(number, self.steps)
        return self.plan(number)[at]

    def shapes(self) -> list[tuple[int, int]]:
        """B and T of the largest batch of each length."""
        lengths = self._encoded.lengths
        return [(min(len(rows), size), int(lengths[rows].max())) for rows, size in self._buckets]

    def one_pass(self, number: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """The padded batches of pass `number`."""
        return map(self._encoded.batch, self.plan(number))

    def to_learn(self, task: Task, first: int, share: Share = ALONE) -> tf.data.Dataset:
        """What to learn from: the batches from number `first` on, counted over all passes.

        Args:
            task: The task that encoded the examples.
            first: The number of the first batch.
            share: Whose rows of each batch.

        Returns:
            Without end, of each batch and for each replica in turn: what `Task.tensors`
            makes of its rows, and how many they are, () int32. Of a replica for which there
            are none that is 0, and it has another's row, not to be counted.
        """
        return self._dataset(task, first, share, learning=True)

    def to_watch(self, task: Task, share: Share = ALONE) -> tf.data.Dataset:
        """What to validate by: the same, from the beginning."""
        return self._dataset(task, 0, share, learning=False)

    def _dataset(self, task, first, share, learning):
        def parts() -> Iterator[tuple[dict[str, np.ndarray], int]]:
            begun, skip = divmod(first, self.steps)
            for number in itertools.count(begun):
                for rows in self.plan(number)[skip:]:
                    for replica in share.replicas:
                        own = rows[replica :: share.count]
                        yield self._encoded.batch(own if len(own) else rows[:1]), len(own)
                skip = 0

        told = (self._encoded.specs, tf.TensorSpec([], tf.int32))
        dataset = tf.data.Dataset.from_generator(parts, output_signature=told)
        endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
        return (
            dataset.apply(endless)
            .map(lambda encoded, count: (task.tensors(encoded, learning=learning), count))
            .prefetch(tf.data.AUTOTUNE)
        )


def _bounds(longest):
    """The greatest lengths of the buckets, up to at least `longest`."""
    bounds = [4]
    while bounds[-1] < longest:
        bounds.append(max(bounds[-1] + 2, int(bounds[-1] * _GROWTH)))
    return np.array(bounds)
