"""Weights of a language model as the start of a network that reads the same words.

Shapes: D features that a language model reads, P outputs of one of its layers.
"""

from collections.abc import Mapping

import numpy as np

from ..cells.cell import GatedCell
from ..cells.recurrent import GatedRNN

# Weights with a row for each input feature.
_INPUT_WEIGHTS = ("kernel", "raw_projection")


def initialise_reader(reader: GatedRNN, sources: Mapping[str, GatedRNN]) -> None:
    """Gives a recurrent layer the weights of layers that each read in one direction.

    The reader may have further inputs: in its first layer the features that follow those of the
    source, in others the outputs of the other direction. Their weights become 0, so that each
    direction computes at first what its source computes (Dai & Le 2015 have no such inputs).
    Cells without a source keep their weights.

    Args:
        reader: The built layer, of direction "forward" or "both".
        sources: Built layers by "forward" and "backward", with the cell, units and number of
            layers of the reader.

    Raises:
        ValueError: A weight of a source has another shape, for another reason than its inputs.
    """
    directions = ("forward", "backward") if reader.direction == "both" else (reader.direction,)
    for index, cell in enumerate(reader.cells):
        layer, side = divmod(index, len(directions))
        if directions[side] in sources:
            source = sources[directions[side]].cells[layer]
            first = side * source.output_size if layer else 0
            _copy(source, cell, first)


def _copy(source: GatedCell, target: GatedCell, first: int) -> None:
    """Copies the weights of a cell; the features of the source are those from `first`."""
    own = {weight.name: weight.numpy() for weight in source.trainable_weights}
    if source.raw_projection is None and target.raw_projection is not None:
        own["raw_projection"] = np.eye(source.features, dtype=np.float32)
    for weight in target.trainable_weights:
        value = own.pop(weight.name)
        if weight.name in _INPUT_WEIGHTS:
            value = np.pad(value, [(first, weight.shape[0] - first - len(value)), (0, 0)])
        weight.assign(value)
    if own:
        raise ValueError(f"{target.name} has no weights {sorted(own)}, which {source.name} has.")
