"""The network of N→N: words and their characters in, the logits of K tags for each word out.

Shapes: B batch, T time (words), C characters of a word, D features, K tags.
"""

from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from ..cells.recurrent import GatedRNN
from ..layers.crf import CRF
from ..text.words import PADDING, UNKNOWN


def tagger(
    *,
    vocabulary: int,
    alphabet: int,
    tags: int,
    cell,
    units: int,
    layers: int,
    embedding: int,
    characters: int,
    character_embedding: int,
    affixes: int = 0,
    affix_embedding: int = 24,
    crf: bool = False,
    dropout: float = 0.0,
    word_dropout: float = 0.0,
    implementation: str = "auto",
    dtype: str = "float32",
) -> keras.Model:
    """Builds a model of {"ids": (B, T), "characters": (B, T, C)} int32 to logits (B, T, K) float32.

    Both inputs are 0 at padding. A word is its embedding beside what gated cells
    read in its characters from either end, and beside the embeddings of its first
    and last characters; gated cells then read the words in both directions. The
    output of the layer "encoder", (B, T, 2 * units), is the words in their context,
    to be taken into other models.

    Args:
        vocabulary, alphabet: One more than the largest id of a word, of a character.
        tags: K.
        cell: What `models.cells.specs.find` takes, for words and characters.
        units: Of each direction of each layer.
        layers: Recurrent layers.
        embedding: D, features of a word.
        characters: Units of each direction that reads characters; with 0 the model
            reads words alone, and "ids" is its only input.
        character_embedding: Features of a character.
        affixes, affix_embedding: As `CharacterReader` has them.
        crf: Whether the logits go through a layer "crf", for its loss and decoding.
        dropout: Share of features dropped while training.
        word_dropout: As `RareWordDropout` has it; 0 for none.
        implementation: That of `GatedRNN`.
        dtype: A Keras dtype policy, such as "mixed_bfloat16".
    """
    ids = keras.Input((None,), dtype="int32", name="ids")
    inputs = {"ids": ids}
    mask = ops.not_equal(ids, PADDING)
    x = ids
    if word_dropout:
        x = RareWordDropout(vocabulary, word_dropout, name="word_dropout")(x)
    x = keras.layers.Embedding(vocabulary, embedding, dtype=dtype, name="embedding")(x)
    if characters:
        inputs["characters"] = keras.Input((None, None), dtype="int32", name="characters")
        read = CharacterReader(
            alphabet,
            character_embedding,
            characters,
            cell,
            affixes=affixes,
            affix_embedding=affix_embedding,
            implementation=implementation,
            dtype=dtype,
            name="character_reader",
        )(inputs["characters"])
        x = keras.layers.Concatenate(dtype=dtype, name="words")([x, read])
    if dropout:
        x = keras.layers.Dropout(dropout, dtype=dtype, name="words_dropout")(x)
    x = GatedRNN(
        units,
        cell,
        layers=layers,
        direction="both",
        dropout=dropout,
        return_sequences=True,
        implementation=implementation,
        dtype=dtype,
        name="encoder",
    )(x, mask=mask)
    if dropout:
        x = keras.layers.Dropout(dropout, dtype=dtype, name="encoder_dropout")(x)
    logits = keras.layers.Dense(tags, dtype="float32", name="logits")(x)
    if crf:
        logits = CRF(tags, name="crf")(logits, mask=mask)
    return keras.Model(inputs, logits, name="tagger")


@keras.saving.register_keras_serializable(package="gated")
class CharacterReader(keras.layers.Layer):
    """Reads each word's characters from either end: (B, T, C) int32 to (B, T, `output_size`).

    Beside that stand, if asked for, embeddings of the first character, the first
    two and so on, and of the last: the suffixes and prefixes by which taggers have
    always known words that they never met (Ratnaparkhi 1996). They share the rows
    of one table by their hash.

    A word that is in the batch more than once is read once. Padding, 0, is not
    read; a word without characters gives zeros.

    Args:
        alphabet: One more than the largest id of a character.
        embedding: Features of a character.
        units: Of each direction.
        cell: What `models.cells.specs.find` takes.
        affixes: Characters of the longest prefix and suffix; 0 for none.
        affix_embedding: Features of each.
        buckets: Rows of the table that affixes share.
        implementation: That of `GatedRNN`.
    """

    def __init__(
        self,
        alphabet: int,
        embedding: int,
        units: int,
        cell="lstm",
        *,
        affixes: int = 0,
        affix_embedding: int = 24,
        buckets: int = 2**14,
        implementation: str = "auto",
        **kwargs,
    ):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.affixes, self.buckets, self.affix_embedding = affixes, buckets, affix_embedding
        self.embedding = keras.layers.Embedding(alphabet, embedding, dtype=policy, name="embedding")
        self.table = keras.layers.Embedding(buckets, affix_embedding, dtype=policy, name="affixes")
        self.reader = GatedRNN(
            units,
            cell,
            direction="both",
            implementation=implementation,
            dtype=policy,
            name="reader",
        )

    def build(self, shape):
        self.embedding.build((None, None))
        self.reader.build((None, None, self.embedding.output_dim))
        if self.affixes:
            self.table.build((None, None))
        self.built = True

    @property
    def output_size(self) -> int:
        """The features of a word."""
        return self.reader.output_size + 2 * self.affixes * self.affix_embedding

    def call(self, characters):
        batch, time, longest = ops.shape(characters)
        rows, places = _distinct(ops.reshape(characters, (-1, longest)))
        there = ops.not_equal(rows, PADDING)
        read = self.reader(self.embedding(rows), mask=there)
        if self.affixes:
            found = self.table(self._affixes(rows, there))
            found = ops.reshape(found, (-1, 2 * self.affixes * self.affix_embedding))
            some = ops.cast(there[:, :1], found.dtype)
            read = ops.concatenate([read, found * some], axis=-1)
        return ops.reshape(ops.take(read, places, axis=0), (batch, time, self.output_size))

    def _affixes(self, rows, there):
        """The buckets of each word's prefixes and suffixes, the shortest first: (N, 2 * affixes).

        An affix longer than its word is the word.
        """
        lengths = ops.sum(ops.cast(there, "int32"), axis=1, keepdims=True)
        rows = ops.pad(rows, [[0, 0], [0, self.affixes]])
        found = []
        for suffix in (False, True):
            hashed = ops.full_like(lengths, 1 + suffix)
            for at in range(self.affixes):
                place = lengths - 1 - at if suffix else ops.full_like(lengths, at)
                one = ops.take_along_axis(rows, ops.maximum(place, 0), axis=1)
                one = ops.where(place < 0, PADDING, one)
                # All fits in 31 bits; the first prime is prime to the number of buckets.
                hashed = (hashed % 32_749 * 40_503 + one % 2**24 * 53 + at) % (2**31 - 1)
                found.append(hashed % self.buckets)
        return ops.concatenate(found, axis=1)

    def compute_output_shape(self, shape):
        return (*shape[:2], self.output_size)

    def get_config(self):
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
    """Rows (N, C), each once and without steps that all have as padding; and the place of each."""
    if keras.backend.backend() != "tensorflow":
        return rows, ops.arange(rows.shape[0])
    with tf.device("CPU"):  # no GPU finds equal rows
        rows, places = tf.raw_ops.UniqueV2(x=rows, axis=[0])
        used = tf.cast(tf.reduce_any(rows != PADDING, axis=0), tf.int32)
        longest = tf.reduce_max(tf.concat([[1], used * tf.range(1, tf.size(used) + 1)], 0))
        return rows[:, :longest], places


@keras.saving.register_keras_serializable(package="gated")
class RareWordDropout(keras.layers.Layer):
    """Reads rare words as unknown ones now and then while training: ids (B, T) int32 to the same.

    A word that was counted n times is unknown with the probability strength /
    (strength + n), as Kiperwasser & Goldberg (2016) have it; so a network learns
    what to make of words that it has never seen. Padding stays.

    Weights:
        counts: (V,), how often each word was met; not trained. `adapt` adds to them.

    Args:
        vocabulary: V, one more than the largest id.
        strength: The count of a word that is dropped half of the time.
    """

    def __init__(self, vocabulary: int, strength: float, **kwargs):
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
        """Adds to the counts.

        Args:
            batches: Of ids (B, T).
        """
        counts = ops.convert_to_numpy(self.counts).copy()
        for ids in batches:
            counts += np.bincount(np.ravel(ids), minlength=self.vocabulary)
        self.counts.assign(counts)

    def call(self, ids, training=False):
        if not training or not self.strength:
            return ids
        drawn = keras.random.uniform(ops.shape(ids), seed=self._seed)
        counts = ops.take(self.counts, ids, axis=0)
        drop = ops.logical_and(drawn * (self.strength + counts) < self.strength, ids != PADDING)
        return ops.where(drop, UNKNOWN, ids)

    def compute_output_shape(self, shape):
        return shape

    def get_config(self):
        sizes = {"vocabulary": self.vocabulary, "strength": self.strength}
        return {**super().get_config(), **sizes}
