"""The batches that training makes of encoded examples: of like length, in an order of their own.

Shapes: B batch, T time.
"""

import itertools
from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from app.training.example_cache import EncodedExamples, Rows
from tasks.core.task import Task

_GROWTH = 1.15  # of one bucket's length to the next
BUFFER = 32  # megabytes


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

    A pass reads the shards in an order of its own, as many at a time as the buffer holds, and
    shuffles what is in it; what is too little for a batch there waits for the next. So a corpus
    that fits into the buffer is shuffled as a whole. A batch is a function of the seed and of
    its number alone, so training goes on after any step as if it had never stopped. How many
    there are in a pass depends on the lengths only.

    Args:
        encoded: The examples.
        tokens: The budget: B times T is no more, unless one example alone is.
        seed: Of the order; None keeps one order, each time the same.
        buffer: Megabytes of encoded examples that are held at once.
    """

    def __init__(
        self, encoded: EncodedExamples, tokens: int, seed: int | None = None, buffer: int = BUFFER
    ):
        self._encoded, self._tokens, self._seed = encoded, tokens, seed
        self._buffer, self._held = buffer * 2**20, None
        self._bounds = _bounds(max(encoded.lengths))
        self._counts, self._longest = {}, {}  # of each bucket
        for length, count in sorted(encoded.lengths.items()):
            bound = int(self._bound(length))
            self._counts[bound] = self._counts.get(bound, 0) + count
            self._longest[bound] = length
        self.steps = sum(-(-count // self._size(b)) for b, count in self._counts.items())

    def plan(self, number: int) -> Iterator[np.ndarray]:
        """The numbers of the rows of each batch of pass `number`."""
        return (rows.numbers[at] for rows, at in self._pass(number))

    def rows(self, number: int) -> np.ndarray:
        """The numbers of the rows of batch `number`, counted over all passes."""
        number, at = divmod(number, self.steps)
        return next(itertools.islice(self.plan(number), at, None))

    def shapes(self) -> list[tuple[int, int]]:
        """B and T of the largest batch of each bucket."""
        return [(min(n, self._size(b)), self._longest[b]) for b, n in self._counts.items()]

    def one_pass(self, number: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """The padded batches of pass `number`."""
        return (rows.padded(at) for rows, at in self._pass(number))

    def to_learn(self, task: Task, first: int, share: Share = ALONE) -> tf.data.Dataset:
        """What to learn from: the batches from number `first` on, counted over all passes.

        Args:
            task: The task that encoded the examples.
            first: The number of the first batch.
            share: Whose rows of each batch.

        Returns:
            Without end, of each batch and for each replica in turn: what `Task.to_inputs`
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
                for rows, at in itertools.islice(self._pass(number), skip, None):
                    for replica in share.replicas:
                        own = at[replica :: share.count]
                        yield rows.padded(own if len(own) else at[:1]), len(own)
                    del rows  # or it would be held while the next are read
                skip = 0

        told = (self._encoded.specs, tf.TensorSpec([], tf.int32))
        dataset = tf.data.Dataset.from_generator(parts, output_signature=told)
        endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
        return (
            dataset.apply(endless)
            .map(lambda encoded, count: (task.to_inputs(encoded, training=learning), count))
            .prefetch(tf.data.AUTOTUNE)
        )

    # --- The order ------------------------------------------------------------

    def _pass(self, number: int) -> Iterator[tuple[Rows, np.ndarray]]:
        """Of each batch of a pass the rows that it is among, and at which places."""
        rng = None if self._seed is None else np.random.default_rng([self._seed, number])
        groups = self._groups(rng)
        left = None
        for turn, group in enumerate(groups, start=1):
            rows = self._read(group, whole=len(groups) == 1)
            rows = rows + left if left else rows
            batches, rest = self._cut(rows.lengths, rng, last=turn == len(groups))
            yield from ((rows, at) for at in batches)
            left = rows.take(rest)
            del rows

    def _groups(self, rng) -> list[list[int]]:
        """The shards that are in the buffer together, in the order of a pass."""
        sizes = self._encoded.sizes
        order = list(range(len(sizes)))
        if rng is not None and sum(sizes) > self._buffer:
            order = rng.permutation(order).tolist()
        groups, size = [[]], 0
        for shard in order:
            if groups[-1] and size + sizes[shard] > self._buffer:
                groups, size = [*groups, []], 0
            groups[-1].append(shard)
            size += sizes[shard]
        return groups

    def _read(self, group, whole) -> Rows:
        """The rows of a group of shards; they are held on to where they are the whole part."""
        if not whole:
            return self._encoded.read(group)
        self._held = self._held or self._encoded.read(group)
        return self._held

    def _cut(self, lengths, rng, last) -> tuple[list[np.ndarray], np.ndarray]:
        """The places of the rows of each batch, and those that wait for more of like length."""
        of = self._bound(lengths)
        batches, rest = [], []
        for bound in np.unique(of):
            at, size = np.flatnonzero(of == bound), self._size(int(bound))
            at = at if rng is None else rng.permutation(at)
            whole = len(at) if last else len(at) - len(at) % size
            batches += [at[start : min(start + size, whole)] for start in range(0, whole, size)]
            rest.append(at[whole:])
        if rng is not None:
            batches = [batches[at] for at in rng.permutation(len(batches))]
        return batches, np.concatenate(rest)

    def _bound(self, lengths):
        """The greatest length of the buckets that some lengths fall into."""
        return self._bounds[np.searchsorted(self._bounds, np.maximum(lengths, 1))]

    def _size(self, bound: int) -> int:
        """How many rows a batch of a bucket has."""
        return max(1, self._tokens // bound)


def _bounds(longest):
    """The greatest lengths of the buckets, up to at least `longest`."""
    bounds = [4]
    while bounds[-1] < longest:
        bounds.append(max(bounds[-1] + 2, int(bounds[-1] * _GROWTH)))
    return np.array(bounds)
