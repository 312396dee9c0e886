"""Embedding of words whose vectors come from elsewhere, such as GloVe.

Shapes: B batch, T time, V words of the training part, R other words, D dimensions.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from ..cells.cell import Tensor
from ..text.words import PADDING, UNKNOWN

MODES = ("tuned", "frozen", "both")


def embed_words(
    vocabulary: int, embedding: int, vectors: Mapping[str, Any] | None, dtype: str
) -> keras.layers.Layer:
    """Returns the layer "embedding" of a network that reads words.

    Args:
        vocabulary: One more than the largest id of a word of the training part.
        embedding: Features of a word without vectors.
        vectors: Arguments of `WordVectors` but the vocabulary; None to learn all embeddings.
        dtype: A Keras dtype policy.
    """
    if vectors is None:
        return keras.layers.Embedding(vocabulary, embedding, dtype=dtype, name="embedding")
    return WordVectors(vocabulary, **vectors, dtype=dtype, name="embedding")


def countable_ids(ids: Tensor, vocabulary: int, vectors: Mapping[str, Any] | None) -> Tensor:
    """Returns ids in which words that the training part does not have are the unknown word.

    Args:
        ids: Ids of any shape.
        vocabulary: One more than the largest id of a word of the training part.
        vectors: As for `embed_words`; with None the ids are returned as they are.
    """
    return ids if vectors is None else ops.where(ops.less(ids, vocabulary), ids, UNKNOWN)


@keras.saving.register_keras_serializable(package="gated")
class WordVectors(keras.layers.Layer):
    """Word vectors of ids (B, T), which are tuned for words of the training part, or frozen.

    Other words, with ids from V, always keep their vectors: no training example would tune them.
    In the mode "both" a word has two channels, a tuned and a frozen one (Kim 2014, sec. 3.1).

    Weights:
        tuned: (V, D), trained; not in the mode "frozen".
        frozen: (V, D), not trained; not in the mode "tuned".
        rest: (R, D), not trained; none if R is 0.
        unknown: (D,), trained, the frozen vector of words whose row is 0; not in the mode
            "tuned".

    Args:
        vocabulary: V, one more than the largest id of a word of the training part.
        rest: R.
        dimensions: D.
        mode: "tuned", "frozen" or "both".
        **kwargs: `name` and `dtype` of a Keras layer.

    Call arguments:
        ids: (B, T) int32.

    Returns:
        (B, T, D), or (B, T, 2 * D) in the mode "both".

    Raises:
        ValueError: `mode` is unknown.
    """

    def __init__(self, vocabulary: int, rest: int, dimensions: int, mode: str, **kwargs: Any):
        super().__init__(**kwargs)
        if mode not in MODES:
            raise ValueError(f"mode must be one of {list(MODES)}, got {mode!r}.")
        self.vocabulary, self.rest_size = vocabulary, rest
        self.dimensions, self.mode = dimensions, mode
        self.tuned = self.frozen = self.rest = self.unknown = None
        if mode != "frozen":
            self.tuned = self._add("tuned", (vocabulary, dimensions), "uniform", True)
        if mode != "tuned":
            self.frozen = self._add("frozen", (vocabulary, dimensions), "zeros", False)
            self.unknown = self._add("unknown", (dimensions,), "zeros", True)
        if rest:
            self.rest = self._add("rest", (rest, dimensions), "zeros", False)
        self.built = True

    def _add(self, name: str, shape: tuple[int, ...], initializer: str, trainable: bool):
        return self.add_weight(name=name, shape=shape, initializer=initializer, trainable=trainable)

    def set_vectors(self, table: np.ndarray, seed: int = 0) -> None:
        """Assigns the vectors.

        Args:
            table: (V + R, D); rows of 0 stand for words without a vector. Their tuned vectors are
                drawn with the standard deviation of the others.
            seed: Seed of what is drawn.
        """
        own = table[: self.vocabulary]
        missing = ~own.any(axis=1)
        if self.frozen is not None:
            self.frozen.assign(own)
        if self.tuned is not None:
            scale = own[~missing].std() if not missing.all() else 0.05
            drawn = np.random.default_rng(seed).normal(0.0, scale, own.shape)
            tuned = np.where(missing[:, None], drawn, own)
            tuned[PADDING] = 0.0
            self.tuned.assign(tuned.astype(np.float32))
        if self.rest is not None:
            self.rest.assign(table[self.vocabulary :])

    def call(self, ids: Tensor) -> Tensor:
        own = ops.minimum(ids, self.vocabulary - 1)
        rest = is_rest = None
        if self.rest is not None:
            is_rest = ops.expand_dims(ops.greater_equal(ids, self.vocabulary), -1)
            rest = ops.take(self.rest, ops.maximum(ids - self.vocabulary, 0), axis=0)
        channels = []
        for table in (self.frozen, self.tuned):
            if table is None:
                continue
            channel = ops.take(table, own, axis=0)
            if rest is not None:
                channel = ops.where(is_rest, rest, channel)
            if table is self.frozen:
                missing = ops.all(ops.equal(channel, 0), axis=-1, keepdims=True)
                channel = ops.where(missing, ops.cast(self.unknown, channel.dtype), channel)
            channels.append(ops.cast(channel, self.compute_dtype))
        return ops.concatenate(channels, axis=-1) if len(channels) > 1 else channels[0]

    def compute_output_shape(self, ids_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return (*ids_shape, self.dimensions * (2 if self.mode == "both" else 1))

    def get_config(self) -> dict[str, Any]:
        sizes = {"vocabulary": self.vocabulary, "rest": self.rest_size}
        sizes |= {"dimensions": self.dimensions, "mode": self.mode}
        return {**super().get_config(), **sizes}
