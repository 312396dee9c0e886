"""LSTMs, including peepholes, by TensorFlow's fused op `BlockLSTMV2`.

A step is one call in C++, where a loop pays for the dispatch of each op. Its matrix product is
slower, so that small batches gain and large batches lose.

The gradient that TensorFlow registers for the op is wrong: it assumes the order of gates of
the op's first version. `BlockLSTMGradV2` itself is correct, and is called here.

Shapes: B batch, T time, D input features, H units.
"""

from collections.abc import Sequence

import tensorflow as tf

from ..cell import GatedCell, Noise
from ..equations import CANDIDATE
from ..specs import CellSpec
from . import fused

GATES = ("input", "forget", CANDIDATE, "output")  # order of the blocks of the op


def runs(spec: CellSpec, device: str, dtype: str) -> bool:
    """Whether a cell is an LSTM that differs in weights only, in float32."""
    return fused.is_lstm(spec) and dtype == "float32"


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
    if mask is None:
        all_states = _all_states(cell, inputs, states, noise)
        return all_states[0][:, 1:], [state[:, -1] for state in all_states]
    # The op has no mask. It reads the valid steps of each row, moved to the front; its outputs
    # are then moved back to the positions of the steps.
    valid = tf.cast(mask, tf.int32)
    order = tf.argsort(1 - valid, axis=1, stable=True)
    all_states = _all_states(cell, tf.gather(inputs, order, batch_dims=1), states, noise)
    lengths = tf.reduce_sum(valid, 1)
    final_states = [tf.gather(state, lengths, batch_dims=1) for state in all_states]
    return tf.gather(all_states[0], tf.cumsum(valid, axis=1), batch_dims=1), final_states


def _all_states(cell, inputs, states, noise):
    """h and c before the first step and after each, each (B, T + 1, H)."""
    maps = fused.fold(cell, noise)
    gates = [maps[name] for name in GATES]
    weight = tf.concat(
        [tf.concat([g.kernel for g in gates], 1), tf.concat([g.recurrent for g in gates], 1)], 0
    )
    bias = tf.concat([g.bias for g in gates], 0)
    peepholes = [maps[name].peephole for name in ("input", "forget", "output")]
    after = _block_lstm(
        tf.transpose(inputs, [1, 0, 2]),
        *states,
        weight,
        bias,
        *peepholes,
        bool(cell.spec.peepholes),
    )
    return [
        tf.concat([initial[:, None], tf.transpose(state, [1, 0, 2])], axis=1)
        for initial, state in zip(states, after, strict=True)
    ]


def _block_lstm(inputs, h, c, weight, bias, input_peephole, forget_peephole, output_peephole, use):
    """The states h and c after each step, each (T, B, H), of an LSTM over inputs (T, B, D).

    `use` states whether the op applies the peepholes.
    """

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
            values = {n: getattr(outputs, n) for n in ("i", "cs", "f", "o", "ci", "co", "h")}
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
