"""Scores of sequence labelling: accuracy of tags, of unseen words and of whole sentences."""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from models import metrics
from models.text import entities
from tasks.core import evaluation
from tasks.core.evaluation import Confusion, Evaluation, Table, class_warnings
from tasks.core.examples import Example
from tasks.shapes.sequence_labelling.entity_scores import EntityScores, entity_f1
from tasks.shapes.sequence_labelling.lemma_scores import LemmaScores

_ADVICE = "add examples of rare tags, or try --class-weights balanced."
_MAX_ROWS = 25  # of tables
_MAX_CONTEXT = 25  # words shown before and after a mistake


class Evaluator(evaluation.Evaluator):
    """Accuracy, scores per tag, and the most frequent confusions and mistakes."""

    @classmethod
    def target_classes(cls, example: Example) -> Sequence[str]:
        return example.values["tags"]

    def outcomes(self, example: Example, response: Mapping) -> Sequence[bool]:
        pairs = zip(example.values["tags"], response["tags"], strict=True)
        return tuple(reference == tag.decode("utf-8") for reference, tag in pairs)

    def statistics(self, example: Example, response: Mapping) -> dict[str, Sequence[float]]:
        if not self.task.scheme.scheme_name:
            return {}
        counts = EntityScores()
        predictions = [tag.decode("utf-8") for tag in response["tags"]]
        counts.add(example.values["tags"], predictions)
        return {"entity_f1": counts.statistics()[0]}

    def score_of(self, name: str, sums: np.ndarray) -> float:
        return entity_f1(sums)

    def preview(self) -> Evaluation:
        return self.evaluate(())

    def evaluate(self, responses: Iterable[tuple[Example, dict]]) -> Evaluation:
        counts = collections.Counter()  # by reference and prediction
        correct = collections.Counter()  # by kind, and whether correct
        majority = collections.Counter()  # by kind: what the most frequent tag has right
        words = []  # by sentence: correct and all words, correct and all unseen words
        mistakes = {}
        lemma_scores = LemmaScores(self) if self.task.edit_scripts else None
        entity_scores = EntityScores() if self.task.scheme.scheme_name else None
        for example, response in responses:
            tokens, references = example.values["tokens"], example.values["tags"]
            predictions = tuple(tag.decode("utf-8") for tag in response["tags"])
            counts.update(zip(references, predictions, strict=True))
            if entity_scores:
                entity_scores.add(references, predictions)
            if lemma_scores:
                lemma_scores.add(tokens, references, response["lemmas"])
            correct["sentences", predictions == tuple(references)] += 1
            majority["words"] += references.count(self.majority)
            majority["sentences"] += set(references) == {self.majority}
            words.append([0, len(references), 0, 0])
            for position, (reference, prediction) in enumerate(
                zip(references, predictions, strict=True)
            ):
                word = tokens[position]
                words[-1][0] += reference == prediction
                if word not in self.task.training_words:
                    correct["unseen", reference == prediction] += 1
                    majority["unseen"] += reference == self.majority
                    words[-1][2] += reference == prediction
                    words[-1][3] += 1
                if reference != prediction:
                    first = (_mark_word(tokens, position), example.origin)
                    mistakes.setdefault((word, reference, prediction), [0, *first])[0] += 1
        tags = self.task.scheme.reported
        classes = [*tags, *sorted({reference for reference, _ in counts} - set(tags))]
        matrix = np.array([[counts[row, column] for column in classes] for row in classes], int)
        scores = {"accuracy": metrics.accuracy(matrix)}
        baseline = {"accuracy": majority["words"] / max(1, int(matrix.sum()))}
        for kind, name in (("unseen", "unseen_accuracy"), ("sentences", "sentence_accuracy")):
            if total := correct[kind, True] + correct[kind, False]:
                scores[name] = correct[kind, True] / total
                baseline[name] = majority[kind] / total
        intervals = _intervals(scores, words, correct)
        tables = [_scores_by_tag(classes, matrix), _confused_tags(counts)]
        if entity_scores:  # first, as the scores of tags that mark entities say little
            scores = entity_scores.scores() | scores
            intervals = entity_scores.intervals() | intervals
            if self.majority == entities.OUTSIDE:
                baseline |= dict.fromkeys(entity_scores.scores(), 0.0)
            tables = [*entity_scores.tables(), *tables]
        if lemma_scores:
            scores = lemma_scores.scores() | scores
            intervals = lemma_scores.intervals() | intervals
            baseline |= lemma_scores.baselines()
            tables[0] = dataclasses.replace(tables[0], rows=_most_frequent(tables[0].rows))
        return Evaluation(
            count=correct["sentences", True] + correct["sentences", False],
            scores=scores,
            intervals=intervals,
            baselines={"majority": baseline} if self.majority and words else {},
            warnings=class_warnings(classes, matrix, _ADVICE),
            tables=tables,
            confusions=[Confusion("Reference and predicted tags", classes, matrix).most_frequent()],
            mistakes=_frequent_mistakes(mistakes),
        )


def _intervals(
    scores: Mapping[str, float], words: Sequence[Sequence[int]], correct: Mapping
) -> dict[str, tuple[float, float]]:
    """Returns the intervals of the scores; words of one sentence are not independent."""
    if not words:
        return {}
    rows = np.array(words)
    intervals = {"accuracy": metrics.bootstrap_interval(rows[:, :2], _share)}
    if "unseen_accuracy" in scores:
        intervals["unseen_accuracy"] = metrics.bootstrap_interval(rows[:, 2:], _share)
    right, wrong = correct["sentences", True], correct["sentences", False]
    intervals["sentence_accuracy"] = metrics.wilson_interval(right, right + wrong)
    return intervals


def _share(sums: np.ndarray) -> float:
    return sums[0] / sums[1] if sums[1] else np.nan


def _scores_by_tag(classes: Sequence[str], matrix: np.ndarray) -> Table:
    scores = zip(classes, metrics.per_class(matrix), matrix.sum(axis=1), strict=True)
    rows = [[tag, *map(float, values), int(count)] for tag, values, count in scores]
    return Table("Tags", ["tag", "precision", "recall", "f1", "words"], rows)


def _most_frequent(rows: Sequence[list]) -> list[list]:
    """Returns the rows with the largest counts, which are the last values."""
    return sorted(rows, key=lambda row: -row[-1])[:_MAX_ROWS]


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
