"""Any cell in a `tf.while_loop` with a hand-written backward pass.

Keras has TensorFlow differentiate the loop op by op, saving every intermediate value of every
step. Here the forward pass saves only the values that the derivative of a step reads (see
`implementations.derivative`), and the gradients of the weight matrices and of the inputs take
one matrix product each for every chunk of steps.

On a CPU the batch is split into strips, each with its own loops: in training one per core, in
inference two at most, because the graph may be served to several clients at once. Rows
are independent, so strips run in parallel without waiting for one another, where a single loop
could only parallelise each small op. Two directions are two loops already and share the cores:
four loops on two cores take 1.1 to 1.5 times as long as two.

In inference, an iteration of the loop takes several steps, because with few rows the control of
the loop costs as much as the ops of a step; the steps that remain run one by one. The inputs of
these steps have one product, so that the input kernel, which may not fit the cache of a core, is
read once for all of them: 0.8 to 0.9 of the time for an LSTM of 200 units over 400 features, on two
cores of an AMD EPYC.

Shapes: T time (the first axis in this module), B batch, D input features, H units, G maps,
P the width of h.
"""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.ops import control_flow_util  # there is no public name for it

from ..cell import GatedCell, Noise
from ..specs import CellSpec
from .derivative import GRADIENT, OPERAND, STATE, plan_of, step, step_back

FEW_ROWS = 8  # with fewer, the product of all inputs is computed before the loop
MIN_ROWS = 4  # of a strip, if the number of rows is known
MAX_STRIPS = 8  # each strip adds a loop to the graph; measured on two cores
MAX_STRIPS_OF_INFERENCE = 2
UNROLLED = 4  # steps of an iteration in inference
CHUNK = 64  # steps whose gradients of weights and inputs are computed together


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
    checkpoint_every: int | None = None,
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Runs `cell` over inputs (B, T, D), as specified in `models.cells.implementations`.

    With `checkpoint_every` K, training keeps the states before every K-th step only, and the
    backward pass repeats the forward pass of K steps at a time.
    """
    rows = inputs.shape[0]
    hoist = rows is not None and rows < FEW_ROWS
    count = min(cores(), MAX_STRIPS if training else MAX_STRIPS_OF_INFERENCE)
    count = max(1, count // concurrent)
    if rows:
        count = min(count, max(1, rows // MIN_ROWS))
    if count == 1:
        return _run_strip(cell, inputs, mask, states, noise, training, hoist, checkpoint_every)
    batch = tf.shape(inputs)[0]
    sizes = [(batch + index) // count for index in range(count)]

    def split(tensor, axis=0):
        return tf.split(tensor, sizes, axis=axis, num=count)

    masks = [None] * count if mask is None else split(mask)
    initial = zip(*map(split, states), strict=True)
    noises = _split_noise(noise, split, count)
    strips = zip(split(inputs), masks, initial, noises, strict=True)
    results = [_run_strip(cell, *strip, training, hoist, checkpoint_every) for strip in strips]
    outputs = tf.concat([outputs for outputs, _ in results], axis=0)
    outputs.set_shape([*inputs.shape[:2], cell.output_size])
    final_states = zip(*(final for _, final in results), strict=True)
    return outputs, [tf.concat(parts, axis=0) for parts in final_states]


def run_hoisted(
    cell: GatedCell,
    inputs: tf.Tensor,
    mask: tf.Tensor | None,
    states: Sequence[tf.Tensor],
    noise: Noise,
    training: bool,
    concurrent: int = 1,
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Runs as `run` does for few rows, whether or not their number is known."""
    return _run_strip(cell, inputs, mask, states, noise, training, hoist=True)


def cores() -> int:
    """Returns the number of loops that run in parallel: 1 on a GPU and in eager execution."""
    if tf.executing_eagerly():
        return 1
    if tf.config.get_visible_devices("GPU"):
        return 1
    return tf.config.threading.get_inter_op_parallelism_threads() or os.cpu_count() or 1


def is_compiled_by_xla() -> bool:
    """Returns whether the current function is traced with `jit_compile=True`."""
    if tf.executing_eagerly():
        return False
    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


def _split_noise(noise, split, count):
    """The noise of each strip: masks of rows are split, all else is shared."""

    def split_values(values, axis):
        parts = {
            name: split(value, axis) if tf.is_tensor(value) else [value] * count
            for name, value in values.items()
        }
        return [{name: part[index] for name, part in parts.items()} for index in range(count)]

    always, steps = split_values(noise.always, 0), split_values(noise.steps, 1)
    return [Noise(a, s, noise.weights) for a, s in zip(always, steps, strict=True)]


def _run_strip(cell, inputs, mask, states, noise, training, hoist, checkpoint_every=None):
    """Runs a cell over inputs (B, T, D) in a single loop."""
    inputs = tf.transpose(inputs, [1, 0, 2])
    valid = None if mask is None else tf.transpose(tf.cast(mask, tf.int32))[..., None] > 0
    recurrence = _Recurrence(cell, valid, noise, training, hoist)
    if training and checkpoint_every and not is_compiled_by_xla():
        recurrence = _CheckpointedRecurrence(cell, valid, noise, hoist, checkpoint_every)
    outputs, *final = _differentiable(recurrence, cell, noise, inputs, states)
    outputs = tf.transpose(outputs, [1, 0, 2])
    outputs.set_shape([inputs.shape[1], inputs.shape[0], cell.output_size])
    return outputs, final


def _differentiable(recurrence, cell, noise, inputs, states):
    """The outputs and the final states of a recurrence, with its own gradients."""
    weights = {
        "input": cell.input_weights(),
        "matrices": cell.matrices(noise),
        "vectors": cell.vectors(),
    }
    flat = tf.nest.flatten(weights)

    @tf.custom_gradient
    def forward(inputs, *rest: Any):
        tensors = tf.nest.pack_sequence_as(weights, rest[: len(flat)])
        outputs, final, gradient = recurrence.compute(inputs, tensors, rest[len(flat) :])

        def backward(*gradients: Any):
            # The gradient of an output that was only gathered from is a `tf.IndexedSlices`.
            d_outputs, *d_final = map(tf.convert_to_tensor, gradients)
            d_inputs, d_weights, d_states = gradient(d_outputs, d_final)
            return d_inputs, *tf.nest.flatten(d_weights), *d_states

        return (outputs, *final), backward

    return list(forward(inputs, *flat, *states))


class _Recurrence:
    """One cell over time, forward and backward.

    Args:
        cell: The cell.
        mask: (T, B, 1) bool, true at valid steps; or None.
        noise: Masks of the batch.
        training: Whether the forward pass saves what the backward pass reads. Otherwise a
            backward pass first repeats the forward pass.
        hoist: Whether the products of all inputs are computed before the loop, in one call.
            A single row is limited by reading the weights, which that does once. With more
            rows it is better to have the product still in the cache when the step reads it
            (the forward pass of an LSTM with 128 units over 64 rows of 200 steps takes 0.63
            of the time).
    """

    def __init__(self, cell, mask, noise, training, hoist):
        self._cell, self._mask, self._noise = cell, mask, noise
        self._training, self._hoist = training, hoist

    def compute(self, inputs, weights, initial):
        """The output of each step, (T, B, P), each final state, and a function for the gradients.

        The function takes the gradients of the outputs and those of the final states, and returns
        those of the inputs, of the weights and of the initial states.
        """
        to_save = self._plan(weights).saved if self._training else None
        arrays, final, saved = self._forward(inputs, weights, initial, to_save)

        def gradient(d_outputs, d_final):
            states, values, plan = arrays, saved, self._plan(weights)
            if not self._training:
                states, _, values = self._forward(inputs, weights, initial, plan.saved)
            return self._backward(inputs, weights, states, values, d_outputs, d_final, plan.factors)

        return arrays[0].stack()[1:], final, gradient

    def _plan(self, weights):
        return plan_of(self._cell, self._noise, weights)

    def _forward(self, inputs, weights, initial, to_save):
        """The forward loop.

        Args:
            inputs: (T, B, D).
            weights: "input", "matrices" and "vectors" of the cell.
            initial: Initial states, each (B, width).
            to_save: Width of each value to save, by key; None if there will be no gradient,
                so that of the states only h is returned.

        Returns:
            A `TensorArray` of each state before the first step and after each step, T + 1
            values (B, width); the final states; and a `TensorArray` of each saved value, by key.
        """
        time, rows, _ = tf.unstack(tf.shape(inputs))
        at_step = self._at_step()
        read_projected = self._projected(inputs, weights["input"])
        returned = initial[:1] if to_save is None else initial
        arrays = [_array(state.dtype, time + 1, state.shape).write(0, state) for state in returned]
        saved = self._arrays(to_save or {}, time, inputs.shape[1])

        def forward(t, states, arrays, saved, projected=None):
            valid, noise = at_step(t)
            projected = read_projected(t) if projected is None else projected
            after, values = step(self._cell, projected, states, weights, noise)
            if valid is not None:
                after = [tf.where(valid, new, old) for new, old in zip(after, states, strict=True)]
            arrays = [array.write(t + 1, after[index]) for index, array in enumerate(arrays)]
            return t + 1, after, arrays, {key: saved[key].write(t, values[key]) for key in saved}

        def several(t, *loop: Any):
            products = [None] * UNROLLED
            if not self._hoist:  # the kernel is read once for all of these steps
                steps = tf.slice(inputs, [t, 0, 0], [UNROLLED, rows, inputs.shape[2]])
                products = tf.unstack(self._cell.project(steps, weights["input"]))
            for projected in products:
                t, *loop = forward(t, *loop, projected)
            return t, *loop

        loop = (0, list(initial), arrays, saved)
        if to_save is None and not tf.executing_eagerly():
            loop = tf.while_loop(lambda t, *_: t <= time - UNROLLED, several, loop)
        _, final, arrays, saved = tf.while_loop(lambda t, *_: t < time, forward, loop)
        return arrays, final, saved

    def _projected(self, inputs, weights):
        """A function from a step to the input products of the step, (B, G * H)."""
        if self._hoist:
            return _unstack(self._cell.project(inputs, weights)).read
        inputs = _unstack(inputs)
        return lambda t: self._cell.project(inputs.read(t), weights)

    def _backward(self, inputs, weights, states, saved, d_outputs, d_final, widths):
        """The backward loop over chunks of steps, and in each the one over its steps.

        The gradients of the weights and of the inputs take one matrix product each for a chunk,
        so that what the products read exists for one chunk at a time.

        Args:
            inputs: (T, B, D).
            weights: "input", "matrices" and "vectors" of the cell.
            states: A `TensorArray` of each state before the first step and after each step.
                They are read as they are: a stacked copy of each would take as much memory.
            saved: A `TensorArray` of each saved value, by key.
            d_outputs: Gradients of the outputs, (T, B, P).
            d_final: Gradients of the final states, each (B, width).
            widths: Width of each factor of `step_back`, by key.

        Returns:
            The gradients of the inputs, (T, B, D), of the weights and of the initial states.
        """
        cell, time = self._cell, tf.shape(inputs)[0]
        at_step, d_output = self._at_step(), _unstack(d_outputs)
        transposed = {name: tf.transpose(m) for name, m in weights["matrices"].items()}
        rows, xla = tf.shape(inputs)[1], is_compiled_by_xla()

        def back(t, start, d_after, d_vectors, arrays):
            valid, noise = at_step(t)

            def read(kind, name):
                return (states[name] if kind == STATE else saved[kind, name]).read(t)

            d_after = [d_after[0] + d_output.read(t), *d_after[1:]]
            d_step = d_after if valid is None else [tf.where(valid, d, 0.0) for d in d_after]
            d_states, added, factors = step_back(cell, read, d_step, weights, transposed, noise)
            if valid is not None:  # a masked step passes on the gradient of its states
                d_states = [
                    tf.where(valid, d, passed) for d, passed in zip(d_states, d_after, strict=True)
                ]
            d_vectors = {name: total + added[name] for name, total in d_vectors.items()}
            arrays = {name: array.write(t - start, factors[name]) for name, array in arrays.items()}
            return t - 1, start, d_states, d_vectors, arrays

        def chunk(start, end, d_states, totals):
            arrays = self._arrays(widths, end - start, inputs.shape[1])
            loop = (end - 1, start, d_states, totals["vectors"], arrays)
            loop = tf.while_loop(lambda t, start, *_: t >= start, back, loop)
            _, _, d_states, d_vectors, arrays = loop
            factors = {name: array.stack() for name, array in arrays.items()}
            d_projected = factors[GRADIENT, "input"]
            added = {"matrices": {}}
            for name in weights["matrices"]:
                operand = factors.get((OPERAND, name))
                if name == "recurrent":
                    # XLA has no kernel to gather elements of an array.
                    h = states[0].stack()[:-1] if xla else states[0].gather(tf.range(start, end))
                    operand = h * self._noise.always.get("state", 1.0)
                gradient = factors.get((GRADIENT, name), d_projected)
                added["matrices"][name] = self._matrix_gradient(operand, gradient)
            of_chunk = inputs[start:end]
            d_chunk, added["input"] = _project_back(cell, of_chunk, weights["input"], d_projected)
            sums = {
                kind: {
                    name: totals[kind][name] + tf.cast(value, cell.state_dtype)
                    for name, value in values.items()
                }
                for kind, values in added.items()
            }
            return d_states, {**sums, "vectors": d_vectors}, d_chunk

        def chunk_before(end, d_states, totals, d_inputs):
            start = tf.maximum(end - CHUNK, 0)
            d_states, totals, d_chunk = chunk(start, end, d_states, totals)
            return start, d_states, totals, d_inputs.scatter(tf.range(start, end), d_chunk)

        totals = tf.nest.map_structure(
            lambda weight: tf.zeros(weight.shape, cell.state_dtype), weights
        )
        totals["vectors"] = {  # summed over the batch in the end
            name: tf.zeros([rows, vector.shape[0]], vector.dtype)
            for name, vector in weights["vectors"].items()
        }
        d_initial = list(d_final)
        if xla:  # its arrays need sizes that follow from the shapes alone
            d_initial, totals, d_inputs = chunk(0, time, d_initial, totals)
        else:
            d_inputs = tf.TensorArray(inputs.dtype, time, element_shape=inputs.shape[1:])
            loop = (time, d_initial, totals, d_inputs)
            loop = tf.while_loop(lambda end, *_: end > 0, chunk_before, loop)
            _, d_initial, totals, d_inputs = loop
            # An array of no steps cannot be stacked, because its batch size is unknown.
            d_inputs = tf.cond(time > 0, d_inputs.stack, lambda: tf.zeros_like(inputs))
        totals["vectors"] = {name: tf.reduce_sum(d, 0) for name, d in totals["vectors"].items()}
        d_weights = tf.nest.map_structure(lambda d, w: tf.cast(d, w.dtype), totals, weights)
        return d_inputs, d_weights, d_initial

    def _matrix_gradient(self, operand, gradient):
        """The gradient of a matrix, of its operands and the gradients of its products."""
        rows = [
            tf.cast(tf.reshape(tensor, [-1, tensor.shape[-1]]), self._cell.compute_dtype)
            for tensor in (operand, gradient)
        ]
        return tf.matmul(*rows, transpose_a=True)

    def _at_step(self):
        """A function from a step to its mask, (B, 1) or None, and its noise."""
        mask = None if self._mask is None else _unstack(self._mask)
        noise = {name: _unstack(values) for name, values in self._noise.steps.items()}

        def at_step(t):
            masks = {name: array.read(t) for name, array in noise.items()}
            return None if mask is None else mask.read(t), {**self._noise.always, **masks}

        return at_step

    def _arrays(self, widths, time, rows):
        """A `TensorArray` of values (B, width) of each step, by key."""
        return {
            key: _array(self._cell.state_dtype, time, [rows, width])
            for key, width in widths.items()
        }


class _CheckpointedRecurrence:
    """One cell over time in training, of which only every K-th state is kept (Chen et al. 2016).

    A chunk of K steps is a `_Recurrence` whose forward pass keeps nothing. The backward pass
    repeats it from the states before the chunk.

    Args:
        cell: The cell.
        mask: (T, B, 1) bool, true at valid steps; or None.
        noise: Masks of the batch.
        hoist: As in `_Recurrence`.
        every: K.
    """

    def __init__(self, cell, mask, noise, hoist, every):
        self._cell, self._mask, self._noise = cell, mask, noise
        self._hoist, self._every = hoist, every

    def compute(self, inputs, weights, initial):
        """As `_Recurrence.compute`."""
        time = tf.shape(inputs)[0]
        count = (time + self._every - 1) // self._every
        checkpoints = [_array(state.dtype, count, state.shape) for state in initial]
        # Its first element is h before the first step, so that it is never empty.
        outputs = _array(initial[0].dtype, time + 1, initial[0].shape).write(0, initial[0])

        def forward(index, states, checkpoints, outputs):
            steps = self._steps(index, time)
            checkpoints = [
                array.write(index, state) for array, state in zip(checkpoints, states, strict=True)
            ]
            chunk = self._chunk(steps, training=False)
            of_chunk, states, _ = chunk.compute(inputs[steps], weights, states)
            indices = tf.range(steps.start, steps.stop) + 1
            return index + 1, states, checkpoints, outputs.scatter(indices, of_chunk)

        loop = (0, list(initial), checkpoints, outputs)
        loop = tf.while_loop(lambda index, *_: index < count, forward, loop)
        _, final, checkpoints, outputs = loop

        def gradient(d_outputs, d_final):
            return self._gradient(inputs, weights, checkpoints, count, d_outputs, d_final)

        return outputs.stack()[1:], final, gradient

    def _gradient(self, inputs, weights, checkpoints, count, d_outputs, d_final):
        """The gradients of the inputs, of the weights and of the initial states."""
        time = tf.shape(inputs)[0]

        def backward(index, d_states, totals, d_inputs):
            steps = self._steps(index, time)
            states = [array.read(index) for array in checkpoints]
            chunk = self._chunk(steps, training=True)
            _, _, gradient = chunk.compute(inputs[steps], weights, states)
            d_chunk, d_weights, d_states = gradient(d_outputs[steps], d_states)
            totals = tf.nest.map_structure(
                lambda total, d: total + tf.cast(d, total.dtype), totals, d_weights
            )
            d_inputs = d_inputs.scatter(tf.range(steps.start, steps.stop), d_chunk)
            return index - 1, d_states, totals, d_inputs

        totals = tf.nest.map_structure(
            lambda weight: tf.zeros(weight.shape, self._cell.state_dtype), weights
        )
        d_inputs = tf.TensorArray(inputs.dtype, time, element_shape=inputs.shape[1:])
        loop = (count - 1, list(d_final), totals, d_inputs)
        loop = tf.while_loop(lambda index, *_: index >= 0, backward, loop)
        _, d_initial, totals, d_inputs = loop
        # An array of no steps cannot be stacked, because its batch size is unknown.
        d_inputs = tf.cond(time > 0, d_inputs.stack, lambda: tf.zeros_like(inputs))
        d_weights = tf.nest.map_structure(lambda d, w: tf.cast(d, w.dtype), totals, weights)
        return d_inputs, d_weights, d_initial

    def _steps(self, index, time):
        """The steps of a chunk."""
        start = index * self._every
        return slice(start, tf.minimum(start + self._every, time))

    def _chunk(self, steps, training):
        mask = None if self._mask is None else self._mask[steps]
        of_steps = {name: values[steps] for name, values in self._noise.steps.items()}
        noise = dataclasses.replace(self._noise, steps=of_steps)
        return _Recurrence(self._cell, mask, noise, training, self._hoist)


def _project_back(cell, inputs, weights, d_projected):
    """The gradients of the inputs and of the weights of `GatedCell.project`.

    The forward pass is repeated under a tape. A graph keeps of it only what these gradients
    read, which is nothing without layer normalisation.
    """
    with tf.GradientTape() as tape:
        tape.watch([inputs, weights])
        projected = cell.project(inputs, weights)
    return tape.gradient(projected, (inputs, weights), d_projected, "zero")


def _array(dtype, size, element_shape):
    """A `TensorArray` whose elements can be read more than once, also in eager execution."""
    return tf.TensorArray(dtype, size, element_shape=element_shape, clear_after_read=False)


def _unstack(x):
    """A `TensorArray` of the slices of the first axis."""
    return _array(x.dtype, tf.shape(x)[0], x.shape[1:]).unstack(x)
