"""Any cell in a `tf.while_loop` whose backward pass is written by hand.

Keras lets TensorFlow differentiate the loop op by op, saving every intermediate
value of every step. Here the derivative of a step is taken by `Recorded` from
the equation's own text; forward saves what that reads and no more, which is
found by taking it once on zeros; and the gradients of the weight matrices and
of the inputs are one product each after the loop.

While training on a CPU the batch is cut into one strip a core, each with loops
of its own: rows never meet, so the strips run side by side without waiting for
one another, where a single loop could only share out each small op. Two
directions are two loops already, and share the cores: four loops on two take
1.1 to 1.5 times as long as two.

Shapes: T time (first here), B batch, H units.
"""

import functools
import os
from collections.abc import Callable

import tensorflow as tf

from models.cells import Noise, See, TensorFunctions, by_map, matmul, standardized

# What a step of the backward pass can read of the same step forward: a state
# before it, what a map has of x or of h, what a function gave.
STATE, INPUT, RECURRENT, CALL = "state", "input", "recurrent", "call"

FEW_ROWS = 8  # of fewer, the product of all inputs is taken before the loop


def runs(spec, device: str, dtype: str) -> bool:
    """Any cell, device and float type."""
    return True


def run(cell, inputs, mask, states, noise, training, beside=1):
    """Runs `cell` over inputs (B, T, D); see the package for the contract."""
    hoist = inputs.shape[0] is not None and inputs.shape[0] < FEW_ROWS
    share = max(1, cores() // beside)
    count = min(share, inputs.shape[0] or share) if training else 1
    if count == 1:
        return _run_strip(cell, inputs, mask, states, noise, training, hoist)
    batch = tf.shape(inputs)[0]
    sizes = [(batch + at) // count for at in range(count)]

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


def run_hoisted(cell, inputs, mask, states, noise, training, beside=1):
    """`run` for few rows, whether or not their number is known."""
    return _run_strip(cell, inputs, mask, states, noise, training, hoist=True)


def cores() -> int:
    """How many loops of a CPU can run side by side; 1 where a GPU computes."""
    if tf.config.get_visible_devices("GPU"):
        return 1
    return tf.config.threading.get_inter_op_parallelism_threads() or os.cpu_count() or 1


def _cut_noise(noise, cut, count):
    """The noise of each strip: what is drawn for rows is cut, what is not is shared."""

    def each(values, axis):
        parts = {
            name: cut(value, axis) if tf.is_tensor(value) else [value] * count
            for name, value in values.items()
        }
        return [{name: part[at] for name, part in parts.items()} for at in range(count)]

    always, steps = each(noise.always, 0), each(noise.steps, 1)
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
            told = tf.nest.pack_sequence_as(weights, rest[: len(flat)])
            first = rest[len(flat) :]
            plan = functools.cache(lambda: _Plan(cell, self._noise, told))
            keep = plan().saved if self._training else {}
            every, lasts, saved = self._forward(inputs, told, first, keep)

            def backward(d_outputs, *d_lasts):
                known, kept = every, saved
                if not kept:
                    known, _, kept = self._forward(inputs, told, first, plan().saved)
                d_projected, d_weights, d_states = self._backward(
                    told, known, kept, d_outputs, d_lasts, plan().found
                )
                d_inputs, d_weights["input"] = _project_back(
                    cell, inputs, told["input"], d_projected
                )
                return d_inputs, *tf.nest.flatten(d_weights), *d_states

            return (every[0][1:], *lasts), backward

        return list(forward(inputs, *flat, *states))

    def _forward(self, inputs, weights, first, keep):
        """Every state, and by key of `keep` the arrays of what the backward pass will read."""
        time, at_step = tf.shape(inputs)[0], self._at_step()
        read_projected = self._projected(inputs, weights["input"])
        # Of what no backward pass will read, h is all that leaves the loop at every step.
        kept = first if keep else first[:1]
        every = [tf.TensorArray(s.dtype, time + 1, element_shape=s.shape).write(0, s) for s in kept]
        saved = self._arrays(keep, time, inputs.shape[1])

        def step(t, states, every, saved):
            now, noise = at_step(t)
            after, values = _step(self._cell, read_projected(t), states, weights, noise)
            if now is not None:
                after = [tf.where(now, new, old) for new, old in zip(after, states, strict=True)]
            every = [array.write(t + 1, after[at]) for at, array in enumerate(every)]
            return t + 1, after, every, {key: saved[key].write(t, values[key]) for key in saved}

        start = (0, list(first), every, saved)
        _, lasts, every, saved = tf.while_loop(lambda t, *_: t < time, step, start)
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

        def step(t, flowing, summed, written):
            now, noise = at_step(t)

            def read(kind, name):
                return (states[name] if kind == STATE else saved[kind, name]).read(t)

            flowing = [flowing[0] + arriving.read(t), *flowing[1:]]
            into = flowing if now is None else [tf.where(now, f, 0.0) for f in flowing]
            d_states, d_vectors, found = _step_back(cell, read, into, weights, turned, noise)
            if now is not None:  # a masked step hands on what came from the next
                d_states = [tf.where(now, d, f) for d, f in zip(d_states, flowing, strict=True)]
            summed = {name: total + d_vectors[name] for name, total in summed.items()}
            return t - 1, d_states, summed, {n: a.write(t, found[n]) for n, a in written.items()}

        written = self._arrays(widths, time, d_outputs.shape[1])
        start = (time - 1, list(d_lasts), summed, written)
        _, d_first, summed, written = tf.while_loop(lambda t, *_: t >= 0, step, start)

        # An array of no steps knows no batch that it could be stacked to.
        found = tf.cond(
            time > 0,
            lambda: {name: array.stack() for name, array in written.items()},
            lambda: {n: tf.zeros([0, rows, w], cell.state_dtype) for n, w in widths.items()},
        )
        d_vectors = {name: tf.reduce_sum(total, 0) for name, total in summed.items()}
        d_matrices = {}
        for name in weights["matrices"]:
            seen = found.get(("seen", name))
            if name == "recurrent":
                seen = before[0] * self._noise.always.get("state", 1.0)
            d_matrices[name] = self._outer(seen, found.get(("d", name), found["d", "input"]))
        return found["d", "input"], {"matrices": d_matrices, "vectors": d_vectors}, d_first

    def _outer(self, seen, arrived):
        """The gradient of a matrix, of all that it multiplied and all that came back."""
        cell = self._cell
        rows = [
            tf.cast(tf.reshape(each, [-1, each.shape[-1]]), cell.compute_dtype)
            for each in (seen, arrived)
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


def _only_added(cell) -> bool:
    """Whether all of x W + b and h U meet in a sum and nowhere else."""
    spec = cell.spec
    added = spec.layer_norm != "products" and not spec.definition.recurrent_bias
    return added and spec.recurrent_maps == cell.projected_maps


def _step(cell, projected, states, weights, noise):
    """One step: the states after it, and by key all that the backward pass could read."""
    functions = _Saving(cell, weights["matrices"])
    if _only_added(cell):
        projected, recurrent = projected + functions.recurrent_product(states[0], noise), {}
    else:
        recurrent = functions.recurrent(states[0], weights["vectors"], noise)
    inputs = by_map(cell.projected_maps, projected)
    see = See(cell.spec, inputs, recurrent, weights["vectors"], functions, noise)
    after = [
        tf.fill(tf.shape(old), tf.cast(new, old.dtype)) if isinstance(new, float) else new
        for new, old in zip(see.advance(states), states, strict=True)
    ]
    values = {(INPUT, name): value for name, value in inputs.items()}
    values |= {(RECURRENT, name): value for name, value in recurrent.items()}
    values |= {(CALL, at): value for at, value in enumerate(functions.calls)}
    return after, values


def _step_back(cell, read, into, weights, turned, noise):
    """One step backward.

    Args:
        cell: The `GatedCell`.
        read: Gives what forward had, by kind and name.
        into: The gradients of the states after the step.
        weights: "matrices" and "vectors".
        turned: The matrices, transposed.
        noise: As `See` has it.

    Returns:
        The gradients of the states before the step; of the vectors, a row of
        the batch each; and by name what is left to be multiplied or handed on:
        ("d", "input") of all that came of x, ("d", M) of what the matrix M
        gave, where it differs from that, and ("seen", M) of what it multiplied.
    """
    spec = cell.spec
    vectors = {name: Recorded.of(vector) for name, vector in weights["vectors"].items()}
    inputs = {m: Recorded(functools.partial(read, INPUT, m)) for m in cell.projected_maps}
    states = [Recorded(functools.partial(read, STATE, at)) for at in range(len(into))]
    functions = _Replaying(cell, read, turned)
    recurrent, product, normed = {}, None, None
    if spec.recurrent_maps and spec.layer_norm == "products":
        product = Recorded(None)
        normed = functions.standardize(product) * vectors["recurrent_gain"]
        recurrent = {
            m: Recorded(lambda m=m: by_map(spec.recurrent_maps, normed.value)[m])
            for m in spec.recurrent_maps
        }
    elif spec.recurrent_maps and not _only_added(cell):
        recurrent = {
            m: Recorded(functools.partial(read, RECURRENT, m)) for m in spec.recurrent_maps
        }
    see = See(spec, inputs, recurrent, vectors, functions, noise)
    Recorded.flow_back(see.advance(states), into)

    zero = tf.zeros([tf.shape(into[0])[0], cell.units], into[0].dtype)
    found = {("d", "input"): _joined([z.total(zero) for z in inputs.values()])}
    d_states = [
        state.total(zero if size == cell.units else tf.zeros_like(d))
        for state, size, d in zip(states, cell.state_size, into, strict=True)
    ]
    if spec.recurrent_maps:
        d_recurrent = found["d", "input"]
        if recurrent:
            d_recurrent = _joined([z.total(zero) for z in recurrent.values()])
        if normed:
            Recorded.flow_back([normed], [d_recurrent])
            d_recurrent = product.gradient
        if recurrent:
            found["d", "recurrent"] = d_recurrent
        d_h = functions.multiply(d_recurrent, "recurrent")
        d_states[0] += d_h * noise["state"] if "state" in noise else d_h
    for name, (seen, parts) in functions.products.items():
        found["seen", name] = _joined([value.value for value in seen])
        found["d", name] = _joined([part.total(zero) for part in parts])
    d_vectors = {name: vector.total(zero) for name, vector in vectors.items()}
    return d_states, d_vectors, found


def _joined(parts):
    return parts[0] if len(parts) == 1 else tf.concat(parts, axis=-1)


class _Plan:
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
            _, values = _step(cell, projected, states, weights, drawn)

            def read(kind, name):
                if kind == STATE:
                    return states[name]
                self.saved[kind, name] = values[kind, name].shape[-1]
                return values[kind, name]

            *_, found = _step_back(cell, read, states, weights, turned, drawn)
        self.found = {name: value.shape[-1] for name, value in found.items()}


class _Saving(TensorFunctions):
    """The functions of an equation, remembering what each call gave."""

    def __init__(self, cell, matrices):
        super().__init__(cell, matrices)
        self.calls = []

    def _kept(self, value):
        self.calls.append(value)
        return value

    def sigmoid(self, z):
        return self._kept(tf.sigmoid(z))

    def tanh(self, z):
        return self._kept(tf.tanh(z))

    def relu(self, z):
        return self._kept(tf.nn.relu(z))

    def standardize(self, z):
        value, scale = standardized(z)
        self._kept(scale)
        return self._kept(value)

    def product(self, name, values):
        return {each: self._kept(part) for each, part in super().product(name, values).items()}


class Recorded:
    """A value that knows how it was computed, for one pass back through a step.

    TensorFlow's own derivative of the same text asks at each op and step
    whether shapes were broadcast; here all are (B, H), or (H,) for a vector,
    whose gradient is left as (B, H).

    Args:
        compute: Gives the value, if it comes to be asked for.
        *parents: A `Recorded` each, and what maps my gradient to a share of its own.
    """

    def __init__(self, compute: Callable | None, *parents):
        self._compute = compute
        self.parents = parents
        self.gradient = None

    @classmethod
    def of(cls, value, *parents) -> "Recorded":
        """One whose value is at hand."""
        return cls(lambda: value, *parents)

    @functools.cached_property
    def value(self):
        return self._compute()

    def __add__(self, other):
        if isinstance(other, Recorded):
            return Recorded(lambda: self.value + other.value, (self, _same), (other, _same))
        return Recorded(lambda: self.value + other, (self, _same))

    def __sub__(self, other):
        if isinstance(other, Recorded):
            return Recorded(lambda: self.value - other.value, (self, _same), (other, tf.negative))
        return Recorded(lambda: self.value - other, (self, _same))

    def __rsub__(self, other):
        return Recorded(lambda: other - self.value, (self, tf.negative))

    def __mul__(self, other):
        if isinstance(other, Recorded):
            return Recorded(
                lambda: self.value * other.value,
                (self, lambda d: d * other.value),
                (other, lambda d: d * self.value),
            )
        return Recorded(lambda: self.value * other, (self, lambda d: d * other))

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


class _Replaying:
    """The functions of an equation on what is `Recorded`: what each call gave forward is read."""

    def __init__(self, cell, read, turned):
        self._cell, self._read, self._turned = cell, read, turned
        self._calls = 0
        self.products = {}

    def _next(self, *parents):
        at, self._calls = self._calls, self._calls + 1
        return Recorded(functools.partial(self._read, CALL, at), *parents)

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
        return Recorded(lambda: tf.clip_by_value(z.value, -limit, limit), share)

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
                return self._multiplied(d, tf.split(block, len(values), axis=1)[value_at])

            return share

        parts = [
            self._next(*((value, back(m, v)) for v, value in enumerate(values)))
            for m in range(len(maps))
        ]
        self.products[name] = (values, parts)
        return dict(zip(maps, parts, strict=True))

    def multiply(self, d, name):
        """What came back through a product, to what was multiplied."""
        return self._multiplied(d, self._turned[name])

    def _multiplied(self, d, turned):
        return matmul(d, turned, self._cell.compute_dtype, self._cell.state_dtype)


def _same(d):
    return d
