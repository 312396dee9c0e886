"""Cells whose states are linear in themselves, all steps at once.

If no gate reads h, the step of a state is s' = a * s + b, elementwise, and a and b of all steps
are computed from the text of the equation before any state is known. Time is divided into
chunks of `CHUNK` steps, which run side by side: first for the product of a and the sum that
each chunk adds to a state, which give the state before each chunk, then from these states. A
state that reads another one, as the output of an SRU does, is computed after it, also for all
steps at once, and need not be linear in it.

The backward pass of the recurrence is the same recurrence in reverse. That of all else is
TensorFlow's.

Shapes: K steps of a chunk (the first axis in this module, so that a step is contiguous), B batch,
C chunks, T time, D input features, H units, P the width of h.
"""

from collections.abc import Sequence

import tensorflow as tf

from ..cell import GatedCell, Noise, StepContext, TensorFunctions, by_map
from ..linearity import Linear, LinearFunctions, NotLinear, Unknown, scan_order
from ..specs import CellSpec

CHUNK = 16


def runs(spec: CellSpec, device: str, dtype: str) -> bool:
    """Whether each state of a cell is linear in itself, given x and the other states."""
    try:
        scan_order(spec)
    except NotLinear:
        return False
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
    chunks = _Chunks(inputs)
    projected = cell.project(chunks.divide(inputs), cell.input_weights())
    inputs_by_map, vectors = by_map(cell.projected_maps, projected), cell.vectors()
    functions = LinearFunctions(cell.spec, _Functions(cell, cell.matrices(noise)))
    values = {name: _per_row(value) for name, value in noise.always.items()}
    for name, value in noise.steps.items():
        values[name] = chunks.divide(tf.transpose(value, [1, 0, 2]))
    valid = None
    if mask is not None:
        valid = chunks.divide(tf.cast(mask, tf.int32)[..., None]) > 0

    before = [Unknown("a state that is not solved yet")] * len(states)
    order = scan_order(cell.spec)
    after, final = list(before), list(before)
    for index in order:
        arguments = [*before[:index], Linear(1.0, 0.0), *before[index + 1 :]]
        context = StepContext(cell.spec, inputs_by_map, {}, vectors, functions, values)
        value = context.advance(arguments)[index]
        slope, offset = (value.slope, value.offset) if isinstance(value, Linear) else (0.0, value)
        shape = [*tf.unstack(tf.shape(projected)[:3]), cell.state_size[index]]
        shape[0] = chunks.length
        solved = _solve(slope, offset, valid, states[index], shape)
        if index != order[-1]:
            before[index] = _before(solved, states[index])
        after[index] = chunks.join(solved)
        # With the initial state, in case there are no steps.
        last = tf.concat([states[index][:, None], after[index][:, -1:]], axis=1)
        final[index] = last[:, -1]
    return after[0], final


class _Functions(TensorFunctions):
    """`TensorFunctions` of all steps at once, (K, B, C, H)."""

    def _multiply(self, rows, name):
        flat = tf.reshape(rows, [-1, rows.shape[-1]])
        product = super()._multiply(flat, name)
        return tf.reshape(product, tf.concat([tf.shape(rows)[:-1], [product.shape[-1]]], axis=0))


def _per_row(value):
    """A mask (B, H) that all steps share as (1, B, 1, H); a rate is returned itself."""
    return value[None, :, None] if tf.is_tensor(value) else value


class _Chunks:
    """Division of the time of inputs (B, T, D) into chunks."""

    def __init__(self, inputs):
        self._shape = inputs.shape[:2]
        rows, time = tf.unstack(tf.shape(inputs)[:2])
        self._time = time = time if self._shape[1] is None else self._shape[1]
        self.length = CHUNK if self._shape[1] is None else max(1, min(CHUNK, time))
        self._rows = rows if self._shape[0] is None else self._shape[0]
        self._count = -(-time // self.length)

    def divide(self, values):
        """(B, T, ...) as (K, B, C, ...), with zeros after the last step."""
        width = values.shape[2]
        padding = self._count * self.length - self._time
        if not isinstance(padding, int) or padding:
            values = tf.pad(values, [[0, 0], [0, padding], [0, 0]])
        values = tf.reshape(values, [self._rows, self._count, self.length, width])
        return tf.transpose(values, [2, 0, 1, 3])

    def join(self, values):
        """The inverse of `divide`."""
        width = values.shape[3]
        values = tf.transpose(values, [1, 2, 0, 3])
        values = tf.reshape(values, [self._rows, self._count * self.length, width])
        values = values[:, : self._time]
        values.set_shape([*self._shape, width])
        return values


def _solve(slope, offset, valid, initial, shape):
    """The state after each step of s' = slope * s + offset, (K, B, C, H).

    Args:
        slope: Factor of the state, of any shape that can be broadcast to `shape`; or a number.
        offset: Term without the state, of any such shape; or a number.
        valid: (K, B, C, 1) bool, true at steps that are not masked; or None.
        initial: State before the first step, (B, H).
        shape: K, B, C, H.
    """
    dtype = initial.dtype
    offset = _broadcast(tf.convert_to_tensor(offset, dtype), shape)
    if valid is None and isinstance(slope, float) and slope == 0.0:
        after = offset
    else:
        slope = _broadcast(tf.convert_to_tensor(slope, dtype), shape)
        if valid is not None:  # masked steps keep the state
            slope, offset = tf.where(valid, slope, 1.0), tf.where(valid, offset, 0.0)
        after = _scan(slope, offset, initial)
    return after


def _before(after, initial):
    """The state before each step, of the state after each, (K, B, C, H)."""
    starts = tf.concat([initial[:, None], after[-1][:, :-1]], axis=1)[:, : tf.shape(after)[2]]
    return tf.concat([starts[None], after[:-1]], axis=0)


def _broadcast(value, shape):
    """A tensor of a shape whose first and last dimensions are known."""
    value = tf.broadcast_to(value, shape)
    return tf.ensure_shape(value, [shape[0], None, None, shape[-1]])


def _scan(slope, offset, initial):
    """The state after each step of s' = slope * s + offset, (K, B, C, H).

    Args:
        slope: (K, B, C, H), with a known K.
        offset: (K, B, C, H).
        initial: State before the first step, (B, H).
    """

    @tf.custom_gradient
    def forward(slope, offset, initial):
        slopes, offsets = tf.unstack(slope), tf.unstack(offset)
        factor, added = slopes[0], offsets[0]
        for a, b in zip(slopes[1:], offsets[1:], strict=True):
            factor, added = a * factor, a * added + b
        starts = _starts(factor, added, initial)
        state, after = starts, []
        for a, b in zip(slopes, offsets, strict=True):
            state = a * state + b
            after.append(state)
        after = tf.stack(after)

        def backward(d_after):
            d_outputs = tf.unstack(tf.convert_to_tensor(d_after))
            last = len(slopes) - 1
            added = slopes[last] * d_outputs[last]
            for k in reversed(range(last)):
                added = slopes[k] * (d_outputs[k] + added)
            reverse = [tf.reverse(x, [1]) for x in (factor, added)]
            d_state = tf.reverse(_starts(*reverse, tf.zeros_like(initial)), [1])
            before = [starts, *tf.unstack(after)[:-1]]
            d_slopes, d_offsets = [], []
            for k in reversed(range(len(slopes))):
                d = d_outputs[k] + d_state
                d_slopes.append(d * before[k])
                d_offsets.append(d)
                d_state = slopes[k] * d
            # A sum of one chunk, or of none if there are no steps.
            d_initial = tf.reduce_sum(d_state[:, :1], axis=1)
            return tf.stack(d_slopes[::-1]), tf.stack(d_offsets[::-1]), d_initial

        return after, backward

    return forward(slope, offset, initial)


def _starts(factor, added, initial):
    """The state before each chunk, (B, C, H).

    Args:
        factor: Factor of the state over a chunk, (B, C, H).
        added: What the chunk adds to it, of the same shape.
        initial: State before the first chunk, (B, H).
    """
    count = factor.shape[1]
    if count is not None and count <= CHUNK:
        starts = [initial]
        for c in range(count - 1):
            starts.append(factor[:, c] * starts[-1] + added[:, c])
        return tf.stack(starts[:count], axis=1) if count else tf.zeros_like(factor)
    chunks = _Chunks(factor)
    factors, terms = tf.unstack(chunks.divide(factor)), tf.unstack(chunks.divide(added))
    whole_factor, whole = factors[0], terms[0]
    for a, b in zip(factors[1:], terms[1:], strict=True):
        whole_factor, whole = a * whole_factor, a * whole + b
    outer = _loop if count is None else _starts
    state, starts = outer(whole_factor, whole, initial), []
    for a, b in zip(factors, terms, strict=True):
        starts.append(state)
        state = a * state + b
    return chunks.join(tf.stack(starts))


def _loop(factor, added, initial):
    """As `_starts`, one chunk after the other, for an unknown number of chunks."""
    factor, added = (tf.transpose(x, [1, 0, 2]) for x in (factor, added))
    count, width = tf.shape(factor)[0], [None, initial.shape[1]]
    factors = tf.TensorArray(factor.dtype, count, element_shape=width).unstack(factor)
    terms = tf.TensorArray(factor.dtype, count, element_shape=width).unstack(added)
    # With the state after the last chunk, because an array of no chunks cannot be stacked.
    states = tf.TensorArray(factor.dtype, count + 1, element_shape=width).write(0, initial)

    def body(c, state, states):
        state = factors.read(c) * state + terms.read(c)
        return c + 1, state, states.write(c + 1, state)

    start = (0, initial, states)
    _, _, states = tf.while_loop(lambda c, *_: c < count, body, start)
    return tf.transpose(states.stack()[:-1], [1, 0, 2])
