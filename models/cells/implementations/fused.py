"""Cells told as the one that a fused op computes.

A fused op computes one equation. A cell that leaves out a gate, or couples two,
is that equation with weights of a certain form (a fold): the weights that are
trained are still the cell's own, and the gradient goes back through the fold.

Shapes: D input features, H units.
"""

import math
from typing import NamedTuple

import tensorflow as tf

from ..cell import by_map
from ..equations import CANDIDATE

_SURELY = 100.0  # its sigmoid is 1 in every float type, and that of its negative 0


class Map(NamedTuple):
    """The weights of one map: what multiplies x (D, H) and h (H, H), and vectors (H,)."""

    kernel: tf.Tensor
    recurrent: tf.Tensor
    bias: tf.Tensor
    recurrent_bias: tf.Tensor
    peephole: tf.Tensor


def is_rnn(spec) -> bool:
    """Whether a cell is the plain unit, with tanh or relu."""
    return spec.equation == "rnn" and spec.input_activation != "identity" and _is_plain(spec)


def is_lstm(spec) -> bool:
    """Whether a cell is the LSTM with peepholes, of certain weights."""
    return spec.equation in ("lstm", "coupled") and _is_tanh(spec) and _is_plain(spec)


def is_gru(spec) -> bool:
    """Whether a cell is the GRU with the reset gate after the product, of certain weights."""
    return spec.equation in ("gru", "leaky") and _is_tanh(spec) and _is_plain(spec)


def _is_plain(spec) -> bool:
    """Whether nothing is changed but what weights can tell."""
    kinds = set(spec.recurrent_dropout) - {"weights"}  # dropped before the op sees them
    changed = spec.cell_clip or spec.projection or spec.layer_norm != "none" or spec.zoneout
    return not (changed or kinds)


def _is_tanh(spec) -> bool:
    return {spec.input_activation, spec.output_activation} == {"tanh"}


def folded(cell, noise) -> dict[str, Map]:
    """A cell's maps as the fused op has them, with zeros for what is not there."""
    spec, maps = cell.spec, _maps(cell, noise)
    maps |= {gate: _constant(cell, value) for gate, value in spec.pinned.items()}
    if spec.equation == "coupled":  # 1 - sigmoid(z) = sigmoid(-z)
        maps["input"] = Map(*(-weight for weight in maps["forget"]))
    if spec.equation == "leaky":
        maps = {
            "update": maps["leak"],
            "reset": _constant(cell, 1.0),
            CANDIDATE: maps[CANDIDATE],
        }
    return maps


def _maps(cell, noise) -> dict[str, Map]:
    spec, vectors = cell.spec, cell.vectors()

    def blocks(maps, weight):
        return by_map(maps, tf.cast(weight, cell.compute_dtype)) if maps else {}

    kernels = blocks(spec.input_maps, cell.kernel)
    recurrents = blocks(spec.recurrent_maps, cell.matrices(noise).get("recurrent"))
    biases = blocks(spec.maps, cell.bias)
    nothing = _constant(cell, 0.5)
    return {
        name: Map(
            kernels.get(name, nothing.kernel),
            recurrents.get(name, nothing.recurrent),
            biases[name],
            tf.cast(vectors.get(f"{name}_recurrent_bias", nothing.bias), cell.compute_dtype),
            tf.cast(vectors.get(f"{name}_peephole", nothing.bias), cell.compute_dtype),
        )
        for name in spec.maps
    }


def _constant(cell, value) -> Map:
    """The map of a gate that always has one value."""
    logit = math.log(value / (1 - value)) if 0 < value < 1 else _SURELY * (2 * value - 1)
    features, units, dtype = cell.features, cell.units, cell.compute_dtype
    zeros = tf.zeros([units], dtype)
    return Map(
        tf.zeros([features, units], dtype),
        tf.zeros([units, units], dtype),
        tf.fill([units], tf.cast(logit, dtype)),
        zeros,
        zeros,
    )
