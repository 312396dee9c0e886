"""Long rows in windows, against plain Python that knows the promise and no arithmetic of it."""

import numpy as np
import pytest
import tensorflow as tf

from models.text.windows import windows

SIZES = [(1, 0), (2, 0), (3, 0), (8, 0), (3, 1), (4, 1), (9, 1), (5, 2), (9, 4), (10, 4), (16, 2)]
every_size = pytest.mark.parametrize(("width", "margin"), SIZES)


def plainly(length, width, margin):
    """The windows of one row as (start, end), and for each step the window that answers it."""
    spans = [(0, min(length, width))]
    while spans[-1][1] < length:
        start = spans[-1][0] + width - 2 * margin
        spans.append((start, min(length, start + width)))

    def shows(span, step):
        start, end = span
        left = start == 0 or step - start >= margin
        right = end == length or end - 1 - step >= margin
        return start <= step < end and left and right

    answers = [[n for n, span in enumerate(spans) if shows(span, at)] for at in range(length)]
    assert all(len(found) == 1 for found in answers)  # so there is nothing to choose
    return spans, [found[0] for found in answers]


def wanted(lengths, width, margin):
    """What `windows` should give for rows that share a batch."""
    steps, answers, offset = [], [], 0
    for length in lengths:
        spans, numbers = plainly(length, width, margin)
        answers += [[len(steps) + n, at - spans[n][0]] for at, n in enumerate(numbers)]
        steps += [list(range(offset + start, offset + end)) for start, end in spans]
        offset += length
    return steps, answers


def given(lengths, width, margin):
    steps, answers = windows(tf.constant(lengths, tf.int64), width, margin)
    assert steps.dtype == answers.dtype == tf.int32
    assert answers.shape == (sum(lengths), 2)
    return steps.to_list(), answers.numpy().tolist()


@every_size
def test_every_length_is_read_and_answered_as_plain_python_has_it(width, margin):
    lengths = [*range(3 * width + 2), 0, 0, 100, 1]
    np.random.default_rng(0).shuffle(lengths)
    assert given(lengths, width, margin) == wanted(lengths, width, margin)


@every_size
def test_every_answer_has_its_margin_or_the_end_of_the_row(width, margin):
    lengths = [7, 0, 41, width, width + 1]
    steps, answers = given(lengths, width, margin)
    ends = np.cumsum(lengths)
    for place, (window, step) in enumerate(answers):
        row = np.searchsorted(ends, place, side="right")
        first, read = ends[row] - lengths[row], steps[window]
        assert read[step] == place  # the window that answers has read it
        assert step >= margin or read[0] == first
        assert len(read) - 1 - step >= margin or read[-1] == ends[row] - 1


@every_size
def test_the_windows_of_a_row_do_not_depend_on_who_shares_its_batch(width, margin):
    lengths = [5, 3 * width, 0, width + 1, 1]
    steps, answers = given(lengths, width, margin)
    windows_before = places_before = 0
    for length in lengths:
        alone, numbers = given([length], width, margin)
        own = steps[windows_before : windows_before + len(alone)]
        assert [[at - places_before for at in read] for read in own] == alone
        own = answers[places_before : places_before + length]
        assert [[window - windows_before, step] for window, step in own] == numbers
        windows_before += len(alone)
        places_before += length
    assert windows_before == len(steps)


@pytest.mark.parametrize("length", range(1, 9))
def test_a_row_that_fits_is_one_window(length):
    for margin in range(4):
        steps, answers = given([length], 8, margin)
        assert steps == [list(range(length))]
        assert answers == [[0, at] for at in range(length)]


@pytest.mark.parametrize("lengths", [[], [0], [0, 0, 0]])
def test_rows_of_nothing_have_a_window_each_and_no_answer(lengths):
    assert given(lengths, 4, 1) == ([[] for _ in lengths], [])


def test_values_that_are_read_by_windows_are_put_together_again_in_a_graph():
    @tf.function(input_signature=[tf.RaggedTensorSpec([None, None], tf.int32)])
    def there_and_back(rows):
        steps, answers = windows(rows.row_lengths(), 5, 2)
        read = tf.gather(rows.flat_values, steps).to_tensor(-1)
        return rows.with_flat_values(tf.gather_nd(read, answers))

    rng = np.random.default_rng(0)
    for lengths in ([3, 0, 25, 6, 1], [0], [], [40]):
        rows = tf.RaggedTensor.from_row_lengths(
            tf.constant(rng.integers(0, 99, sum(lengths)), tf.int32), tf.constant(lengths, tf.int64)
        )
        assert there_and_back(rows).to_list() == rows.to_list()


@pytest.mark.parametrize(("width", "margin"), [(4, 2), (4, 3), (0, 0), (-1, 0), (4, -1), (1, 1)])
def test_a_margin_that_leaves_no_step_is_rejected(width, margin):
    message = rf"exceed 2 \* margin, got a width of {width} and a margin of {margin}\."
    with pytest.raises(ValueError, match=message):
        windows([5], width, margin)
