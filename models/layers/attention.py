"""Attention over a memory, multiplicative or additive.

Shapes: B batch, T queries, S positions of the memory, Q and M their features.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from ..cells.cell import Tensor

ATTENTIONS = ("multiplicative", "additive")


@keras.saving.register_keras_serializable(package="gated")
class Attention(keras.layers.Layer):
    """Attention of queries over a memory, with weights that sum to 1 over its positions.

    "multiplicative" scores a position by q W m / sqrt(Q), the scaled "general" score of
    Luong et al. (2015, eq. 8); "additive" by v tanh(q W + m U) (Bahdanau et al. 2015,
    appendix A.1.2). Masked positions get weight 0 whatever their values, NaN included; a
    row whose positions are all masked gets weights 0 throughout.

    Args:
        kind: Score function, one of `ATTENTIONS`.
        units: Features in which queries and keys are compared; None uses those of the query.
        **kwargs: `name`, `dtype` and `trainable` of a Keras layer.

    Call arguments:
        query: (B, T, Q).
        memory: (B, S, M).
        mask: (B, S) bool, true at valid positions; None means all are valid.
        keys: Precomputed output of `keys(memory)`, (B, S, units), for repeated calls with
            the same memory; None computes it.

    Returns:
        The weighted sum of the memory, (B, T, M), and the weights, (B, T, S) float32.

    Raises:
        ValueError: `kind` is not in `ATTENTIONS`.

    Example:
        >>> import numpy as np
        >>> from models.layers.attention import Attention
        >>> context, weights = Attention()(np.ones((2, 3, 4)), np.ones((2, 5, 6)))
        >>> tuple(context.shape), tuple(weights.shape)
        ((2, 3, 6), (2, 3, 5))
    """

    def __init__(self, kind: str = "multiplicative", units: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if kind not in ATTENTIONS:
            raise ValueError(f"kind must be one of {list(ATTENTIONS)}, got {kind!r}.")
        self.kind, self.units = kind, units
        self.supports_masking = True  # the mask of the memory; outputs carry none

    def compute_mask(self, query: Tensor, memory: Tensor, *others: Any) -> list[None]:
        return [None, None]

    def build(
        self, query_shape: Sequence[int | None], memory_shape: Sequence[int | None], *others: Any
    ) -> None:
        units = self.units or query_shape[-1]
        self._key = self._matrix("key", memory_shape[-1], units)
        self._query = None
        if self.kind == "additive" or units != query_shape[-1]:
            self._query = self._matrix("query", query_shape[-1], units)
        if self.kind == "additive":
            self._score = self._matrix("score", units, 1)
        self.built = True

    def _matrix(self, name, inputs, outputs):
        return self.add_weight(name=name, shape=(inputs, outputs), initializer="glorot_uniform")

    def keys(self, memory: Tensor) -> Tensor:
        """Returns the keys of a memory (B, S, M), to which queries are compared: (B, S, units)."""
        return ops.matmul(ops.cast(memory, self.compute_dtype), self._key)

    def call(
        self, query: Tensor, memory: Tensor, mask: Tensor | None = None, keys: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        if mask is None:  # Keras passes an attached mask itself only to layers with one input
            mask = getattr(memory, "_keras_mask", None)
        if mask is not None:
            mask = ops.cast(mask, "bool")
            memory = ops.where(mask[..., None], memory, ops.zeros_like(memory))
        keys = self.keys(memory) if keys is None else keys
        if self._query is not None:
            query = ops.matmul(query, self._query)
        if self.kind == "additive":
            hidden = ops.tanh(query[:, :, None] + keys[:, None])
            scores = ops.matmul(hidden, self._score)[..., 0]
        else:
            scores = ops.matmul(query, ops.transpose(keys, (0, 2, 1))) * query.shape[-1] ** -0.5
        weights = _masked_softmax(ops.cast(scores, "float32"), mask)
        return ops.matmul(ops.cast(weights, memory.dtype), memory), weights

    def compute_output_shape(
        self, query_shape: Sequence[int | None], memory_shape: Sequence[int | None], *others: Any
    ) -> tuple[tuple, tuple]:
        return (*query_shape[:2], memory_shape[-1]), (*query_shape[:2], memory_shape[1])

    def compute_output_spec(
        self, query: Tensor, memory: Tensor, mask: Tensor | None = None, keys: Tensor | None = None
    ) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        context, weights = self.compute_output_shape(query.shape, memory.shape)
        return (
            keras.KerasTensor(context, self.compute_dtype),
            keras.KerasTensor(weights, "float32"),
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kind": self.kind, "units": self.units}


def _masked_softmax(scores, mask):
    """Softmax of (B, T, S) over the positions that a mask (B, S) keeps; 0 if it keeps none."""
    if mask is not None:
        scores = ops.where(mask[:, None], scores, -1e9)
    scores = scores - ops.max(scores, axis=-1, keepdims=True, initial=-1e9)
    exponentials = ops.exp(scores)
    if mask is not None:
        exponentials = exponentials * ops.cast(mask[:, None], exponentials.dtype)
    return exponentials / ops.maximum(ops.sum(exponentials, axis=-1, keepdims=True), 1e-9)
