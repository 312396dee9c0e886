"""Batches of encoded examples of similar length, in a reproducible order.

Shapes: B batch, T time.
"""

import itertools
from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from app.training.example_cache import EncodedExamples, Rows
from tasks.core.task import Task

_GROWTH = 1.15  # ratio of the maximum lengths of adjacent buckets
_PREFETCHED = 4  # batches
BUFFER = 32  # megabytes


class Share(NamedTuple):
    """The replicas of a model that this process feeds, and the number of all replicas.

    Replica n gets the rows n, n + count, n + 2 * count and so on of each batch, so that all
    replicas together get the batch.
    """

    replicas: Collection[int]
    count: int


SINGLE_DEVICE = Share((0,), 1)


class Batches:
    """Batches of examples of similar length, each within a token budget.

    A pass reads the shards in an order of its own, as many at a time as fit into the buffer,
    and shuffles the rows in the buffer. Rows that do not fill a batch wait for the next group
    of shards. A corpus that fits into the buffer is therefore shuffled as a whole. A batch is a
    function of the seed and its number alone, so training resumes at any step as if it had
    never stopped. The number of batches in a pass depends on the lengths only.

    Args:
        encoded: The examples.
        tokens: Token budget: B times T does not exceed it, unless one example alone does.
        seed: Seed of the order; None keeps the order of the corpus in every pass.
        buffer: Megabytes of encoded examples that are held in memory together.

    Attributes:
        steps: Number of batches in a pass.
    """

    def __init__(
        self, encoded: EncodedExamples, tokens: int, seed: int | None = None, buffer: int = BUFFER
    ):
        self._encoded, self._tokens, self._seed = encoded, tokens, seed
        self._buffer, self._whole_part = buffer * 2**20, None
        self._bounds = _bucket_bounds(max(encoded.lengths))
        self._counts, self._longest = {}, {}  # by the bound of a bucket
        for length, count in sorted(encoded.lengths.items()):
            bound = int(self._bucket(length))
            self._counts[bound] = self._counts.get(bound, 0) + count
            self._longest[bound] = length
        self.steps = sum(-(-count // self._size(b)) for b, count in self._counts.items())

    def plan(self, number: int) -> Iterator[np.ndarray]:
        """Yields the row numbers of each batch of pass `number`."""
        return (rows.numbers[indices] for rows, indices in self._batches(number))

    def rows(self, number: int) -> np.ndarray:
        """Returns the row numbers of batch `number`, counted over all passes."""
        number, index = divmod(number, self.steps)
        return next(itertools.islice(self.plan(number), index, None))

    def shapes(self) -> list[tuple[int, int]]:
        """Returns B and T of the largest batch of each bucket."""
        return [(min(n, self._size(b)), self._longest[b]) for b, n in self._counts.items()]

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        """Yields the padded batches of the first pass."""
        return self.one_pass()

    def one_pass(self, number: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """Yields the padded batches of pass `number`."""
        return (rows.padded(indices) for rows, indices in self._batches(number))

    def training_dataset(
        self, task: Task, first: int, share: Share = SINGLE_DEVICE
    ) -> tf.data.Dataset:
        """Returns the batches for training, without end.

        Args:
            task: The task that encoded the examples.
            first: Number of the first batch, counted over all passes.
            share: The replicas to feed.

        Returns:
            For each batch and each replica in turn: the tensors that `Task.to_inputs` makes of
            its rows after `Task.augment`, and the number of its rows, () int32. For a replica
            without rows the number is 0, and the tensors are those of another row, which must
            not be counted.
        """
        return self._dataset(task, first, share, training=True)

    def validation_dataset(self, task: Task, share: Share = SINGLE_DEVICE) -> tf.data.Dataset:
        """Returns the batches for validation from the first one on, without `Task.augment`.

        See `training_dataset` for the arguments and the elements.
        """
        return self._dataset(task, 0, share, training=False)

    def _dataset(self, task, first, share, training):
        def parts() -> Iterator[tuple[dict[str, np.ndarray], int, tuple[int, int]]]:
            first_pass, skip = divmod(first, self.steps)
            steps = itertools.count(first)
            for number in itertools.count(first_pass):
                for rows, indices in itertools.islice(self._batches(number), skip, None):
                    step = next(steps)
                    for replica in share.replicas:
                        own = indices[replica :: share.count]
                        seed = (self._seed or 0, step * share.count + replica)
                        yield rows.padded(own if len(own) else indices[:1]), len(own), seed
                    del rows  # otherwise they stay in memory while the next ones are read
                skip = 0

        @tf.autograph.experimental.do_not_convert
        def to_inputs(encoded, count, seed):
            if training:
                encoded = task.augment(encoded, seed)
            return task.to_inputs(encoded, training=training), count

        seed = tf.TensorSpec([2], tf.int64)
        signature = (self._encoded.specs, tf.TensorSpec([], tf.int32), seed)
        dataset = tf.data.Dataset.from_generator(parts, output_signature=signature)
        endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
        return prefetched(dataset.apply(endless).map(to_inputs))

    # --- The order ------------------------------------------------------------

    def _batches(self, number: int) -> Iterator[tuple[Rows, np.ndarray]]:
        """Yields, for each batch of a pass, rows in memory and the indices of its own."""
        rng = None if self._seed is None else np.random.default_rng([self._seed, number])
        groups = self._groups(rng)
        waiting = None
        for turn, group in enumerate(groups, start=1):
            rows = self._read(group, whole=len(groups) == 1)
            rows = rows + waiting if waiting else rows
            batches, rest = self._cut(rows.lengths, rng, last=turn == len(groups))
            yield from ((rows, indices) for indices in batches)
            waiting = rows.take(rest)
            del rows

    def _groups(self, rng) -> list[list[int]]:
        """Returns the shards that are in the buffer together, in the order of a pass."""
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
        """Returns the rows of a group of shards; keeps them if they are the whole part."""
        if not whole:
            return self._encoded.read(group)
        self._whole_part = self._whole_part or self._encoded.read(group)
        return self._whole_part

    def _cut(self, lengths, rng, last) -> tuple[list[np.ndarray], np.ndarray]:
        """Returns the indices of the rows of each batch, and of those that wait for more rows."""
        buckets = self._bucket(lengths)
        batches, rest = [], []
        for bound in np.unique(buckets):
            indices, size = np.flatnonzero(buckets == bound), self._size(int(bound))
            indices = indices if rng is None else rng.permutation(indices)
            end = len(indices) if last else len(indices) - len(indices) % size
            batches += [indices[i : min(i + size, end)] for i in range(0, end, size)]
            rest.append(indices[end:])
        if rng is not None:
            batches = [batches[i] for i in rng.permutation(len(batches))]
        return batches, np.concatenate(rest)

    def _bucket(self, lengths):
        """Returns the bounds of the buckets that lengths fall into."""
        return self._bounds[np.searchsorted(self._bounds, np.maximum(lengths, 1))]

    def _size(self, bound: int) -> int:
        """Returns the number of rows in a full batch of a bucket."""
        return max(1, self._tokens // bound)


def prefetched(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Returns a dataset that prepares a few elements in advance.

    Without the autotuning of tf.data: an iterator that is deleted before its end waits until the
    thread that tunes wakes up, which it does ever more seldom, down to once a minute.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.prefetch(_PREFETCHED).with_options(options)


def _bucket_bounds(longest: int) -> np.ndarray:
    """Returns the maximum lengths of the buckets; the last is at least `longest`."""
    bounds = [4]
    while bounds[-1] < longest:
        bounds.append(max(bounds[-1] + 2, int(bounds[-1] * _GROWTH)))
    return np.array(bounds)
