"""Bias of the logits of tokens, which leaves out those that never follow.

Shapes: B batch, T time, V tokens.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from ..cells.cell import Tensor

_EXCLUDED = -1e9  # logit of a token that never follows


@keras.saving.register_keras_serializable(package="gated")
class TokenBias(keras.layers.Layer):
    """Adds a bias to logits, and gives tokens such as padding a probability of 0.

    Weights:
        bias: (V,).

    Args:
        excluded: Ids of the tokens that never follow.
        **kwargs: `name` and `dtype` of a Keras layer.

    Call arguments:
        logits: (B, T, V).

    Returns:
        Logits, (B, T, V).

    Raises:
        ValueError: An id is negative, or no id of the V is left.

    Example:
        >>> logits = TokenBias([0])(ops.zeros((1, 1, 3)))
        >>> [round(float(value), 2) for value in ops.softmax(logits)[0, 0]]
        [0.0, 0.5, 0.5]
    """

    def __init__(self, excluded: Sequence[int] = (), **kwargs: Any):
        super().__init__(**kwargs)
        if any(token < 0 for token in excluded):
            raise ValueError(f"excluded must be ids of at least 0, got {list(excluded)}.")
        self.excluded = tuple(sorted(set(excluded)))
        self.supports_masking = True

    def build(self, input_shape: Sequence[int | None]) -> None:
        size = input_shape[-1]
        if self.excluded and (self.excluded[-1] >= size or len(self.excluded) == size):
            raise ValueError(
                f"excluded must be ids below {size}, and not all of them, got "
                f"{list(self.excluded)}."
            )
        self.bias = self.add_weight(shape=(size,), initializer="zeros", name="bias")

    def call(self, logits: Tensor) -> Tensor:
        size = logits.shape[-1]
        follows = [token not in self.excluded for token in range(size)]
        return ops.where(ops.convert_to_tensor(follows), logits + self.bias, _EXCLUDED)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "excluded": list(self.excluded)}
