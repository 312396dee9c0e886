"""Cells expressed as the cell that a fused op computes.

A fused op computes a single equation. A cell with a pinned or blind gate or with coupled
gates is that equation with weights of a certain form: the weights of the cell are folded into
those of the op, and gradients flow back through the fold to the weights of the cell.

Shapes: D input features, H units.
"""

import math
from typing import NamedTuple

import tensorflow as tf

from ..cell import GatedCell, Noise, by_map
from ..equations import CANDIDATE
from ..specs import CellSpec

_SATURATED = 100.0  # its sigmoid is 1 in every float dtype, and that of its negative below 1e-43


class Map(NamedTuple):
    """Weights of one map of a fused op, in the compute dtype of the cell.

    Attributes:
        kernel: (D, H), multiplies x.
        recurrent: (H, H), multiplies h.
        bias: (H,).
        recurrent_bias: (H,), added to the recurrent product.
        peephole: (H,), multiplies the cell state.
    """

    kernel: tf.Tensor
    recurrent: tf.Tensor
    bias: tf.Tensor
    recurrent_bias: tf.Tensor
    peephole: tf.Tensor


def is_rnn(spec: CellSpec) -> bool:
    """Whether a cell is the plain unit of Elman (1990) with tanh or relu."""
    has_activation = spec.input_activation in ("tanh", "relu")
    return spec.equation == "rnn" and has_activation and _is_plain(spec)


def is_lstm(spec: CellSpec) -> bool:
    """Whether a cell is an LSTM, possibly with peepholes, with weights of a certain form."""
    return spec.equation in ("lstm", "coupled") and _is_tanh(spec) and _is_plain(spec)


def is_gru(spec: CellSpec) -> bool:
    """Whether a cell is a GRU whose reset gate follows the product, with certain weights."""
    return spec.equation in ("gru", "leaky") and _is_tanh(spec) and _is_plain(spec)


def _is_plain(spec) -> bool:
    """Whether a spec makes no change that weights cannot express."""
    kinds = set(spec.recurrent_dropout) - {"weights"}  # applied before the op reads them
    changed = spec.cell_clip or spec.projection or spec.layer_norm != "none" or spec.zoneout
    changed = changed or spec.gate_activations
    return not (changed or kinds)


def _is_tanh(spec) -> bool:
    return {spec.input_activation, spec.output_activation} == {"tanh"}


def fold(cell: GatedCell, noise: Noise) -> dict[str, Map]:
    """Returns the maps of the fused op that computes a cell, by name.

    Weights that the cell does not have are zero. A gate pinned to p has zero weights and the
    bias logit(p). The input gate of "coupled" has the negated weights of the forget gate,
    because 1 - sigmoid(z) = sigmoid(-z).

    Args:
        cell: A built cell for which `is_rnn`, `is_lstm` or `is_gru` holds.
        noise: Masks of the batch.
    """
    spec, maps = cell.spec, _maps(cell, noise)
    maps |= {gate: _constant(cell, value) for gate, value in spec.pinned.items()}
    if spec.equation == "coupled":
        maps["input"] = Map(*(-weight for weight in maps["forget"]))
    if spec.equation == "leaky":
        maps = {
            "update": maps["leak"],
            "reset": _constant(cell, 1.0),
            CANDIDATE: maps[CANDIDATE],
        }
    return maps


def _maps(cell, noise) -> dict[str, Map]:
    """The maps that have weights in the cell."""
    spec, vectors = cell.spec, cell.vectors()

    def blocks(maps, weight):
        return by_map(maps, tf.cast(weight, cell.compute_dtype)) if maps else {}

    kernels = blocks(spec.input_maps, cell.kernel)
    recurrents = blocks(spec.recurrent_maps, cell.matrices(noise).get("recurrent"))
    biases = blocks(spec.maps, cell.bias) if cell.use_bias else {}
    zero = _constant(cell, 0.5)
    return {
        name: Map(
            kernels.get(name, zero.kernel),
            recurrents.get(name, zero.recurrent),
            biases.get(name, zero.bias),
            tf.cast(vectors.get(f"{name}_recurrent_bias", zero.bias), cell.compute_dtype),
            tf.cast(vectors.get(f"{name}_peephole", zero.bias), cell.compute_dtype),
        )
        for name in spec.maps
    }


def _constant(cell, value) -> Map:
    """The map of a gate that has a constant value; its bias is zero for 0.5."""
    logit = math.log(value / (1 - value)) if 0 < value < 1 else _SATURATED * (2 * value - 1)
    features, units, dtype = cell.features, cell.units, cell.compute_dtype
    zeros = tf.zeros([units], dtype)
    return Map(
        tf.zeros([features, units], dtype),
        tf.zeros([units, units], dtype),
        tf.fill([units], tf.constant(logit, dtype)),
        zeros,
        zeros,
    )
