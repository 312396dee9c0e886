"""`GatedCell`: one step of any cell that a `CellSpec` can tell, in `keras.ops`.

This is the definition. Whatever runs a cell faster is held against it.

Shapes: B batch, D input features, H units, G maps (the gates and the candidate).
"""

from collections.abc import Mapping
from typing import Protocol

import keras
from keras import ops

from models import specs
from models.equations import CANDIDATE, RAW
from models.specs import CellSpec


class Functions(Protocol):
    """What an equation needs to have computed, on whatever its values are."""

    def sigmoid(self, z): ...
    def tanh(self, z): ...
    def relu(self, z): ...
    def clip(self, z, limit: float): ...
    def product(self, name: str, values: tuple) -> dict: ...


class See:
    """What the maps of a cell see at one step; the `see` of an equation.

    Args:
        spec: The cell's spec.
        inputs: x W + b by map, (B, H) each, and x itself by `RAW` where the
            equation asks for it.
        recurrent: h U by map, for those that see h, with its own bias where it
            has one.
        peepholes: (H,) for each gate of `spec.peepholes`.
        functions: How to compute with them.
    """

    def __init__(self, spec, inputs, recurrent, peepholes, functions: Functions):
        self._spec, self._functions = spec, functions
        self._inputs, self._recurrent, self._peepholes = inputs, recurrent, peepholes
        self.tanh = functions.tanh

    def input(self, name):
        """x W + b of a map, or x itself, (B, H)."""
        return self._inputs[name]

    def recurrent(self, name):
        """h U of a map, with its own bias where it has one, (B, H)."""
        return self._recurrent[name]

    def product(self, name, *values):
        """The values times the equation's own weight of that name: (B, H) by map, 0 if pinned."""
        maps = self._spec.definition.products[name][1]
        known = self._functions.product(name, values) if name in self._spec.products() else {}
        return {each: known.get(each, 0.0) for each in maps}

    def gate(self, name, cell_state=None, also=0.0):
        """A gate's values in (0, 1), (B, H).

        Args:
            name: The gate.
            cell_state: What its peephole sees.
            also: What else is added to what it sees.
        """
        if name in self._spec.pinned:
            return self._spec.pinned[name]
        z = self._inputs[name]
        if name in self._recurrent:
            z = z + self._recurrent[name]
        if name in self._peepholes:
            z = z + self._peepholes[name] * cell_state
        return self._functions.sigmoid(_plus(z, also))

    def candidate(self, also=0.0):
        """What could be written, (B, H)."""
        z = self._inputs[CANDIDATE]
        if CANDIDATE in self._recurrent:
            z = z + self._recurrent[CANDIDATE]
        return self.activate(_plus(z, also))

    def activate(self, z):
        """The candidate's activation."""
        return self._by_name(self._spec.input_activation, z)

    def squash(self, cell_state):
        """The activation of the cell state on its way out."""
        return self._by_name(self._spec.output_activation, cell_state)

    def clip(self, cell_state):
        """The cell state, no further from 0 than it may be."""
        limit = self._spec.cell_clip
        return self._functions.clip(cell_state, limit) if limit else cell_state

    def _by_name(self, name, z):
        if name == "identity":
            return z
        return (self._functions.tanh if name == "tanh" else self._functions.relu)(z)


def _plus(z, also):
    return z if isinstance(also, float) and also == 0.0 else z + also


@keras.saving.register_keras_serializable(package="gated")
class GatedCell(keras.layers.Layer):
    """One step of a gated recurrence; `GatedRNN` or `keras.layers.RNN` runs it over time.

    Weights, each made of blocks of H columns in the order that the spec has:
        kernel: a block of D rows for each of `spec.input_maps`.
        recurrent_kernel: a block of H rows for each of `spec.recurrent_maps`.
        bias: a block for each of `spec.maps`.
        recurrent_bias: a block for each map whose recurrent product has its own.
        {name}_product: those of the equation's own products.
        raw_projection: (D, H), where the equation adds x itself and D is not H.
        {gate}_peephole: (H,) for each gate of `spec.peepholes`, zero at first.

    Args:
        units: H, the size of each state.
        spec: A `CellSpec`, or what `models.specs.find` makes one of.
        kernel_initializer: For each block of `kernel` by itself.
        recurrent_initializer: For each H x H block of a recurrent weight.
        **kwargs: `name`, `dtype` and `trainable` of a Keras layer.

    Call arguments:
        inputs: (B, D).
        states: a list of `state_size`, each (B, H).

    Returns:
        The output (B, output_size), which is also the first of the states, and
        the list of states after the step.
    """

    def __init__(
        self,
        units: int,
        spec: CellSpec | Mapping | str = "lstm",
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if isinstance(units, bool) or not isinstance(units, int) or units < 1:
            raise ValueError(f"units must be a whole number of at least 1, got {units!r}.")
        self.units = units
        self.spec = specs.find(spec)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.state_size = [units] * len(self.spec.definition.states)
        self.output_size = units

    def build(self, input_shape):
        spec, H, D = self.spec, self.units, input_shape[-1]
        self.kernel = self._blocks("kernel", D, spec.input_maps, self.kernel_initializer)
        self.recurrent_kernel = self._blocks(
            "recurrent_kernel", H, spec.recurrent_maps, self.recurrent_initializer
        )
        self.bias = self.add_weight(
            name="bias", shape=(len(spec.maps) * H,), initializer=self._initial_bias
        )
        own = spec.definition.recurrent_bias
        self.recurrent_bias = self._zeros("recurrent_bias", len(own) * H) if own else None
        for name, (count, maps) in spec.products().items():
            weight = self._blocks(
                f"{name}_product", H, maps, self.recurrent_initializer, stacked=count
            )
            setattr(self, f"{name}_product", weight)
        self.raw_projection = None
        if spec.definition.raw and D != H:
            self.raw_projection = self._blocks("raw_projection", D, (RAW,), self.kernel_initializer)
        for gate in spec.peepholes:
            setattr(self, f"{gate}_peephole", self._zeros(f"{gate}_peephole", H))
        self.built = True

    def _zeros(self, name, size):
        return self.add_weight(name=name, shape=(size,), initializer="zeros")

    def _blocks(self, name, rows, maps, initializer, stacked=1):
        """A weight of H columns for each map, or None if there is none.

        Each block is initialised by itself, so that its fans are a gate's own.
        A random initialiser of Keras gives the same numbers each time that it
        is called, so every block has a copy of its own, with a seed of its own.
        They are drawn in float32 at least: an orthogonal matrix cannot be had
        in less.
        """
        if not maps:
            return None

        def init(shape, dtype=None):
            wide, drawn = dtype if dtype == "float64" else "float32", []
            for index in range(stacked * len(maps)):
                config = initializer.get_config()
                if isinstance(config.get("seed"), int):
                    config["seed"] += index
                drawn.append(initializer.from_config(config)((rows, self.units), wide))
            row = [drawn[at : at + len(maps)] for at in range(0, len(drawn), len(maps))]
            whole = ops.concatenate([ops.concatenate(blocks, axis=1) for blocks in row], axis=0)
            return ops.cast(whole, dtype)

        shape = (stacked * rows, len(maps) * self.units)
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
    def peepholes(self) -> dict:
        """The peephole weights (H,) by gate."""
        return {gate: getattr(self, f"{gate}_peephole") for gate in self.spec.peepholes}

    @property
    def products(self) -> dict:
        """The weights of the equation's own products, by name."""
        return {name: getattr(self, f"{name}_product") for name in self.spec.products()}

    @property
    def projected_maps(self) -> tuple[str, ...]:
        """What `project` gives a block of: the maps, and x itself where it is asked for."""
        return (*self.spec.maps, RAW) if self.spec.definition.raw else self.spec.maps

    def project(self, inputs):
        """All that comes of x: x W + b of each map, for any number of steps at once.

        Args:
            inputs: (..., D).

        Returns:
            (..., P * H): a block for each of `projected_maps`.
        """
        spec = self.spec
        if spec.input_maps == spec.maps == self.projected_maps:
            return ops.add(ops.matmul(inputs, self.kernel), self.bias)
        seen = {}
        if spec.input_maps:
            product = ops.matmul(inputs, self.kernel)
            parts = ops.split(product, len(spec.input_maps), axis=-1)
            seen = dict(zip(spec.input_maps, parts, strict=True))
        nothing = ops.zeros_like(inputs[..., :1])
        biases = ops.split(ops.convert_to_tensor(self.bias), len(spec.maps))
        blocks = [
            ops.add(seen.get(name, nothing), ops.cast(bias, self.compute_dtype))
            for name, bias in zip(spec.maps, biases, strict=True)
        ]
        if spec.definition.raw:
            matrix = self.raw_projection
            blocks.append(inputs if matrix is None else ops.matmul(inputs, matrix))
        return ops.concatenate(blocks, axis=-1)

    def full_recurrent_bias(self):
        """The bias of each block of h U, zero where a map has none of its own; None for none."""
        own = self.spec.definition.recurrent_bias
        if not own:
            return None
        blocks = ops.split(ops.convert_to_tensor(self.recurrent_bias), len(own))
        known = dict(zip(own, blocks, strict=True))
        zero = ops.zeros((self.units,), dtype=self.compute_dtype)
        return ops.concatenate(
            [ops.cast(known.get(m, zero), self.compute_dtype) for m in self.spec.recurrent_maps]
        )

    def call(self, inputs, states, training=False):
        spec, recurrent = self.spec, {}
        if spec.recurrent_maps:
            product = ops.matmul(states[0], self.recurrent_kernel)
            if self.recurrent_bias is not None:
                product = ops.add(product, self.full_recurrent_bias())
            recurrent = by_map(spec.recurrent_maps, product)
        see = See(
            spec,
            by_map(self.projected_maps, self.project(inputs)),
            recurrent,
            {gate: ops.convert_to_tensor(p) for gate, p in self.peepholes.items()},
            _KerasFunctions(self),
        )
        after = spec.definition.step(see, *states)
        after = [
            ops.full_like(old, new) if isinstance(new, float) else new  # a pinned gate as a state
            for new, old in zip(after, states, strict=True)
        ]
        return after[0], after

    def get_initial_state(self, batch_size=None):
        """Zeros, a list of (B, H)."""
        return [ops.zeros((batch_size, size), dtype=self.compute_dtype) for size in self.state_size]

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "spec": self.spec.to_json(),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "recurrent_initializer": keras.initializers.serialize(self.recurrent_initializer),
        }


def by_map(maps, blocks) -> dict:
    """Cuts (B, G * H) into (B, H) by map."""
    return dict(zip(maps, ops.split(blocks, len(maps), axis=-1), strict=True))


class _KerasFunctions:
    """The functions of an equation on the tensors of any backend."""

    sigmoid, tanh, relu = staticmethod(ops.sigmoid), staticmethod(ops.tanh), staticmethod(ops.relu)

    def __init__(self, cell):
        self._cell = cell

    def clip(self, z, limit):
        return ops.clip(z, -limit, limit)

    def product(self, name, values):
        seen = ops.concatenate(values, axis=-1)
        maps = self._cell.spec.products()[name][1]
        return by_map(maps, ops.matmul(seen, self._cell.products[name]))
