"""Pooling over time that respects a mask.

Shapes: B batch, T time, D features.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from ..cells.cell import Tensor


@keras.saving.register_keras_serializable(package="gated")
class MaskedPooling(keras.layers.Layer):
    """Mean and maximum over the valid steps: (B, T, D) to (B, 2 * D), the mean first.

    A row without valid steps gives zeros.

    Args:
        **kwargs: `name` and `dtype` of a Keras layer.

    Call arguments:
        inputs: (B, T, D).
        mask: (B, T) bool, true at valid steps; None means all are.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.built = True

    def call(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is None:
            mask = ops.ones_like(inputs[..., 0], dtype="bool")
        valid = ops.cast(mask, "bool")[..., None]
        count = ops.sum(ops.cast(valid, "float32"), axis=1)
        total = ops.sum(ops.where(valid, ops.cast(inputs, "float32"), 0.0), axis=1)
        mean = total / ops.maximum(count, 1.0)
        values = ops.where(valid, ops.cast(inputs, "float32"), -1e9)
        # Padded by one step of -1e9, because time may have no steps at all.
        largest = ops.max(ops.pad(values, [[0, 0], [0, 1], [0, 0]], constant_values=-1e9), axis=1)
        largest = ops.where(count > 0, largest, 0.0)
        return ops.cast(ops.concatenate([mean, largest], axis=-1), self.compute_dtype)

    def compute_mask(self, inputs: Tensor, previous_mask: Tensor | None = None) -> None:
        return None

    def compute_output_shape(
        self, inputs_shape: Sequence[int | None], mask_shape: Sequence[int | None] | None = None
    ) -> tuple[int | None, ...]:
        return (inputs_shape[0], 2 * inputs_shape[-1])
