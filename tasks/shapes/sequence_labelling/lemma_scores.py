"""Accuracy of lemmas that edit scripts make of words, also of words unseen in training."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from models import metrics
from models.text.edit_scripts import apply_script, is_edit_script

if TYPE_CHECKING:
    from tasks.core.evaluation import Evaluator

_NAMES = ("lemma_accuracy", "unseen_lemma_accuracy")


class LemmaScores:
    """Counts of correct lemmas over sentences.

    Args:
        evaluator: The evaluator of a task whose tags are edit scripts.
    """

    def __init__(self, evaluator: "Evaluator"):
        self._training_words = evaluator.task.training_words
        self._majority = evaluator.majority or ""
        # By sentence: correct, correct of the majority baseline, and all words; then unseen ones.
        self._by_sentence: list[np.ndarray] = []

    def add(
        self, tokens: Sequence[str], references: Sequence[str], lemmas: Sequence[bytes]
    ) -> None:
        """Counts the lemmas of a sentence.

        Args:
            tokens: Its words.
            references: Their correct scripts.
            lemmas: The predicted lemmas.
        """
        counts = np.zeros(6, int)
        for token, script, lemma in zip(tokens, references, lemmas, strict=True):
            reference = apply_script(script, token)
            baseline = is_edit_script(self._majority) and apply_script(self._majority, token)
            row = np.array([lemma.decode("utf-8") == reference, baseline == reference, 1])
            counts[:3] += row
            if token not in self._training_words:
                counts[3:] += row
        self._by_sentence.append(counts)

    def _totals(self) -> np.ndarray:
        return sum(self._by_sentence, start=np.zeros(6, int))

    def scores(self) -> dict[str, float]:
        """Returns the accuracies by name; without unseen words, only that of all words."""
        totals = self._totals()
        values = zip(_NAMES, totals[[0, 3]], totals[[2, 5]], strict=True)
        return {
            name: float(correct / max(1, count))
            for name, correct, count in values
            if count or name == _NAMES[0]
        }

    def baselines(self) -> dict[str, float]:
        """Returns the accuracies of the most frequent script."""
        totals = self._totals()
        values = zip(_NAMES, totals[[1, 4]], totals[[2, 5]], strict=True)
        return {name: float(correct / count) for name, correct, count in values if count}

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Returns 95 % intervals by a bootstrap over sentences."""
        if not self._by_sentence:
            return {}
        rows = np.array(self._by_sentence)
        return {
            name: metrics.bootstrap_interval(
                rows[:, [first, first + 2]],
                lambda sums: sums[0] / sums[1] if sums[1] else np.nan,
            )
            for name, first in zip(_NAMES, (0, 3), strict=True)
            if name in self.scores()
        }
