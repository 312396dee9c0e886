"""Scores of sequence labelling: accuracy of tags, of unseen words and of whole sentences."""

import collections
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from models import metrics
from tasks.core import evaluation
from tasks.core.evaluation import Confusion, Evaluation, Table
from tasks.core.examples import Example

_MAX_ROWS = 25  # of tables
_MAX_CONTEXT = 25  # words shown before and after a mistake


class Evaluator(evaluation.Evaluator):
    """Accuracy, scores per tag, and the most frequent confusions and mistakes."""

    def preview(self) -> Evaluation:
        return self.evaluate(())

    def evaluate(self, responses: Iterable[tuple[Example, dict]]) -> Evaluation:
        counts = collections.Counter()  # by reference and prediction
        correct = collections.Counter()  # by kind, and whether correct
        mistakes = {}
        for example, response in responses:
            tokens, references = example.values["tokens"], example.values["tags"]
            predictions = tuple(tag.decode("utf-8") for tag in response["tags"])
            counts.update(zip(references, predictions, strict=True))
            correct["sentences", predictions == tuple(references)] += 1
            for position, (reference, prediction) in enumerate(
                zip(references, predictions, strict=True)
            ):
                word = tokens[position]
                if word not in self.task.training_words:
                    correct["unseen", reference == prediction] += 1
                if reference != prediction:
                    first = (_mark_word(tokens, position), example.origin)
                    mistakes.setdefault((word, reference, prediction), [0, *first])[0] += 1
        tags = self.task.tags.words
        classes = [*tags, *sorted({reference for reference, _ in counts} - set(tags))]
        matrix = np.array([[counts[row, column] for column in classes] for row in classes], int)
        scores = {"accuracy": metrics.accuracy(matrix)}
        for kind, name in (("unseen", "unseen_accuracy"), ("sentences", "sentence_accuracy")):
            if total := correct[kind, True] + correct[kind, False]:
                scores[name] = correct[kind, True] / total
        return Evaluation(
            count=correct["sentences", True] + correct["sentences", False],
            scores=scores,
            tables=[_scores_by_tag(classes, matrix), _confused_tags(counts)],
            confusions=[Confusion("Reference and predicted tags", classes, matrix).most_frequent()],
            mistakes=_frequent_mistakes(mistakes),
        )


def _scores_by_tag(classes: Sequence[str], matrix: np.ndarray) -> Table:
    scores = zip(classes, metrics.per_class(matrix), matrix.sum(axis=1), strict=True)
    rows = [[tag, *map(float, values), int(count)] for tag, values, count in scores]
    return Table("Tags", ["tag", "precision", "recall", "f1", "words"], rows)


def _confused_tags(counts: Mapping[tuple[str, str], int]) -> Table:
    """The pairs of tags that are confused most often."""
    totals = collections.Counter()
    for (reference, _), count in counts.items():
        totals[reference] += count
    pairs = [(count, *pair) for pair, count in counts.items() if pair[0] != pair[1]]
    pairs.sort(key=lambda pair: (-pair[0], *pair[1:]))
    rows = [
        [reference, prediction, count, count / totals[reference]]
        for count, reference, prediction in pairs[:_MAX_ROWS]
    ]
    columns = ["reference", "prediction", "words", "share of the reference"]
    return Table("Most frequent confusions", columns, rows)


def _frequent_mistakes(mistakes: Mapping[tuple[str, str, str], list]) -> Table:
    rows = [
        [count, word, reference, prediction, sentence, origin]
        for (word, reference, prediction), (count, sentence, origin) in mistakes.items()
    ]
    rows.sort(key=lambda row: (-row[0], *row[1:4]))
    columns = ["count", "word", "reference", "prediction", "first sentence", "origin"]
    return Table("Most frequent mistakes", columns, rows[:_MAX_ROWS])


def _mark_word(tokens: Sequence[str], position: int) -> str:
    """Returns a sentence with one word in brackets; a long one is cut around the word."""
    words = [*tokens]
    words[position] = f"[{words[position]}]"
    first, end = max(0, position - _MAX_CONTEXT), position + _MAX_CONTEXT
    before = ["…"] if first > 0 else []
    after = ["…"] if end < len(words) else []
    return " ".join([*before, *words[first:end], *after])
