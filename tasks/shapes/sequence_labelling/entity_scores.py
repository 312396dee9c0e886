"""Precision, recall and F1 of entities, and kinds of errors, as CoNLL's `conlleval` counts them."""

import collections
from collections.abc import Sequence

import numpy as np

from models import metrics
from models.text.entities import Entity, entities
from tasks.core.evaluation import Table

# Kinds of errors, in the order in which an entity is assigned to one.
_KINDS = {
    "wrong type": "same tokens, another type",
    "wrong boundary": "some of the tokens, the same type",
    "wrong type and boundary": "some of the tokens, another type",
    "missed": "an entity of the reference that overlaps no predicted one",
    "spurious": "a predicted entity that overlaps none of the reference",
}


class EntityScores:
    """Counts of entities over sentences; an entity is correct if tokens and type are."""

    def __init__(self):
        self._by_type = collections.defaultdict(lambda: np.zeros(3, int))
        self._by_sentence: list[np.ndarray] = []  # correct, predicted, reference
        self._errors = collections.Counter()

    def add(self, references: Sequence[str], predictions: Sequence[str]) -> None:
        """Counts the entities of a sentence, given its correct and its predicted tags."""
        reference, predicted = entities(references), entities(predictions)
        correct = set(reference) & set(predicted)
        row = np.array([len(correct), len(predicted), len(reference)])
        self._by_sentence.append(row)
        for column, group in enumerate((correct, predicted, reference)):
            for entity in group:
                self._by_type[entity.type][column] += 1
        for entity in reference:
            if entity not in correct:
                self._errors[_kind(entity, predicted)] += 1
        for entity in predicted:
            if entity not in correct and not any(_overlap(entity, other) for other in reference):
                self._errors["spurious"] += 1

    def scores(self) -> dict[str, float]:
        """Returns the micro-averaged scores by name."""
        totals = sum(self._by_sentence, start=np.zeros(3, int))
        f1, precision, recall = _scores(totals)
        return {"entity_f1": f1, "entity_precision": precision, "entity_recall": recall}

    def statistics(self) -> list[list[int]]:
        """Returns for each sentence its correct, predicted and reference entities."""
        return [row.tolist() for row in self._by_sentence]

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Returns 95 % intervals by a bootstrap over sentences."""
        if not sum(row.sum() for row in self._by_sentence):
            return {}
        rows = np.array(self._by_sentence)
        return {
            name: metrics.bootstrap_interval(rows, lambda sums, index=index: _scores(sums)[index])
            for index, name in enumerate(self.scores())
        }

    def tables(self) -> list[Table]:
        """Returns the scores of each type, and the counts of each kind of error."""
        rows = []
        for type_, counts in sorted(self._by_type.items()):
            f1, precision, recall = _scores(counts)
            rows.append([type_, precision, recall, f1, int(counts[2]), int(counts[1])])
        columns = ["type", "precision", "recall", "f1", "entities", "predicted"]
        errors = [[kind, self._errors[kind], _KINDS[kind]] for kind in _KINDS]
        return [
            Table("Entities", columns, rows),
            Table("Errors of entities", ["error", "entities", "meaning"], errors),
        ]


def entity_f1(counts: np.ndarray) -> float:
    """Returns F1 of counts of correct, predicted and reference entities."""
    return _scores(counts)[0]


def _scores(counts: np.ndarray) -> tuple[float, float, float]:
    """Returns F1, precision and recall for counts of correct, predicted and reference ones."""
    correct, predicted, reference = (float(count) for count in counts)
    f1 = 2 * correct / max(1.0, predicted + reference)
    return f1, correct / max(1.0, predicted), correct / max(1.0, reference)


def _kind(entity: Entity, predicted: Sequence[Entity]) -> str:
    """Returns the kind of error of an entity of the reference that was not predicted."""
    overlapping = [other for other in predicted if _overlap(entity, other)]
    if not overlapping:
        return "missed"
    if any(other[:2] == entity[:2] for other in overlapping):
        return "wrong type"
    if any(other.type == entity.type for other in overlapping):
        return "wrong boundary"
    return "wrong type and boundary"


def _overlap(one: Entity, other: Entity) -> bool:
    return one.start < other.end and other.start < one.end
