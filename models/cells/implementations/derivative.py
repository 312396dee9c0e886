"""One step of any cell and its derivative, both from the text of the equation.

The forward step records the result of each function. The backward step runs the same text on
`TapeValue` objects, which compute nothing until their value is requested, and then mostly read
what the forward step recorded. The values that they request, which are those that the forward
pass has to save, are determined by taking the derivative once on zeros.

Shapes: B batch, H units, G maps.
"""

import functools
import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from ..cell import LEAK, GatedCell, Noise, StepContext, TensorFunctions, Value, by_map, standardize

# Kinds of values of a forward step that the backward step can read: a state before the step,
# the input or recurrent product of a map, and the result of a function call.
STATE, INPUT, RECURRENT, CALL = "state", "input", "recurrent", "call"
# Kinds of values that a backward step returns for the gradient of a weight matrix: the gradient
# of its product, and the operand that it multiplied.
GRADIENT, OPERAND = "gradient", "operand"


def _is_one_sum(cell) -> bool:
    """Whether x W + b and h U of every map occur only in their sum."""
    spec = cell.spec
    added = spec.layer_norm != "products" and not spec.definition.recurrent_bias
    return added and spec.recurrent_maps == cell.projected_maps


def step(
    cell: GatedCell,
    projected: tf.Tensor,
    states: Sequence[tf.Tensor],
    weights: Mapping[str, Mapping[str, tf.Tensor]],
    noise: Mapping[str, Any],
) -> tuple[list[tf.Tensor], dict[tuple, tf.Tensor]]:
    """Computes one step.

    Args:
        cell: The cell.
        projected: Result of `GatedCell.project`, (B, G * H).
        states: The states before the step, each (B, width).
        weights: "matrices" and "vectors" of the cell, by name.
        noise: Masks of the step, as in `StepContext`.

    Returns:
        The states after the step; and, by kind and name, all values that the backward step
        can read, each (B, width).
    """
    functions = _RecordingFunctions(cell, weights["matrices"])
    if _is_one_sum(cell):
        projected, recurrent = projected + functions.recurrent_product(states[0], noise), {}
    else:
        recurrent = functions.recurrent(states[0], weights["vectors"], noise)
    inputs = by_map(cell.projected_maps, projected)
    context = StepContext(cell.spec, inputs, recurrent, weights["vectors"], functions, noise)
    after = [
        tf.fill(tf.shape(old), tf.constant(new, old.dtype)) if isinstance(new, float) else new
        for new, old in zip(context.advance(states), states, strict=True)
    ]
    values = {(INPUT, name): value for name, value in inputs.items()}
    values |= {(RECURRENT, name): value for name, value in recurrent.items()}
    values |= {(CALL, index): value for index, value in enumerate(functions.calls)}
    return after, values


def step_back(
    cell: GatedCell,
    read: Callable[[str, str | int], tf.Tensor],
    d_after: Sequence[tf.Tensor],
    weights: Mapping[str, Mapping[str, tf.Tensor]],
    transposed: Mapping[str, tf.Tensor],
    noise: Mapping[str, Any],
) -> tuple[list[tf.Tensor], dict[str, tf.Tensor], dict[tuple[str, str], tf.Tensor]]:
    """Computes the gradients of one step.

    Args:
        cell: The cell.
        read: Function that returns a value of the forward step, by kind and name.
        d_after: Gradients of the states after the step, each (B, width).
        weights: "matrices" and "vectors" of the cell, by name.
        transposed: The transposed matrices, by name.
        noise: Masks of the step, as in `StepContext`.

    Returns:
        The gradients of the states before the step; the gradients of the vectors by name,
        (B, H), not yet summed over the batch; and the factors of the gradients of the
        matrices: (GRADIENT, "input") for the input product, and for each matrix M the
        (GRADIENT, M) of its product, if it differs from that, and the (OPERAND, M).
    """
    spec = cell.spec
    vectors = {name: TapeValue.of(vector) for name, vector in weights["vectors"].items()}
    inputs = {m: TapeValue(functools.partial(read, INPUT, m)) for m in cell.projected_maps}
    states = [TapeValue(functools.partial(read, STATE, index)) for index in range(len(d_after))]
    functions = _ReplayingFunctions(cell, read, transposed)
    recurrent, product, normalized = {}, None, None
    if spec.recurrent_maps and spec.layer_norm == "products":
        product = TapeValue(None)
        normalized = functions.standardize(product) * vectors["recurrent_gain"]
        recurrent = {
            m: TapeValue(lambda m=m: by_map(spec.recurrent_maps, normalized.value)[m])
            for m in spec.recurrent_maps
        }
    elif spec.recurrent_maps and not _is_one_sum(cell):
        recurrent = {
            m: TapeValue(functools.partial(read, RECURRENT, m)) for m in spec.recurrent_maps
        }
    context = StepContext(spec, inputs, recurrent, vectors, functions, noise)
    TapeValue.flow_back(context.advance(states), d_after)

    zero = tf.zeros([tf.shape(d_after[0])[0], cell.units], d_after[0].dtype)
    factors = {(GRADIENT, "input"): _concatenate([z.total(zero) for z in inputs.values()])}
    d_states = [
        state.total(zero if size == cell.units else tf.zeros_like(d))
        for state, size, d in zip(states, cell.state_size, d_after, strict=True)
    ]
    if spec.recurrent_maps:
        d_recurrent = factors[GRADIENT, "input"]
        if recurrent:
            d_recurrent = _concatenate([z.total(zero) for z in recurrent.values()])
        if normalized:
            TapeValue.flow_back([normalized], [d_recurrent])
            d_recurrent = product.gradient
        if recurrent:
            factors[GRADIENT, "recurrent"] = d_recurrent
        d_h = functions.multiply_back(d_recurrent, "recurrent")
        d_states[0] += d_h * noise["state"] if "state" in noise else d_h
    for name, (operands, parts) in functions.products.items():
        factors[OPERAND, name] = _concatenate([operand.value for operand in operands])
        factors[GRADIENT, name] = _concatenate([part.total(zero) for part in parts])
    d_vectors = {name: vector.total(zero) for name, vector in vectors.items()}
    return d_states, d_vectors, factors


def _concatenate(parts):
    return parts[0] if len(parts) == 1 else tf.concat(parts, axis=-1)


class Plan:
    """The values that the backward step of a cell reads and returns.

    They are determined by taking one step on zeros, in a graph that is discarded.

    Args:
        cell: The cell.
        noise: Masks of the batch.
        weights: "matrices" and "vectors" of the cell, by name.

    Attributes:
        saved: Width of each value of the forward step that the backward step reads, by kind
            and name; states are not included.
        factors: Width of each factor that `step_back` returns, by kind and name.
    """

    def __init__(
        self,
        cell: GatedCell,
        noise: Noise,
        weights: Mapping[str, Mapping[str, tf.Tensor]],
    ):
        self.saved: dict[tuple, int] = {}
        with tf.Graph().as_default():

            def zeros(like, shape=None):
                return tf.zeros(shape or like.shape, like.dtype)

            weights = tf.nest.map_structure(zeros, weights)
            transposed = {name: tf.transpose(m) for name, m in weights["matrices"].items()}
            projected = tf.zeros([1, len(cell.projected_maps) * cell.units], cell.state_dtype)
            states = [tf.zeros([1, size], cell.state_dtype) for size in cell.state_size]
            masks = {
                name: zeros(values, [1, values.shape[-1]]) if tf.is_tensor(values) else values
                for name, values in {**noise.always, **noise.steps}.items()
            }
            _, values = step(cell, projected, states, weights, masks)

            def read(kind, name):
                if kind == STATE:
                    return states[name]
                self.saved[kind, name] = values[kind, name].shape[-1]
                return values[kind, name]

            *_, factors = step_back(cell, read, states, weights, transposed, masks)
        self.factors: dict[tuple, int] = {name: d.shape[-1] for name, d in factors.items()}


_PLANS: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # of each cell, by noise


def plan_of(cell: GatedCell, noise: Noise, weights: Mapping[str, Mapping[str, tf.Tensor]]) -> Plan:
    """Returns the `Plan` of a cell, which is made once for each kind of noise.

    In eager execution, making it would take longer than the step that it is for.

    Args:
        cell: The cell.
        noise: Masks of the batch.
        weights: "matrices" and "vectors" of the cell, by name.
    """
    masks = {**noise.always, **noise.steps}
    kind = tuple((name, tf.is_tensor(mask)) for name, mask in masks.items())
    plans = _PLANS.setdefault(cell, {})
    if kind not in plans:
        plans[kind] = Plan(cell, noise, weights)
    return plans[kind]


def _gelu_gradient(d, y, z):
    density = tf.exp(-0.5 * z() * z()) / math.sqrt(2 * math.pi)
    return d * (0.5 * (1.0 + tf.math.erf(z() * math.sqrt(0.5))) + z() * density)


def _silu_gradient(d, y, z):
    sigmoid = tf.sigmoid(z())
    return d * (sigmoid + y() * (1.0 - sigmoid))


# By activation y of z: the function, and the gradient of z of the gradient d of y. It calls y or
# z for its value, so that only what it reads has to be saved.
_ACTIVATIONS = {
    "sigmoid": (tf.sigmoid, lambda d, y, z: tf.raw_ops.SigmoidGrad(y=y(), dy=d)),
    "tanh": (tf.tanh, lambda d, y, z: tf.raw_ops.TanhGrad(y=y(), dy=d)),
    "relu": (tf.nn.relu, lambda d, y, z: tf.raw_ops.ReluGrad(gradients=d, features=y())),
    "hard_sigmoid": (
        lambda z: tf.nn.relu6(z + 3.0) / 6.0,
        lambda d, y, z: tf.where((y() > 0.0) & (y() < 1.0), d / 6.0, 0.0),
    ),
    "log_sigmoid": (tf.math.log_sigmoid, lambda d, y, z: -d * tf.math.expm1(y())),
    "softplus": (tf.math.softplus, lambda d, y, z: -d * tf.math.expm1(-y())),
    "gelu": (lambda z: 0.5 * z * (1.0 + tf.math.erf(z * math.sqrt(0.5))), _gelu_gradient),
    "silu": (lambda z: z * tf.sigmoid(z), _silu_gradient),
    "elu": (tf.nn.elu, lambda d, y, z: tf.where(y() > 0.0, d, d * (y() + 1.0))),
    "leaky_relu": (
        lambda z: tf.maximum(z, LEAK * z),
        lambda d, y, z: tf.where(y() > 0.0, d, LEAK * d),
    ),
    "exp": (tf.exp, lambda d, y, z: d * y()),
}


class _RecordingFunctions(TensorFunctions):
    """`Functions` that record the result of each call."""

    def __init__(self, cell, matrices):
        super().__init__(cell, matrices)
        self.calls = []

    def _record(self, value):
        self.calls.append(value)
        return value

    def activation(self, name, z):
        return self._record(_ACTIVATIONS[name][0](z))

    def standardize(self, z):
        value, scale = standardize(z)
        self._record(scale)
        return self._record(value)

    def product(self, name, values):
        blocks = super().product(name, values)
        return {map_name: self._record(block) for map_name, block in blocks.items()}


class TapeValue:
    """A value that records how it was computed, for one backward pass through a step.

    TensorFlow's derivative of the same text checks at each op and step whether shapes were
    broadcast. Here all values are (B, H), or (H,) for a vector, whose gradient stays (B, H).

    Args:
        compute: Function that returns the value; called once, when the value is requested.
            None for a value that is never requested.
        *parents: Pairs of an operand, a `TapeValue`, and a function from the gradient of
            this value to the contribution to the gradient of the operand.

    Attributes:
        gradient: Sum of the contributions received, (B, H); None without any.
    """

    def __init__(self, compute: Callable[[], tf.Tensor] | None, *parents: Any):
        self._compute = compute
        self.parents = parents
        self.gradient: tf.Tensor | None = None

    @classmethod
    def of(cls, value: tf.Tensor, *parents: Any) -> "TapeValue":
        """Returns a `TapeValue` of a tensor that has been computed."""
        return cls(lambda: value, *parents)

    @functools.cached_property
    def value(self) -> tf.Tensor:
        """The tensor, computed on first access."""
        return self._compute()

    def __add__(self, other: Value) -> "TapeValue":
        if isinstance(other, TapeValue):
            return TapeValue(lambda: self.value + other.value, (self, _same), (other, _same))
        return TapeValue(lambda: self.value + other, (self, _same))

    def __sub__(self, other: Value) -> "TapeValue":
        if isinstance(other, TapeValue):
            return TapeValue(lambda: self.value - other.value, (self, _same), (other, tf.negative))
        return TapeValue(lambda: self.value - other, (self, _same))

    def __rsub__(self, other: Value) -> "TapeValue":
        return TapeValue(lambda: other - self.value, (self, tf.negative))

    def __mul__(self, other: Value) -> "TapeValue":
        if isinstance(other, TapeValue):
            return TapeValue(
                lambda: self.value * other.value,
                (self, lambda d: d * other.value),
                (other, lambda d: d * self.value),
            )
        return TapeValue(lambda: self.value * other, (self, lambda d: d * other))

    def __truediv__(self, other: Value) -> "TapeValue":
        if isinstance(other, TapeValue):
            quotient = TapeValue(
                lambda: self.value / other.value,
                (self, lambda d: d / other.value),
                (other, lambda d: -d * quotient.value / other.value),
            )
            return quotient
        return TapeValue(lambda: self.value / other, (self, lambda d: d / other))

    def __rtruediv__(self, other: Value) -> "TapeValue":
        return TapeValue.of(other) / self

    __radd__, __rmul__ = __add__, __mul__

    def total(self, zero: tf.Tensor) -> tf.Tensor:
        """Returns the gradient, or `zero` if no contribution was received."""
        return zero if self.gradient is None else self.gradient

    @staticmethod
    def flow_back(results: Sequence[Value], gradients: Sequence[tf.Tensor]) -> None:
        """Sets the `gradient` of every value that the results were computed from.

        Args:
            results: Values, or constants of pinned gates, which are ignored.
            gradients: Gradient of each result, (B, H).
        """
        order, visited = [], set()

        def visit(value):
            if id(value) not in visited:
                visited.add(id(value))
                for parent, _ in value.parents:
                    visit(parent)
                order.append(value)

        for result, gradient in zip(results, gradients, strict=True):
            if isinstance(result, TapeValue):
                visit(result)
                result._receive(gradient)
        for value in reversed(order):
            if value.gradient is None:
                continue
            for parent, contribution in value.parents:
                parent._receive(contribution(value.gradient))

    def _receive(self, gradient):
        self.gradient = gradient if self.gradient is None else self.gradient + gradient


class _ReplayingFunctions:
    """`Functions` on `TapeValue` objects, which read the results that the forward step recorded.

    Calls must have the order of those in the forward step.
    """

    def __init__(self, cell, read, transposed):
        self._cell, self._read, self._transposed = cell, read, transposed
        self._calls = 0
        self.products = {}

    def _next(self, *parents):
        """The recorded result of the next call."""
        index, self._calls = self._calls, self._calls + 1
        return TapeValue(functools.partial(self._read, CALL, index), *parents)

    def _elementwise(self, z, derivative):
        """The result y of a function of z, of its derivative as in `_ACTIVATIONS`."""
        y = self._next()
        y.parents = ((z, lambda d: derivative(d, lambda: y.value, lambda: z.value)),)
        return y

    def activation(self, name, z):
        return self._elementwise(z, _ACTIVATIONS[name][1])

    def maximum(self, a, b):
        a, b = (v if isinstance(v, TapeValue) else TapeValue.of(v) for v in (a, b))
        return TapeValue(
            lambda: tf.maximum(a.value, b.value),
            (a, lambda d: tf.where(a.value >= b.value, d, 0.0)),
            (b, lambda d: tf.where(a.value < b.value, d, 0.0)),
        )

    def clip(self, z, limit):
        parent = (z, lambda d: tf.where(tf.abs(z.value) <= limit, d, 0.0))
        return TapeValue(lambda: tf.clip_by_value(z.value, -limit, limit), parent)

    def standardize(self, z):
        scale = self._next()

        def derivative(d, y, z):
            along = tf.reduce_mean(d * y(), axis=-1, keepdims=True)
            return scale.value * (d - tf.reduce_mean(d, axis=-1, keepdims=True) - y() * along)

        return self._elementwise(z, derivative)

    def product(self, name, values):
        maps = self._cell.product_maps[name]

        def contribution(map_index, value_index):
            def multiply(d):
                block = tf.split(self._transposed[name], len(maps), axis=0)[map_index]
                part = tf.split(block, len(values), axis=1)[value_index]
                return self._cell.multiply(d, part)

            return multiply

        parts = [
            self._next(*((value, contribution(m, v)) for v, value in enumerate(values)))
            for m in range(len(maps))
        ]
        self.products[name] = (values, parts)
        return dict(zip(maps, parts, strict=True))

    def multiply_back(self, d, name):
        """The gradient of the operand of a matrix, of the gradient d of their product."""
        return self._cell.multiply(d, self._transposed[name])


def _same(d):
    return d
