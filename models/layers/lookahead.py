"""Outputs of the next steps next to that of each step.

Shapes: B batch, T time, D features, K steps of lookahead.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from ..cells.cell import Tensor


@keras.saving.register_keras_serializable(package="gated")
class Lookahead(keras.layers.Layer):
    """Appends the next K valid steps to each step: (B, T, D) to (B, T, D * (K + 1)).

    After the last valid step there are zeros. A network that reads forward thus sees a little of
    the right context, and the result at a step is final K steps later.

    Args:
        steps: K.
        **kwargs: `name` and `dtype` of a Keras layer.

    Call arguments:
        inputs: (B, T, D).
        mask: (B, T) bool, true at valid steps, which come first; None if all are valid.
    """

    def __init__(self, steps: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.steps = steps
        self.supports_masking = True
        self.built = True

    def call(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is not None:
            valid = ops.cast(mask, "bool")[..., None]
            inputs = ops.where(valid, inputs, ops.zeros_like(inputs))
        inputs = ops.pad(inputs, [[0, 0], [0, self.steps], [0, 0]])
        return stack_steps(inputs, self.steps)

    def compute_mask(self, inputs: Tensor, previous_mask: Tensor | None = None) -> Tensor | None:
        return previous_mask

    def compute_output_shape(
        self, inputs_shape: Sequence[int | None], mask_shape: Sequence[int | None] | None = None
    ) -> tuple[int | None, ...]:
        return (*inputs_shape[:-1], (self.steps + 1) * inputs_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "steps": self.steps}


def stack_steps(inputs: Tensor, steps: int) -> Tensor:
    """Returns each step with the next ones: (B, T + K, D) to (B, T, D * (K + 1))."""
    time = ops.shape(inputs)[1] - steps
    return ops.concatenate([inputs[:, i : i + time] for i in range(steps + 1)], axis=-1)
