"""Baselines of language modelling: a unigram and a smoothed bigram model of the same tokens.

The unigram model adds one to each count. The bigram model interpolates with it by the number of
different tokens that follow the previous one (Witten & Bell 1991, method C):

    P(w | v) = (count(v w) + types(v) P(w)) / (count(v) + types(v))

Both give a probability to every token that can follow, and their probabilities sum to 1.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from tasks.core.examples import Splits, Stream
from tasks.shapes.language_modelling.evaluation import characters

if TYPE_CHECKING:  # which names the evaluator that imports this module
    from tasks.shapes.language_modelling.task import LanguageModelling

_MAX_TOKENS = 2**24  # of the train part that are counted, the first of more
_BATCH_SIZE, _BATCH_BYTES = 1024, 2**22
_PENDING = 2**22  # pairs that are counted together


def sums(task: "LanguageModelling", splits: Splits) -> dict[str, np.ndarray]:
    """Returns summed losses, tokens and characters on the test part, (3,) by method.

    Args:
        task: The task, with its tokens.
        splits: The corpus.
    """
    model = _Counts(len(task.tokens), len(task.tokens) - len(task.tokens.excluded))
    for before, following, _ in _pairs(task, splits.train):
        model.add(before, following)
        if model.total >= _MAX_TOKENS:
            break
    model.finish()
    totals = {"unigram": np.zeros(3), "bigram": np.zeros(3)}
    for before, following, scored in _pairs(task, splits.test):
        for method, probabilities in (
            ("unigram", model.unigram(following)),
            ("bigram", model.bigram(before, following)),
        ):
            loss = -np.log(probabilities).sum()
            totals[method] += [loss, len(following), scored]
    return totals


def _pairs(
    task: "LanguageModelling", examples: Stream
) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Yields previous and next ids (N,) of batches of texts, and their characters.

    They are those that a request scores.
    """
    for batch in examples.batches(_BATCH_SIZE, _BATCH_BYTES):
        texts = [example.values["text"] for example in batch]
        ids = task.ids(tf.constant(texts))
        starts = tf.fill([len(texts), 1], task.tokens.start)
        before = tf.concat([starts, ids], axis=1)[:, :-1].flat_values.numpy()
        ends = [row[-1:] == [task.tokens.end] for row in ids.to_list()]
        scored = (characters(task, *pair) for pair in zip(texts, ends, strict=True))
        yield before.astype(np.int64), ids.flat_values.numpy().astype(np.int64), sum(scored)


class _Counts:
    """Counts of tokens and of pairs of tokens.

    Args:
        vocabulary: One more than the largest id.
        possible: Number of ids that can follow.
    """

    def __init__(self, vocabulary: int, possible: int):
        self._vocabulary, self._possible = vocabulary, possible
        self._single = np.zeros(vocabulary, np.int64)
        self._pairs, self._pair_counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._pending: list[np.ndarray] = []

    @property
    def total(self) -> int:
        """Number of tokens."""
        return int(self._single.sum())

    def add(self, before: np.ndarray, following: np.ndarray) -> None:
        """Counts pairs of previous and next ids, both (N,)."""
        self._single += np.bincount(following, minlength=self._vocabulary)
        self._pending.append(before * self._vocabulary + following)
        if sum(map(len, self._pending)) > _PENDING:
            self._merge()

    def finish(self) -> None:
        """Ends counting."""
        self._merge()
        before = self._pairs // self._vocabulary
        self._count_before = np.bincount(before, self._pair_counts, self._vocabulary)
        self._types = np.bincount(before, minlength=self._vocabulary)

    def _merge(self) -> None:
        pairs = np.concatenate([self._pairs, *self._pending])
        ones = [np.ones(len(pending), np.int64) for pending in self._pending]
        self._pairs, places = np.unique(pairs, return_inverse=True)
        counts = np.concatenate([self._pair_counts, *ones])
        self._pair_counts = np.bincount(places, counts).astype(np.int64)
        self._pending = []

    def unigram(self, following: np.ndarray) -> np.ndarray:
        """Returns the probabilities of tokens, (N,)."""
        return (self._single[following] + 1) / (self.total + self._possible)

    def bigram(self, before: np.ndarray, following: np.ndarray) -> np.ndarray:
        """Returns the probabilities of tokens after others, (N,)."""
        keys = before * self._vocabulary + following
        places = np.minimum(np.searchsorted(self._pairs, keys), len(self._pairs) - 1)
        counts = np.where(self._pairs[places] == keys, self._pair_counts[places], 0)
        unigram, types = self.unigram(following), self._types[before]
        total = self._count_before[before] + types
        interpolated = (counts + types * unigram) / np.maximum(total, 1)
        return np.where(total > 0, interpolated, unigram)
