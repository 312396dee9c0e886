"""Networks that read trees: gated layers with an output for each root, or for each node.

Shapes: B batch, N nodes of the largest tree, O outputs, K classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from ..cells.specs import CellSpec
from ..cells.tree import GatedTree
from ..layers.word_dropout import WordDropout
from ..layers.word_vectors import embed_words
from ..text.words import PADDING


def tree_reader(
    *,
    features: int,
    outputs: int,
    cell: CellSpec | Mapping | str,
    units: int,
    layers: int = 1,
    embedding: int = 32,
    arity: int | None = None,
    return_sequences: bool = False,
    dtype: str = "float32",
) -> keras.Model:
    """Builds a model of ids and parents, both (B, N) int32, to (B, O) or (B, N, O) float32.

    Nodes with the id 0 are padding. See `GatedTree` for the parents.

    Args:
        features: One more than the largest id.
        outputs: O.
        cell: Cell spec or name, as accepted by `models.cells.specs.find`.
        units: Units of each layer.
        layers: Number of `GatedTree` layers; each reads the outputs of the one below.
        embedding: Features of an embedded id.
        arity: Largest number of children, each with recurrent matrices of its own; None for
            any number of children that share them.
        return_sequences: Whether there is an output for each node, not only for the root.
        dtype: A Keras dtype policy.
    """
    nodes = keras.Input((None,), dtype="int32", name="nodes")
    parents = keras.Input((None,), dtype="int32", name="parents")
    present = ops.not_equal(nodes, PADDING)
    x = keras.layers.Embedding(features, embedding, dtype=dtype, name="embedding")(nodes)
    for number in range(1, layers + 1):
        layer = GatedTree(
            units,
            cell,
            arity,
            return_sequences=return_sequences or number < layers,
            dtype=dtype,
            name=f"reader_{number}",
        )
        x = layer(x, parents, mask=present)
    outcomes = keras.layers.Dense(outputs, dtype="float32", name="outputs")(x)
    return keras.Model([nodes, parents], outcomes, name="tree_reader")


def tree_classifier(
    *,
    vocabulary: int,
    classes: int,
    cell: CellSpec | Mapping | str,
    units: int,
    layers: int,
    embedding: int,
    head: Sequence[keras.layers.Layer],
    inner: int,
    arity: int | None = None,
    vectors: Mapping[str, Any] | None = None,
    dropout: float = 0.0,
    word_dropout: float = 0.0,
    dtype: str = "float32",
) -> keras.Model:
    """Builds a model of "ids" and "parents", both (B, N) int32, to logits (B, N, K) float32.

    Nodes with the id 0 are padding. See `GatedTree` for the parents.

    Args:
        vocabulary: One more than the largest id of a word of the training part.
        classes: K.
        cell: Cell spec or name, as accepted by `models.cells.specs.find`.
        units: Units of each layer.
        layers: Number of `GatedTree` layers; each reads the outputs of the one below.
        embedding: Features of a word.
        head: Layers that follow the logits.
        inner: Id of nodes without a word, which no dropout replaces.
        arity: Largest number of children, each with recurrent matrices of its own; None for
            any number of children that share them.
        vectors: Arguments of `WordVectors` but the vocabulary, which replaces the embedding; None
            for an embedding that is learnt.
        dropout: Share of features dropped in training.
        word_dropout: Share of words that training replaces by the unknown word.
        dtype: A Keras dtype policy.
    """
    ids = keras.Input((None,), dtype="int32", name="ids")
    parents = keras.Input((None,), dtype="int32", name="parents")
    present = ops.not_equal(ids, PADDING)
    x = ids
    if word_dropout:
        dropped = WordDropout(word_dropout, name="word_dropout")(ids)
        x = ops.where(ops.equal(ids, inner), ids, dropped)
    x = embed_words(vocabulary, embedding, vectors, dtype)(x)
    for number in range(1, layers + 1):
        if dropout:
            x = keras.layers.Dropout(dropout, dtype=dtype, name=f"dropout_{number}")(x)
        x = GatedTree(
            units, cell, arity, return_sequences=True, dtype=dtype, name=f"reader_{number}"
        )(x, parents, mask=present)
    if dropout:
        x = keras.layers.Dropout(dropout, dtype=dtype, name="encoder_dropout")(x)
    logits = keras.layers.Dense(classes, dtype="float32", name="logits")(x)
    for layer in head:
        logits = layer(logits)
    return keras.Model({"ids": ids, "parents": parents}, logits, name="tree_classifier")
