"""The network of N→1: a sequence of ids in, the logits of K classes out.

Shapes: B batch, T time, D features, K classes.
"""

import keras
from keras import ops

from models.recurrent import GatedRNN
from models.text import PADDING, UNKNOWN


def classifier(
    *,
    vocabulary: int,
    classes: int,
    cell,
    units: int,
    layers: int,
    embedding: int,
    dropout: float = 0.0,
    word_dropout: float = 0.0,
    dtype: str = "float32",
) -> keras.Model:
    """Builds a model of ids (B, T) int32, 0 at padding, to logits (B, K) float32.

    Words are embedded, read by gated cells in both directions, and pooled over
    time by mean and maximum. The output of the layer "encoder", (B, 2 * 2 *
    units), is the text as a vector, to be taken into other models.

    Args:
        vocabulary: One more than the largest id.
        classes: K.
        cell: What `models.specs.find` takes.
        units: Of each direction of each layer.
        layers: Recurrent layers.
        embedding: D, features of a word.
        dropout: Share of features dropped while training.
        word_dropout: Share of words that training reads as unknown ones.
        dtype: A Keras dtype policy, such as "mixed_bfloat16".
    """
    ids = keras.Input((None,), dtype="int32", name="ids")
    mask = ops.not_equal(ids, PADDING)
    x = WordDropout(word_dropout, name="word_dropout")(ids) if word_dropout else ids
    x = keras.layers.Embedding(vocabulary, embedding, dtype=dtype, name="embedding")(x)
    if dropout:
        x = keras.layers.Dropout(dropout, dtype=dtype, name="embedding_dropout")(x)
    x = GatedRNN(
        units,
        cell,
        layers=layers,
        direction="both",
        dropout=dropout,
        return_sequences=True,
        dtype=dtype,
        name="reader",
    )(x, mask=mask)
    x = MaskedPooling(dtype=dtype, name="encoder")(x, mask=mask)
    if dropout:
        x = keras.layers.Dropout(dropout, dtype=dtype, name="encoder_dropout")(x)
    logits = keras.layers.Dense(classes, dtype="float32", name="logits")(x)
    return keras.Model(ids, logits, name="classifier")


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
