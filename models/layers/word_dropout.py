"""Dropout of words: training replaces some of them by the unknown word.

Shapes: B batch, T time, V words.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from ..cells.cell import Tensor
from ..text.words import PADDING, UNKNOWN


@keras.saving.register_keras_serializable(package="gated")
class WordDropout(keras.layers.Layer):
    """Replaces a share of the ids (B, T) by that of the unknown word in training.

    A network thus learns to handle words that are not in its vocabulary. Padding is kept.

    Args:
        rate: Share of the words to replace, at least 0 and below 1.
        **kwargs: `name` and `dtype` of a Keras layer.

    Raises:
        ValueError: `rate` is out of range.
    """

    def __init__(self, rate: float, **kwargs: Any):
        super().__init__(**kwargs)
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"rate must be at least 0 and below 1, got {rate!r}.")
        self.rate = rate
        self._seed = keras.random.SeedGenerator()
        self.built = True

    def call(self, ids: Tensor, training: bool = False) -> Tensor:
        if not training or not self.rate:
            return ids
        drawn = keras.random.uniform(ops.shape(ids), seed=self._seed)
        drop = ops.logical_and(drawn < self.rate, ops.not_equal(ids, PADDING))
        return ops.where(drop, UNKNOWN, ids)

    def compute_output_shape(self, ids_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return ids_shape

    def compute_output_spec(self, ids: Tensor, training: bool = False) -> keras.KerasTensor:
        return keras.KerasTensor(ids.shape, ids.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate}


@keras.saving.register_keras_serializable(package="gated")
class RareWordDropout(keras.layers.Layer):
    """Replaces ids (B, T) of rare words by that of the unknown word in training.

    A word with count n is replaced with probability strength / (strength + n)
    (Kiperwasser & Goldberg 2016, sec. 4.1). A network thus learns to handle words that
    are not in its vocabulary. Padding is kept.

    Weights:
        counts: (V,), occurrences of each word; not trained. `adapt` adds to them.

    Args:
        vocabulary: V, one more than the largest id.
        strength: Count at which a word is dropped half of the time, at least 0.
        **kwargs: `name` and `dtype` of a Keras layer.

    Raises:
        ValueError: `strength` is negative.
    """

    def __init__(self, vocabulary: int, strength: float, **kwargs: Any):
        super().__init__(**kwargs)
        if not strength >= 0:
            raise ValueError(f"strength must be at least 0, got {strength!r}.")
        self.vocabulary, self.strength = vocabulary, strength
        self.counts = self.add_weight(
            name="counts",
            shape=(vocabulary,),
            initializer="zeros",
            trainable=False,
            dtype="float32",
            autocast=False,
        )
        self._seed = keras.random.SeedGenerator()
        self.built = True

    def adapt(self, batches: Iterable[np.ndarray]) -> None:
        """Adds the words of batches to the counts.

        Args:
            batches: Arrays of ids, (B, T).
        """
        counts = ops.convert_to_numpy(self.counts).copy()
        for ids in batches:
            counts += np.bincount(np.ravel(ids), minlength=self.vocabulary)
        self.counts.assign(counts)

    def call(self, ids: Tensor, training: bool = False) -> Tensor:
        if not training or not self.strength:
            return ids
        drawn = keras.random.uniform(ops.shape(ids), seed=self._seed)
        counts = ops.take(self.counts, ids, axis=0)
        drop = ops.logical_and(drawn * (self.strength + counts) < self.strength, ids != PADDING)
        return ops.where(drop, UNKNOWN, ids)

    def compute_output_shape(self, shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return shape

    def compute_output_spec(self, ids: Tensor, training: bool = False) -> keras.KerasTensor:
        return keras.KerasTensor(ids.shape, ids.dtype)

    def get_config(self) -> dict[str, Any]:
        sizes = {"vocabulary": self.vocabulary, "strength": self.strength}
        return {**super().get_config(), **sizes}
