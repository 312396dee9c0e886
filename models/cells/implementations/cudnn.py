"""Cells that differ from cuDNN's in their weights only, by TensorFlow's op for it, on a GPU.

Both directions go into one call. Keras compiles the same op into every model
that is built where a GPU is seen; here it is for training, and what is served
is built anew without it.

Shapes: T time, B batch, D input features, H units.
"""

from collections.abc import Sequence

import tensorflow as tf

from ..equations import CANDIDATE
from . import fused

# cuDNN's name of each kind of cell, and the order of its maps.
_LSTM = ("lstm", ("input", "forget", CANDIDATE, "output"))
_GRU = ("gru", ("reset", "update", CANDIDATE))


def runs(spec, device: str, dtype: str) -> bool:
    """What a fold makes of an LSTM without peepholes, of a GRU, or a plain tanh or relu unit."""
    return device == "gpu" and _kind(spec) is not None


def _kind(spec):
    if spec.peepholes:
        return None
    if fused.is_lstm(spec):
        return _LSTM
    if fused.is_gru(spec):
        return _GRU
    if fused.is_rnn(spec):
        return (f"rnn_{spec.input_activation}", (CANDIDATE,))
    return None


def run(cell, inputs, mask, states, noise, training, concurrent=1):
    """Runs `cell` over inputs (B, T, D); see the package for the contract."""
    ((outputs, lasts),) = _run([cell], inputs, mask, [states], [noise])
    return outputs, lasts


def run_both(cells, inputs, mask, states, noises, training):
    """Runs one cell forward and one backward; see the package for the contract."""
    return _run(cells, inputs, mask, states, noises)


def _run(cells, inputs, mask, states, noises):
    """Of each cell its outputs (B, T, H), in the order of the inputs, and its last states."""
    batch, time = tf.shape(inputs)[0], tf.shape(inputs)[1]
    if mask is None:
        lengths = tf.fill([batch], time)
    else:
        counted = tf.cast(mask, tf.int32)
        lengths = tf.reduce_sum(counted, axis=1)
        order = tf.argsort(1 - counted, axis=1, stable=True)
        inputs = tf.gather(inputs, order, batch_dims=1)
    outputs, lasts = _every_step(cells, inputs, lengths, states, noises)
    results = []
    for direction, (cell, first) in enumerate(zip(cells, states, strict=True)):
        output = outputs[direction]
        if mask is not None:
            # Number of valid steps up to and including each, in reading direction.
            read = tf.cumsum(counted, axis=1, reverse=direction == 1)
            position = lengths[:, None] - read if direction else read - 1
            output = tf.gather(output, tf.clip_by_value(position, 0, time - 1), batch_dims=1)
        is_nonempty = (lengths > 0)[:, None]
        last = [
            tf.where(is_nonempty, new, old)
            for new, old in zip(lasts[direction], first, strict=True)
        ]
        output.set_shape([*inputs.shape[:2], cell.units])
        results.append((output, last))
    return results


def _every_step(cells, inputs, lengths, states, noises):
    """What the op gives: outputs (B, T, H) and last states of each cell."""
    cell, dtype = cells[0], cells[0].compute_dtype
    mode, maps = _kind(cell.spec)
    folds = [fused.folded(*each) for each in zip(cells, noises, strict=True)]
    params = packed([[fold[name] for name in maps] for fold in folds])
    first = [tf.cast(tf.stack(each), dtype) for each in zip(*states, strict=True)]
    first += [tf.zeros_like(first[0])] * (2 - len(first))  # a GRU has no c, and the op asks for one

    def compute():
        result = tf.raw_ops.CudnnRNNV3(
            input=tf.transpose(inputs, [1, 0, 2]),
            input_h=first[0],
            input_c=first[1],
            params=params,
            sequence_lengths=tf.maximum(lengths, 1),
            rnn_mode=mode,
            direction="bidirectional" if len(cells) == 2 else "unidirectional",
            is_training=True,  # a gradient can be asked for whether or not it trains
        )
        return tf.transpose(result.output, [1, 0, 2]), result.output_h, result.output_c

    def skip():  # cuDNN refuses nothing at all
        shape = [*tf.unstack(tf.shape(inputs)[:2]), cell.units * len(cells)]
        return tf.zeros(shape, dtype), first[0], first[1]

    outputs, h, c = tf.cond(tf.size(inputs) > 0, compute, skip)
    outputs = tf.split(tf.cast(outputs, cell.state_dtype), len(cells), axis=-1)
    lasts = [h, c][: len(states[0])]
    return outputs, [
        [tf.cast(state[direction], cell.state_dtype) for state in lasts]
        for direction in range(len(cells))
    ]


def packed(directions: Sequence[Sequence[fused.Map]]) -> tf.Tensor:
    """The weights of each direction's maps as cuDNN wants them: one vector.

    First the matrices of all directions, each turned, for x and then for h; then
    the biases, likewise.
    """
    parts = []
    for maps in directions:
        for matrix in (*(each.kernel for each in maps), *(each.recurrent for each in maps)):
            parts.append(tf.reshape(tf.transpose(matrix), [-1]))
    for maps in directions:
        parts += [*(each.bias for each in maps), *(each.recurrent_bias for each in maps)]
    return tf.concat(parts, axis=0)
