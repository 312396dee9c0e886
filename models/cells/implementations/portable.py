"""The fastest of those whose ops run on any device, chosen by size.

While training that is `loop`. Forward alone, few rows of an LSTM of few units
go through `block`, whose step is one op; measured on two cores, beside Keras's
layer: 0.33 of its time for 1 row of 64 units, 0.8 for 32 of 64 and for 8 of
256, where `loop` takes 0.84, 0.94 and 1.05; but 1.3 for 32 rows of 256. Of more
than 128 units a single row is faster by `loop`, whose matrix product it is.

Where the number of rows is not known, as in a served graph, one `tf.cond` asks.
"""

import tensorflow as tf

from . import block, loop

LARGEST_BLOCK = 2048  # rows × units
MOST_UNITS = 128


def runs(spec, device: str, dtype: str) -> bool:
    """Any cell, device and float type."""
    return True


def run(cell, inputs, mask, states, noise, training, concurrent=1):
    """Runs `cell` over inputs (B, T, D); see the package for the contract."""
    arguments = (cell, inputs, mask, states, noise, training, concurrent)
    if training:
        return loop.run(*arguments)
    few_by, most = loop.run_hoisted, loop.FEW_ROWS - 1
    if cell.units <= MOST_UNITS and block.runs(cell.spec, "cpu", cell.compute_dtype):
        few_by, most = block.run, LARGEST_BLOCK // cell.units
    rows = inputs.shape[0]
    if rows is not None:
        return few_by(*arguments) if rows <= most else loop.run(*arguments)
    outputs, lasts = tf.cond(
        tf.shape(inputs)[0] <= most, lambda: few_by(*arguments), lambda: loop.run(*arguments)
    )
    outputs.set_shape([*inputs.shape[:2], cell.output_size])
    return outputs, lasts
