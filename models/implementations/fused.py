"""What TensorFlow's fused recurrent ops need: cells told as the one they compute, and masks.

A fused op computes one equation. A cell that leaves out a gate, or couples two,
is that equation with weights of a certain form (a fold): the weights that are
trained are still the cell's own, and the gradient goes back through the fold.

Shapes: T time, B batch, D input features, H units.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from models.cells import by_map
from models.equations import CANDIDATE

LSTM = ("input", "forget", CANDIDATE, "output")
GRU = ("update", "reset", CANDIDATE)
_SURELY = 100.0  # its sigmoid is 1 in every float type, and that of its negative 0


class Map(NamedTuple):
    """The weights of one map: what multiplies x (D, H) and h (H, H), and vectors (H,)."""

    kernel: tf.Tensor
    recurrent: tf.Tensor
    bias: tf.Tensor
    recurrent_bias: tf.Tensor
    peephole: tf.Tensor


def is_lstm(spec) -> bool:
    """Whether a cell is the LSTM with peepholes, of certain weights."""
    return spec.equation in ("lstm", "coupled") and _is_plain(spec)


def is_gru(spec) -> bool:
    """Whether a cell is the GRU with the reset gate after the product, of certain weights."""
    return spec.equation in ("gru", "leaky") and _is_plain(spec)


def _is_plain(spec) -> bool:
    """Whether nothing is changed but what weights can tell."""
    kinds = set(spec.recurrent_dropout) - {"weights"}  # dropped before the op sees them
    changed = spec.cell_clip or spec.projection or spec.layer_norm != "none" or spec.zoneout
    return {spec.input_activation, spec.output_activation} == {"tanh"} and not (changed or kinds)


def folded(cell, noise) -> dict[str, Map]:
    """A cell's maps as those of `LSTM`, of `GRU`, or its only one, with zeros for what is not there."""
    spec, known = cell.spec, _maps(cell, noise)
    known |= {gate: _constant(cell, value) for gate, value in spec.pinned.items()}
    if spec.equation == "coupled":  # 1 - sigmoid(z) = sigmoid(-z)
        known["input"] = Map(*(-weight for weight in known["forget"]))
    if spec.equation == "leaky":
        known = {
            "update": known["leak"],
            "reset": _constant(cell, 1.0),
            CANDIDATE: known[CANDIDATE],
        }
    return known


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


def compacted(run: Callable, inputs, mask, states):
    """Has an op that knows no masks read the steps of each row that are not masked.

    They are moved to the front, in their order, and what the op gives for them
    is put back where they came from.

    Args:
        run: `run(inputs, lengths, states)` gives the list of all states after
            each step, each (T, B, H), for inputs (T, B, D); what it gives
            beyond the steps of a row does not matter.
        inputs: (B, T, D), zero where masked.
        mask: (B, T) bool, or None.
        states: The states before the first step, (B, H) each.

    Returns:
        The outputs (B, T, H) and the last states.
    """
    if mask is None:
        every = run(
            tf.transpose(inputs, [1, 0, 2]),
            tf.fill(tf.shape(inputs)[:1], tf.shape(inputs)[1]),
            states,
        )
        lasts = [
            tf.concat([first[None], state], 0)[-1]
            for first, state in zip(states, every, strict=True)
        ]
        return tf.transpose(every[0], [1, 0, 2]), lasts
    counted = tf.cast(mask, tf.int32)
    order = tf.argsort(1 - counted, axis=1, stable=True)
    lengths = tf.reduce_sum(counted, axis=1)
    every = run(tf.transpose(tf.gather(inputs, order, batch_dims=1), [1, 0, 2]), lengths, states)
    every = [
        tf.transpose(tf.concat([first[None], state], 0), [1, 0, 2])
        for first, state in zip(states, every, strict=True)
    ]
    outputs = tf.gather(every[0], tf.cumsum(counted, axis=1), batch_dims=1)
    return outputs, [tf.gather(state, lengths, batch_dims=1) for state in every]
