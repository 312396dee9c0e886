"""Weighted mean of the logits of two classifiers, with a weight fitted on held-out data.

Shapes: N rows, K classes.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from ..cells.cell import Tensor
from .temperature import fit_temperature

_SHARES = np.linspace(0, 1, 21)


@keras.saving.register_keras_serializable(package="gated")
class Mixture(keras.layers.Layer):
    """Geometric mean of two classifiers: a weighted mean of their logits.

    In training the first is returned alone, so that the second does not learn in its place.

    Weights:
        share: (), weight of the second classifier, from 0 to 1; 0 until it is assigned.

    Args:
        **kwargs: `name` and `dtype` of a Keras layer.

    Call arguments:
        first: (..., K), logits.
        second: (..., K), logits.
        training: Whether the model is trained.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.share = self.add_weight(
            name="share", shape=(), initializer="zeros", trainable=False, dtype="float32"
        )
        self.built = True

    def call(self, first: Tensor, second: Tensor, training: bool | None = None) -> Tensor:
        if training:
            return first
        share = ops.cast(self.share, first.dtype)
        return (1 - share) * first + share * second

    def compute_output_shape(
        self, first_shape: Sequence[int | None], second_shape: Sequence[int | None]
    ) -> tuple[int | None, ...]:
        return tuple(first_shape)


def fit_share(first: np.ndarray, second: np.ndarray, classes: np.ndarray) -> float:
    """Returns the share whose mixture, at its best temperature, has the highest likelihood.

    Args:
        first: (N, K), logits of the first classifier, finite.
        second: (N, K), logits of the second.
        classes: (N,), indices of the correct classes.

    Returns:
        The weight of the second, a multiple of 0.05; the nearest to a half among equals.
    """
    losses = [_loss((1 - share) * first + share * second, classes) for share in _SHARES]
    order = np.lexsort([np.abs(_SHARES - 0.5), np.round(losses, 9)])
    return float(_SHARES[order[0]])


def fit_share_of_values(first: np.ndarray, second: np.ndarray, values: np.ndarray) -> float:
    """Returns the share whose mixture has the lowest mean absolute error.

    Args:
        first: (N,), values that the first model predicts.
        second: (N,), values that the second predicts.
        values: (N,), correct values.

    Returns:
        The weight of the second, a multiple of 0.05; the nearest to a half among equals.
    """
    if not len(values):
        return 0.5
    errors = [np.abs((1 - share) * first + share * second - values).mean() for share in _SHARES]
    order = np.lexsort([np.abs(_SHARES - 0.5), np.round(errors, 9)])
    return float(_SHARES[order[0]])


def _loss(logits: np.ndarray, classes: np.ndarray) -> float:
    """Returns the mean negative log-likelihood of the classes at the best temperature."""
    if not len(logits):
        return 0.0
    logits = np.asarray(logits, float) / fit_temperature(logits, classes)
    logits -= logits.max(axis=1, keepdims=True)
    own = np.take_along_axis(logits, np.asarray(classes)[:, None], axis=1)[:, 0]
    return float((np.log(np.exp(logits).sum(axis=1)) - own).mean())
