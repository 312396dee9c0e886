"""Network of N→M: the logits of the next target ids, from a source sequence of ids.

Shapes: B batch, S steps of the source, T steps of the target, V target ids.
"""

from collections.abc import Mapping

import keras
from keras import ops

from ..cells.recurrent import GatedRNN
from ..cells.specs import CellSpec
from ..layers.decoder import Decoder
from ..text.words import PADDING


def translator(
    *,
    source_vocabulary: int,
    target_vocabulary: int,
    cell: CellSpec | Mapping | str,
    units: int,
    layers: int,
    embedding: int,
    attention: str = "multiplicative",
    input_feeding: bool = False,
    dropout: float = 0.0,
    implementation: str = "auto",
    dtype: str = "float32",
) -> keras.Model:
    """Builds a model of {"source": (B, S), "before": (B, T)} int32 to logits (B, T, V) float32.

    "before" holds, at each step, the token before the one to predict. Both are 0 at
    padding. Gated cells read the source in both directions; the layer "decoder" (`Decoder`)
    attends to the output of the layer "memory", (B, S, 2 * units). From the second layer
    on, each layer of encoder and decoder adds its output to its input.

    Args:
        source_vocabulary: One more than the largest id of the source.
        target_vocabulary: One more than the largest id of the target.
        cell: Cell spec or name, as accepted by `models.cells.specs.find`, for both sides.
        units: Units per direction of an encoder layer, and half those of a decoder layer.
        layers: Number of layers of each side.
        embedding: Features of an embedded token.
        attention: Attention of the decoder, one of `models.layers.decoder.KINDS`.
        input_feeding: Whether a step of the decoder reads the previous attentional state.
        dropout: Share of features dropped in training.
        implementation: Implementation of `GatedRNN`.
        dtype: A Keras dtype policy, such as "mixed_bfloat16".
    """
    source = keras.Input((None,), dtype="int32", name="source")
    before = keras.Input((None,), dtype="int32", name="before")
    mask = ops.not_equal(source, PADDING)
    x = keras.layers.Embedding(
        source_vocabulary,
        embedding,
        embeddings_initializer=keras.initializers.RandomNormal(stddev=embedding**-0.5),
        dtype=dtype,
        name="embedding",
    )(source)
    for number in range(layers):
        inputs = x
        if dropout:
            inputs = keras.layers.Dropout(dropout, dtype=dtype, name=f"dropout_{number}")(x)
        outputs = GatedRNN(
            units,
            cell,
            direction="both",
            return_sequences=True,
            implementation=implementation,
            dtype=dtype,
            name=f"encoder_{number}",
        )(inputs, mask=mask)
        if number == 0:
            x = outputs
        else:
            x = keras.layers.Add(dtype=dtype, name=f"residual_{number}")([x, outputs])
    if dropout:
        x = keras.layers.Dropout(dropout, dtype=dtype, name="dropout_memory")(x)
    memory = keras.layers.Identity(dtype=dtype, name="memory")(x)
    logits, _ = Decoder(
        target_vocabulary,
        embedding,
        2 * units,
        cell,
        layers=layers,
        attention=attention,
        input_feeding=input_feeding,
        dropout=dropout,
        implementation=implementation,
        dtype=dtype,
        name="decoder",
    )(before, memory, mask=mask)
    return keras.Model({"source": source, "before": before}, logits, name="translator")
