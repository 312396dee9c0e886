"""Attention: what in a memory does each query look at?

Shapes: B batch, T queries, S places of the memory, Q and M their features.
"""

import keras
from keras import ops

ATTENTIONS = ("multiplicative", "additive")


@keras.saving.register_keras_serializable(package="gated")
class Attention(keras.layers.Layer):
    """Weighs a memory by how well its places answer a query.

    "multiplicative" scores a place by q W m, divided by the root of Q (the "general"
    score of Luong et al. 2015, eq. 8); "additive" by v tanh(q W + m U) (Bahdanau et
    al. 2015). Places that the mask leaves out have no weight, whatever they hold; where
    there is no place at all, all weights are 0.

    Args:
        kind: One of `ATTENTIONS`.
        units: Features in which queries and keys meet; None takes those of the query.

    Call arguments:
        query: (B, T, Q).
        memory: (B, S, M).
        mask: (B, S) bool, true where there is something; None if everywhere.
        keys: What `keys` made of the memory, for those who ask often; None makes it.

    Returns:
        The weighted sum of the memory, (B, T, M); and the weights, (B, T, S) float32.
    """

    def __init__(self, kind: str = "multiplicative", units: int | None = None, **kwargs):
        super().__init__(**kwargs)
        if kind not in ATTENTIONS:
            raise ValueError(f"kind must be one of {list(ATTENTIONS)}, got {kind!r}.")
        self.kind, self.units = kind, units
        self.supports_masking = True  # that of the memory, which ends here

    def compute_mask(self, query, memory, *others):
        return [None, None]

    def build(self, query_shape, memory_shape, *others):
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

    def keys(self, memory):
        """What queries are held against, (B, S, units)."""
        return ops.matmul(ops.cast(memory, self.compute_dtype), self._key)

    def call(self, query, memory, mask=None, keys=None):
        if mask is not None:
            mask = ops.cast(mask, "bool")
            memory = ops.where(mask[..., None], memory, ops.zeros_like(memory))
        keys = self.keys(memory) if keys is None else keys
        if self._query is not None:
            query = ops.matmul(query, self._query)
        if self.kind == "additive":
            met = ops.tanh(query[:, :, None] + keys[:, None])
            scores = ops.matmul(met, self._score)[..., 0]
        else:
            scores = ops.matmul(query, ops.transpose(keys, (0, 2, 1))) * query.shape[-1] ** -0.5
        weights = _softmax(ops.cast(scores, "float32"), mask)
        return ops.matmul(ops.cast(weights, memory.dtype), memory), weights

    def compute_output_shape(self, query_shape, memory_shape, *others):
        return (*query_shape[:2], memory_shape[-1]), (*query_shape[:2], memory_shape[1])

    def get_config(self):
        return {**super().get_config(), "kind": self.kind, "units": self.units}


def _softmax(scores, mask):
    """The softmax of (B, T, S) over the places that a mask (B, S) keeps; 0 if there are none."""
    if mask is not None:
        scores = ops.where(mask[:, None], scores, -1e9)
    scores = scores - ops.max(scores, axis=-1, keepdims=True, initial=-1e9)
    shares = ops.exp(scores)
    if mask is not None:
        shares = shares * ops.cast(mask[:, None], shares.dtype)
    return shares / ops.maximum(ops.sum(shares, axis=-1, keepdims=True), 1e-9)
