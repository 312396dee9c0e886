"""Rows too long for a network, read in windows that overlap, in core TensorFlow ops.

A window is `width` steps wide, and the next begins `width - 2 * margin` after it. Each step is
read by a window that shows at least `margin` steps on either side of it, or the end of the row. A
row that fits is one window, whatever else is in its batch.
"""

import tensorflow as tf


def windows(lengths: tf.Tensor, width: int, margin: int = 0) -> tuple[tf.RaggedTensor, tf.Tensor]:
    """Returns the steps that each window reads, and the window from which each step is taken.

    Args:
        lengths: Lengths of the rows, (B,).
        width: Maximum number of steps of a window.
        margin: Minimum number of steps on either side of a step.

    Returns:
        Positions of the steps of each window in the flat values of all rows, (W, at most
        `width`) int32, ragged: at least one window per row, empty for an empty row. And the
        window and its step from which each step of the rows is taken, (N, 2) int32.

    Raises:
        ValueError: `margin` is negative, or `width` does not exceed 2 * `margin`.

    Example:
        >>> steps, sources = windows([5, 0], width=4, margin=1)
        >>> steps.to_list()
        [[0, 1, 2, 3], [2, 3, 4], []]
        >>> sources.numpy().tolist()
        [[0, 0], [0, 1], [0, 2], [1, 1], [1, 2]]
    """
    stride = width - 2 * margin
    if margin < 0 or stride < 1:
        raise ValueError(
            f"margin must be at least 0, and width exceed 2 * margin, got a width of {width} and a "
            f"margin of {margin}."
        )
    rows = tf.RaggedTensor.from_row_lengths(
        tf.range(tf.reduce_sum(tf.cast(lengths, tf.int32))), tf.cast(lengths, tf.int32)
    )
    lengths = tf.cast(rows.row_lengths(), tf.int32)
    counts = tf.maximum(1, -((2 * margin - lengths) // stride))
    window = tf.RaggedTensor.from_row_lengths(tf.range(tf.reduce_sum(counts)), counts)
    row, first = window.value_rowids(), window.row_starts()
    number = window.flat_values - tf.gather(first, row)
    starts = number * stride
    ends = tf.minimum(starts + width, tf.gather(lengths, row))
    offsets = tf.gather(rows.row_starts(), row)
    steps = tf.ragged.range(offsets + starts, offsets + ends)

    row = rows.value_rowids()
    step = rows.flat_values - tf.gather(rows.row_starts(), row)
    number = tf.clip_by_value((step - margin) // stride, 0, tf.gather(counts, row) - 1)
    return steps, tf.stack([tf.gather(first, row) + number, step - number * stride], axis=1)
