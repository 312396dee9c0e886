"""`GatedCell`: one step of any cell that a `CellSpec` can tell, in `keras.ops`.

This is the definition. Whatever runs a cell faster is held against it.

Shapes: B batch, D input features, H units, G maps (the gates and the candidate),
P the width of h, which is H but for a projection.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import keras
from keras import ops

from . import specs
from .equations import CANDIDATE, RAW
from .specs import CellSpec

EPSILON = 1e-5  # added to a variance before layer normalisation divides by its root


class Functions(Protocol):
    """What an equation needs to have computed, on whatever its values are."""

    def sigmoid(self, z): ...
    def tanh(self, z): ...
    def relu(self, z): ...
    def clip(self, z, limit: float): ...
    def standardize(self, z):
        """z less its mean, divided by its deviation, over the last axis."""

    def product(self, name: str, values: tuple) -> dict:
        """The values side by side times the weight of that name, by map."""


class StepContext:
    """What the maps of a cell see at one step; the `step` of an equation.

    Args:
        spec: The cell's spec.
        inputs: What each map has of x, (B, H), and x itself by `RAW` where the
            equation asks for it; as `GatedCell.project` gives them.
        recurrent: h U by map, for those that see h, (B, H).
        vectors: Weights of one number a unit, (H,), by the names of
            `GatedCell.vectors`.
        functions: How to compute with them.
        noise: What training drops, by the names of `Noise`, and the shares in
            which zoneout mixes.
    """

    def __init__(self, spec, inputs, recurrent, vectors, functions: Functions, noise: Mapping):
        self._spec, self._functions, self._noise = spec, functions, noise
        self._inputs, self._recurrent, self._vectors = inputs, recurrent, vectors
        self.tanh = functions.tanh

    def advance(self, states) -> list:
        """The states after this step: the equation's, projected, and held where zoneout holds."""
        after = list(self._spec.definition.step(self, *states))
        if self._spec.projection:
            after[0] = self._functions.product("projection", (after[0],))["h"]
        for index, name in enumerate(self._spec.definition.states):
            if name in self._spec.zoneout:
                stays = self._noise[name]
                after[index] = states[index] * stays + after[index] * (1.0 - stays)
        return after

    def input(self, name):
        """What a map has of x, or x itself, (B, H)."""
        return self._inputs[name]

    def recurrent(self, name):
        """h U of a map, with its own bias where it has one, (B, H)."""
        return self._shifted(self._recurrent[name], f"{name}_recurrent_bias")

    def product(self, name, *values):
        """The values times the equation's own weight of that name: (B, H) by map, 0 if pinned."""
        what, maps = self._spec.definition.products[name]
        if name not in self._spec.products:
            return dict.fromkeys(maps, 0.0)
        if what == ("h",) and "state" in self._noise:
            values = [value * self._noise["state"] for value in values]
        blocks = self._functions.product(name, tuple(values))
        if self._spec.layer_norm == "products":
            blocks = {m: self._normalized(z, f"{name}_product_{m}") for m, z in blocks.items()}
        return {map_name: blocks.get(map_name, 0.0) for map_name in maps}

    def gate(self, name, cell_state=None, also=0.0, shift=0.0):
        """A gate's values in (0, 1), (B, H).

        Args:
            name: The gate.
            cell_state: What its peephole sees.
            also: What else is added to what it sees.
            shift: What is added after its bias.
        """
        if name in self._spec.pinned:
            return self._spec.pinned[name]
        z = self._inputs[name]
        if name in self._recurrent:
            z = z + self._recurrent[name]
        if name in self._spec.peepholes:
            z = z + self._vectors[f"{name}_peephole"] * cell_state
        return self._functions.sigmoid(_plus(self._pre_activation(name, _plus(z, also)), shift))

    def candidate(self, also=0.0):
        """What could be written, (B, H)."""
        z = self._inputs[CANDIDATE]
        if CANDIDATE in self._recurrent:
            z = z + self._recurrent[CANDIDATE]
        return self.activate(_plus(z, also))

    def activate(self, z):
        """The candidate, of all that it sees."""
        value = self._by_name(self._spec.input_activation, self._pre_activation(CANDIDATE, z))
        return value * self._noise[CANDIDATE] if CANDIDATE in self._noise else value

    def activate_output(self, cell_state):
        """The activation of the cell state on its way out."""
        if self._spec.layer_norm != "none":
            cell_state = self._shifted(self._normalized(cell_state, "cell"), "cell_shift")
        return self._by_name(self._spec.output_activation, cell_state)

    def clip(self, cell_state):
        """The cell state, no further from 0 than it may be."""
        limit = self._spec.cell_clip
        return self._functions.clip(cell_state, limit) if limit else cell_state

    def _pre_activation(self, name, z):
        """All that a map sees, normalised before its bias where the spec says so."""
        if self._spec.layer_norm != "maps":
            return z
        return self._shifted(self._normalized(z, name), f"{name}_bias")

    def _normalized(self, z, name):
        return self._functions.standardize(z) * self._vectors[f"{name}_gain"]

    def _shifted(self, z, name):
        return z + self._vectors[name] if name in self._vectors else z

    def _by_name(self, name, z):
        if name == "identity":
            return z
        return (self._functions.tanh if name == "tanh" else self._functions.relu)(z)


def _plus(z, also):
    return z if isinstance(also, float) and also == 0.0 else z + also


@dataclasses.dataclass(frozen=True)
class Noise:
    """What training drops in one pass over a batch of sequences, drawn before its first step.

    Attributes:
        always: The same at all steps: "state" (B, P); or, when nothing is
            drawn, the shares "h" and "c" in which zoneout mixes old and new.
        steps: For each step: "candidate" (T, B, H); "h" (T, B, P) and "c"
            (T, B, H), 1 where zoneout keeps the old.
        weights: For each weight matrix that it names, of the matrix's shape.
    """

    always: Mapping = dataclasses.field(default_factory=dict)
    steps: Mapping = dataclasses.field(default_factory=dict)
    weights: Mapping = dataclasses.field(default_factory=dict)

    def at_step(self, step) -> "Noise":
        """What holds at one step."""
        now = {name: ops.take(values, step, axis=0) for name, values in self.steps.items()}
        return Noise({**self.always, **now}, weights=self.weights)


@keras.saving.register_keras_serializable(package="gated")
class GatedCell(keras.layers.Layer):
    """One step of a gated recurrence; `GatedRNN` or `keras.layers.RNN` runs it over time.

    Weights, each made of blocks of H columns in the order that the spec has:
        kernel: a block of D rows for each of `spec.input_maps`.
        recurrent_kernel: a block of P rows for each of `spec.recurrent_maps`.
        bias: a block for each of `spec.maps`.
        recurrent_bias: a block for each map whose recurrent product has its own.
        {name}_product: those of the equation's own products.
        raw_projection: (D, H), where the equation adds x itself and D is not H.
        {gate}_peephole: (H,) for each gate of `spec.peepholes`, zero at first.
        projection: (H, P), where h is projected.
        gain, input_gain, recurrent_gain, {name}_product_gain, cell_gain and
            cell_shift: those of layer normalisation, where it stands.

    With a policy of mixed precision the products are of the half type, the
    states and all that is added to them float32.

    Args:
        units: H, the size of each state but a projected h.
        spec: A `CellSpec`, or what `models.cells.specs.find` makes one of.
        kernel_initializer: For each block of `kernel` by itself.
        recurrent_initializer: For each block of a recurrent weight.
        **kwargs: `name`, `dtype` and `trainable` of a Keras layer.

    Call arguments:
        inputs: (B, D).
        states: a list of the widths `state_size`.
        training: Whether recurrent dropout and zoneout draw; then `noise` is
            what they drew.
        noise: `draw(...).at_step(step)`; None for what is served.

    Returns:
        The output (B, output_size), which is also the first of the states, and
        the list of states after the step.

    Raises:
        ValueError: In training, without the noise that the spec asks for: drawn
            in a step, it could not be the same at all steps of a sequence.
    """

    def __init__(
        self,
        units: int,
        spec: CellSpec | Mapping | str = "lstm",
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        **kwargs,
    ):
        # What Keras casts to the half type of a mixed policy, states among it, stays.
        super().__init__(autocast=False, **kwargs)
        if isinstance(units, bool) or not isinstance(units, int) or units < 1:
            raise ValueError(f"units must be an integer of at least 1, got {units!r}.")
        self.units = units
        self.spec = specs.find(spec)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.state_size = self.spec.state_sizes(units)
        self.output_size = self.state_size[0]
        if self.spec.random:
            self._seed = keras.random.SeedGenerator()

    @property
    def state_dtype(self) -> str:
        """The type of the states: that of the weights."""
        return self.variable_dtype

    def build(self, input_shape):
        spec, H, D, P = self.spec, self.units, input_shape[-1], self.output_size
        self.features = D
        self.kernel = self._blocks("kernel", D, spec.input_maps, self.kernel_initializer)
        self.recurrent_kernel = self._blocks(
            "recurrent_kernel", P, spec.recurrent_maps, self.recurrent_initializer
        )
        self.bias = self.add_weight(
            name="bias", shape=(len(spec.maps) * H,), initializer=self._initial_bias
        )
        own = spec.definition.recurrent_bias
        self.recurrent_bias = self._vector("recurrent_bias", len(own)) if own else None
        for name, maps in spec.products.items():
            count = len(spec.definition.products[name][0])
            weight = self._blocks(
                f"{name}_product", H, maps, self.recurrent_initializer, stacked=count
            )
            setattr(self, f"{name}_product", weight)
        self.raw_projection = None
        if spec.definition.raw and D != H:
            self.raw_projection = self._blocks("raw_projection", D, (RAW,), self.kernel_initializer)
        for gate in spec.peepholes:
            setattr(self, f"{gate}_peephole", self._vector(f"{gate}_peephole", 1))
        self.projection = None
        if spec.projection:
            self.projection = self._blocks("projection", H, ("h",), self.recurrent_initializer, P)
        self._build_layer_norm()
        self.built = True

    def _build_layer_norm(self):
        spec, placement = self.spec, self.spec.layer_norm
        if placement == "maps":
            self.gain = self._vector("gain", len(spec.maps), "ones")
        if placement == "products":
            if spec.input_maps:
                self.input_gain = self._vector("input_gain", len(spec.input_maps), "ones")
            if spec.recurrent_maps:
                self.recurrent_gain = self._vector(
                    "recurrent_gain", len(spec.recurrent_maps), "ones"
                )
            for name, maps in spec.products.items():
                gain = self._vector(f"{name}_product_gain", len(maps), "ones")
                setattr(self, f"{name}_product_gain", gain)
        if placement != "none" and spec.definition.has_output_activation:
            self.cell_gain = self._vector("cell_gain", 1, "ones")
            self.cell_shift = self._vector("cell_shift", 1)

    def _vector(self, name, blocks, initializer="zeros"):
        return self.add_weight(name=name, shape=(blocks * self.units,), initializer=initializer)

    def _blocks(self, name, rows, maps, initializer, columns=None, stacked=1):
        """A weight of H columns for each map, or None if there is none.

        Each block is initialised by itself, so that its fans are a gate's own.
        A random initialiser of Keras gives the same numbers each time that it
        is called, so every block has a copy of its own, with a seed of its own.
        They are drawn in float32 at least: an orthogonal matrix cannot be had
        in less.
        """
        if not maps:
            return None
        columns = columns or self.units

        def init(shape, dtype=None):
            wide, drawn = dtype if dtype == "float64" else "float32", []
            for index in range(stacked * len(maps)):
                config = initializer.get_config()
                if isinstance(config.get("seed"), int):
                    config["seed"] += index
                drawn.append(initializer.from_config(config)((rows, columns), wide))
            row = [drawn[start : start + len(maps)] for start in range(0, len(drawn), len(maps))]
            whole = ops.concatenate([ops.concatenate(blocks, axis=1) for blocks in row], axis=0)
            return ops.cast(whole, dtype)

        shape = (stacked * rows, len(maps) * columns)
        return self.add_weight(name=name, shape=shape, initializer=init)

    def _initial_bias(self, shape, dtype=None):
        """The bias of each map by its number or law."""
        drawn, blocks = {}, []  # gates of one chrono law share their draws
        for name in self.spec.maps:
            law = self.spec.bias.get(name, 0.0)
            if lag := specs.chrono_lag(law):
                if lag not in drawn:
                    uniform = keras.initializers.RandomUniform(1.0, lag - 1.0)
                    drawn[lag] = ops.log(uniform((self.units,), "float32"))
                blocks.append(-drawn[lag] if law.startswith("-") else drawn[lag])
            elif bounds := specs.uniform_range(law):
                blocks.append(keras.initializers.RandomUniform(*bounds)((self.units,), "float32"))
            else:
                blocks.append(ops.full((self.units,), law, dtype="float32"))
        return ops.cast(ops.concatenate(blocks), dtype)

    @property
    def projected_maps(self) -> tuple[str, ...]:
        """What `project` gives a block of: the maps, and x itself where it is asked for."""
        return (*self.spec.maps, RAW) if self.spec.definition.raw else self.spec.maps

    @property
    def product_maps(self) -> dict[str, tuple[str, ...]]:
        """The blocks of each product of a step but that of `recurrent_kernel`."""
        return {**self.spec.products, **({"projection": ("h",)} if self.spec.projection else {})}

    def matrices(self, noise: Noise) -> dict:
        """The weights that a step multiplies by, in the type of the products.

        Returns:
            "recurrent", and each of `product_maps`, by name.
        """
        weights = {name: getattr(self, f"{name}_product") for name in self.spec.products}
        if self.spec.recurrent_maps:
            weights["recurrent"] = self.recurrent_kernel
        if self.spec.projection:
            weights["projection"] = self.projection
        weights = {name: ops.cast(weight, self.compute_dtype) for name, weight in weights.items()}
        return {
            name: ops.multiply(weight, noise.weights[name]) if name in noise.weights else weight
            for name, weight in weights.items()
        }

    def vectors(self) -> dict:
        """The weights of one number a unit, (H,), in the type of the states.

        Returns:
            {gate}_peephole, {map}_recurrent_bias, and of layer normalisation
            {map}_gain, {map}_bias, {name}_product_{map}_gain, cell_gain,
            cell_shift; and recurrent_gain (G * H).
        """
        spec, vectors = self.spec, {}

        def cut(weight, names):
            whole = ops.cast(weight, self.state_dtype)
            parts = ops.split(whole, len(names)) if len(names) > 1 else [whole]
            vectors.update(zip(names, parts, strict=True))

        for gate in spec.peepholes:
            cut(getattr(self, f"{gate}_peephole"), [f"{gate}_peephole"])
        if own := spec.definition.recurrent_bias:
            cut(self.recurrent_bias, [f"{name}_recurrent_bias" for name in own])
        if spec.layer_norm == "maps":
            cut(self.gain, [f"{name}_gain" for name in spec.maps])
            cut(self.bias, [f"{name}_bias" for name in spec.maps])
        if spec.layer_norm == "products":
            if spec.recurrent_maps:
                cut(self.recurrent_gain, ["recurrent_gain"])
            for name, maps in spec.products.items():
                cut(
                    getattr(self, f"{name}_product_gain"),
                    [f"{name}_product_{m}_gain" for m in maps],
                )
        if spec.layer_norm != "none" and spec.definition.has_output_activation:
            cut(self.cell_gain, ["cell_gain"])
            cut(self.cell_shift, ["cell_shift"])
        return vectors

    def input_weights(self) -> dict:
        """The weights of `project`, products in their type and the rest in that of the states."""
        weights = {"bias": ops.cast(self.bias, self.state_dtype)}
        if self.spec.layer_norm == "products" and self.spec.input_maps:
            weights["gain"] = ops.cast(self.input_gain, self.state_dtype)
        if self.spec.input_maps:
            weights["kernel"] = ops.cast(self.kernel, self.compute_dtype)
        if self.raw_projection is not None:
            weights["raw"] = ops.cast(self.raw_projection, self.compute_dtype)
        return weights

    def project(self, inputs, weights: Mapping):
        """All that comes of x: x W + b of each map, for any number of steps at once.

        Layer normalisation stands between x W and b, or leaves b for later.

        Args:
            inputs: (..., D).
            weights: `input_weights()`.

        Returns:
            (..., F * H): a block for each of `projected_maps`.
        """
        spec, bias = self.spec, weights["bias"]
        rows = ops.reshape(inputs, (-1, inputs.shape[-1])) if len(inputs.shape) > 2 else inputs
        whole = self.multiplied(rows, weights["kernel"]) if spec.input_maps else None
        if "gain" in weights:
            whole = ops.multiply(standardized(whole)[0], weights["gain"])
        if not spec.input_maps == spec.maps == self.projected_maps:
            products = by_map(spec.input_maps, whole) if spec.input_maps else {}
            nothing = ops.zeros((ops.shape(rows)[0], self.units), dtype=self.state_dtype)
            blocks = [products.get(name, nothing) for name in spec.maps]
            if spec.definition.raw:
                raw = self.multiplied(rows, weights["raw"]) if "raw" in weights else rows
                blocks.append(ops.cast(raw, self.state_dtype))
                bias = ops.pad(bias, (0, self.units))
            whole = ops.concatenate(blocks, axis=-1)
        if spec.layer_norm != "maps":
            # In this order Keras has TensorFlow add, and not "bias add", which would be fused
            # with the product into a kernel that takes up to 1.6 times as long on a CPU.
            whole = ops.add(bias, whole)
        if len(inputs.shape) == 2:
            return whole
        return ops.reshape(whole, (*ops.shape(inputs)[:-1], whole.shape[-1]))

    def multiplied(self, rows, weight):
        """rows (N, ...) @ weight, in the type of the products and given in that of the states."""
        return matmul(rows, weight, self.compute_dtype, self.state_dtype)

    def draw(self, batch, steps) -> Noise:
        """What training drops, for a batch of sequences of so many steps."""
        spec, H, P = self.spec, self.units, self.output_size
        widths = dict(zip(spec.definition.states, self.state_size, strict=True))

        def mask(shape, rate):  # what is left over stands for what is dropped
            ones = ops.ones(shape, dtype=self.state_dtype)
            return keras.random.dropout(ones, rate, seed=self._seed)

        always, per_step, weights = {}, {}, {}
        for kind, rate in spec.recurrent_dropout.items():
            if kind == "state":
                always["state"] = mask((batch, P), rate)
            if kind == CANDIDATE:
                per_step[CANDIDATE] = mask((steps, batch, H), rate)
            if kind == "weights":
                for name, weight in self.matrices(Noise()).items():
                    if name != "projection":
                        weights[name] = ops.cast(mask(weight.shape, rate), weight.dtype)
        for name, rate in spec.zoneout.items():
            uniform = keras.random.uniform((steps, batch, widths[name]), seed=self._seed)
            per_step[name] = ops.cast(uniform < rate, self.state_dtype)
        return Noise(always, per_step, weights)

    def quiet(self) -> Noise:
        """What stands for `draw` where nothing is drawn: zoneout mixes by its rates."""
        return Noise(dict(self.spec.zoneout))

    def call(self, inputs, states, training=False, noise=None):
        if noise is None:
            if training and self.spec.random:
                raise ValueError(
                    f"{self.name}: recurrent dropout and zoneout are drawn once for a sequence; "
                    "train the cell in a `GatedRNN`, or pass "
                    "noise=cell.draw(batch, steps).at_step(t)."
                )
            noise = self.quiet()
        after = self.step(inputs, states, noise)
        return after[0], after

    def step(
        self,
        inputs,
        states: Sequence,
        noise: Noise,
        make_context: Callable[..., StepContext] = StepContext,
    ) -> list:
        """Returns the states after one step.

        Args:
            inputs: (B, D).
            states: The states before the step, of the widths `state_size`.
            noise: `quiet()`, or `draw(...).at_step(t)` in training.
            make_context: Constructor of the `StepContext`; that of `models.cells.tracing`
                records values.
        """
        matrices, vectors = self.matrices(noise), self.vectors()
        functions = TensorFunctions(self, matrices)
        states = [ops.cast(state, self.state_dtype) for state in states]
        context = make_context(
            self.spec,
            by_map(self.projected_maps, self.project(inputs, self.input_weights())),
            functions.recurrent(states[0], vectors, noise.always),
            vectors,
            functions,
            noise.always,
        )
        return [
            ops.full_like(old, new) if isinstance(new, float) else new  # a pinned gate as a state
            for new, old in zip(context.advance(states), states, strict=True)
        ]

    def get_initial_state(self, batch_size=None):
        """Zeros, a list of the widths `state_size`."""
        return [ops.zeros((batch_size, size), dtype=self.state_dtype) for size in self.state_size]

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "spec": self.spec.to_json(),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "recurrent_initializer": keras.initializers.serialize(self.recurrent_initializer),
        }


class TensorFunctions:
    """The functions of an equation on the tensors of any backend.

    Args:
        cell: Whose step it is.
        matrices: `GatedCell.matrices`.
    """

    sigmoid, tanh, relu = staticmethod(ops.sigmoid), staticmethod(ops.tanh), staticmethod(ops.relu)

    def __init__(self, cell: GatedCell, matrices: Mapping):
        self._cell, self._matrices = cell, matrices

    def clip(self, z, limit):
        return ops.clip(z, -limit, limit)

    def standardize(self, z):
        return standardized(z)[0]

    def product(self, name, values):
        rows = values[0] if len(values) == 1 else ops.concatenate(values, axis=-1)
        return by_map(self._cell.product_maps[name], self._multiply(rows, name))

    def recurrent(self, h, vectors: Mapping, noise: Mapping) -> dict:
        """h U by map, for those that see h, normalised where the spec says so."""
        spec = self._cell.spec
        if not spec.recurrent_maps:
            return {}
        whole = self.recurrent_product(h, noise)
        if spec.layer_norm == "products":
            whole = self.standardize(whole) * vectors["recurrent_gain"]
        return by_map(spec.recurrent_maps, whole)

    def recurrent_product(self, h, noise: Mapping):
        """h U of all maps that see h, side by side."""
        return self._multiply(h * noise["state"] if "state" in noise else h, "recurrent")

    def _multiply(self, rows, name):
        return self._cell.multiplied(rows, self._matrices[name])


def matmul(rows, weight, compute_dtype: str, result_dtype: str):
    """rows @ weight, multiplied in one type and given in another."""
    product = ops.matmul(ops.cast(rows, compute_dtype), ops.cast(weight, compute_dtype))
    return ops.cast(product, result_dtype)


def standardized(z):
    """z less its mean, divided by its deviation, over the last axis; and one over the latter."""
    away = z - ops.mean(z, axis=-1, keepdims=True)
    scale = ops.rsqrt(ops.mean(ops.square(away), axis=-1, keepdims=True) + EPSILON)
    return away * scale, scale


def by_map(maps, blocks) -> dict:
    """Cuts (B, G * H) into (B, H) by map."""
    parts = ops.split(blocks, len(maps), axis=-1) if len(maps) > 1 else [blocks]
    return dict(zip(maps, parts, strict=True))
