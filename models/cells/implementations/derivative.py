"""One step of any cell and its derivative, both from the equation's own text.

Forward remembers what each function gave; backward runs the same text on
`TapeValue` values, which compute nothing until they are asked and then mostly
read what forward remembered. What they ask for, and so what forward has to
save, is found by taking the derivative once on zeros.

Shapes: B batch, H units.
"""

import functools
from collections.abc import Callable

import tensorflow as tf

from ..cell import StepContext, TensorFunctions, by_map, standardized

# What a step backward can read of the same step forward: a state before it,
# what a map has of x or of h, what a function gave.
STATE, INPUT, RECURRENT, CALL = "state", "input", "recurrent", "call"


def _only_added(cell) -> bool:
    """Whether all of x W + b and h U meet in a sum and nowhere else."""
    spec = cell.spec
    added = spec.layer_norm != "products" and not spec.definition.recurrent_bias
    return added and spec.recurrent_maps == cell.projected_maps


def step(cell, projected, states, weights, noise):
    """One step: the states after it, and by key all that the backward pass could read."""
    functions = _Saving(cell, weights["matrices"])
    if _only_added(cell):
        projected, recurrent = projected + functions.recurrent_product(states[0], noise), {}
    else:
        recurrent = functions.recurrent(states[0], weights["vectors"], noise)
    inputs = by_map(cell.projected_maps, projected)
    context = StepContext(cell.spec, inputs, recurrent, weights["vectors"], functions, noise)
    after = [
        tf.fill(tf.shape(old), tf.cast(new, old.dtype)) if isinstance(new, float) else new
        for new, old in zip(context.advance(states), states, strict=True)
    ]
    values = {(INPUT, name): value for name, value in inputs.items()}
    values |= {(RECURRENT, name): value for name, value in recurrent.items()}
    values |= {(CALL, index): value for index, value in enumerate(functions.calls)}
    return after, values


def step_back(cell, read, into, weights, turned, noise):
    """One step backward.

    Args:
        cell: The `GatedCell`.
        read: Gives what forward had, by kind and name.
        into: The gradients of the states after the step.
        weights: "matrices" and "vectors".
        turned: The matrices, transposed.
        noise: As `StepContext` has it.

    Returns:
        The gradients of the states before the step; of the vectors, a row of
        the batch each; and by name what is left to be multiplied or handed on:
        ("d", "input") of all that came of x, ("d", M) of what the matrix M
        gave, where it differs from that, and ("seen", M) of what it multiplied.
    """
    spec = cell.spec
    vectors = {name: TapeValue.of(vector) for name, vector in weights["vectors"].items()}
    inputs = {m: TapeValue(functools.partial(read, INPUT, m)) for m in cell.projected_maps}
    states = [TapeValue(functools.partial(read, STATE, index)) for index in range(len(into))]
    functions = _Replaying(cell, read, turned)
    recurrent, product, normed = {}, None, None
    if spec.recurrent_maps and spec.layer_norm == "products":
        product = TapeValue(None)
        normed = functions.standardize(product) * vectors["recurrent_gain"]
        recurrent = {
            m: TapeValue(lambda m=m: by_map(spec.recurrent_maps, normed.value)[m])
            for m in spec.recurrent_maps
        }
    elif spec.recurrent_maps and not _only_added(cell):
        recurrent = {
            m: TapeValue(functools.partial(read, RECURRENT, m)) for m in spec.recurrent_maps
        }
    context = StepContext(spec, inputs, recurrent, vectors, functions, noise)
    TapeValue.flow_back(context.advance(states), into)

    zero = tf.zeros([tf.shape(into[0])[0], cell.units], into[0].dtype)
    factors = {("d", "input"): _joined([z.total(zero) for z in inputs.values()])}
    d_states = [
        state.total(zero if size == cell.units else tf.zeros_like(d))
        for state, size, d in zip(states, cell.state_size, into, strict=True)
    ]
    if spec.recurrent_maps:
        d_recurrent = factors["d", "input"]
        if recurrent:
            d_recurrent = _joined([z.total(zero) for z in recurrent.values()])
        if normed:
            TapeValue.flow_back([normed], [d_recurrent])
            d_recurrent = product.gradient
        if recurrent:
            factors["d", "recurrent"] = d_recurrent
        d_h = functions.multiply(d_recurrent, "recurrent")
        d_states[0] += d_h * noise["state"] if "state" in noise else d_h
    for name, (operands, parts) in functions.products.items():
        factors["seen", name] = _joined([value.value for value in operands])
        factors["d", name] = _joined([part.total(zero) for part in parts])
    d_vectors = {name: vector.total(zero) for name, vector in vectors.items()}
    return d_states, d_vectors, factors


def _joined(parts):
    return parts[0] if len(parts) == 1 else tf.concat(parts, axis=-1)


class Plan:
    """What a cell's backward step reads and finds, by key with its width.

    Known by taking one step on zeros, in a graph that is thrown away.
    """

    def __init__(self, cell, noise, weights):
        self.saved = {}
        with tf.Graph().as_default():

            def zeros(like, shape=None):
                return tf.zeros(shape or like.shape, like.dtype)

            weights = tf.nest.map_structure(zeros, weights)
            turned = {name: tf.transpose(matrix) for name, matrix in weights["matrices"].items()}
            projected = tf.zeros([1, len(cell.projected_maps) * cell.units], cell.state_dtype)
            states = [tf.zeros([1, size], cell.state_dtype) for size in cell.state_size]
            drawn = {
                name: zeros(values, [1, values.shape[-1]]) if tf.is_tensor(values) else values
                for name, values in {**noise.always, **noise.steps}.items()
            }
            _, values = step(cell, projected, states, weights, drawn)

            def read(kind, name):
                if kind == STATE:
                    return states[name]
                self.saved[kind, name] = values[kind, name].shape[-1]
                return values[kind, name]

            *_, factors = step_back(cell, read, states, weights, turned, drawn)
        self.factors = {name: value.shape[-1] for name, value in factors.items()}


class _Saving(TensorFunctions):
    """The functions of an equation, remembering what each call gave."""

    def __init__(self, cell, matrices):
        super().__init__(cell, matrices)
        self.calls = []

    def _record(self, value):
        self.calls.append(value)
        return value

    def sigmoid(self, z):
        return self._record(tf.sigmoid(z))

    def tanh(self, z):
        return self._record(tf.tanh(z))

    def relu(self, z):
        return self._record(tf.nn.relu(z))

    def standardize(self, z):
        value, scale = standardized(z)
        self._record(scale)
        return self._record(value)

    def product(self, name, values):
        return {
            map_name: self._record(part) for map_name, part in super().product(name, values).items()
        }


class TapeValue:
    """A value that knows how it was computed, for one pass back through a step.

    TensorFlow's own derivative of the same text asks at each op and step
    whether shapes were broadcast; here all are (B, H), or (H,) for a vector,
    whose gradient is left as (B, H).

    Args:
        compute: Gives the value, if it comes to be asked for.
        *parents: A `TapeValue` each, and what maps my gradient to a share of its own.
    """

    def __init__(self, compute: Callable | None, *parents):
        self._compute = compute
        self.parents = parents
        self.gradient = None

    @classmethod
    def of(cls, value, *parents) -> "TapeValue":
        """One whose value is at hand."""
        return cls(lambda: value, *parents)

    @functools.cached_property
    def value(self):
        return self._compute()

    def __add__(self, other):
        if isinstance(other, TapeValue):
            return TapeValue(lambda: self.value + other.value, (self, _same), (other, _same))
        return TapeValue(lambda: self.value + other, (self, _same))

    def __sub__(self, other):
        if isinstance(other, TapeValue):
            return TapeValue(lambda: self.value - other.value, (self, _same), (other, tf.negative))
        return TapeValue(lambda: self.value - other, (self, _same))

    def __rsub__(self, other):
        return TapeValue(lambda: other - self.value, (self, tf.negative))

    def __mul__(self, other):
        if isinstance(other, TapeValue):
            return TapeValue(
                lambda: self.value * other.value,
                (self, lambda d: d * other.value),
                (other, lambda d: d * self.value),
            )
        return TapeValue(lambda: self.value * other, (self, lambda d: d * other))

    __radd__, __rmul__ = __add__, __mul__

    def total(self, zero):
        """The gradient that has come back to it, `zero` if none has."""
        return zero if self.gradient is None else self.gradient

    @staticmethod
    def flow_back(results, gradients):
        """Leaves in each value that `results` came from its `gradient`."""
        order, visited = [], set()

        def visit(value):
            if id(value) not in visited:
                visited.add(id(value))
                for parent, _ in value.parents:
                    visit(parent)
                order.append(value)

        for result, gradient in zip(results, gradients, strict=True):
            if isinstance(result, TapeValue):  # not a pinned gate
                visit(result)
                result._receive(gradient)
        for value in reversed(order):
            for parent, share in value.parents if value.gradient is not None else ():
                parent._receive(share(value.gradient))

    def _receive(self, gradient):
        self.gradient = gradient if self.gradient is None else self.gradient + gradient


class _Replaying:
    """The functions of an equation on what is `TapeValue`: what each call gave forward is read."""

    def __init__(self, cell, read, turned):
        self._cell, self._read, self._turned = cell, read, turned
        self._calls = 0
        self.products = {}

    def _next(self, *parents):
        index, self._calls = self._calls, self._calls + 1
        return TapeValue(functools.partial(self._read, CALL, index), *parents)

    def _called(self, z, share):
        y = self._next()
        y.parents = ((z, lambda d: share(d, y.value)),)
        return y

    def sigmoid(self, z):
        return self._called(z, lambda d, y: tf.raw_ops.SigmoidGrad(y=y, dy=d))

    def tanh(self, z):
        return self._called(z, lambda d, y: tf.raw_ops.TanhGrad(y=y, dy=d))

    def relu(self, z):
        return self._called(z, lambda d, y: tf.raw_ops.ReluGrad(gradients=d, features=y))

    def clip(self, z, limit):
        share = (z, lambda d: tf.where(tf.abs(z.value) <= limit, d, 0.0))
        return TapeValue(lambda: tf.clip_by_value(z.value, -limit, limit), share)

    def standardize(self, z):
        scale = self._next()

        def share(d, y):
            along = tf.reduce_mean(d * y, axis=-1, keepdims=True)
            return scale.value * (d - tf.reduce_mean(d, axis=-1, keepdims=True) - y * along)

        return self._called(z, share)

    def product(self, name, values):
        maps = self._cell.product_maps[name]

        def back(map_at, value_at):
            def share(d):
                block = tf.split(self._turned[name], len(maps), axis=0)[map_at]
                return self._cell.multiplied(d, tf.split(block, len(values), axis=1)[value_at])

            return share

        parts = [
            self._next(*((value, back(m, v)) for v, value in enumerate(values)))
            for m in range(len(maps))
        ]
        self.products[name] = (values, parts)
        return dict(zip(maps, parts, strict=True))

    def multiply(self, d, name):
        """What came back through a product, to what was multiplied."""
        return self._cell.multiplied(d, self._turned[name])


def _same(d):
    return d
