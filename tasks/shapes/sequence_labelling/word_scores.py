"""Share of words that are right, as the official evaluation of Universal Dependencies counts them.

The evaluation of the CoNLL 2018 shared task compares, for each word:

    UPOS, XPOS   the tags
    UFeats       the universal features only, in any order; not those of a language or treebank
    Lemmas       the lemmas; a word whose lemma is _ in the reference is right whatever is predicted
    AllTags      UPOS, XPOS and UFeats together

On gold tokens its F1 is the share of words that are right.
"""

import re
from collections.abc import Collection, Sequence

import numpy as np

from models import metrics
from models.text.edit_scripts import apply_script, is_edit_script

_EMPTY = "_"
_UNIVERSAL = re.compile(
    "Abbr|Animacy|Aspect|Case|Definite|Degree|Evident|Foreign|Gender|Mood|NumType|Number|Person|"
    "Polarity|Polite|Poss|PronType|Reflex|Tense|VerbForm|Voice"
)
_FEATURES = re.compile(r"[^\s=|]+=[^\s=|]+(\|[^\s=|]+=[^\s=|]+)*")


def is_features(tags: Collection[str]) -> bool:
    """Returns whether tags are sets of features such as `Number=Plur|Person=3`, or `_` for none."""
    tags = [tag for tag in tags if tag != _EMPTY]
    return bool(tags) and all(map(_FEATURES.fullmatch, tags))


def universal_features(features: str) -> str:
    """Returns the universal features of a set, sorted; "" for none.

    >>> universal_features("Number[psor]=Sing|Typo=Yes|Person=3|Number=Plur")
    'Number=Plur|Person=3'
    """
    own = (f for f in features.split("|") if _UNIVERSAL.fullmatch(f.partition("=")[0]))
    return "|".join(sorted(own))


def is_right(column: str, reference: str, prediction: str) -> bool:
    """Returns whether the official evaluation counts the value of a column as right.

    Args:
        column: Column of CoNLL-U, such as "feats".
        reference: Correct value.
        prediction: Predicted value.
    """
    if column == "feats":
        return universal_features(reference) == universal_features(prediction)
    if column == "lemma" and reference == _EMPTY:
        return True
    return reference == prediction


def lemmas(scripts: Sequence[str], tokens: Sequence[str]) -> list[str]:
    """Returns the lemmas that edit scripts make of words."""
    return [apply_script(script, token) for script, token in zip(scripts, tokens, strict=True)]


def repeated(majority: str | None, tokens: Sequence[str]) -> list[str]:
    """Returns what the most frequent tag predicts for words: itself, or lemmas if it is a script.

    "" stands for nothing, if there is none.
    """
    if majority and is_edit_script(majority):
        return lemmas([majority] * len(tokens), tokens)
    return [majority or ""] * len(tokens)


class WordScores:
    """Shares of words that are right, of all words and of those that training has not seen.

    Args:
        name: Name of the share of all; `unseen_NAME` is that of unseen words.
        training_words: The words of the train part.
    """

    def __init__(self, name: str, training_words: Collection[str]):
        self._names = (name, f"unseen_{name}")
        self._training_words = training_words
        # By sentence: right, right of the majority baseline, and all words; then unseen ones.
        self._by_sentence: list[np.ndarray] = []

    def add(
        self, tokens: Sequence[str], right: Sequence[bool], of_baseline: Sequence[bool]
    ) -> None:
        """Counts the words of a sentence.

        Args:
            tokens: Its words.
            right: Whether each is predicted right.
            of_baseline: Whether the most frequent tag would be right.
        """
        counts = np.zeros(6, int)
        for token, *row in zip(tokens, right, of_baseline, strict=True):
            counts[:3] += (*row, 1)
            if token not in self._training_words:
                counts[3:] += (*row, 1)
        self._by_sentence.append(counts)

    def _totals(self) -> np.ndarray:
        return sum(self._by_sentence, start=np.zeros(6, int))

    def scores(self) -> dict[str, float]:
        """Returns the shares by name; without unseen words, only that of all words."""
        totals = self._totals()
        values = zip(self._names, totals[[0, 3]], totals[[2, 5]], strict=True)
        return {
            name: float(right / max(1, count))
            for name, right, count in values
            if count or name == self._names[0]
        }

    def baselines(self) -> dict[str, float]:
        """Returns the shares of the most frequent tag."""
        totals = self._totals()
        values = zip(self._names, totals[[1, 4]], totals[[2, 5]], strict=True)
        return {name: float(right / count) for name, right, count in values if count}

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
            for name, first in zip(self._names, (0, 3), strict=True)
            if name in self.scores()
        }
