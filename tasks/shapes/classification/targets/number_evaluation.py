"""Scores of numbers: mean absolute error, coefficient of determination, rank correlation."""

import array
import heapq
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from models import metrics
from tasks.core.evaluation import Evaluation, Table
from tasks.core.examples import Example, Splits
from tasks.shapes.classification import evaluation

_MISTAKES = 20  # shown in the report
_RANGES = 5  # of a table, with equally many texts
_COMPARED = "mean_absolute_error"  # the others depend on all examples together
_SCORES = {
    "mean_absolute_error": metrics.mean_absolute_error,
    "r2": metrics.r_squared,
    "spearman": metrics.rank_correlation,
}


class Evaluator(evaluation.Evaluator):
    """Mean absolute error, R² and Spearman's correlation, errors by range, the worst mistakes."""

    def outcomes(self, example: Example, response: Mapping) -> Sequence[bool]:
        return ()  # a number is not right or wrong

    def statistics(self, example: Example, response: Mapping) -> dict[str, Sequence[float]]:
        pair = float(example.values["value"]), float(response["value"])
        return {_COMPARED: metrics.value_sums(*np.reshape(pair, [2, 1]))[0]}

    def score_of(self, name: str, sums: np.ndarray) -> float:
        return _SCORES[name](sums)

    def baselines(self, splits: Splits) -> dict[str, dict[str, float]]:
        from tasks.shapes.classification import baselines  # which imports scikit-learn

        return {
            method: _scores(metrics.value_sums(*pair))
            for method, pair in baselines.values(splits).items()
        }

    def evaluate(self, responses: Iterable[tuple[Example, dict]]) -> Evaluation:
        references, predictions, worst = array.array("d"), array.array("d"), []
        for number, (example, response) in enumerate(responses):
            reference, prediction = float(example.values["value"]), float(response["value"])
            references.append(reference)
            predictions.append(prediction)
            error = abs(prediction - reference)
            heapq.heappush(worst, (error, -number, prediction, reference, example))
            if len(worst) > _MISTAKES:
                heapq.heappop(worst)
        references, predictions = np.array(references), np.array(predictions)
        sums = metrics.value_sums(references, predictions)
        intervals, baselines = {}, {}
        if len(references):
            scores = _scores(sums)
            intervals = {name: metrics.bootstrap_interval(sums, _SCORES[name]) for name in scores}
            median = np.full_like(references, self.task.target.median)
            baselines["median"] = _scores(metrics.value_sums(references, median))
        else:
            scores = dict.fromkeys(_SCORES, 0.0)
        return Evaluation(
            count=len(references),
            scores=scores,
            intervals={
                name: interval for name, interval in intervals.items() if not np.isnan(interval[0])
            },
            baselines=baselines,
            warnings=_warnings(references, predictions),
            tables=[_ranges(references, predictions)],
            mistakes=Table(
                "The worst mistakes",
                ["error", "prediction", "reference", "text", "origin"],
                [
                    [error, prediction, reference, example.values["text"], example.origin]
                    for error, _, prediction, reference, example in sorted(
                        worst, key=lambda row: row[:2], reverse=True
                    )
                ],
            ),
        )


def _scores(sums: np.ndarray) -> dict[str, float]:
    """Returns the scores of rows of `value_sums` by name, without those undefined."""
    total = sums.sum(axis=0)
    scores = {name: score(total) for name, score in _SCORES.items()}
    return {name: value for name, value in scores.items() if not math.isnan(value)}


def _warnings(references: np.ndarray, predictions: np.ndarray) -> list[str]:
    """Returns a warning about predictions that hardly differ, with advice, in one line."""
    if len(references) < 2 or np.std(predictions) >= 0.02 * np.std(references):
        return []
    return [
        "the predictions hardly differ from each other, and the references do: check that numbers "
        "belong to their texts, and raise --epochs and --patience."
    ]


def _ranges(references: np.ndarray, predictions: np.ndarray) -> Table:
    """Returns mean predictions and errors by ranges of the reference."""
    rows = []
    order = np.argsort(references, kind="stable")
    distinct = np.unique(references)
    if 0 < len(distinct) <= 2 * _RANGES:  # such as stars
        parts = [np.flatnonzero(references == value) for value in distinct]
    else:
        parts = [part for part in np.array_split(order, _RANGES) if len(part)]
    for part in parts:
        low, high = references[part].min(), references[part].max()
        values = predictions[part]
        rows.append(
            [
                f"{low:g}" if low == high else f"{low:.4g} to {high:.4g}",
                float(values.mean()),
                float(np.abs(values - references[part]).mean()),
                len(part),
            ]
        )
    columns = ["reference", "mean prediction", "mean absolute error", "examples"]
    return Table("Values", columns, rows)
