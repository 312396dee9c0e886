"""Network that reads trees: gated layers with an output for each root, or for each node.

Shapes: B batch, N nodes of the largest tree, O outputs.
"""

from collections.abc import Mapping

import keras
from keras import ops

from ..cells.specs import CellSpec
from ..cells.tree import GatedTree
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
