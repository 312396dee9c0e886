"""Linear classifier of the distinct words and word pairs of a text.

Shapes: B batch, T time, V words, P buckets of word pairs, K classes.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from ..cells.cell import Tensor
from ..text.pairs import pair_buckets
from ..text.words import PADDING


@keras.saving.register_keras_serializable(package="gated")
class BagOfWords(keras.layers.Layer):
    """Logits that are sums of weights, one for each distinct word and word pair of a text.

    The weights are not trained with a network, but assigned; they are 0 before.

    Weights:
        words: (V, K), of words.
        pairs: (P, K), of pairs of a word and its predecessor, which share P buckets.
        bias: (K,).

    Args:
        vocabulary: V, one more than the largest id.
        classes: K.
        buckets: P.
        **kwargs: `name` and `dtype` of a Keras layer.

    Call arguments:
        ids: (B, T) int32, 0 at padding.

    Returns:
        (B, K).
    """

    def __init__(self, vocabulary: int, classes: int, buckets: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.vocabulary, self.classes, self.buckets = vocabulary, classes, buckets
        self.words, self.pairs, self.bias = (
            self.add_weight(
                name=name,
                shape=shape,
                initializer="zeros",
                trainable=False,
                dtype="float32",
                autocast=False,  # sums of many terms
            )
            for name, shape in (
                ("words", (vocabulary, classes)),
                ("pairs", (buckets, classes)),
                ("bias", (classes,)),
            )
        )
        self.built = True

    def call(self, ids: Tensor) -> Tensor:
        mask = ops.not_equal(ids, PADDING)
        logits = self.bias
        for weights, features in (
            (self.words, ids),
            (self.pairs, pair_buckets(ids, self.buckets)),
        ):
            # Equal features are neighbours once they are sorted; padding comes first.
            features = ops.sort(ops.where(mask, features, -1), axis=1)
            previous = ops.pad(features, [[0, 0], [1, 0]], constant_values=-1)[:, :-1]
            distinct = ops.cast(ops.not_equal(features, previous), weights.dtype)
            terms = ops.take(weights, ops.maximum(features, 0), axis=0)
            logits = logits + ops.sum(terms * distinct[..., None], axis=1)
        return ops.cast(logits, self.compute_dtype)

    def compute_output_shape(self, ids_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return (ids_shape[0], self.classes)

    def get_config(self) -> dict[str, Any]:
        sizes = {"vocabulary": self.vocabulary, "classes": self.classes, "buckets": self.buckets}
        return {**super().get_config(), **sizes}
