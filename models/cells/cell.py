"""`GatedCell`, one step of any cell that a `CellSpec` describes, in `keras.ops`.

This is the definition of every cell. The modules of `models.cells.implementations` compute
the same values faster and are tested against it.

Shapes: B batch, T time, D input features, H units, G maps (the gates and the candidate),
P the width of h, which differs from H only in a cell with a projection.
"""

import dataclasses
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import keras
import numpy as np
from keras import ops

from . import specs
from .equations import CANDIDATE, RAW
from .specs import CellSpec

LEAK = 0.01  # slope of "leaky_relu" for negative numbers
EPSILON = 1e-5  # added to a variance before layer normalisation divides by its root

Tensor = Any  # a tensor of the Keras backend
Value = Any  # what an equation computes with: a tensor, a `TapeValue` or a `Text`


class Functions(Protocol):
    """Functions that an equation needs on the type of its values."""

    def activation(self, name: str, z: Value) -> Value:
        """Returns an activation of `specs.ACTIVATIONS` except "identity"."""

    def maximum(self, a: Value, b: Value) -> Value: ...
    def clip(self, z: Value, limit: float) -> Value: ...
    def standardize(self, z: Value) -> Value:
        """Returns z minus its mean, divided by its standard deviation, over the last axis."""

    def product(self, name: str, values: tuple) -> dict:
        """Returns the concatenated values times the weight `name`, split by map."""


class StepContext:
    """Values that the maps of a cell read at one step; the `step` of an equation.

    Args:
        spec: Spec of the cell.
        inputs: By map, its block of `GatedCell.project`, (B, H); and x itself by `RAW` if
            the equation reads it.
        recurrent: By map, its block of h U, (B, H), for the maps that read h.
        vectors: Weights of one number per unit, (H,), as of `GatedCell.vectors`.
        functions: Functions on the type of the values.
        noise: Dropout masks of the step and zoneout masks or rates, by the names of `Noise`.
    """

    def __init__(
        self,
        spec: CellSpec,
        inputs: Mapping[str, Value],
        recurrent: Mapping[str, Value],
        vectors: Mapping[str, Value],
        functions: Functions,
        noise: Mapping[str, Any],
    ):
        self._spec, self._functions, self._noise = spec, functions, noise
        self._inputs, self._recurrent, self._vectors = inputs, recurrent, vectors
        self.maximum = functions.maximum

    def advance(self, states: Sequence[Value]) -> list[Value]:
        """Returns the states after the step, with projection and zoneout applied.

        Args:
            states: The states before the step, each (B, H) or (B, P).
        """
        after = list(self._spec.definition.step(self, *states))
        if self._spec.projection:
            after[0] = self._functions.product("projection", (after[0],))["h"]
        for index, name in enumerate(self._spec.definition.states):
            if name in self._spec.zoneout:
                stays = self._noise[name]
                after[index] = states[index] * stays + after[index] * (1.0 - stays)
        return after

    def tanh(self, z: Value) -> Value:
        """Returns the hyperbolic tangent."""
        return self._functions.activation("tanh", z)

    def sigmoid(self, z: Value) -> Value:
        """Returns the logistic function."""
        return self._functions.activation("sigmoid", z)

    def relu(self, z: Value) -> Value:
        """Returns the positive part."""
        return self._functions.activation("relu", z)

    def softplus(self, z: Value) -> Value:
        """Returns log(1 + exp(z))."""
        return self._functions.activation("softplus", z)

    def exp(self, z: Value) -> Value:
        """Returns the exponential."""
        return self._functions.activation("exp", z)

    def constant(self, name: str) -> float:
        """Returns a constant of the equation, a key of `Equation.constants`."""
        return self._spec.constant(name)

    def named(self, name: str, value: Value) -> Value:
        """Returns the value; printed equations have a line for it under the name."""
        return value

    def input(self, name: str) -> Value:
        """Returns the input product of a map, or x itself for `RAW`, (B, H)."""
        return self._inputs[name]

    def recurrent(self, name: str) -> Value:
        """Returns h U of a map, plus its recurrent bias if it has one, (B, H)."""
        bias = f"{name}_recurrent_bias"
        if name not in self._recurrent:  # the map is blind to h
            return self._vectors.get(bias, 0.0)
        return self._shifted(self._recurrent[name], bias)

    def product(self, name: str, *values: Value) -> dict[str, Value]:
        """Returns a further product of the equation by map, (B, H); 0 for pinned gates.

        Args:
            name: Name of the product, a key of `Equation.products`.
            *values: Operands, each (B, H), which are concatenated.
        """
        operands, maps = self._spec.definition.products[name]
        if name not in self._spec.products:
            return dict.fromkeys(maps, 0.0)
        if operands == ("h",) and "state" in self._noise:
            values = [value * self._noise["state"] for value in values]
        blocks = self._functions.product(name, tuple(values))
        if self._spec.layer_norm == "products":
            blocks = {m: self._normalized(z, f"{name}_product_{m}") for m, z in blocks.items()}
        return {map_name: blocks.get(map_name, 0.0) for map_name in maps}

    def gate(
        self,
        name: str,
        cell_state: Value | None = None,
        also: Value | float = 0.0,
        shift: float = 0.0,
    ) -> Value | float:
        """Returns the values of a gate, (B, H), or its constant if it is pinned.

        They are in (0, 1), unless the equation or the spec gives it another activation than the
        sigmoid.

        Args:
            name: Name of the gate.
            cell_state: Cell state that its peephole reads, (B, H).
            also: Further term of its pre-activation, (B, H).
            shift: Constant that is added after its bias.
        """
        if name in self._spec.pinned:
            return self._spec.pinned[name]
        z = self._inputs[name]
        if name in self._recurrent:
            z = z + self._recurrent[name]
        if name in self._spec.peepholes:
            z = z + self._vectors[f"{name}_peephole"] * cell_state
        z = self._pre_activation(name, _plus(z, also))
        return self._activation(self._spec.activation(name), _plus(z, shift))

    def candidate(self, also: Value | float = 0.0) -> Value:
        """Returns the candidate, (B, H).

        Args:
            also: Further term of its pre-activation, (B, H).
        """
        z = self._inputs[CANDIDATE]
        if CANDIDATE in self._recurrent:
            z = z + self._recurrent[CANDIDATE]
        return self.activate(_plus(z, also))

    def activate(self, z: Value) -> Value:
        """Returns the candidate of the sum of all its terms, (B, H)."""
        z = self._pre_activation(CANDIDATE, z)
        value = self._activation(self._spec.input_activation, z)
        return value * self._noise[CANDIDATE] if CANDIDATE in self._noise else value

    def activate_output(self, cell_state: Value) -> Value:
        """Returns the activation of the cell state in the output, (B, H)."""
        if self._spec.layer_norm != "none":
            cell_state = self._shifted(self._normalized(cell_state, "cell"), "cell_shift")
        return self._activation(self._spec.output_activation, cell_state)

    def clip(self, cell_state: Value) -> Value:
        """Returns the cell state, clipped to `cell_clip` in absolute value, (B, H)."""
        limit = self._spec.cell_clip
        return self._functions.clip(cell_state, limit) if limit else cell_state

    def _pre_activation(self, name, z):
        """The sum of all terms of a map, normalised before its bias if the spec says so."""
        if self._spec.layer_norm != "maps":
            return z
        return self._shifted(self._normalized(z, name), f"{name}_bias")

    def _normalized(self, z, name):
        return self._functions.standardize(z) * self._vectors[f"{name}_gain"]

    def _shifted(self, z, name):
        return z + self._vectors[name] if name in self._vectors else z

    def _activation(self, name, z):
        return z if name == "identity" else self._functions.activation(name, z)


def _plus(z, term):
    """Adds a term unless it is the constant 0, which would add an op to graph and text."""
    return z if isinstance(term, float) and term == 0.0 else z + term


@dataclasses.dataclass(frozen=True)
class Noise:
    """Random masks of one batch of sequences, drawn before its first step.

    Attributes:
        always: Masks that all steps share: "state" (B, P); if nothing is drawn, the rates
            "h" and "c" at which zoneout mixes old and new states.
        steps: Masks of each step: "candidate" (T, B, H); "h" (T, B, P) and "c" (T, B, H),
            1 where zoneout keeps the old state.
        weights: Masks of weight matrices by name, each of the shape of its matrix.
    """

    always: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    steps: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)
    weights: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)

    def at_step(self, step: int | Tensor) -> "Noise":
        """Returns the masks of one step, as `always` of a new `Noise`."""
        now = {name: ops.take(values, step, axis=0) for name, values in self.steps.items()}
        return Noise({**self.always, **now}, weights=self.weights)


@keras.saving.register_keras_serializable(package="gated")
class GatedCell(keras.layers.Layer):
    """One step of a gated recurrence; `GatedRNN` or `keras.layers.RNN` runs it over time.

    With a mixed-precision policy, products have the half-precision dtype; the states and all
    that is added to them are float32.

    Weights, in blocks of H columns by map, in the order of the spec:
        kernel: (D, ·), a block for each of `spec.input_maps`.
        recurrent_kernel: (P, ·), a block for each of `spec.recurrent_maps`. With K heads it
            has H / K rows, those of a group of units for the columns of that group; a diagonal
            has one row; a matrix of rank R has 2 R, those of its transposed left factor first.
        bias: A block for each of `spec.maps`.
        recurrent_bias: A block for each map whose recurrent product has its own bias.
        {name}_product: Weights of the further products of the equation, in blocks if there are
            several heads.
        raw_projection: (D, H), if the equation reads x itself and D differs from H.
        {gate}_peephole: (H,) for each gate of `spec.peepholes`, initially zero.
        projection: (H, P), if h is projected.
        gain, input_gain, recurrent_gain, {name}_product_gain, cell_gain, cell_shift: Weights
            of layer normalisation, those that its position requires.

    Args:
        units: H, the width of each state except a projected h.
        spec: Cell spec or name, as accepted by `models.cells.specs.find`.
        kernel_initializer: Initializer of `kernel`, applied to each block separately.
        recurrent_initializer: Initializer of the recurrent weights, applied to each block
            separately.
        use_bias: Whether there are biases; without them the initial biases of the spec have
            no effect.
        bias_initializer: Initializer of the biases of maps to which the spec gives none.
        kernel_regularizer: Regularizer of the weights that `kernel_initializer` initializes.
        recurrent_regularizer: Regularizer of the weights that `recurrent_initializer`
            initializes.
        bias_regularizer: Regularizer of the biases.
        kernel_constraint: Constraint on the weights that `kernel_initializer` initializes.
        recurrent_constraint: Constraint on the weights that `recurrent_initializer`
            initializes.
        bias_constraint: Constraint on the biases.
        seed: Seed of recurrent dropout and zoneout; None draws one.
        **kwargs: `name`, `dtype` and `trainable` of a Keras layer.

    Call arguments:
        inputs: (B, D).
        states: List of states before the step, of the widths `state_size`.
        training: Whether recurrent dropout and zoneout are random.
        noise: `draw(...).at_step(t)` in training; None for inference.

    Returns:
        The output, (B, output_size), which is also the first of the states, and the list of
        states after the step.

    Raises:
        ValueError: `units` is not a positive integer, the spec is invalid, or the cell is
            called in training without the noise that its spec requires: masks drawn in a
            step could not be the same at all steps of a sequence.

    Example:
        >>> import numpy as np
        >>> from models.cells.cell import GatedCell
        >>> cell = GatedCell(4, "lstm")
        >>> output, (h, c) = cell(np.ones((2, 3)), cell.get_initial_state(2))
        >>> tuple(output.shape), tuple(c.shape)
        ((2, 4), (2, 4))
    """

    def __init__(
        self,
        units: int,
        spec: CellSpec | Mapping | str = "lstm",
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        *,
        use_bias: bool = True,
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        # Autocasting would cast the states to the half-precision dtype of a mixed policy.
        super().__init__(autocast=False, **kwargs)
        self.units = positive_integer("units", units)
        self.spec = specs.find(spec)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.use_bias = use_bias
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.recurrent_regularizer = keras.regularizers.get(recurrent_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.recurrent_constraint = keras.constraints.get(recurrent_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.seed = None if seed is None else int(seed)
        if self.units % self.spec.heads:
            raise ValueError(
                f"heads must divide the number of units, got heads={self.spec.heads} and "
                f"units={self.units}."
            )
        self.state_size = self.spec.state_sizes(self.units)
        self.output_size = self.state_size[0]
        self.input_spec = keras.InputSpec(ndim=2)
        if self.spec.random:
            self._seed = keras.random.SeedGenerator(self.seed)

    @property
    def state_dtype(self) -> str:
        """Dtype of the states: that of the weights."""
        return self.variable_dtype

    def build(self, input_shape: Sequence[int | None]) -> None:
        spec, H, D, P = self.spec, self.units, input_shape[-1], self.output_size
        self.features = D
        self.kernel = self._add_blocks("kernel", D, spec.input_maps, "kernel")
        self.recurrent_kernel = self._add_recurrent("recurrent_kernel", P, spec.recurrent_maps)
        self.bias = self.recurrent_bias = None
        if self.use_bias:
            self.bias = self._add_bias("bias", spec.maps, spec.bias)
            own = spec.definition.recurrent_bias
            self.recurrent_bias = self._add_bias("recurrent_bias", own, {}) if own else None
        for name, maps in spec.products.items():
            count = len(spec.definition.products[name][0])
            weight = self._add_recurrent(f"{name}_product", H, maps, count)
            setattr(self, f"{name}_product", weight)
        self.raw_projection = None
        if spec.definition.raw and D != H:
            self.raw_projection = self._add_blocks("raw_projection", D, (RAW,), "kernel")
        for gate in spec.peepholes:
            setattr(self, f"{gate}_peephole", self._add_vector(f"{gate}_peephole", 1))
        self.projection = None
        if spec.projection:
            self.projection = self._add_blocks("projection", H, ("h",), "recurrent", P)
        self._build_layer_norm()
        self.input_spec = keras.InputSpec(ndim=2, axes={-1: D})
        self.built = True

    def _build_layer_norm(self):
        spec, placement = self.spec, self.spec.layer_norm
        if placement == "maps":
            self.gain = self._add_vector("gain", len(spec.maps), "ones")
        if placement == "products":
            if spec.input_maps:
                self.input_gain = self._add_vector("input_gain", len(spec.input_maps), "ones")
            if spec.recurrent_maps:
                self.recurrent_gain = self._add_vector(
                    "recurrent_gain", len(spec.recurrent_maps), "ones"
                )
            for name, maps in spec.products.items():
                gain = self._add_vector(f"{name}_product_gain", len(maps), "ones")
                setattr(self, f"{name}_product_gain", gain)
        if placement != "none" and spec.definition.has_output_activation:
            self.cell_gain = self._add_vector("cell_gain", 1, "ones")
            self.cell_shift = self._add_vector("cell_shift", 1)

    def _add_vector(self, name, blocks, initializer="zeros"):
        return self.add_weight(name=name, shape=(blocks * self.units,), initializer=initializer)

    @property
    def _heads(self):
        """Number of groups of units that recurrent matrices connect only within."""
        return self.units if self.spec.recurrent_structure == "diagonal" else self.spec.heads

    def _add_recurrent(self, name, rows, maps, stacked=1):
        """Adds the weight of recurrent matrices, with a block of columns for each map.

        Entries of diagonals are drawn uniformly from (-1, 1), as in Li et al. (2018) for short
        sequences, because an initializer of matrices has no meaning for them.
        """
        if self.spec.recurrent_structure == "diagonal" and maps:
            return self.add_weight(
                name=name,
                shape=(stacked, len(maps) * self.units),
                initializer=keras.initializers.RandomUniform(-1.0, 1.0),
                regularizer=self.recurrent_regularizer,
                constraint=self.recurrent_constraint,
            )
        if rank := self.spec.recurrent_rank:
            return self._add_blocks(name, rank, maps, "recurrent", stacked=2 * stacked)
        if self.spec.heads == 1:
            return self._add_blocks(name, rows, maps, "recurrent", stacked=stacked)
        size = self.units // self.spec.heads
        blocks = tuple(m for m in maps for _ in range(self.spec.heads))
        return self._add_blocks(name, size, blocks, "recurrent", size, stacked)

    def _whole(self, weight):
        """The matrices that a recurrent weight stands for: (rows, G * H)."""
        spec, H, maps = self.spec, self.units, weight.shape[1] // self.units
        if rank := spec.recurrent_rank:
            factors = ops.reshape(weight, (-1, 2, rank, maps, H))
            rows = ops.transpose(factors[:, 0], (0, 2, 3, 1))
            return _side_by_side(ops.matmul(rows, ops.transpose(factors[:, 1], (0, 2, 1, 3))))
        if spec.recurrent_structure in ("antisymmetric", "orthogonal"):
            blocks = ops.transpose(ops.reshape(weight, (-1, H, maps, H)), (0, 2, 1, 3))
            blocks = blocks - ops.swapaxes(blocks, 2, 3)
            return _side_by_side(
                blocks if spec.recurrent_structure == "antisymmetric" else _cayley(blocks)
            )
        if self._heads == 1:
            return weight
        size = self.units // self._heads
        group = np.arange(self.units) // size
        columns = np.tile(group, weight.shape[1] // self.units)
        same_head = ops.cast(group[:, None] == columns, weight.dtype)
        operands = (
            ops.split(weight, weight.shape[0] // size) if weight.shape[0] > size else [weight]
        )
        whole = [ops.tile(operand, (self._heads, 1)) * same_head for operand in operands]
        return whole[0] if len(whole) == 1 else ops.concatenate(whole, axis=0)

    def _add_blocks(self, name, rows, maps, kind, columns=None, stacked=1):
        """Adds a weight with a block of columns for each map; returns None without maps.

        The `kind`, "kernel" or "recurrent", selects initializer, regularizer and constraint.
        Each block is initialised separately, so that fan-in and fan-out are those of a single
        gate. A random initialiser of Keras returns the same numbers on every call, so each
        block has a copy with its own seed; a function is called for each block. Numbers are drawn
        in float32 or float64, because an orthogonal matrix cannot be computed in half precision.
        """
        if not maps:
            return None
        columns = columns or self.units
        initializer = getattr(self, f"{kind}_initializer")

        def initialize(shape, dtype=None):
            draw_dtype = dtype if dtype == "float64" else "float32"
            blocks = []
            for index in range(stacked * len(maps)):
                draw = _with_own_seed(initializer, index)
                blocks.append(draw((rows, columns), dtype=draw_dtype))
            starts = range(0, len(blocks), len(maps))
            stack = [ops.concatenate(blocks[i : i + len(maps)], axis=1) for i in starts]
            return ops.cast(ops.concatenate(stack, axis=0), dtype)

        shape = (stacked * rows, len(maps) * columns)
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=initialize,
            regularizer=getattr(self, f"{kind}_regularizer"),
            constraint=getattr(self, f"{kind}_constraint"),
        )

    def _add_bias(self, name, maps, laws):
        """Adds a bias with a block for each map."""

        def initialize(shape, dtype=None):
            draw_dtype = dtype if dtype == "float64" else "float32"
            return ops.cast(self._initial_bias(maps, laws, draw_dtype), dtype)

        return self.add_weight(
            name=name,
            shape=(len(maps) * self.units,),
            initializer=initialize,
            regularizer=self.bias_regularizer,
            constraint=self.bias_constraint,
        )

    def _initial_bias(self, maps, laws, dtype):
        """Initial bias of each map, by its number or law, or by the initializer."""
        draws, blocks = {}, []  # gates with the same chrono law share their draws
        shape = (self.units,)
        for index, name in enumerate(maps):
            law = laws.get(name)
            if law is None:
                draw = _with_own_seed(self.bias_initializer, index)
                blocks.append(ops.convert_to_tensor(draw(shape, dtype=dtype), dtype))
            elif lag := specs.chrono_lag(law):
                if lag not in draws:
                    uniform = keras.initializers.RandomUniform(1.0, lag - 1.0)
                    draws[lag] = ops.log(uniform(shape, dtype))
                blocks.append(-draws[lag] if law.startswith("-") else draws[lag])
            elif bounds := specs.uniform_range(law):
                blocks.append(keras.initializers.RandomUniform(*bounds)(shape, dtype))
            else:
                blocks.append(ops.full(shape, law, dtype=dtype))
        return ops.concatenate(blocks)

    @property
    def projected_maps(self) -> tuple[str, ...]:
        """Names of the blocks of `project`: the maps, and `RAW` if the equation reads x itself."""
        return (*self.spec.maps, RAW) if self.spec.definition.raw else self.spec.maps

    @property
    def product_maps(self) -> dict[str, tuple[str, ...]]:
        """By name, the maps of each product of a step except that of `recurrent_kernel`."""
        return {**self.spec.products, **({"projection": ("h",)} if self.spec.projection else {})}

    def matrices(self, noise: Noise) -> dict[str, Tensor]:
        """Returns the weight matrices of a step in the compute dtype, with dropout applied.

        Args:
            noise: Masks of the batch.

        Returns:
            "recurrent", and each of `product_maps`, by name.
        """
        weights = {name: getattr(self, f"{name}_product") for name in self.spec.products}
        if self.spec.recurrent_maps:
            weights["recurrent"] = self.recurrent_kernel
        weights = {name: self._whole(weight) for name, weight in weights.items()}
        if self.spec.projection:
            weights["projection"] = self.projection
        weights = {name: ops.cast(weight, self.compute_dtype) for name, weight in weights.items()}
        return {
            name: ops.multiply(weight, noise.weights[name]) if name in noise.weights else weight
            for name, weight in weights.items()
        }

    def vectors(self) -> dict[str, Tensor]:
        """Returns the weights of one number per unit in the dtype of the states.

        Returns:
            {gate}_peephole and {map}_recurrent_bias, each (H,); of layer normalisation
            {map}_gain, {map}_bias, {name}_product_{map}_gain, cell_gain and cell_shift, each
            (H,), and recurrent_gain, (G * H,).
        """
        spec, vectors = self.spec, {}

        def add(weight, names):
            whole = ops.cast(weight, self.state_dtype)
            parts = ops.split(whole, len(names)) if len(names) > 1 else [whole]
            vectors.update(zip(names, parts, strict=True))

        for gate in spec.peepholes:
            add(getattr(self, f"{gate}_peephole"), [f"{gate}_peephole"])
        if self.recurrent_bias is not None:
            own = spec.definition.recurrent_bias
            add(self.recurrent_bias, [f"{name}_recurrent_bias" for name in own])
        if spec.layer_norm == "maps":
            add(self.gain, [f"{name}_gain" for name in spec.maps])
            if self.use_bias:
                add(self.bias, [f"{name}_bias" for name in spec.maps])
        if spec.layer_norm == "products":
            if spec.recurrent_maps:
                add(self.recurrent_gain, ["recurrent_gain"])
            for name, maps in spec.products.items():
                gain = getattr(self, f"{name}_product_gain")
                add(gain, [f"{name}_product_{map_name}_gain" for map_name in maps])
        if spec.layer_norm != "none" and spec.definition.has_output_activation:
            add(self.cell_gain, ["cell_gain"])
            add(self.cell_shift, ["cell_shift"])
        return vectors

    def input_weights(self) -> dict[str, Tensor]:
        """Returns the weights of `project` that exist, of "bias", "gain", "kernel" and "raw".

        Matrices have the compute dtype, vectors the dtype of the states.
        """
        weights = {}
        if self.use_bias:
            weights["bias"] = ops.cast(self.bias, self.state_dtype)
        if self.spec.layer_norm == "products" and self.spec.input_maps:
            weights["gain"] = ops.cast(self.input_gain, self.state_dtype)
        if self.spec.input_maps:
            weights["kernel"] = ops.cast(self.kernel, self.compute_dtype)
        if self.raw_projection is not None:
            weights["raw"] = ops.cast(self.raw_projection, self.compute_dtype)
        return weights

    def project(self, inputs: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """Returns x W + b of each map, for any number of steps at once.

        Layer normalisation of products applies to x W, before the bias; that of maps leaves
        the bias for `StepContext`.

        Args:
            inputs: (..., D).
            weights: Result of `input_weights`.

        Returns:
            (..., F * H): a block for each of the F `projected_maps`.
        """
        spec, bias = self.spec, weights.get("bias")
        rows = ops.reshape(inputs, (-1, inputs.shape[-1])) if len(inputs.shape) > 2 else inputs
        whole = self.multiply(rows, weights["kernel"]) if spec.input_maps else None
        if "gain" in weights:
            whole = ops.multiply(standardize(whole)[0], weights["gain"])
        if not spec.input_maps == spec.maps == self.projected_maps:
            products = by_map(spec.input_maps, whole) if spec.input_maps else {}
            zeros = ops.zeros((ops.shape(rows)[0], self.units), dtype=self.state_dtype)
            blocks = [products.get(name, zeros) for name in spec.maps]
            if spec.definition.raw:
                raw = self.multiply(rows, weights["raw"]) if "raw" in weights else rows
                blocks.append(ops.cast(raw, self.state_dtype))
                bias = None if bias is None else ops.pad(bias, (0, self.units))
            whole = ops.concatenate(blocks, axis=-1)
        if bias is not None and spec.layer_norm != "maps":
            # In this order of operands Keras calls TensorFlow's "add". A "bias add" would be
            # fused with the product into a kernel that takes up to 1.6 times as long on a CPU.
            whole = ops.add(bias, whole)
        if len(inputs.shape) == 2:
            return whole
        return ops.reshape(whole, (*ops.shape(inputs)[:-1], whole.shape[-1]))

    def multiply(self, rows: Tensor, weight: Tensor) -> Tensor:
        """Returns rows (N, ...) @ weight, computed in the compute dtype, in that of the states."""
        return matmul(rows, weight, self.compute_dtype, self.state_dtype)

    def draw(self, batch: int | Tensor, steps: int | Tensor) -> Noise:
        """Draws the dropout and zoneout masks of a batch of sequences.

        Args:
            batch: B.
            steps: T.
        """
        spec, H, P = self.spec, self.units, self.output_size
        widths = dict(zip(spec.definition.states, self.state_size, strict=True))

        def mask(shape, rate):  # 0, or 1 / (1 - rate) so that the expectation stays the same
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

    def inference_noise(self) -> Noise:
        """Returns the noise of inference: no masks, and the rates at which zoneout mixes."""
        return Noise(dict(self.spec.zoneout))

    def call(
        self,
        inputs: Tensor,
        states: Sequence[Tensor],
        training: bool = False,
        noise: Noise | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        self._check_states(states)
        if noise is None:
            if training and self.spec.random:
                raise ValueError(
                    f"{self.name}: recurrent dropout and zoneout are drawn once for a sequence; "
                    "train the cell in a `GatedRNN`, or pass "
                    "noise=cell.draw(batch, steps).at_step(t)."
                )
            noise = self.inference_noise()
        after = self.step(inputs, states, noise)
        output = ops.cast(after[0], self.compute_dtype)
        # `keras.layers.RNN` holds states in the compute dtype.
        return output, [ops.cast(new, old.dtype) for new, old in zip(after, states, strict=True)]

    def _check_states(self, states):
        shapes = [static_shape(state) for state in states]
        expected = [(None, size) for size in self.state_size]
        pairs = zip(shapes, expected, strict=False)
        if len(shapes) != len(expected) or not all(fits(*pair) for pair in pairs):
            raise ValueError(
                f"{self.name}: states must be a list of tensors of the shapes {expected}, "
                f"got {shapes}."
            )

    def step(
        self,
        inputs: Tensor,
        states: Sequence[Tensor],
        noise: Noise,
        make_context: Callable[..., StepContext] = StepContext,
    ) -> list[Tensor]:
        """Returns the states after one step.

        Args:
            inputs: (B, D).
            states: The states before the step, of the widths `state_size`.
            noise: `inference_noise()`, or `draw(...).at_step(t)` in training.
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

    def get_initial_state(self, batch_size: int | Tensor | None = None) -> list[Tensor]:
        """Returns zeros for each state, (B, width)."""
        return [ops.zeros((batch_size, size), dtype=self.state_dtype) for size in self.state_size]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "spec": self.spec.to_json(),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "recurrent_initializer": keras.initializers.serialize(self.recurrent_initializer),
            "use_bias": self.use_bias,
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "recurrent_regularizer": keras.regularizers.serialize(self.recurrent_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "kernel_constraint": keras.constraints.serialize(self.kernel_constraint),
            "recurrent_constraint": keras.constraints.serialize(self.recurrent_constraint),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
            "seed": self.seed,
        }


_ACTIVATIONS = {
    "tanh": ops.tanh,
    "relu": ops.relu,
    "sigmoid": ops.sigmoid,
    "hard_sigmoid": ops.hard_sigmoid,
    "log_sigmoid": ops.log_sigmoid,
    "softplus": ops.softplus,
    # Those of Keras round their constants to float32.
    "gelu": lambda z: 0.5 * z * (1.0 + ops.erf(z * math.sqrt(0.5))),
    "leaky_relu": lambda z: ops.maximum(z, LEAK * z),
    "silu": ops.silu,
    "elu": ops.elu,
    "exp": ops.exp,
}


class TensorFunctions:
    """`Functions` on tensors of any Keras backend.

    Args:
        cell: Cell whose step is computed.
        matrices: Result of `GatedCell.matrices`.
    """

    maximum = staticmethod(ops.maximum)

    def __init__(self, cell: GatedCell, matrices: Mapping[str, Tensor]):
        self._cell, self._matrices = cell, matrices

    def activation(self, name: str, z: Tensor) -> Tensor:
        return _ACTIVATIONS[name](z)

    def clip(self, z: Tensor, limit: float) -> Tensor:
        return ops.clip(z, -limit, limit)

    def standardize(self, z: Tensor) -> Tensor:
        return standardize(z)[0]

    def product(self, name: str, values: tuple) -> dict[str, Tensor]:
        rows = values[0] if len(values) == 1 else ops.concatenate(values, axis=-1)
        return by_map(self._cell.product_maps[name], self._multiply(rows, name))

    def recurrent(
        self, h: Tensor, vectors: Mapping[str, Tensor], noise: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Returns h U of each map that reads h, (B, H), normalised if the spec says so.

        Args:
            h: (B, P).
            vectors: Result of `GatedCell.vectors`.
            noise: `Noise.always` of the step.
        """
        spec = self._cell.spec
        if not spec.recurrent_maps:
            return {}
        whole = self.recurrent_product(h, noise)
        if spec.layer_norm == "products":
            whole = self.standardize(whole) * vectors["recurrent_gain"]
        return by_map(spec.recurrent_maps, whole)

    def recurrent_product(self, h: Tensor, noise: Mapping[str, Any]) -> Tensor:
        """Returns the concatenated h U of all maps that read h, (B, G * H)."""
        return self._multiply(h * noise["state"] if "state" in noise else h, "recurrent")

    def _multiply(self, rows, name):
        return self._cell.multiply(rows, self._matrices[name])


def positive_integer(name: str, value: Any) -> int:
    """Returns a positive integer as an int, also a NumPy integer.

    Args:
        name: Name of the argument, for the message.
        value: Its value.

    Raises:
        ValueError: The value is not an integer of at least 1.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {value!r}.")
    return int(value)


def static_shape(tensor: Tensor) -> tuple[int | None, ...] | None:
    """Returns the shape of a tensor, None for unknown axes; or None if its rank is unknown."""
    try:
        return tuple(tensor.shape)
    except ValueError:  # raised by TensorFlow
        return None


def fits(shape: Sequence[int | None] | None, expected: Sequence[int | None]) -> bool:
    """Returns whether a static shape can be the expected one."""
    if shape is None:
        return True
    pairs = zip(shape, expected, strict=False)
    return len(shape) == len(expected) and all(None in pair or pair[0] == pair[1] for pair in pairs)


def _side_by_side(matrices):
    """Square matrices (operands, maps, H, H) as one of shape (operands * H, maps * H)."""
    _, maps, H, _ = matrices.shape
    return ops.reshape(ops.transpose(matrices, (0, 2, 1, 3)), (-1, maps * H))


def _cayley(matrices):
    """The orthogonal matrix inverse(I + A) (I - A) of each antisymmetric A, (..., H, H)."""
    dtype = keras.backend.standardize_dtype(matrices.dtype)
    matrices = ops.cast(matrices, "float64" if dtype == "float64" else "float32")
    ones = ops.eye(matrices.shape[-1], dtype=matrices.dtype)
    return ops.cast(ops.solve(ones + matrices, ones - matrices), dtype)


def _with_own_seed(initializer, index):
    """A copy of an initializer for the block of an index; a function is returned itself."""
    if not isinstance(initializer, keras.initializers.Initializer):
        return initializer
    config = initializer.get_config()
    if isinstance(config.get("seed"), int):
        config["seed"] += index
    return initializer.from_config(config)


def matmul(rows: Tensor, weight: Tensor, compute_dtype: str, result_dtype: str) -> Tensor:
    """Returns rows @ weight, computed in one dtype and cast to another."""
    product = ops.matmul(ops.cast(rows, compute_dtype), ops.cast(weight, compute_dtype))
    return ops.cast(product, result_dtype)


def standardize(z: Tensor) -> tuple[Tensor, Tensor]:
    """Standardises over the last axis (Ba et al. 2016, eq. 4, without gain and bias).

    Returns:
        z minus its mean, divided by its standard deviation, (..., H); and one over the
        standard deviation, (..., 1).
    """
    centred = z - ops.mean(z, axis=-1, keepdims=True)
    scale = ops.rsqrt(ops.mean(ops.square(centred), axis=-1, keepdims=True) + EPSILON)
    return centred * scale, scale


def by_map(maps: Sequence[str], blocks: Tensor) -> dict[str, Tensor]:
    """Splits (..., G * H) into a block (..., H) for each of G maps."""
    parts = ops.split(blocks, len(maps), axis=-1) if len(maps) > 1 else [blocks]
    return dict(zip(maps, parts, strict=True))
