"""The network of probes: a layer of gated cells and what it answers, after each step or the last.

Shapes: B batch, T steps, D features, O outputs.
"""

import keras
from keras import ops

from ..cells.recurrent import GatedRNN
from ..text.words import PADDING


def reader(
    *,
    features: int,
    outputs: int,
    cell,
    units: int,
    layers: int = 1,
    embedding: int = 0,
    each: bool = False,
    implementation: str = "auto",
    dtype: str = "float32",
) -> keras.Model:
    """Builds a model of (B, T, D) float32, or of ids (B, T) int32, to (B, O) or (B, T, O) float32.

    Args:
        features: D; or, with an embedding, one more than the largest id, and 0 is padding.
        outputs: O.
        cell: What `models.cells.specs.find` takes.
        units: Of each layer.
        layers: Of gated cells, the layer "reader".
        embedding: Features of an embedded id; 0 where the steps are no ids.
        each: Whether there is an output after each step.
        implementation: That of `GatedRNN`.
        dtype: A Keras dtype policy.
    """
    told = {"implementation": implementation, "dtype": dtype, "name": "reader"}
    rnn = GatedRNN(units, cell, layers=layers, return_sequences=each, **told)
    if embedding:
        inputs = keras.Input((None,), dtype="int32", name="inputs")
        x = keras.layers.Embedding(features, embedding, dtype=dtype, name="embedding")(inputs)
        # Padding stands at the end, where each answer is before it.
        x = rnn(x, mask=None if each else ops.not_equal(inputs, PADDING))
    else:
        inputs = keras.Input((None, features), dtype="float32", name="inputs")
        x = rnn(inputs)
    answers = keras.layers.Dense(outputs, dtype="float32", name="answers")(x)
    return keras.Model(inputs, answers, name="reader")
