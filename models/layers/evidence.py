"""Naive Bayes features of words and word pairs, counted by class.

Shapes: B batch, T time, V words, P buckets of word pairs, K classes.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from ..cells.cell import Tensor
from ..text.pairs import pair_buckets
from ..text.words import PADDING


@keras.saving.register_keras_serializable(package="gated")
class Evidence(keras.layers.Layer):
    """Log-count ratios of words and word pairs: the evidence that each gives for each class.

    For each word, and each pair of a word and its predecessor, the feature of a class is
    the log of the share of its documents that contain it, minus the mean over classes
    (the naive Bayes features of Wang & Manning 2012). A gated network can then negate,
    weight and combine them. Counts are weights that are not trained; `adapt` adds to them.

    A training example must not find itself in the counts, where each rare word would
    reveal its class. `left_out` subtracts it again.

    Weights:
        words: (V, K), documents of each class that contain a word.
        pairs: (P, K), documents of each class that contain a pair; pairs share P buckets.
        documents: (K,), documents of each class.

    Args:
        vocabulary: V, one more than the largest id.
        classes: K.
        buckets: P.
        **kwargs: `name` and `dtype` of a Keras layer.

    Call arguments:
        ids: (B, T) int32.
        left_out: (B, K), 1 for the class of a document that is itself among those
            counted, 0 elsewhere; None if none is.

    Returns:
        (B, T, 2 * K): the ratios of the word, then those of the pair.
    """

    def __init__(self, vocabulary: int, classes: int, buckets: int = 2**18, **kwargs: Any):
        super().__init__(**kwargs)
        self.vocabulary, self.classes, self.buckets = vocabulary, classes, buckets
        self.words, self.pairs, self.documents = (
            self.add_weight(
                name=name,
                shape=shape,
                initializer="zeros",
                trainable=False,
                dtype="float32",
                autocast=False,  # half precision has no counts above 65504
            )
            for name, shape in (
                ("words", (vocabulary, classes)),
                ("pairs", (buckets, classes)),
                ("documents", (classes,)),
            )
        )
        self.built = True

    def adapt(self, batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
        """Adds documents to the counts.

        Args:
            batches: Pairs of ids, (B, T), and the classes of the documents, (B,).
        """
        weights = (self.words, self.pairs, self.documents)
        words, pairs, documents = (ops.convert_to_numpy(weight).copy() for weight in weights)
        for ids, labels in batches:
            pair_ids = ops.convert_to_numpy(pair_buckets(ids, self.buckets))
            rows = np.arange(len(ids))[:, None]
            for counts, features in ((words, ids), (pairs, pair_ids)):
                # A document counts once, however often it contains the word.
                distinct = np.unique((rows * len(counts) + features)[ids != PADDING])
                row, feature = np.divmod(distinct, len(counts))
                np.add.at(counts, (feature, labels[row]), 1)
            np.add.at(documents, labels, 1)
        for weight, counts in zip(weights, (words, pairs, documents), strict=True):
            weight.assign(counts)

    def call(self, ids: Tensor, left_out: Tensor | None = None) -> Tensor:
        own = 0.0 if left_out is None else ops.cast(left_out, "float32")[:, None]
        documents = ops.log(self.documents - own + 2.0)
        features = []
        for table, indices in ((self.words, ids), (self.pairs, pair_buckets(ids, self.buckets))):
            counts = ops.take(table, indices, axis=0) - own
            # Padding was never counted, so there is nothing to subtract from it.
            ratios = ops.log(ops.maximum(counts, 0.0) + 1.0) - documents
            features.append(ratios - ops.mean(ratios, axis=-1, keepdims=True))
        return ops.cast(ops.concatenate(features, axis=-1), self.compute_dtype)

    def compute_output_shape(
        self, ids_shape: Sequence[int | None], left_out_shape: Sequence[int | None] | None = None
    ) -> tuple[int | None, ...]:
        return (*ids_shape, 2 * self.classes)

    def get_config(self) -> dict[str, Any]:
        sizes = {"vocabulary": self.vocabulary, "classes": self.classes, "buckets": self.buckets}
        return {**super().get_config(), **sizes}
