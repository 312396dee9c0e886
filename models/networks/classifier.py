"""Network of N→1: the logits of K classes of a sequence of ids.

Shapes: B batch, T time, D features, K classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from ..cells.recurrent import GatedRNN
from ..cells.specs import CellSpec
from ..layers.bag_of_words import BagOfWords
from ..layers.evidence import Evidence
from ..layers.mixture import Mixture
from ..layers.pooling import MaskedPooling
from ..layers.temperature import Temperature
from ..layers.threshold import Threshold
from ..layers.word_dropout import WordDropout
from ..layers.word_vectors import countable_ids, embed_words
from ..text.words import PADDING


def classifier(
    *,
    vocabulary: int,
    classes: int,
    cell: CellSpec | Mapping | str,
    units: int,
    layers: int,
    embedding: int,
    vectors: Mapping[str, Any] | None = None,
    evidence: int = 0,
    leaves_out: bool = False,
    linear_path: int = 0,
    direction: str = "both",
    dropout: float = 0.0,
    word_dropout: float = 0.0,
    head: Sequence[keras.layers.Layer] | None = None,
    implementation: str = "auto",
    dtype: str = "float32",
) -> keras.Model:
    """Builds a model of ids (B, T) int32, 0 at padding, to logits (B, K) float32.

    Words are embedded, read by gated cells in both directions or forward, and pooled over
    time by mean and maximum. The output of the layer "encoder", (B, 2 * 2 * units) or
    (B, 2 * units), is a vector of the text, for reuse in other models. The layer "calibration"
    divides the logits by a temperature, 1 until it is assigned; the layer "confidence" keeps a
    threshold of the probability, 0 until it is assigned.

    Args:
        vocabulary: One more than the largest id of a word of the training part.
        classes: K.
        cell: Cell spec or name, as accepted by `models.cells.specs.find`.
        units: Units per direction of each layer.
        layers: Number of recurrent layers.
        embedding: D, features of a word.
        vectors: Arguments of `WordVectors` but the vocabulary, which replaces the embedding; None
            for an embedding that is learnt. Other layers see larger ids as the unknown word.
        evidence: Buckets of `Evidence`, whose features are appended to the embeddings; 0 for
            none.
        leaves_out: Whether the model has a second input, "left_out", for training on the
            examples that were counted; see `Evidence`.
        linear_path: Buckets of word pairs of `BagOfWords`, a second classifier whose logits are
            mixed with those of the network outside training; 0 for none.
        direction: "both", or "forward" for a network that can read a stream, without a linear
            path: that counts the distinct words of a whole text.
        dropout: Share of features dropped in training.
        word_dropout: Share of words that training replaces by the unknown word.
        head: Layers that follow the logits in place of "calibration" and "confidence".
        implementation: Implementation of `GatedRNN`.
        dtype: A Keras dtype policy, such as "mixed_bfloat16".
    """
    ids = keras.Input((None,), dtype="int32", name="ids")
    inputs = {"ids": ids}
    mask = ops.not_equal(ids, PADDING)
    x = WordDropout(word_dropout, name="word_dropout")(ids) if word_dropout else ids
    x = embed_words(vocabulary, embedding, vectors, dtype)(x)
    countable = countable_ids(ids, vocabulary, vectors)
    if dropout:
        x = keras.layers.Dropout(dropout, dtype=dtype, name="embedding_dropout")(x)
    if evidence:
        if leaves_out:
            inputs["left_out"] = keras.Input((classes,), name="left_out")
        counted = Evidence(vocabulary, classes, evidence, name="evidence")
        x = keras.layers.Concatenate(dtype=dtype)([x, counted(**{**inputs, "ids": countable})])
    x = GatedRNN(
        units,
        cell,
        layers=layers,
        direction=direction,
        dropout=dropout if layers > 1 else 0.0,
        return_sequences=True,
        implementation=implementation,
        dtype=dtype,
        name="reader",
    )(x, mask=mask)
    x = MaskedPooling(dtype=dtype, name="encoder")(x, mask=mask)
    if dropout:
        x = keras.layers.Dropout(dropout, dtype=dtype, name="encoder_dropout")(x)
    logits = keras.layers.Dense(classes, dtype="float32", name="logits")(x)
    if linear_path:
        bag = BagOfWords(vocabulary, classes, linear_path, dtype="float32", name="linear_path")
        logits = Mixture(dtype="float32", name="mixture")(logits, bag(countable))
    if head is None:
        head = [
            Temperature(dtype="float32", name="calibration"),
            Threshold(dtype="float32", name="confidence"),
        ]
    for layer in head:
        logits = layer(logits)
    return keras.Model(inputs if leaves_out and evidence else ids, logits, name="classifier")
