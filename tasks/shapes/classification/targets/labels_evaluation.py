"""Scores of labels: micro and macro F1, and the share of texts with exactly the right labels.

Shapes: N texts, K labels.
"""

import heapq
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from models import metrics
from tasks.core.evaluation import Calibration, Evaluation, Table
from tasks.core.examples import Example, Splits
from tasks.core.targets import SEPARATOR
from tasks.shapes.classification import evaluation

_MISTAKES = 20  # shown in the report
_GROUPS = 4000  # of texts that a bootstrap draws; more texts share groups at random
_MAX_DECISIONS = 2**22  # that the calibration is computed from
_NAMED = 5  # labels that a warning names


class Evaluator(evaluation.Evaluator):
    """Micro F1, macro F1, subset accuracy, scores per label, and the worst mistakes."""

    def outcomes(self, example: Example, response: Mapping) -> Sequence[bool]:
        """Returns whether a text has exactly the right labels."""
        names = np.array(self.task.labels.words)
        return ({*names[np.asarray(response["chosen"])]} == {*example.values["label"]},)

    def baselines(self, splits: Splits) -> dict[str, dict[str, float]]:
        from tasks.shapes.classification import baselines  # which imports scikit-learn

        decisions = baselines.decisions(splits, self.task.labels.words)
        return {method: _Decisions.of(*pair).scores() for method, pair in decisions.items()}

    def evaluate(self, responses: Iterable[tuple[Example, dict]]) -> Evaluation:
        names = self.task.labels.words
        index = {label: number for number, label in enumerate(names)}
        decisions, worst = _Decisions(len(names)), []
        probabilities, references = [], []
        temperature = self.fitted.get("temperature", 1.0)
        for number, (example, response) in enumerate(responses):
            labels = np.zeros(len(names), bool)
            labels[[index[label] for label in example.values["label"]]] = True
            chosen, probability = np.asarray(response["chosen"]), response["probabilities"]
            decisions.add(labels, chosen)
            if len(probabilities) * len(names) < _MAX_DECISIONS:
                probabilities.append(probability)
                references.append(labels)
            if np.array_equal(labels, chosen):
                continue
            error = float(np.abs(probability - labels)[labels != chosen].max())
            prediction = response["label"].decode("utf-8")
            heapq.heappush(worst, (error, -number, prediction, example))
            if len(worst) > _MISTAKES:
                heapq.heappop(worst)
        total = decisions.total
        baselines = {}
        if total and self.majority in index:
            constant = decisions.constant(index[self.majority])
            baselines["most frequent label"] = constant.scores()
        return Evaluation(
            count=total,
            scores=decisions.scores(),
            intervals=decisions.intervals() if total else {},
            calibration=_calibration(probabilities, references, temperature),
            warnings=_warnings(names, decisions.counts) if total else (),
            baselines=baselines,
            tables=[self._labels(names, decisions.counts)],
            mistakes=Table(
                "The worst mistakes",
                ["error", "prediction", "reference", "text", "origin"],
                [
                    [
                        error,
                        prediction,
                        SEPARATOR.join(example.values["label"]),
                        example.values["text"],
                        example.origin,
                    ]
                    for error, _, prediction, example in sorted(
                        worst, key=lambda row: row[:2], reverse=True
                    )
                ],
            ),
        )

    def _labels(self, names, counts) -> Table:
        rows = [
            [name, self.fitted.get(f"threshold of {name}", ""), *map(float, values), int(count)]
            for name, values, count in zip(names, metrics.per_label(counts), counts[2], strict=True)
        ]
        columns = ["label", "threshold", "precision", "recall", "f1", "examples"]
        return Table("Labels", columns, rows)


class _Decisions:
    """Counts of decisions on labels, in groups of texts.

    Args:
        labels: K.
    """

    def __init__(self, labels: int):
        self._groups = np.zeros((0, 3, labels), np.int32)
        self._rng = np.random.default_rng(0)
        self.total = self.exact = 0
        self._single = np.zeros(labels, int)  # texts with this label alone

    @classmethod
    def of(cls, references: np.ndarray, predictions: np.ndarray) -> "_Decisions":
        """Returns the counts of N texts, both (N, K) bool."""
        decisions = cls(references.shape[1])
        for reference, prediction in zip(references, predictions, strict=True):
            decisions.add(reference, prediction)
        return decisions

    def add(self, references: np.ndarray, predictions: np.ndarray) -> None:
        """Counts the decisions on a text, both (K,) bool."""
        if self.total == len(self._groups) < _GROUPS:
            more = np.zeros((min(_GROUPS, 2 * self.total + 64), *self._groups.shape[1:]), np.int32)
            more[: self.total] = self._groups
            self._groups = more
        group = self.total if self.total < _GROUPS else self._rng.integers(_GROUPS)
        self._groups[group] += (references & predictions, predictions, references)
        self.total += 1
        self.exact += bool(np.array_equal(references, predictions))
        if references.sum() == 1:
            self._single += references

    def constant(self, label: int) -> "_Decisions":
        """Returns the counts if this label alone had been predicted for each text."""
        decisions = _Decisions(self._groups.shape[2])
        counts = self.counts.copy()
        counts[0], counts[1] = 0, 0
        counts[0, label], counts[1, label] = counts[2, label], self.total
        decisions._groups = counts[None]
        decisions.total, decisions.exact = self.total, int(self._single[label])
        return decisions

    @property
    def counts(self) -> np.ndarray:
        """Correct, predicted and reference labels, (3, K)."""
        return self._groups.sum(axis=0)

    def scores(self) -> dict[str, float]:
        """Returns the scores by name."""
        counts = self.counts
        return {
            "micro_f1": metrics.micro_f1(counts),
            "macro_f1": metrics.macro_f1_of_labels(counts),
            "subset_accuracy": self.exact / self.total if self.total else 0.0,
        }

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Returns the intervals of the scores by name."""
        groups = self._groups[: min(self.total, _GROUPS)]
        shape = groups.shape[1:]

        def interval(score):
            return metrics.bootstrap_interval(
                groups.reshape(len(groups), -1), lambda sums: score(sums.reshape(shape))
            )

        return {
            "micro_f1": interval(metrics.micro_f1),
            "macro_f1": interval(metrics.macro_f1_of_labels),
            "subset_accuracy": metrics.wilson_interval(self.exact, self.total),
        }


def _calibration(probabilities, references, temperature) -> Calibration | None:
    """Returns the calibration of the decisions at a probability of 0.5; None without any."""
    if not probabilities:
        return None
    served = np.clip(np.asarray(probabilities, float).reshape(-1), 1e-12, 1 - 1e-12)
    correct = (served >= 0.5) == np.asarray(references).reshape(-1)
    uncalibrated = 1 / (1 + (1 / served - 1) ** temperature)
    before, after = (np.maximum(p, 1 - p) for p in (uncalibrated, served))
    return Calibration.of(before, after, correct, temperature)


def _warnings(names, counts) -> list[str]:
    """Returns a warning about labels that are never predicted, with advice, in one line."""
    never = [names[k] for k in np.flatnonzero((counts[2] > 0) & (counts[1] == 0)).tolist()]
    if not never:
        return []
    shown = ", ".join(map(repr, never[:_NAMED])) + (", ..." if len(never) > _NAMED else "")
    verb = "label of the references is" if len(never) == 1 else "labels of the references are"
    return [f"{len(never)} {verb} never predicted ({shown}): add examples of rare labels."]
