"""Thresholds of probabilities, fitted on held-out data.

Above one of them a prediction is confident, or a label is predicted.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from ..cells.cell import Tensor

_UNREACHABLE = 2.0  # no probability is as large


@keras.saving.register_keras_serializable(package="gated")
class Threshold(keras.layers.Layer):
    """Keeps thresholds, which are not trained, and returns its inputs: 0 until they are assigned.

    Weights:
        threshold: float32, of the shape `shape`.

    Args:
        shape: Shape of the thresholds, such as (K,) for one of each label.
        **kwargs: `name` and `dtype` of a Keras layer.

    Call arguments:
        inputs: Any tensor.
    """

    def __init__(self, shape: Sequence[int] = (), **kwargs: Any):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.threshold = self.add_weight(
            name="threshold",
            shape=tuple(shape),
            initializer="zeros",
            trainable=False,
            dtype="float32",
        )
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        return inputs

    def compute_output_shape(self, inputs_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return tuple(inputs_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "shape": list(self.threshold.shape)}


def coverage_threshold(probability: np.ndarray, coverage: float) -> float:
    """Returns the highest threshold that a share of predictions reach.

    Args:
        probability: Probabilities of N predictions, (N,).
        coverage: The share, above 0 and at most 1.
    """
    values = np.sort(probability)[::-1]
    if not len(values):
        return 0.0
    return _below(values, int(np.ceil(coverage * len(values) - 1e-9)))


def precision_threshold(probability: np.ndarray, correct: np.ndarray, precision: float) -> float:
    """Returns the lowest threshold that gives the predictions that reach it a precision.

    Args:
        probability: Probabilities of N predictions, (N,).
        correct: Whether they are correct, (N,).
        precision: Least share that must be correct, above 0 and at most 1.

    Returns:
        The threshold; 2 if there is none, so that no prediction is confident.
    """
    order = np.argsort(-probability, kind="stable")
    values, counts = probability[order], np.arange(1, len(order) + 1)
    precise = np.cumsum(correct[order]) >= precision * counts - 1e-9
    # Predictions of equal probability are confident together.
    ends = np.append(values[:-1] > values[1:], True)[: len(values)]
    passing = np.flatnonzero(precise & ends)
    return _below(values, int(passing[-1]) + 1) if len(passing) else _UNREACHABLE


def f1_threshold(probability: np.ndarray, correct: np.ndarray) -> float:
    """Returns the threshold that maximises the F1 of the predictions that reach it.

    Args:
        probability: Probabilities of N predictions, (N,).
        correct: Whether they are correct, (N,).

    Returns:
        The threshold; of several with the same F1, the one nearest to 0.5. It is 0.5 if no
        prediction is correct.
    """
    correct = np.asarray(correct, bool)
    if not correct.any():
        return 0.5
    order = np.argsort(-probability, kind="stable")
    values = np.asarray(probability, float)[order]
    f1 = 2 * np.cumsum(correct[order]) / (np.arange(1, len(order) + 1) + correct.sum())
    # Predictions of equal probability are above a threshold together.
    ends = np.flatnonzero(np.append(values[:-1] > values[1:], True))
    best = ends[f1[ends] >= f1[ends].max() - 1e-12]
    lower = np.append(values, 0.0)[best + 1]
    # Any value between both probabilities gives the same F1; the middle is the safest.
    middles = (values[best] + lower) / 2
    return float(middles[np.argmin(np.abs(middles - 0.5))])


def _below(values: np.ndarray, count: int) -> float:
    """Returns a threshold that the first `count` of descending values reach.

    It lies halfway to the next lower value, so that rounding decides nothing.
    """
    last = values[count - 1]
    lower = values[values < last]
    return float((last + lower[0]) / 2) if len(lower) else 0.0
