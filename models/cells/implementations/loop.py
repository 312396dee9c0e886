"""Any cell in a `tf.while_loop` whose backward pass is written by hand.

Keras lets TensorFlow differentiate the loop op by op, saving every intermediate
value of every step. Here forward saves what the derivative of a step reads
(`implementations.derivative`) and no more, and the gradients of the weight
matrices and of the inputs are one product each after the backward loop.

While training on a CPU the batch is cut into one strip a core, each with loops
of its own: rows never meet, so the strips run side by side without waiting for
one another, where a single loop could only share out each small op. Two
directions are two loops already, and share the cores: four loops on two take
1.1 to 1.5 times as long as two.

Shapes: T time (first here), B batch, H units.
"""

import functools
import os

import tensorflow as tf

from ..cell import Noise
from .derivative import STATE, Plan, step, step_back

FEW_ROWS = 8  # of fewer, the product of all inputs is taken before the loop
LEAST_ROWS = 4  # of a strip, where their number is known
MOST_STRIPS = 8  # measured on two cores; each more costs a graph of its own


def runs(spec, device: str, dtype: str) -> bool:
    """Any cell, device and float type."""
    return True


def run(cell, inputs, mask, states, noise, training, concurrent=1):
    """Runs `cell` over inputs (B, T, D); see the package for the contract."""
    hoist = inputs.shape[0] is not None and inputs.shape[0] < FEW_ROWS
    count = max(1, min(cores(), MOST_STRIPS) // concurrent) if training else 1
    count = min(count, max(1, inputs.shape[0] // LEAST_ROWS)) if inputs.shape[0] else count
    if count == 1:
        return _run_strip(cell, inputs, mask, states, noise, training, hoist)
    batch = tf.shape(inputs)[0]
    sizes = [(batch + index) // count for index in range(count)]

    def cut(tensor, axis=0):
        return tf.split(tensor, sizes, axis=axis, num=count)

    masks = [None] * count if mask is None else cut(mask)
    firsts = zip(*map(cut, states), strict=True)
    strips = zip(cut(inputs), masks, firsts, _cut_noise(noise, cut, count), strict=True)
    done = [_run_strip(cell, *strip, training, hoist) for strip in strips]
    outputs = tf.concat([outputs for outputs, _ in done], axis=0)
    outputs.set_shape([*inputs.shape[:2], cell.output_size])
    lasts = zip(*(lasts for _, lasts in done), strict=True)
    return outputs, [tf.concat(parts, axis=0) for parts in lasts]


def run_hoisted(cell, inputs, mask, states, noise, training, concurrent=1):
    """`run` for few rows, whether or not their number is known."""
    return _run_strip(cell, inputs, mask, states, noise, training, hoist=True)


def cores() -> int:
    """How many loops of a CPU can run side by side; 1 where a GPU computes."""
    if tf.config.get_visible_devices("GPU"):
        return 1
    return tf.config.threading.get_inter_op_parallelism_threads() or os.cpu_count() or 1


def _cut_noise(noise, cut, count):
    """The noise of each strip: what is drawn for rows is cut, what is not is shared."""

    def cut_values(values, axis):
        parts = {
            name: cut(value, axis) if tf.is_tensor(value) else [value] * count
            for name, value in values.items()
        }
        return [{name: part[index] for name, part in parts.items()} for index in range(count)]

    always, steps = cut_values(noise.always, 0), cut_values(noise.steps, 1)
    return [Noise(a, s, noise.weights) for a, s in zip(always, steps, strict=True)]


def _run_strip(cell, inputs, mask, states, noise, training, hoist):
    inputs = tf.transpose(inputs, [1, 0, 2])
    steps = None if mask is None else tf.transpose(tf.cast(mask, tf.int32))[..., None] > 0
    outputs, *lasts = _Recurrence(cell, steps, noise, training, hoist)(inputs, states)
    outputs = tf.transpose(outputs, [1, 0, 2])
    outputs.set_shape([inputs.shape[1], inputs.shape[0], cell.output_size])
    return outputs, lasts


class _Recurrence:
    """One cell over time, forward and backward.

    Args:
        cell: The `GatedCell`.
        mask: (T, B, 1) bool or None.
        noise: A `Noise`.
        training: Whether forward saves what the backward pass reads; without,
            the backward pass would run it once more to have that.
        hoist: Whether all inputs are multiplied before the loop, in one product.
            One row is bound by reading the weights, which that does once. Of
            more rows it pays to have the result still in the cache when the
            step wants it (64 rows, 200 steps and 128 units of an LSTM take 0.63
            of the time forward).
    """

    def __init__(self, cell, mask, noise, training, hoist):
        self._cell, self._mask, self._noise = cell, mask, noise
        self._training, self._hoist = training, hoist

    def __call__(self, inputs, states):
        """The output of each step (T, B, P), and the last of each state."""
        cell = self._cell
        weights = {
            "input": cell.input_weights(),
            "matrices": cell.matrices(self._noise),
            "vectors": cell.vectors(),
        }
        flat = tf.nest.flatten(weights)

        @tf.custom_gradient
        def forward(inputs, *rest):
            packed = tf.nest.pack_sequence_as(weights, rest[: len(flat)])
            first = rest[len(flat) :]
            plan = functools.cache(lambda: Plan(cell, self._noise, packed))
            keep = plan().saved if self._training else None
            every, lasts, saved = self._forward(inputs, packed, first, keep)

            def backward(*arriving):
                # Where an output was only gathered from, its gradient comes as slices.
                d_outputs, *d_lasts = map(tf.convert_to_tensor, arriving)
                all_states, all_saved = every, saved
                if not self._training:
                    all_states, _, all_saved = self._forward(inputs, packed, first, plan().saved)
                d_projected, d_weights, d_states = self._backward(
                    packed, all_states, all_saved, d_outputs, d_lasts, plan().factors
                )
                d_inputs, d_weights["input"] = _project_back(
                    cell, inputs, packed["input"], d_projected
                )
                return d_inputs, *tf.nest.flatten(d_weights), *d_states

            return (every[0][1:], *lasts), backward

        return list(forward(inputs, *flat, *states))

    def _forward(self, inputs, weights, first, keep):
        """Every h, or every state if there is a `keep`; the last states; arrays of what is kept."""
        time, at_step = tf.shape(inputs)[0], self._at_step()
        read_projected = self._projected(inputs, weights["input"])
        recorded = first[:1] if keep is None else first
        every = [
            tf.TensorArray(s.dtype, time + 1, element_shape=s.shape).write(0, s) for s in recorded
        ]
        saved = self._arrays(keep or {}, time, inputs.shape[1])

        def forward(t, states, every, saved):
            now, noise = at_step(t)
            after, values = step(self._cell, read_projected(t), states, weights, noise)
            if now is not None:
                after = [tf.where(now, new, old) for new, old in zip(after, states, strict=True)]
            every = [array.write(t + 1, after[index]) for index, array in enumerate(every)]
            return t + 1, after, every, {key: saved[key].write(t, values[key]) for key in saved}

        start = (0, list(first), every, saved)
        _, lasts, every, saved = tf.while_loop(lambda t, *_: t < time, forward, start)
        return [array.stack() for array in every], lasts, saved

    def _projected(self, inputs, weights):
        """What comes of x, by step."""
        if self._hoist:
            return _unstack(self._cell.project(inputs, weights)).read
        inputs = _unstack(inputs)
        return lambda t: self._cell.project(inputs.read(t), weights)

    def _backward(self, weights, every, saved, d_outputs, d_lasts, widths):
        time, cell = tf.shape(d_outputs)[0], self._cell
        at_step, before = self._at_step(), [state[:-1] for state in every]
        states, arriving = list(map(_unstack, before)), _unstack(d_outputs)
        turned = {name: tf.transpose(matrix) for name, matrix in weights["matrices"].items()}
        rows = tf.shape(d_outputs)[1]
        summed = {
            name: tf.zeros([rows, vector.shape[0]], vector.dtype)
            for name, vector in weights["vectors"].items()
        }

        def backward(t, flowing, summed, written):
            now, noise = at_step(t)

            def read(kind, name):
                return (states[name] if kind == STATE else saved[kind, name]).read(t)

            flowing = [flowing[0] + arriving.read(t), *flowing[1:]]
            into = flowing if now is None else [tf.where(now, f, 0.0) for f in flowing]
            d_states, d_vectors, factors = step_back(cell, read, into, weights, turned, noise)
            if now is not None:  # a masked step hands on what came from the next
                d_states = [tf.where(now, d, f) for d, f in zip(d_states, flowing, strict=True)]
            summed = {name: total + d_vectors[name] for name, total in summed.items()}
            return t - 1, d_states, summed, {n: a.write(t, factors[n]) for n, a in written.items()}

        written = self._arrays(widths, time, d_outputs.shape[1])
        start = (time - 1, list(d_lasts), summed, written)
        _, d_first, summed, written = tf.while_loop(lambda t, *_: t >= 0, backward, start)

        # An array of no steps knows no batch that it could be stacked to.
        factors = tf.cond(
            time > 0,
            lambda: {name: array.stack() for name, array in written.items()},
            lambda: {n: tf.zeros([0, rows, w], cell.state_dtype) for n, w in widths.items()},
        )
        d_vectors = {name: tf.reduce_sum(total, 0) for name, total in summed.items()}
        d_matrices = {}
        for name in weights["matrices"]:
            operand = factors.get(("seen", name))
            if name == "recurrent":
                operand = before[0] * self._noise.always.get("state", 1.0)
            d_matrices[name] = self._outer(operand, factors.get(("d", name), factors["d", "input"]))
        return factors["d", "input"], {"matrices": d_matrices, "vectors": d_vectors}, d_first

    def _outer(self, operand, gradient):
        """The gradient of a matrix, of all that it multiplied and all that came back."""
        cell = self._cell
        rows = [
            tf.cast(tf.reshape(each, [-1, each.shape[-1]]), cell.compute_dtype)
            for each in (operand, gradient)
        ]
        return tf.matmul(*rows, transpose_a=True)

    def _at_step(self):
        """Of a step: its mask or None, and its noise."""
        mask = None if self._mask is None else _unstack(self._mask)
        noise = {name: _unstack(values) for name, values in self._noise.steps.items()}

        def at_step(t):
            drawn = {name: array.read(t) for name, array in noise.items()}
            return None if mask is None else mask.read(t), {**self._noise.always, **drawn}

        return at_step

    def _arrays(self, widths, time, rows):
        return {
            key: tf.TensorArray(self._cell.state_dtype, time, element_shape=[rows, width])
            for key, width in widths.items()
        }


def _project_back(cell, inputs, weights, d_projected):
    """The gradients of the inputs and of the weights of `GatedCell.project`.

    Of its forward pass taken once more here a graph keeps what these read,
    which is nothing where there is no layer normalisation.
    """
    with tf.GradientTape() as tape:
        tape.watch([inputs, weights])
        projected = cell.project(inputs, weights)
    return tape.gradient(projected, (inputs, weights), d_projected, "zero")


def _unstack(x):
    return tf.TensorArray(x.dtype, tf.shape(x)[0], element_shape=x.shape[1:]).unstack(x)
