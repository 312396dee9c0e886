"""The LSTM family, peepholes included, by TensorFlow's fused op `BlockLSTMV2`.

A step of it is one call in C++, where a loop of ops pays for the dispatch of
each; but its matrix product is the slower one, so that few rows gain by it and
many lose.

The gradient that TensorFlow registers for the op is wrong: it takes the gates
in the order of the first version of the op. `BlockLSTMGradV2` itself is right.
"""

import tensorflow as tf

from ..equations import CANDIDATE
from . import fused

GATES = ("input", "forget", CANDIDATE, "output")  # in the op's order of blocks


def runs(spec, device: str, dtype: str) -> bool:
    """LSTMs that differ in their weights only, in float32."""
    return fused.is_lstm(spec) and dtype == "float32"


def run(cell, inputs, mask, states, noise, training, concurrent=1):
    """Runs `cell` over inputs (B, T, D); see the package for the contract."""
    if mask is None:
        every = _every_state(cell, inputs, states, noise)
        return every[0][:, 1:], [state[:, -1] for state in every]
    # The op knows no masks: it reads the steps of each row that are not masked,
    # moved to the front, and what it gives for them is put where they came from.
    counted = tf.cast(mask, tf.int32)
    order = tf.argsort(1 - counted, axis=1, stable=True)
    every = _every_state(cell, tf.gather(inputs, order, batch_dims=1), states, noise)
    lasts = [tf.gather(state, tf.reduce_sum(counted, 1), batch_dims=1) for state in every]
    return tf.gather(every[0], tf.cumsum(counted, axis=1), batch_dims=1), lasts


def _every_state(cell, inputs, states, noise):
    """h and c before the first step and after each, (B, T + 1, H)."""
    maps = fused.folded(cell, noise)
    gates = [maps[name] for name in GATES]
    weight = tf.concat(
        [tf.concat([g.kernel for g in gates], 1), tf.concat([g.recurrent for g in gates], 1)], 0
    )
    bias = tf.concat([g.bias for g in gates], 0)
    peepholes = [maps[name].peephole for name in ("input", "forget", "output")]
    every = _block_lstm(
        tf.transpose(inputs, [1, 0, 2]),
        *states,
        weight,
        bias,
        *peepholes,
        bool(cell.spec.peepholes),
    )
    return [
        tf.concat([first[:, None], tf.transpose(state, [1, 0, 2])], axis=1)
        for first, state in zip(states, every, strict=True)
    ]


def _block_lstm(inputs, h, c, weight, bias, input_peephole, forget_peephole, output_peephole, use):
    """Every h and c (T, B, H) of an LSTM over inputs (T, B, D)."""

    @tf.custom_gradient
    def forward(x, h, c, w, b, wci, wcf, wco):
        arguments = {
            "seq_len_max": tf.shape(x, out_type=tf.int64)[0],
            "x": x,
            "cs_prev": c,
            "h_prev": h,
            "w": w,
            "b": b,
            "wci": wci,
            "wcf": wcf,
            "wco": wco,
            "use_peephole": use,
        }
        outputs = tf.raw_ops.BlockLSTMV2(cell_clip=0.0, **arguments)

        def backward(d_h, d_c):
            values = {
                name: getattr(outputs, name) for name in ("i", "cs", "f", "o", "ci", "co", "h")
            }
            gradients = tf.raw_ops.BlockLSTMGradV2(h_grad=d_h, cs_grad=d_c, **values, **arguments)
            # The op leaves the gradients of the weights unwritten if there are no rows.
            is_nonempty = tf.size(x) > 0
            names = ("x", "h_prev", "cs_prev", "w", "b", "wci", "wcf", "wco")
            return [
                tf.where(is_nonempty, d, tf.zeros_like(d))
                for d in (getattr(gradients, f"{name}_grad") for name in names)
            ]

        return (outputs.h, outputs.cs), backward

    return list(
        forward(inputs, h, c, weight, bias, input_peephole, forget_peephole, output_peephole)
    )
