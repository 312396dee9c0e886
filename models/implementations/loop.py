"""Any cell in a `tf.while_loop` whose backward pass is written by hand.

Keras multiplies the input inside the loop and lets TensorFlow differentiate the
loop op by op, saving every intermediate value of every step. Here the input
product of all steps is one product before the loop, the loop saves the states
only, and the backward loop takes the pointwise part of a step through
`Recorded`, the equation's own derivative; the gradient of the recurrent
weights is one product after it.

Shapes: T time (first here), B batch, H units, G maps.
"""

import tensorflow as tf

from models.cells import See


def runs(spec, device: str, dtype: str) -> bool:
    """Any cell, device and float type."""
    return True


def run(cell, inputs, mask, states):
    """Runs `cell` over inputs (B, T, D); see the package for the contract."""
    projected = tf.transpose(cell.project(inputs), [1, 0, 2])
    steps = None if mask is None else tf.transpose(mask)[..., None]
    recurrent = tf.cast(tf.convert_to_tensor(cell.recurrent_kernel), cell.compute_dtype)
    bias = cell.full_recurrent_bias()
    if bias is None:
        bias = tf.zeros([recurrent.shape[1]], recurrent.dtype)
    peepholes = [
        tf.cast(tf.convert_to_tensor(cell.peepholes[gate]), cell.compute_dtype)
        for gate in cell.spec.peepholes
    ]
    states = [tf.cast(state, cell.compute_dtype) for state in states]
    every = _recur(cell.spec, steps, projected, recurrent, bias, peepholes, states)
    outputs = tf.transpose(every[0][1:], [1, 0, 2])
    outputs.set_shape([*inputs.shape[:2], cell.units])
    return outputs, [state[-1] for state in every]


def _recur(spec, steps, projected, recurrent, bias, peepholes, states):
    """Every state before the first step and after each: a list of (T + 1, B, H)."""
    count, gates = len(states), spec.peepholes

    @tf.custom_gradient
    def forward(projected, recurrent, bias, *rest):
        peepholes, first = rest[: len(gates)], rest[len(gates) :]
        every = _forward(spec, steps, projected, recurrent, bias, peepholes, first)

        def backward(*gradients):
            return _backward(spec, steps, projected, recurrent, bias, peepholes, every, gradients)

        return every, backward

    every = forward(projected, recurrent, bias, *peepholes, *states)
    return list(every)[:count]


def _forward(spec, steps, projected, recurrent, bias, peepholes, first):
    time = tf.shape(projected)[0]
    inputs = _unstack(projected)
    masks = None if steps is None else _unstack(steps)
    every = [tf.TensorArray(s.dtype, time + 1, element_shape=s.shape).write(0, s) for s in first]

    def step(t, states, every):
        see = See(
            spec,
            inputs.read(t),
            tf.matmul(states[0], recurrent) + bias,
            dict(zip(spec.peepholes, peepholes, strict=True)),
            split=lambda z, parts: tf.split(z, parts, axis=-1),
            sigmoid=tf.sigmoid,
            tanh=tf.tanh,
        )
        after = list(spec.definition.step(see, *states))
        if masks is not None:
            now = masks.read(t)
            after = [tf.where(now, new, old) for new, old in zip(after, states, strict=True)]
        return t + 1, after, [a.write(t + 1, s) for a, s in zip(every, after, strict=True)]

    *_, every = tf.while_loop(lambda t, *_: t < time, step, (0, list(first), every))
    return [array.stack() for array in every]


def _backward(spec, steps, projected, recurrent, bias, peepholes, every, gradients):
    time = tf.shape(projected)[0]
    before = every[0][:-1]
    product = tf.tensordot(before, recurrent, 1) + bias
    apart = bool(spec.definition.recurrent_bias)  # else the two products only meet in a sum
    seen = [_unstack(x) for x in ([projected, product] if apart else [projected + product])]
    states = [_unstack(x[:-1]) for x in every]
    arriving = [_unstack(g) for g in gradients]
    masks = None if steps is None else _unstack(steps)
    written = [
        tf.TensorArray(projected.dtype, time, element_shape=projected.shape[1:]) for _ in seen
    ]

    def step(t, flowing, summed, written):
        maps = [[Recorded(z) for z in tf.split(s.read(t), len(spec.maps), axis=-1)] for s in seen]
        olds = [Recorded(state.read(t)) for state in states]
        peeps = [Recorded(p) for p in peepholes]
        see = See(
            spec,
            maps[0],
            maps[1] if apart else [0.0] * len(spec.maps),
            dict(zip(spec.peepholes, peeps, strict=True)),
            split=lambda parts, _: parts,
            sigmoid=Recorded.sigmoid,
            tanh=Recorded.tanh,
        )
        after = spec.definition.step(see, *olds)
        zero = tf.zeros_like(flowing[0])
        now = None if masks is None else masks.read(t)
        Recorded.flow_back(
            after, flowing if now is None else [tf.where(now, f, zero) for f in flowing]
        )
        d_maps = [tf.concat([z.gradient for z in parts], axis=-1) for parts in maps]
        d_states = [zero if old.gradient is None else old.gradient for old in olds]
        d_states[0] += tf.matmul(d_maps[-1], recurrent, transpose_b=True)
        if now is not None:  # a masked step hands on what came from the next
            d_states = [tf.where(now, d, f) for d, f in zip(d_states, flowing, strict=True)]
        d_states = [d + a.read(t) for d, a in zip(d_states, arriving, strict=True)]
        summed = [s + tf.reduce_sum(p.gradient, 0) for s, p in zip(summed, peeps, strict=True)]
        return (
            t - 1,
            d_states,
            summed,
            [w.write(t, d) for w, d in zip(written, d_maps, strict=True)],
        )

    start = (
        time - 1,
        [array.read(time) for array in arriving],
        [tf.zeros_like(p) for p in peepholes],
        written,
    )
    _, d_first, d_peepholes, written = tf.while_loop(lambda t, *_: t >= 0, step, start)
    # An array of no steps knows no batch that it could be stacked to.
    d_maps = tf.cond(
        time > 0,
        lambda: [array.stack() for array in written],
        lambda: [tf.zeros_like(projected) for _ in written],
    )
    d_projected, d_product = d_maps[0], d_maps[-1]
    d_product = tf.reshape(d_product, [-1, recurrent.shape[1]])
    before = tf.reshape(before, [-1, recurrent.shape[0]])
    d_recurrent = tf.matmul(before, d_product, transpose_a=True)
    return d_projected, d_recurrent, tf.reduce_sum(d_product, 0), *d_peepholes, *d_first


def _unstack(x):
    return tf.TensorArray(x.dtype, tf.shape(x)[0], element_shape=x.shape[1:]).unstack(x)


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
        return self if other == 0.0 else Recorded(self.value + other, (self, _same))

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

    def sigmoid(self):
        y = tf.sigmoid(self.value)
        return Recorded(y, (self, lambda d: tf.raw_ops.SigmoidGrad(y=y, dy=d)))

    def tanh(self):
        y = tf.tanh(self.value)
        return Recorded(y, (self, lambda d: tf.raw_ops.TanhGrad(y=y, dy=d)))

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
            visit(result)
            result.gradient = gradient if result.gradient is None else result.gradient + gradient
        for value in reversed(order):
            for parent, share in value.parents if value.gradient is not None else ():
                d = share(value.gradient)
                parent.gradient = d if parent.gradient is None else parent.gradient + d


def _same(d):
    return d
