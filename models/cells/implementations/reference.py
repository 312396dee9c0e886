"""The definition, step by step in a loop, on any Keras backend.

With TensorFlow it is a `tf.while_loop`: the gradient of `keras.ops.scan` there cannot be
compiled by XLA, because the loop has no maximum number of steps.
"""

from collections.abc import Sequence

import keras
from keras import ops

from ..cell import GatedCell, Noise, Tensor
from ..specs import CellSpec


def runs(spec: CellSpec, device: str, dtype: str) -> bool:
    """Returns True: the other implementations are tested against this one."""
    return True


def run(
    cell: GatedCell,
    inputs: Tensor,
    mask: Tensor | None,
    states: Sequence[Tensor],
    noise: Noise,
    training: bool,
    concurrent: int = 1,
) -> tuple[Tensor, list[Tensor]]:
    """Runs `cell` over inputs (B, T, D), as specified in `models.cells.implementations`."""

    def step(t, x, valid, states):
        after = cell.step(x, states, noise.at_step(t))
        if valid is None:
            return after
        return [ops.where(valid, new, old) for new, old in zip(after, states, strict=True)]

    if keras.backend.backend() == "tensorflow":
        return _run_in_tensorflow(step, inputs, mask, list(states))

    def advance(states, t):
        valid = None if mask is None else ops.take(mask, t, axis=1)[:, None]
        after = step(t, ops.take(inputs, t, axis=1), valid, states)
        return after, after

    final_states, all_states = ops.scan(advance, list(states), ops.arange(ops.shape(inputs)[1]))
    return ops.swapaxes(all_states[0], 0, 1), list(final_states)


def _run_in_tensorflow(step, inputs, mask, states):
    import tensorflow as tf

    def unstack(x):
        x = tf.transpose(x, [1, 0, *range(2, len(x.shape))])
        return tf.TensorArray(x.dtype, time, element_shape=x.shape[1:]).unstack(x)

    time = tf.shape(inputs)[1]
    xs = unstack(inputs)
    valid = None if mask is None else unstack(mask[..., None])
    # With the initial state, because an array of no steps cannot be stacked.
    outputs = tf.TensorArray(states[0].dtype, time + 1, element_shape=states[0].shape)
    outputs = outputs.write(0, states[0])

    def body(t, states, outputs):
        after = step(t, xs.read(t), None if valid is None else valid.read(t), states)
        return t + 1, after, outputs.write(t + 1, after[0])

    _, states, outputs = tf.while_loop(
        lambda t, *_: t < time, body, (0, states, outputs), maximum_iterations=time
    )
    return tf.transpose(outputs.stack()[1:], [1, 0, 2]), list(states)
