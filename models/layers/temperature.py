"""Temperature scaling of logits (Guo et al. 2017), fitted on held-out data.

Shapes: N rows, K classes.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from ..cells.cell import Tensor

_MIN, _MAX = 1 / 64, 64.0  # temperatures
_STEPS = 60  # of bisection


@keras.saving.register_keras_serializable(package="gated")
class Temperature(keras.layers.Layer):
    """Divides logits by a temperature, which is not trained: 1 until it is assigned.

    A positive temperature changes probabilities, but not their order.

    Weights:
        temperature: (), float32.

    Args:
        **kwargs: `name` and `dtype` of a Keras layer.

    Call arguments:
        logits: (..., K).
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.temperature = self.add_weight(
            name="temperature", shape=(), initializer="ones", trainable=False, dtype="float32"
        )
        self.built = True

    def call(self, logits: Tensor) -> Tensor:
        return logits / ops.cast(self.temperature, logits.dtype)

    def compute_output_shape(self, logits_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return tuple(logits_shape)


def fit_temperature(logits: np.ndarray, classes: np.ndarray) -> float:
    """Returns the temperature with the lowest negative log-likelihood of some classes.

    Few rows may all be correct, and would then ask for probabilities of 1. As in Platt scaling,
    1 / (N + 2) of the target is therefore spread over the other classes.

    The derivative by the reciprocal of the temperature, in which the likelihood is convex, is
    bisected.

    Args:
        logits: (N, K), finite.
        classes: (N,), indices of the correct classes.

    Returns:
        A temperature from 1/64 to 64; 1 if it changes nothing, such as without rows.
    """
    logits = np.asarray(logits, float)
    if not logits.size or not np.ptp(logits, axis=1).any():
        return 1.0
    count, width = logits.shape
    logits = logits - logits.max(axis=1, keepdims=True)
    own = np.take_along_axis(logits, np.asarray(classes)[:, None], axis=1)[:, 0]
    spread = 1 / (count + 2)
    others = (logits.sum(axis=1) - own) / max(width - 1, 1)
    expected = (1 - spread) * own.mean() + spread * others.mean()

    def slope(scale: float) -> float:
        weights = np.exp(scale * logits)
        means = (weights * logits).sum(axis=1) / weights.sum(axis=1)
        return means.mean() - expected

    low, high = np.log(1 / _MAX), np.log(1 / _MIN)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if slope(np.exp(middle)) < 0:
            low = middle
        else:
            high = middle
    return float(np.exp(-(low + high) / 2))
