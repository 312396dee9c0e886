"""Network of probes: gated layers with an output after each step or after the last.

Shapes: B batch, T steps, D features, O outputs.
"""

from collections.abc import Mapping

import keras
from keras import ops

from ..cells.recurrent import GatedRNN
from ..cells.specs import CellSpec
from ..text.words import PADDING


def reader(
    *,
    features: int,
    outputs: int,
    cell: CellSpec | Mapping | str,
    units: int,
    layers: int = 1,
    embedding: int = 0,
    return_sequences: bool = False,
    implementation: str = "auto",
    dtype: str = "float32",
) -> keras.Model:
    """Builds a model of (B, T, D) float32, or of ids (B, T) int32, to (B, O) or (B, T, O) float32.

    Args:
        features: D; with an embedding, one more than the largest id, where 0 is padding.
        outputs: O.
        cell: Cell spec or name, as accepted by `models.cells.specs.find`.
        units: Units of each layer.
        layers: Number of layers in the `GatedRNN` "reader".
        embedding: Features of an embedded id; 0 if the inputs are numbers.
        return_sequences: Whether there is an output after each step, not only after the last.
        implementation: Implementation of `GatedRNN`.
        dtype: A Keras dtype policy.
    """
    rnn = GatedRNN(
        units,
        cell,
        layers=layers,
        return_sequences=return_sequences,
        implementation=implementation,
        dtype=dtype,
        name="reader",
    )
    if embedding:
        inputs = keras.Input((None,), dtype="int32", name="inputs")
        x = keras.layers.Embedding(features, embedding, dtype=dtype, name="embedding")(inputs)
        # With an output per step no mask is needed, because padding comes last.
        x = rnn(x, mask=None if return_sequences else ops.not_equal(inputs, PADDING))
    else:
        inputs = keras.Input((None, features), dtype="float32", name="inputs")
        x = rnn(inputs)
    predictions = keras.layers.Dense(outputs, dtype="float32", name="answers")(x)
    return keras.Model(inputs, predictions, name="reader")
