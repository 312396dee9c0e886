"""Rows too long for a network, read in windows that overlap, in core TensorFlow ops.

A window is `width` steps wide, and the next begins `width - 2 * margin` after it: each
step is answered by a window that shows at least `margin` steps on either side of it, or
the row's end. A row that fits is one window, whoever shares its batch.
"""

import tensorflow as tf


def windows(lengths: tf.Tensor, width: int, margin: int = 0) -> tuple[tf.RaggedTensor, tf.Tensor]:
    """Says what each window reads, and where each step finds its answer.

    Args:
        lengths: Of the rows, (B,).
        width: The most steps of a window.
        margin: The least steps around an answer; width must exceed 2 * margin.

    Returns:
        The places of a window's steps in the flat values of all rows, (W, width or
        less) int32, one window or more a row, empty for an empty row; and for each
        place the window and its step that answer, (places, 2) int32.

    >>> steps, answers = windows([5, 0], width=4, margin=1)
    >>> steps.to_list()
    [[0, 1, 2, 3], [2, 3, 4], []]
    >>> answers.numpy().tolist()
    [[0, 0], [0, 1], [0, 2], [1, 1], [1, 2]]
    """
    stride = width - 2 * margin
    if margin < 0 or stride < 1:
        raise ValueError(f"width must exceed 2 * margin, got {width} and {margin}.")
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
