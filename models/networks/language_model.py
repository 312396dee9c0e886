"""Networks of language models: the logits of the next of V tokens at each step.

Shapes: B batch, T time, V tokens, S directions.
"""

from collections.abc import Mapping, Sequence

import keras
from keras import ops

from ..cells.recurrent import GatedRNN
from ..cells.specs import CellSpec
from ..layers.sampled_softmax import SampledSoftmax
from ..layers.token_bias import TokenBias
from ..text.words import PADDING, UNKNOWN

_SAMPLES = 1024  # words of which a softmax is estimated in training


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


def reader_language_model(
    *,
    vocabulary: int,
    cell: CellSpec | Mapping | str,
    units: int,
    layers: int,
    embedding: int,
    direction: str = "both",
    dropout: float = 0.0,
    implementation: str = "auto",
    dtype: str = "float32",
) -> keras.Model:
    """Builds a model of {"ids": (B, T), "targets": (B, S * T)} int32 to losses (B, S * T) float32.

    It predicts each word from those before it and, with the direction "both", from those after it,
    to initialise a network that reads the same ids, 0 at padding: a bidirectional language model
    (Peters et al. 2018, sec. 3.1), whose directions share the embedding and the output weights,
    which are the same (Press & Wolf 2017). The targets are the next word at each step, and then
    the previous one; the losses are their negative log-likelihoods. Padding and the unknown word
    are never predicted. The layers "forward" and "backward" hold the cells.

    Args:
        vocabulary: V, one more than the largest id.
        cell: Cell spec or name, as accepted by `models.cells.specs.find`.
        units: Units per direction of each layer.
        layers: Number of recurrent layers.
        embedding: Features of a word.
        direction: "both" or "forward".
        dropout: Share of features dropped in training.
        implementation: Implementation of `GatedRNN`.
        dtype: A Keras dtype policy, such as "mixed_bfloat16".
    """
    ids = keras.Input((None,), dtype="int32", name="ids")
    mask = ops.not_equal(ids, PADDING)
    words = keras.layers.Embedding(vocabulary, embedding, dtype=dtype, name="embedding")
    x = words(ids)
    if dropout:
        x = keras.layers.Dropout(dropout, dtype=dtype, name="embedding_dropout")(x)
    outputs = []
    for side in ("forward", "backward") if direction == "both" else ("forward",):
        reader = GatedRNN(
            units,
            cell,
            layers=layers,
            direction=side,
            dropout=dropout if layers > 1 else 0.0,
            return_sequences=True,
            implementation=implementation,
            dtype=dtype,
            name=side,
        )
        # Padding precedes the words that are read backward only.
        y = reader(x, mask=mask) if side == "backward" else reader(x)
        if dropout:
            y = keras.layers.Dropout(dropout, dtype=dtype, name=f"{side}_dropout")(y)
        if reader.output_size != embedding:
            y = keras.layers.Dense(embedding, dtype=dtype, name=f"{side}_projection")(y)
        outputs.append(y)
    x = ops.concatenate(outputs, axis=1)
    targets = keras.Input((None,), dtype="int32", name="targets")
    softmax = SampledSoftmax(words, UNKNOWN + 1, _SAMPLES, dtype="float32", name="prediction")
    inputs = {"ids": ids, "targets": targets}
    return keras.Model(inputs, softmax(x, targets), name="reader_language_model")
