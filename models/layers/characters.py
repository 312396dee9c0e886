"""Vectors of words from their characters.

Shapes: B batch, T time (words), C characters of a word, N distinct words.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from ..cells.cell import Tensor
from ..cells.recurrent import GatedRNN
from ..cells.specs import CellSpec
from ..text.words import PADDING


@keras.saving.register_keras_serializable(package="gated")
class CharacterReader(keras.layers.Layer):
    """Vectors of words from their characters: (B, T, C) int32 to (B, T, `output_size`).

    Gated cells read the characters in both directions. With `affixes`, the embeddings of
    the prefixes and suffixes of 1, 2, ... characters are appended, the classical features
    for words that are not in the vocabulary (Ratnaparkhi 1996). Affixes are hashed into
    the rows of one shared table.

    A word that occurs several times in a batch is computed once. Padding, id 0, is not
    read; a word without characters gives zeros.

    Args:
        alphabet: One more than the largest id of a character.
        embedding: Features of an embedded character.
        units: Units per direction.
        cell: Cell spec or name, as accepted by `models.cells.specs.find`.
        affixes: Length of the longest prefix and suffix in characters; 0 for none.
        affix_embedding: Features of an embedded affix.
        buckets: Rows of the table that affixes share.
        implementation: Implementation of `GatedRNN`.
        **kwargs: `name` and `dtype` of a Keras layer.
    """

    def __init__(
        self,
        alphabet: int,
        embedding: int,
        units: int,
        cell: CellSpec | Mapping | str = "lstm",
        *,
        affixes: int = 0,
        affix_embedding: int = 24,
        buckets: int = 2**14,
        implementation: str = "auto",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        common = {"dtype": self.dtype_policy, "trainable": self.trainable}
        self.affixes, self.buckets, self.affix_embedding = affixes, buckets, affix_embedding
        self.embedding = keras.layers.Embedding(alphabet, embedding, name="embedding", **common)
        self.table = keras.layers.Embedding(buckets, affix_embedding, name="affixes", **common)
        self.reader = GatedRNN(
            units,
            cell,
            direction="both",
            implementation=implementation,
            name="reader",
            **common,
        )

    def build(self, shape: Sequence[int | None]) -> None:
        self.embedding.build((None, None))
        self.reader.build((None, None, self.embedding.output_dim))
        if self.affixes:
            self.table.build((None, None))
        self.built = True

    @property
    def output_size(self) -> int:
        """Features of the vector of a word."""
        return self.reader.output_size + 2 * self.affixes * self.affix_embedding

    def call(self, characters: Tensor) -> Tensor:
        batch, time, longest = ops.shape(characters)
        words, indices = _distinct(ops.reshape(characters, (-1, longest)))
        mask = ops.not_equal(words, PADDING)
        vectors = self.reader(self.embedding(words), mask=mask)
        if self.affixes:
            affixes = self.table(self._affixes(words, mask))
            affixes = ops.reshape(affixes, (-1, 2 * self.affixes * self.affix_embedding))
            not_empty = ops.cast(mask[:, :1], affixes.dtype)
            vectors = ops.concatenate([vectors, affixes * not_empty], axis=-1)
        return ops.reshape(ops.take(vectors, indices, axis=0), (batch, time, self.output_size))

    def _affixes(self, words, mask):
        """Buckets of the prefixes and suffixes of words, shortest first: (N, 2 * affixes).

        An affix longer than its word is the whole word.
        """
        lengths = ops.sum(ops.cast(mask, "int32"), axis=1, keepdims=True)
        words = ops.pad(words, [[0, 0], [0, self.affixes]])
        buckets = []
        for suffix in (False, True):
            hashed = ops.full_like(lengths, 2 if suffix else 1)
            for offset in range(self.affixes):
                position = lengths - 1 - offset if suffix else ops.full_like(lengths, offset)
                character = ops.take_along_axis(words, ops.maximum(position, 0), axis=1)
                character = ops.where(position < 0, PADDING, character)
                # No product exceeds 31 bits; the first prime is coprime to `buckets`.
                hashed = (hashed % 32_749 * 40_503 + character % 2**24 * 53 + offset) % (2**31 - 1)
                buckets.append(hashed % self.buckets)
        return ops.concatenate(buckets, axis=1)

    def compute_output_shape(self, shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return (*shape[:2], self.output_size)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "alphabet": self.embedding.input_dim,
            "embedding": self.embedding.output_dim,
            "units": self.reader.units,
            "cell": self.reader.get_config()["cell"],
            "affixes": self.affixes,
            "affix_embedding": self.affix_embedding,
            "buckets": self.buckets,
            "implementation": self.reader.implementation,
        }


def _distinct(rows):
    """Distinct rows of (N, C), without trailing columns of padding, and the index of each row."""
    if keras.backend.backend() != "tensorflow":
        return rows, ops.arange(rows.shape[0])
    with tf.device("CPU"):  # the op has no GPU kernel
        rows, indices = tf.raw_ops.UniqueV2(x=rows, axis=[0])
        used = tf.cast(tf.reduce_any(rows != PADDING, axis=0), tf.int32)
        longest = tf.reduce_max(tf.concat([[1], used * tf.range(1, tf.size(used) + 1)], 0))
        return rows[:, :longest], indices
