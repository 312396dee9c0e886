"""The network of N→1: a sequence of ids in, the logits of K classes out.

Shapes: B batch, T time, D features, K classes.
"""

from collections.abc import Iterable

import keras
import numpy as np
from keras import ops

from ..cells.recurrent import GatedRNN
from ..text.words import PADDING, UNKNOWN


def classifier(
    *,
    vocabulary: int,
    classes: int,
    cell,
    units: int,
    layers: int,
    embedding: int,
    evidence: int = 0,
    leaves_out: bool = False,
    dropout: float = 0.0,
    word_dropout: float = 0.0,
    implementation: str = "auto",
    dtype: str = "float32",
) -> keras.Model:
    """Builds a model of ids (B, T) int32, 0 at padding, to logits (B, K) float32.

    Words are embedded, read by gated cells in both directions, and pooled over
    time by mean and maximum. The output of the layer "encoder", (B, 2 * 2 *
    units), is the text as a vector, to be taken into other models.

    Args:
        vocabulary: One more than the largest id.
        classes: K.
        cell: What `models.cells.specs.find` takes.
        units: Of each direction of each layer.
        layers: Recurrent layers.
        embedding: D, features of a word.
        evidence: Buckets of `Evidence`, whose counts are then read beside the
            words; 0 for none.
        leaves_out: Whether there is a second input, "left_out", for training on
            the examples that the evidence was counted in: see `Evidence`.
        dropout: Share of features dropped while training.
        word_dropout: Share of words that training reads as unknown ones.
        implementation: That of `GatedRNN`.
        dtype: A Keras dtype policy, such as "mixed_bfloat16".
    """
    ids = keras.Input((None,), dtype="int32", name="ids")
    inputs = {"ids": ids}
    mask = ops.not_equal(ids, PADDING)
    x = WordDropout(word_dropout, name="word_dropout")(ids) if word_dropout else ids
    x = keras.layers.Embedding(vocabulary, embedding, dtype=dtype, name="embedding")(x)
    if dropout:
        x = keras.layers.Dropout(dropout, dtype=dtype, name="embedding_dropout")(x)
    if evidence:
        if leaves_out:
            inputs["left_out"] = keras.Input((classes,), name="left_out")
        counted = Evidence(vocabulary, classes, evidence, name="evidence")
        x = keras.layers.Concatenate(dtype=dtype)([x, counted(**inputs)])
    x = GatedRNN(
        units,
        cell,
        layers=layers,
        direction="both",
        dropout=dropout,
        return_sequences=True,
        implementation=implementation,
        dtype=dtype,
        name="reader",
    )(x, mask=mask)
    x = MaskedPooling(dtype=dtype, name="encoder")(x, mask=mask)
    if dropout:
        x = keras.layers.Dropout(dropout, dtype=dtype, name="encoder_dropout")(x)
    logits = keras.layers.Dense(classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs if leaves_out and evidence else ids, logits, name="classifier")


@keras.saving.register_keras_serializable(package="gated")
class Evidence(keras.layers.Layer):
    """What words and pairs of words have so far been evidence of: log-count ratios.

    For each word, and each pair of a word and the one before it, the log of the
    share of each class's documents that have it, less the mean over classes: the
    features of Wang & Manning (2012), which a gated network can then negate,
    weigh and combine. Counts are no trainable weights; `adapt` adds to them.

    A training example must not find itself in the counts, where each rare word
    would give its class away. `left_out` takes it out again.

    Weights:
        words: (V, K), documents of each class that have a word.
        pairs: (P, K), those that have a pair; pairs share P buckets.
        documents: (K,), all of them.

    Args:
        vocabulary: V, one more than the largest id.
        classes: K.
        buckets: P.

    Call arguments:
        ids: (B, T) int32.
        left_out: (B, K), 1 for the class of a document that is itself among the
            counted ones, 0 elsewhere; None if no document is.

    Returns:
        (B, T, 2 * K): the ratios of the word, then of the pair.
    """

    def __init__(self, vocabulary: int, classes: int, buckets: int = 2**18, **kwargs):
        super().__init__(**kwargs)
        self.vocabulary, self.classes, self.buckets = vocabulary, classes, buckets
        self.words, self.pairs, self.documents = (
            self.add_weight(
                name=name, shape=shape, initializer="zeros", trainable=False, dtype="float32"
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
            batches: Pairs of ids (B, T) and the classes of the documents (B,).
        """
        counts = [ops.convert_to_numpy(w).copy() for w in (self.words, self.pairs, self.documents)]
        for ids, labels in batches:
            pairs = ops.convert_to_numpy(self._pairs(ids))
            documents = np.arange(len(ids))[:, None]
            for count, found in zip(counts[:2], (ids, pairs), strict=True):
                each = np.unique((documents * len(count) + found)[ids != PADDING])
                document, word = np.divmod(each, len(count))
                np.add.at(count, (word, labels[document]), 1)
            np.add.at(counts[2], labels, 1)
        for weight, count in zip((self.words, self.pairs, self.documents), counts, strict=True):
            weight.assign(count)

    def call(self, ids, left_out=None):
        own = 0.0 if left_out is None else ops.cast(left_out, "float32")[:, None]
        documents = ops.log(self.documents - own + 2.0)
        found = []
        for table, at in ((self.words, ids), (self.pairs, self._pairs(ids))):
            counts = ops.take(table, at, axis=0) - own
            # Padding was never counted, so nothing can be taken out of it.
            ratios = ops.log(ops.maximum(counts, 0.0) + 1.0) - documents
            found.append(ratios - ops.mean(ratios, axis=-1, keepdims=True))
        return ops.cast(ops.concatenate(found, axis=-1), self.compute_dtype)

    def _pairs(self, ids):
        """The bucket of each word and the one before it, (B, T); all fits in 31 bits."""
        before = ops.pad(ids, [[0, 0], [1, 0]])[:, :-1]
        return (before % 32_749 * 40_503 + ids % 2**29) % self.buckets

    def compute_output_shape(self, ids_shape, left_out_shape=None):
        return (*ids_shape, 2 * self.classes)

    def get_config(self):
        sizes = {"vocabulary": self.vocabulary, "classes": self.classes, "buckets": self.buckets}
        return {**super().get_config(), **sizes}


@keras.saving.register_keras_serializable(package="gated")
class WordDropout(keras.layers.Layer):
    """Reads a share of the ids (B, T) as the unknown word's while training; padding stays.

    So a network learns what to make of a word that it has never seen.
    """

    def __init__(self, rate: float, **kwargs):
        super().__init__(**kwargs)
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"rate must be at least 0 and below 1, got {rate!r}.")
        self.rate = rate
        self._seed = keras.random.SeedGenerator()
        self.built = True

    def call(self, ids, training=False):
        if not training or not self.rate:
            return ids
        drawn = keras.random.uniform(ops.shape(ids), seed=self._seed)
        drop = ops.logical_and(drawn < self.rate, ops.not_equal(ids, PADDING))
        return ops.where(drop, UNKNOWN, ids)

    def compute_output_shape(self, ids_shape):
        return ids_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}


@keras.saving.register_keras_serializable(package="gated")
class MaskedPooling(keras.layers.Layer):
    """Mean and maximum over the steps that the mask keeps: (B, T, D) to (B, 2 * D).

    A row without any step gives zeros.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.built = True

    def call(self, inputs, mask):
        keep = ops.cast(mask, "bool")[..., None]
        count = ops.sum(ops.cast(keep, "float32"), axis=1)
        total = ops.sum(ops.where(keep, ops.cast(inputs, "float32"), 0.0), axis=1)
        mean = total / ops.maximum(count, 1.0)
        low = ops.where(keep, ops.cast(inputs, "float32"), -1e9)
        # The largest value, and no less than -1e9: time may have no step at all.
        largest = ops.max(ops.pad(low, [[0, 0], [0, 1], [0, 0]], constant_values=-1e9), axis=1)
        largest = ops.where(count > 0, largest, 0.0)
        return ops.cast(ops.concatenate([mean, largest], axis=-1), self.compute_dtype)

    def compute_mask(self, inputs, previous_mask=None):
        return None

    def compute_output_shape(self, inputs_shape, mask_shape=None):
        return (inputs_shape[0], 2 * inputs_shape[-1])
