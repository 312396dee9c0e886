"""Correct tags of words, of unseen words and of whole sentences, counted."""

import collections
from collections.abc import Collection, Sequence

import numpy as np

from models import metrics
from tasks.core.examples import Example
from tasks.shapes.sequence_labelling import tables


class TagCounts:
    """Counts of the predictions for a part.

    Args:
        training_words: Words of the training part; all others are unseen.
        majority: The most frequent tag of the training part, which the baseline predicts; None
            if it is unknown.

    Attributes:
        confusions: Number of words by reference and prediction.
        mistakes: By word, reference and prediction: how often, and the first time, marked in its
            sentence, with its origin.
    """

    def __init__(self, training_words: Collection[str], majority: str | None):
        self._training_words, self._majority = training_words, majority
        self.confusions = collections.Counter()
        self.mistakes = {}
        self._sentences = collections.Counter()  # by whether all tags are correct
        self._words = []  # by sentence: correct and all words, correct and all unseen words
        self._of_majority = collections.Counter()  # by kind: what the majority has correct

    @property
    def count(self) -> int:
        """Number of sentences."""
        return len(self._words)

    def add(self, example: Example, predictions: Sequence[str]) -> None:
        """Counts the predicted tags of a sentence."""
        tokens, references = example.values["tokens"], example.values["tags"]
        pairs = list(zip(references, predictions, strict=True))
        self.confusions.update(pairs)
        self._sentences[all(reference == prediction for reference, prediction in pairs)] += 1
        self._of_majority["words"] += references.count(self._majority)
        self._of_majority["sentences"] += set(references) == {self._majority}
        row = [0, len(pairs), 0, 0]
        for position, (reference, prediction) in enumerate(pairs):
            word, is_correct = tokens[position], reference == prediction
            row[0] += is_correct
            if word not in self._training_words:
                row[2] += is_correct
                row[3] += 1
                self._of_majority["unseen"] += reference == self._majority
            if not is_correct:
                first = (tables.mark_word(tokens, position), example.origin)
                self.mistakes.setdefault((word, reference, prediction), [0, *first])[0] += 1
        self._words.append(row)

    def scores(self) -> dict[str, float]:
        """Returns the accuracies, of all words first; those of nothing are left out."""
        correct, words, unseen_correct, unseen = self._sums()
        scores = {"accuracy": correct / words if words else 0.0}
        if unseen:
            scores["unseen_accuracy"] = unseen_correct / unseen
        if self.count:
            scores["sentence_accuracy"] = self._sentences[True] / self.count
        return scores

    def baseline(self) -> dict[str, float]:
        """Returns the accuracies of always predicting the majority tag."""
        _, words, _, unseen = self._sums()
        totals = {"accuracy": ("words", max(1, words))}
        totals["unseen_accuracy"] = ("unseen", unseen)
        totals["sentence_accuracy"] = ("sentences", self.count)
        return {
            name: self._of_majority[kind] / total for name, (kind, total) in totals.items() if total
        }

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Returns the intervals of the scores; words of one sentence are not independent."""
        if not self.count:
            return {}
        rows = np.array(self._words)
        intervals = {"accuracy": metrics.bootstrap_interval(rows[:, :2], _share)}
        if rows[:, 3].any():
            intervals["unseen_accuracy"] = metrics.bootstrap_interval(rows[:, 2:], _share)
        interval = metrics.wilson_interval(self._sentences[True], self.count)
        intervals["sentence_accuracy"] = interval
        return intervals

    def _sums(self) -> list[int]:
        return np.array(self._words or [[0] * 4]).sum(axis=0).tolist()


def _share(sums: np.ndarray) -> float:
    return sums[0] / sums[1] if sums[1] else np.nan
