"""Scores of classification: accuracy, macro F1, calibration, and coverage of a threshold."""

import heapq
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from models import metrics
from tasks.core import evaluation
from tasks.core.evaluation import Calibration, Confusion, Evaluation, Table, class_warnings
from tasks.core.examples import Example, Splits

_ADVICE = "add examples of rare classes, or try --class-weights balanced."
_MISTAKES = 20  # shown in the report


class Evaluator(evaluation.Evaluator):
    """Accuracy, macro F1, scores per class, and the most confident mistakes.

    Classes that are whole numbers, such as stars, also have a mean absolute error.
    """

    @classmethod
    def target_classes(cls, example: Example) -> Sequence[str]:
        label = example.values.get("label", ())
        return label if isinstance(label, tuple) else (label,)

    def outcomes(self, example: Example, response: Mapping) -> Sequence[bool]:
        return (example.values["label"] == response["label"].decode("utf-8"),)

    def preview(self) -> Evaluation:
        return self.evaluate(())

    def baselines(self, splits: Splits) -> dict[str, dict[str, float]]:
        from tasks.shapes.classification import baselines  # which imports scikit-learn

        classes = self.task.labels.words
        counts = baselines.confusions(splits, classes)
        return {method: _scores(classes, matrix) for method, matrix in counts.items()}

    def evaluate(self, responses: Iterable[tuple[Example, dict]]) -> Evaluation:
        classes = self.task.labels.words
        index = {label: number for number, label in enumerate(classes)}
        counts = np.zeros([len(classes)] * 2, int)
        worst, confidence = [], _Confidence(self.fitted)
        confident = np.zeros(2, int)  # predictions, correct predictions
        for number, (example, response) in enumerate(responses):
            reference, prediction = example.values["label"], response["label"].decode("utf-8")
            counts[index[reference], index[prediction]] += 1
            confidence.add(response.get("probabilities"), reference == prediction)
            if response.get("confident", False):
                confident += [1, reference == prediction]
            if reference == prediction:
                continue
            probability = float(response["probability"])
            heapq.heappush(worst, (probability, -number, reference, prediction, example))
            if len(worst) > _MISTAKES:
                heapq.heappop(worst)
        total, scores, intervals, baselines = int(counts.sum()), _scores(classes, counts), {}, {}
        if total:
            intervals = {
                "accuracy": metrics.wilson_interval(int(np.trace(counts)), total),
                "macro_f1": metrics.macro_f1_interval(counts),
            }
            if "mean_absolute_error" in scores:
                intervals["mean_absolute_error"] = metrics.bootstrap_interval(
                    _errors(_ordinals(classes), counts), metrics.mean_absolute_error
                )
        if total and "threshold" in self.fitted:
            count, correct = map(int, confident)
            scores["coverage"] = count / total
            intervals["coverage"] = metrics.wilson_interval(count, total)
            if count:
                scores["confident_accuracy"] = correct / count
                intervals["confident_accuracy"] = metrics.wilson_interval(correct, count)
        if total and self.majority in index:
            constant = np.zeros_like(counts)
            constant[:, index[self.majority]] = counts.sum(axis=1)
            baselines["majority"] = _scores(classes, constant)
        return Evaluation(
            count=total,
            scores=scores,
            intervals=intervals,
            calibration=confidence.calibration(),
            warnings=class_warnings(classes, counts, _ADVICE),
            baselines=baselines,
            tables=[_scores_by_class(classes, counts)],
            confusions=[
                Confusion("Reference and predicted classes", classes, counts).most_frequent()
            ],
            mistakes=Table(
                "The most confident mistakes",
                ["probability", "prediction", "reference", "text", "origin"],
                [
                    [probability, prediction, reference, example.values["text"], example.origin]
                    for probability, _, reference, prediction, example in sorted(
                        worst, reverse=True
                    )
                ],
            ),
        )


class _Confidence:
    """Probabilities of predictions, as served and without the temperature.

    Args:
        fitted: What was fitted on the validation part, by name.
    """

    def __init__(self, fitted: Mapping[str, float]):
        self._temperature = fitted.get("temperature", 1.0)
        self._before, self._after, self._correct = [], [], []

    def add(self, probabilities: np.ndarray | None, correct: bool) -> None:
        """Adds a prediction, if its probabilities (K,) are known."""
        if probabilities is None:
            return
        served = np.asarray(probabilities, float)
        uncalibrated = served**self._temperature
        self._before.append(uncalibrated.max() / uncalibrated.sum())
        self._after.append(served.max())
        self._correct.append(correct)

    def calibration(self) -> Calibration | None:
        """Returns the calibration of the predictions; None without any."""
        if not self._correct:
            return None
        return Calibration.of(self._before, self._after, self._correct, self._temperature)


def _scores(classes: Sequence[str], counts: np.ndarray) -> dict[str, float]:
    scores = {"accuracy": metrics.accuracy(counts), "macro_f1": metrics.macro_f1(counts)}
    ordinals = _ordinals(classes)
    if ordinals is not None and counts.any():
        sums = _errors(ordinals, counts).sum(axis=0)
        scores["mean_absolute_error"] = metrics.mean_absolute_error(sums)
    return scores


def _ordinals(classes: Sequence[str]) -> np.ndarray | None:
    """Returns three or more classes that are whole numbers, such as stars, as numbers, (K,)."""
    if len(classes) < 3 or not all(re.fullmatch(r"[+-]?[0-9]{1,9}", name) for name in classes):
        return None
    return np.array([int(name) for name in classes], float)


def _errors(ordinals: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns 1 and the absolute error of each of N predictions, (N, 2)."""
    errors = np.abs(ordinals[:, None] - ordinals)
    errors = np.repeat(errors.reshape(-1), counts.reshape(-1))
    return np.stack([np.ones_like(errors), errors], axis=1)


def _scores_by_class(classes: list[str], counts: np.ndarray) -> Table:
    scores = zip(classes, metrics.per_class(counts), counts.sum(axis=1), strict=True)
    rows = [[label, *map(float, values), int(count)] for label, values, count in scores]
    return Table("Classes", ["label", "precision", "recall", "f1", "examples"], rows)
