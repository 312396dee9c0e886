"""Tables and confusion matrices of tags that are predicted for words."""

import collections
from collections.abc import Mapping, Sequence

import numpy as np

from models import metrics
from tasks.core.evaluation import Table

_MAX_CONTEXT = 25  # words shown before and after a mistake


def confusion_matrix(
    tags: Sequence[str], counts: Mapping[tuple[str, str], int]
) -> tuple[list[str], np.ndarray]:
    """Returns the classes, the given tags and other references, and their confusion matrix.

    Args:
        tags: Tags that can be predicted.
        counts: Counts of words by reference and prediction.
    """
    classes = [*tags, *sorted({reference for reference, _ in counts} - set(tags))]
    matrix = [[counts.get((row, column), 0) for column in classes] for row in classes]
    return classes, np.array(matrix, int)


def scores_by_tag(classes: Sequence[str], matrix: np.ndarray, title: str = "Tags") -> Table:
    """Returns precision, recall and F1 of each tag."""
    scores = zip(classes, metrics.per_class(matrix), matrix.sum(axis=1), strict=True)
    rows = [[tag, *map(float, values), int(count)] for tag, values, count in scores]
    return Table(title, ["tag", "precision", "recall", "f1", "words"], rows)


def most_frequent(table: Table, count: int) -> Table:
    """Returns a table with the rows that have the largest counts, which are the last values."""
    rows = sorted(table.rows, key=lambda row: -row[-1])[:count]
    return Table(table.title, table.columns, rows)


def confused_tags(
    counts: Mapping[tuple[str, str], int], count: int, title: str = "Most frequent confusions"
) -> Table:
    """Returns the pairs of tags that are confused most often."""
    totals = collections.Counter()
    for (reference, _), number in counts.items():
        totals[reference] += number
    pairs = [(number, *pair) for pair, number in counts.items() if pair[0] != pair[1]]
    pairs.sort(key=lambda pair: (-pair[0], *pair[1:]))
    rows = [
        [reference, prediction, number, number / totals[reference]]
        for number, reference, prediction in pairs[:count]
    ]
    return Table(title, ["reference", "prediction", "words", "share of the reference"], rows)


def frequent_mistakes(
    mistakes: Mapping[tuple[str, ...], Sequence], count: int, columns: Sequence[str]
) -> Table:
    """Returns the most frequent mistakes, each in the first sentence that has it.

    Args:
        mistakes: The occurrences, the first sentence and its origin, by what `columns` name.
        count: Most rows.
        columns: Names of the values that tell mistakes apart.
    """
    rows = [
        [number, *key, sentence, origin] for key, (number, sentence, origin) in mistakes.items()
    ]
    rows.sort(key=lambda row: (-row[0], *row[1 : 1 + len(columns)]))
    columns = ["count", *columns, "first sentence", "origin"]
    return Table("Most frequent mistakes", columns, rows[:count])


def mark_word(tokens: Sequence[str], position: int) -> str:
    """Returns a sentence with one word in brackets; a long one is cut around the word."""
    words = [*tokens]
    words[position] = f"[{words[position]}]"
    first, end = max(0, position - _MAX_CONTEXT), position + _MAX_CONTEXT
    before = ["…"] if first > 0 else []
    after = ["…"] if end < len(words) else []
    return " ".join([*before, *words[first:end], *after])
