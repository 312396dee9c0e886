"""Threshold of the probability above which a prediction is confident, fitted on held-out data."""

from collections.abc import Sequence

import keras
import numpy as np

from ..cells.cell import Tensor

_UNREACHABLE = 2.0  # no probability is as large


@keras.saving.register_keras_serializable(package="gated")
class Threshold(keras.layers.Layer):
    """Keeps a threshold, which is not trained, and returns its inputs: 0 until it is assigned.

    Weights:
        threshold: (), float32.

    Args:
        **kwargs: `name` and `dtype` of a Keras layer.

    Call arguments:
        inputs: Any tensor.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.threshold = self.add_weight(
            name="threshold", shape=(), initializer="zeros", trainable=False, dtype="float32"
        )
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        return inputs

    def compute_output_shape(self, inputs_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return tuple(inputs_shape)


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


def _below(values: np.ndarray, count: int) -> float:
    """Returns a threshold that the first `count` of descending values reach.

    It lies halfway to the next lower value, so that rounding decides nothing.
    """
    last = values[count - 1]
    lower = values[values < last]
    return float((last + lower[0]) / 2) if len(lower) else 0.0
