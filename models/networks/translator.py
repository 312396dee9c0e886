"""The network of N→M: a sequence of ids in, the logits of another's next ids out.

Shapes: B batch, S steps of the source, T of the target, V target ids.
"""

import keras
from keras import ops

from ..cells.recurrent import GatedRNN
from ..layers.decoder import Decoder
from ..text.words import PADDING


def translator(
    *,
    source_vocabulary: int,
    target_vocabulary: int,
    cell,
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
    padding. Gated cells read the source in both directions; the output of the layer
    "memory", (B, S, 2 * units), is what the layer "decoder" (`Decoder`) looks at. Each
    layer of either adds its output to its input from the second on.

    Args:
        source_vocabulary, target_vocabulary: One more than the largest id of either.
        cell: What `models.cells.specs.find` takes, for either side.
        units: Of each direction of each encoder layer, and half those of a decoder layer.
        layers: Of either side.
        embedding: Features of an embedded token.
        attention, input_feeding: As `Decoder` has them.
        dropout: Share of features dropped while training.
        implementation: That of `GatedRNN`.
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
    for at in range(layers):
        read = keras.layers.Dropout(dropout, dtype=dtype, name=f"dropout_{at}")(x) if dropout else x
        read = GatedRNN(
            units,
            cell,
            direction="both",
            return_sequences=True,
            implementation=implementation,
            dtype=dtype,
            name=f"encoder_{at}",
        )(read, mask=mask)
        x = keras.layers.Add(dtype=dtype, name=f"residual_{at}")([x, read]) if at else read
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
