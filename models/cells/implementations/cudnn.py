"""Cells that differ from those of cuDNN in weights only, by TensorFlow's cuDNN op on a GPU.

Both directions run in one call. Served graphs are built without the op, so that they run on
any device.

Shapes: B batch, T time, D input features, H units.
"""

from collections.abc import Sequence

import tensorflow as tf

from ..cell import GatedCell, Noise
from ..equations import CANDIDATE
from ..specs import CellSpec
from . import fused

# The `rnn_mode` of each kind of cell, and the order of its maps.
_LSTM = ("lstm", ("input", "forget", CANDIDATE, "output"))
_GRU = ("gru", ("reset", "update", CANDIDATE))


def runs(spec: CellSpec, device: str, dtype: str) -> bool:
    """Whether the device is a GPU and cuDNN has the cell.

    It has LSTMs without peepholes, GRUs whose reset gate follows the product, and plain units
    with tanh or relu, each with the weights of `fused.fold`.
    """
    return device == "gpu" and _kind(spec) is not None


def _kind(spec):
    """The `rnn_mode` of a cell and the order of its maps, or None if cuDNN has no such cell."""
    if spec.peepholes:
        return None
    if fused.is_lstm(spec):
        return _LSTM
    if fused.is_gru(spec):
        return _GRU
    if fused.is_rnn(spec):
        return (f"rnn_{spec.input_activation}", (CANDIDATE,))
    return None


def run(
    cell: GatedCell,
    inputs: tf.Tensor,
    mask: tf.Tensor | None,
    states: Sequence[tf.Tensor],
    noise: Noise,
    training: bool,
    concurrent: int = 1,
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Runs `cell` over inputs (B, T, D), as specified in `models.cells.implementations`."""
    ((outputs, final_states),) = _run([cell], inputs, mask, [states], [noise])
    return outputs, final_states


def run_both(
    cells: Sequence[GatedCell],
    inputs: tf.Tensor,
    mask: tf.Tensor | None,
    states: Sequence[Sequence[tf.Tensor]],
    noises: Sequence[Noise],
    training: bool,
) -> list[tuple[tf.Tensor, list[tf.Tensor]]]:
    """Runs two directions in one call, as specified in `models.cells.implementations`."""
    return _run(cells, inputs, mask, states, noises)


def _run(cells, inputs, mask, states, noises):
    """For each cell its outputs (B, T, H), in the order of the inputs, and its final states."""
    batch, time = tf.shape(inputs)[0], tf.shape(inputs)[1]
    if mask is None:
        lengths = tf.fill([batch], time)
    else:
        # As in `block`, valid steps are moved to the front, and outputs back to their steps.
        valid = tf.cast(mask, tf.int32)
        lengths = tf.reduce_sum(valid, axis=1)
        order = tf.argsort(1 - valid, axis=1, stable=True)
        inputs = tf.gather(inputs, order, batch_dims=1)
    outputs, final_states = _call_op(cells, inputs, lengths, states, noises)
    results = []
    for direction, (cell, initial) in enumerate(zip(cells, states, strict=True)):
        output = outputs[direction]
        if mask is not None:
            # Number of valid steps up to and including each, in reading direction.
            read = tf.cumsum(valid, axis=1, reverse=direction == 1)
            position = lengths[:, None] - read if direction else read - 1
            output = tf.gather(output, tf.clip_by_value(position, 0, time - 1), batch_dims=1)
        is_nonempty = (lengths > 0)[:, None]
        final = [
            tf.where(is_nonempty, new, old)
            for new, old in zip(final_states[direction], initial, strict=True)
        ]
        output.set_shape([*inputs.shape[:2], cell.units])
        results.append((output, final))
    return results


def _call_op(cells, inputs, lengths, states, noises):
    """Outputs (B, T, H) and final states of each cell, as the op returns them."""
    cell, dtype = cells[0], cells[0].compute_dtype
    mode, maps = _kind(cell.spec)
    folds = [fused.fold(*pair) for pair in zip(cells, noises, strict=True)]
    params = pack([[fold[name] for name in maps] for fold in folds])
    initial = [tf.cast(tf.stack(pair), dtype) for pair in zip(*states, strict=True)]
    # The op requires a cell state, which a GRU does not have.
    initial += [tf.zeros_like(initial[0])] * (2 - len(initial))

    def compute():
        result = tf.raw_ops.CudnnRNNV3(
            input=tf.transpose(inputs, [1, 0, 2]),
            input_h=initial[0],
            input_c=initial[1],
            params=params,
            sequence_lengths=tf.maximum(lengths, 1),
            rnn_mode=mode,
            direction="bidirectional" if len(cells) == 2 else "unidirectional",
            is_training=True,  # required for a gradient, which inference may ask for as well
        )
        return tf.transpose(result.output, [1, 0, 2]), result.output_h, result.output_c

    def skip():  # cuDNN rejects empty inputs
        shape = [*tf.unstack(tf.shape(inputs)[:2]), cell.units * len(cells)]
        return tf.zeros(shape, dtype), initial[0], initial[1]

    outputs, h, c = tf.cond(tf.size(inputs) > 0, compute, skip)
    outputs = tf.split(tf.cast(outputs, cell.state_dtype), len(cells), axis=-1)
    final = [h, c][: len(states[0])]
    final_states = [
        [tf.cast(state[direction], cell.state_dtype) for state in final]
        for direction in range(len(cells))
    ]
    return outputs, final_states


def pack(directions: Sequence[Sequence[fused.Map]]) -> tf.Tensor:
    """Returns the weights of cuDNN as one vector.

    It consists of the transposed matrices of each direction, for x and then for h, followed by
    the biases of each direction in the same order.

    Args:
        directions: For each direction its maps, in the order of cuDNN.
    """
    parts = []
    for maps in directions:
        for matrix in (*(each.kernel for each in maps), *(each.recurrent for each in maps)):
            parts.append(tf.reshape(tf.transpose(matrix), [-1]))
    for maps in directions:
        parts += [*(each.bias for each in maps), *(each.recurrent_bias for each in maps)]
    return tf.concat(parts, axis=0)
