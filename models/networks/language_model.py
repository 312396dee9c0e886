"""Network of a language model: the logits of the next of V tokens at each step.

Shapes: B batch, T time, V tokens.
"""

from collections.abc import Mapping, Sequence

import keras

from ..cells.recurrent import GatedRNN
from ..cells.specs import CellSpec
from ..layers.token_bias import TokenBias


def language_model(
    *,
    vocabulary: int,
    excluded: Sequence[int],
    cell: CellSpec | Mapping | str,
    units: int,
    layers: int,
    embedding: int,
    tied: bool = True,
    dropout: float = 0.0,
    implementation: str = "auto",
    dtype: str = "float32",
) -> keras.Model:
    """Builds a model of ids (B, T) int32, 0 at padding, to logits (B, T, V) float32.

    The ids are those of the previous tokens: the first is the start of a text. Gated cells read
    their embeddings forward, and a linear layer maps the outputs to the size of the embeddings,
    where they differ in size. The logits are products with the embeddings themselves if `tied`
    (Press & Wolf 2017), and a bias.

    Args:
        vocabulary: V.
        excluded: Ids that never follow, such as padding and the start of a text; their
            probability is 0.
        cell: Cell spec or name, as accepted by `models.cells.specs.find`.
        units: Units of each layer.
        layers: Number of recurrent layers.
        embedding: Features of a token.
        tied: Whether the output weights are the embeddings.
        dropout: Share of features dropped in training.
        implementation: Implementation of `GatedRNN`.
        dtype: A Keras dtype policy, such as "mixed_bfloat16".
    """
    ids = keras.Input((None,), dtype="int32", name="ids")
    tokens = keras.layers.ReversibleEmbedding(
        vocabulary, embedding, tie_weights=tied, reverse_dtype="float32", dtype=dtype,
        name="embedding",
    )  # fmt: skip
    x = tokens(ids)
    if dropout:
        x = keras.layers.Dropout(dropout, dtype=dtype, name="embedding_dropout")(x)
    reader = GatedRNN(
        units,
        cell,
        layers=layers,
        direction="forward",
        dropout=dropout if layers > 1 else 0.0,
        return_sequences=True,
        implementation=implementation,
        dtype=dtype,
        name="reader",
    )
    x = reader(x)  # padding follows the tokens, so that no output depends on it
    if dropout:
        x = keras.layers.Dropout(dropout, dtype=dtype, name="reader_dropout")(x)
    if reader.output_size != embedding:
        x = keras.layers.Dense(embedding, dtype=dtype, name="projection")(x)
    logits = TokenBias(excluded, dtype="float32", name="logits")(tokens(x, reverse=True))
    return keras.Model(ids, logits, name="language_model")
