"""Scores of trees: those of classes for the roots, and the accuracy of all nodes."""

import collections
import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from models import metrics
from tasks.core.evaluation import Evaluation
from tasks.core.examples import Example, Splits
from tasks.corpora import treebank
from tasks.shapes.classification import evaluation

_SCORE = "node_accuracy"


class Evaluator(evaluation.Evaluator):
    """Accuracy, macro F1 and mistakes of the roots, and the accuracy of all nodes."""

    def baselines(self, splits: Splits) -> dict[str, dict[str, float]]:
        counts = collections.Counter()
        for example in splits.train:
            counts.update(_labels(example))
        common = min(counts, key=lambda label: (-counts[label], label))
        right = [_right(labels, [common] * len(labels)) for labels in map(_labels, splits.test)]
        accuracy = _accuracy(np.sum(right, axis=0))
        baselines = super().baselines(treebank.sentences(splits))
        return baselines | {"most frequent label of a node": {_SCORE: accuracy}}

    def evaluate(self, responses: Iterable[tuple[Example, dict]]) -> Evaluation:
        right = []

        def roots() -> Iterator[tuple[Example, dict]]:
            for example, response in responses:
                prediction = treebank.parse(response["tree"].decode("utf-8"))
                right.append(_right(_labels(example), prediction.labels))
                yield treebank.sentence(example), response

        result = super().evaluate(roots())
        if not right:
            return result
        score = {_SCORE: _accuracy(np.sum(right, axis=0))}
        interval = {_SCORE: metrics.bootstrap_interval(np.array(right), _accuracy)}
        return dataclasses.replace(
            result, scores=result.scores | score, intervals=result.intervals | interval
        )


def _labels(example: Example) -> list[str]:
    return treebank.parse(example.values["text"]).labels


def _right(references: Sequence[str], predictions: Sequence[str]) -> tuple[int, int]:
    """Returns the number of nodes with the right label, and the number of nodes."""
    return sum(map(str.__eq__, references, predictions)), len(references)


def _accuracy(sums: np.ndarray) -> float:
    return float(sums[0] / sums[1])
