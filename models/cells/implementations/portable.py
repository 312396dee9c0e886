"""The fastest of the implementations whose ops run on any device, selected by size.

In training that is `loop`. In inference, small batches of an LSTM with few units run in
`block`, where a step is a single op. Times relative to Keras's layer, measured on two cores of an
AMD EPYC: 0.36 for 1 row of 64 units, 0.74 for 16 rows of 64 units and 0.75 for 4 rows of 128 units,
where `loop` takes 0.62, 0.9 and 0.91; but 1.3 for 12 rows of 128 units, where `loop` takes 0.93. On
an Intel machine with AVX-512 `loop` was faster with more than 128 units even for a single row, on
the AMD machine as fast. XLA, which has no kernel for the op, compiles `loop`.

If the number of rows is unknown, as in a served graph, a `tf.cond` selects at run time.

Cells whose states are linear run in `scan` where it is faster: in training with more steps than
those of one chunk, in inference with many steps of few values. The time of minGRU with 128 units
relative to `loop`, measured on two busy cores: in training 0.7 for 8 or 64 rows of 50 steps and
0.15 for 8 rows of 1000; in inference 0.2 for 8 rows of 1000, but 1.4 for 8 rows of 50 and 1.6 for
64 rows of 200, where arrays of all steps do not fit the cache.
"""

from collections.abc import Sequence

import tensorflow as tf

from ..cell import GatedCell, Noise
from ..specs import CellSpec
from . import block, loop, scan

MAX_BLOCK = 2**16  # rows × units²
MAX_UNITS = 128
# Of `scan` in inference.
MIN_STEPS = 64
MAX_SCAN = 4096  # rows × units


def runs(spec: CellSpec, device: str, dtype: str) -> bool:
    """Returns True: it runs any cell on any device and in any float dtype."""
    return True


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
    arguments = (cell, inputs, mask, states, noise, training, concurrent)
    if scan.runs(cell.spec, "cpu", cell.compute_dtype):
        is_faster = _scan_is_faster(cell, inputs, training)
        if isinstance(is_faster, bool):
            return scan.run(*arguments) if is_faster else loop.run(*arguments)
        outputs, final_states = tf.cond(
            is_faster, lambda: scan.run(*arguments), lambda: loop.run(*arguments)
        )
        outputs.set_shape([*inputs.shape[:2], cell.output_size])
        return outputs, final_states
    if training or loop.is_compiled_by_xla():
        return loop.run(*arguments)
    run_few, most = loop.run_hoisted, loop.FEW_ROWS - 1
    if cell.units <= MAX_UNITS and block.runs(cell.spec, "cpu", cell.compute_dtype):
        run_few, most = block.run, MAX_BLOCK // cell.units**2
    rows = inputs.shape[0]
    if rows is not None:
        return run_few(*arguments) if rows <= most else loop.run(*arguments)
    outputs, final_states = tf.cond(
        tf.shape(inputs)[0] <= most, lambda: run_few(*arguments), lambda: loop.run(*arguments)
    )
    outputs.set_shape([*inputs.shape[:2], cell.output_size])
    return outputs, final_states


def _scan_is_faster(cell, inputs, training):
    """Whether `scan` is faster than `loop`: a bool, or a tensor if it depends on unknown sizes."""
    rows, time = inputs.shape[:2]
    if training or loop.is_compiled_by_xla():
        return time is None or time > scan.CHUNK
    if time is not None and time < MIN_STEPS:
        return False
    if rows is not None and rows * cell.units > MAX_SCAN:
        return False
    if rows is not None and time is not None:
        return True
    shape = tf.shape(inputs)
    return (shape[1] >= MIN_STEPS) & (shape[0] * cell.units <= MAX_SCAN)
