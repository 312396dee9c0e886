"""Any cell in a `tf.while_loop` whose backward pass is written by hand.

Keras multiplies the input inside the loop and lets TensorFlow differentiate the
loop op by op, saving every intermediate value of every step. Here the input
product of all steps is one product before the loop, the loop saves the states
only, and the backward loop takes a step through `Recorded`, the derivative of
the equation's own text; the gradient of the recurrent kernel is one product
after it.

Shapes: T time (first here), B batch, H units.
"""

import functools

import tensorflow as tf

from models.cells import See


def runs(spec, device: str, dtype: str) -> bool:
    """Any cell, device and float type."""
    return True


def run(cell, inputs, mask, states):
    """Runs `cell` over inputs (B, T, D); see the package for the contract."""
    projected = tf.transpose(cell.project(inputs), [1, 0, 2])
    steps = None if mask is None else tf.transpose(tf.cast(mask, tf.int32))[..., None] > 0
    every = _recur(cell, steps, projected, _weights(cell), states)
    outputs = tf.transpose(every[0][1:], [1, 0, 2])
    outputs.set_shape([*inputs.shape[:2], cell.units])
    return outputs, [state[-1] for state in every]


def _weights(cell) -> dict:
    """The weights that a step multiplies by, as tensors of the type it computes in."""

    def tensor(weight):
        return tf.cast(tf.convert_to_tensor(weight), cell.compute_dtype)

    weights = {
        "peepholes": {name: tensor(weight) for name, weight in cell.peepholes.items()},
        "products": {name: tensor(weight) for name, weight in cell.products.items()},
    }
    if cell.spec.recurrent_maps:
        weights["recurrent"] = tensor(cell.recurrent_kernel)
    if cell.recurrent_bias is not None:
        weights["bias"] = cell.full_recurrent_bias()
    return weights


def _recur(cell, steps, projected, weights, states):
    """Every state before the first step and after each: a list of (T + 1, B, H)."""
    flat = tf.nest.flatten(weights)
    states = [tf.cast(state, cell.compute_dtype) for state in states]

    @tf.custom_gradient
    def forward(projected, *rest):
        packed = tf.nest.pack_sequence_as(weights, rest[: len(flat)])
        every = _forward(cell, steps, projected, packed, rest[len(flat) :])

        def backward(*gradients):
            d_projected, d_weights, d_states = _backward(
                cell, steps, projected, packed, every, gradients
            )
            return d_projected, *tf.nest.flatten(d_weights), *d_states

        return every, backward

    return list(forward(projected, *flat, *states))


def _forward(cell, steps, projected, weights, first):
    spec, time = cell.spec, tf.shape(projected)[0]
    inputs = _unstack(projected)
    masks = None if steps is None else _unstack(steps)
    every = [tf.TensorArray(s.dtype, time + 1, element_shape=s.shape).write(0, s) for s in first]
    functions = _Functions(spec, weights["products"])

    def step(t, states, every):
        recurrent = _by_map(spec.recurrent_maps, _product(weights, states[0]))
        seen = _by_map(cell.projected_maps, inputs.read(t))
        see = See(spec, seen, recurrent, weights["peepholes"], functions)
        after = [
            tf.fill(tf.shape(old), tf.cast(new, old.dtype)) if isinstance(new, float) else new
            for new, old in zip(spec.definition.step(see, *states), states, strict=True)
        ]
        if masks is not None:
            now = masks.read(t)
            after = [tf.where(now, new, old) for new, old in zip(after, states, strict=True)]
        return t + 1, after, [a.write(t + 1, s) for a, s in zip(every, after, strict=True)]

    *_, every = tf.while_loop(lambda t, *_: t < time, step, (0, list(first), every))
    return [array.stack() for array in every]


def _backward(cell, steps, projected, weights, every, gradients):
    spec, time = cell.spec, tf.shape(projected)[0]
    before = every[0][:-1]
    maps, seen = [cell.projected_maps], [projected]
    if spec.recurrent_maps:
        product = _product(weights, before)
        if spec.recurrent_maps == cell.projected_maps and "bias" not in weights:
            seen = [projected + product]  # the two only ever meet in a sum
        else:
            maps, seen = [*maps, spec.recurrent_maps], [projected, product]
    read = [_unstack(blocks) for blocks in seen]
    states = [_unstack(state[:-1]) for state in every]
    arriving = [_unstack(gradient) for gradient in gradients]
    masks = None if steps is None else _unstack(steps)
    written = [
        tf.TensorArray(blocks.dtype, time, element_shape=blocks.shape[1:]) for blocks in seen
    ]

    def step(t, flowing, summed, written):
        zero = tf.zeros_like(flowing[0])
        blocks = [
            {name: Recorded(z) for name, z in _by_map(names, array.read(t)).items()}
            for names, array in zip(maps, read, strict=True)
        ]
        peepholes = {gate: Recorded(p) for gate, p in weights["peepholes"].items()}
        functions = _RecordedFunctions(spec, weights["products"])
        olds = [Recorded(state.read(t)) for state in states]
        recurrent = blocks[1] if len(blocks) > 1 else {}
        see = See(spec, blocks[0], recurrent, peepholes, functions)
        after = spec.definition.step(see, *olds)

        now = None if masks is None else masks.read(t)
        into = flowing if now is None else [tf.where(now, f, zero) for f in flowing]
        Recorded.flow_back(after, into)
        d_blocks = [tf.concat([z.total(zero) for z in parts.values()], axis=-1) for parts in blocks]
        d_states = [old.total(zero) for old in olds]
        if spec.recurrent_maps:
            d_states[0] += tf.matmul(d_blocks[-1], weights["recurrent"], transpose_b=True)
        if now is not None:  # a masked step hands on what came from the next
            d_states = [tf.where(now, d, f) for d, f in zip(d_states, flowing, strict=True)]
        d_states = [d + array.read(t) for d, array in zip(d_states, arriving, strict=True)]
        now_summed = {
            "peepholes": {g: tf.reduce_sum(p.total(zero), 0) for g, p in peepholes.items()},
            "products": functions.gradients(zero),
        }
        summed = tf.nest.map_structure(tf.add, summed, now_summed)
        written = [array.write(t, d) for array, d in zip(written, d_blocks, strict=True)]
        return t - 1, d_states, summed, written

    summed = {key: weights[key] for key in ("peepholes", "products")}
    summed = tf.nest.map_structure(tf.zeros_like, summed)
    start = (time - 1, [array.read(time) for array in arriving], summed, written)
    _, d_first, d_weights, written = tf.while_loop(lambda t, *_: t >= 0, step, start)

    # An array of no steps knows no batch that it could be stacked to.
    d_blocks = tf.cond(
        time > 0,
        lambda: [array.stack() for array in written],
        lambda: [tf.zeros_like(blocks) for blocks in seen],
    )
    if spec.recurrent_maps:
        rows = tf.reshape(d_blocks[-1], [-1, weights["recurrent"].shape[1]])
        flat = tf.reshape(before, [-1, cell.units])
        d_weights = {**d_weights, "recurrent": tf.matmul(flat, rows, transpose_a=True)}
        if "bias" in weights:
            d_weights["bias"] = tf.reduce_sum(rows, 0)
    return d_blocks[0], d_weights, d_first


def _product(weights, h):
    """h U of all maps that see h, of one step or of many; None where no map does."""
    if "recurrent" not in weights:
        return None
    multiply = tf.matmul if h.shape.rank == 2 else functools.partial(tf.tensordot, axes=1)
    product = multiply(h, weights["recurrent"])
    return product + weights["bias"] if "bias" in weights else product


def _by_map(maps, blocks):
    if blocks is None:
        return {}
    return dict(zip(maps, tf.split(blocks, len(maps), axis=-1), strict=True))


def _unstack(x):
    return tf.TensorArray(x.dtype, tf.shape(x)[0], element_shape=x.shape[1:]).unstack(x)


class _Functions:
    """The functions of an equation on tensors."""

    sigmoid, tanh, relu = staticmethod(tf.sigmoid), staticmethod(tf.tanh), staticmethod(tf.nn.relu)

    def __init__(self, spec, products):
        self._spec, self._products = spec, products

    def clip(self, z, limit):
        return tf.clip_by_value(z, -limit, limit)

    def product(self, name, values):
        whole = tf.matmul(tf.concat(values, axis=-1), self._products[name])
        return _by_map(self._spec.products()[name][1], whole)


class Recorded:
    """A tensor that remembers how it was computed, for one pass back through a step.

    TensorFlow's own derivative of the same text asks at each op and step
    whether shapes were broadcast; here all are (B, H), or (H,) for a peephole,
    whose gradient is left as (B, H).
    """

    def __init__(self, value, *parents):
        self.value = value
        self.parents = parents  # (Recorded, what maps my gradient to a share of its own)
        self.gradient = None

    def __add__(self, other):
        if isinstance(other, Recorded):
            return Recorded(self.value + other.value, (self, _same), (other, _same))
        return Recorded(self.value + other, (self, _same))

    def __sub__(self, other):
        if isinstance(other, Recorded):
            return Recorded(self.value - other.value, (self, _same), (other, tf.negative))
        return Recorded(self.value - other, (self, _same))

    def __rsub__(self, other):
        return Recorded(other - self.value, (self, tf.negative))

    def __mul__(self, other):
        if isinstance(other, Recorded):
            return Recorded(
                self.value * other.value,
                (self, lambda d: d * other.value),
                (other, lambda d: d * self.value),
            )
        return Recorded(self.value * other, (self, lambda d: d * other))

    __radd__, __rmul__ = __add__, __mul__

    def total(self, zero):
        """The gradient that has come back to it, `zero` if none has."""
        return zero if self.gradient is None else self.gradient

    @staticmethod
    def flow_back(results, gradients):
        """Leaves in each value that `results` came from its `gradient`."""
        order, met = [], set()

        def visit(value):
            if id(value) not in met:
                met.add(id(value))
                for parent, _ in value.parents:
                    visit(parent)
                order.append(value)

        for result, gradient in zip(results, gradients, strict=True):
            if isinstance(result, Recorded):  # not a pinned gate
                visit(result)
                result._receive(gradient)
        for value in reversed(order):
            for parent, share in value.parents if value.gradient is not None else ():
                parent._receive(share(value.gradient))

    def _receive(self, gradient):
        self.gradient = gradient if self.gradient is None else self.gradient + gradient


class _RecordedFunctions:
    """The functions of an equation on what is `Recorded`."""

    def __init__(self, spec, products):
        self._spec, self._products = spec, products
        self._multiplied = {}

    def sigmoid(self, z):
        y = tf.sigmoid(z.value)
        return Recorded(y, (z, lambda d: tf.raw_ops.SigmoidGrad(y=y, dy=d)))

    def tanh(self, z):
        y = tf.tanh(z.value)
        return Recorded(y, (z, lambda d: tf.raw_ops.TanhGrad(y=y, dy=d)))

    def relu(self, z):
        y = tf.nn.relu(z.value)
        return Recorded(y, (z, lambda d: tf.raw_ops.ReluGrad(gradients=d, features=y)))

    def clip(self, z, limit):
        within = tf.abs(z.value) <= limit
        share = (z, lambda d: tf.where(within, d, tf.zeros_like(d)))
        return Recorded(tf.clip_by_value(z.value, -limit, limit), share)

    def product(self, name, values):
        seen, weight = tf.concat([v.value for v in values], axis=-1), self._products[name]
        whole = tf.split(tf.matmul(seen, weight), len(self._spec.products()[name][1]), axis=-1)
        columns = tf.split(weight, len(whole), axis=1)

        def back(column, at):
            rows = tf.split(column, len(values), axis=0)[at]
            return lambda d: tf.matmul(d, rows, transpose_b=True)

        parts = [
            Recorded(part, *((v, back(column, at)) for at, v in enumerate(values)))
            for part, column in zip(whole, columns, strict=True)
        ]
        self._multiplied[name] = (seen, parts)
        return dict(zip(self._spec.products()[name][1], parts, strict=True))

    def gradients(self, zero):
        """The gradient of each product's weight, by name."""
        return {
            name: tf.matmul(
                seen, tf.concat([p.total(zero) for p in parts], axis=-1), transpose_a=True
            )
            for name, (seen, parts) in self._multiplied.items()
        }


def _same(d):
    return d
