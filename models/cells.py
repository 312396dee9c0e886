"""`GatedCell`: one step of any cell that a `CellSpec` can tell, in `keras.ops`.

This is the definition. Whatever runs a cell faster is held against it.

Shapes: B batch, D input features, H units, G maps (the gates and the candidate).
"""

from collections.abc import Mapping

import keras
from keras import ops

from models import specs
from models.specs import CellSpec


class See:
    """What the maps of a cell see at one step; the `see` of an equation.

    Args:
        spec: The cell's spec.
        inputs: x W + b, (B, G * H), or anything that `split` cuts into G maps.
        recurrent: h U, likewise.
        peepholes: (H,) for each gate of `spec.peepholes`.
        split: Cuts a (B, G * H) into G parts.
        sigmoid, tanh: The functions on whatever the parts are.
    """

    def __init__(self, spec, inputs, recurrent, peepholes, split, sigmoid, tanh):
        self._inputs = dict(zip(spec.maps, split(inputs, len(spec.maps)), strict=True))
        self._recurrent = dict(zip(spec.maps, split(recurrent, len(spec.maps)), strict=True))
        self._peepholes = peepholes
        self._sigmoid = sigmoid
        self.tanh = tanh

    def input(self, name):
        """x W + b of a map, (B, H)."""
        return self._inputs[name]

    def recurrent(self, name):
        """h U of a map, with its own bias where it has one, (B, H)."""
        return self._recurrent[name]

    def gate(self, name, cell_state=None):
        """A gate's values in (0, 1), (B, H); `cell_state` is what its peephole sees."""
        z = self._inputs[name] + self._recurrent[name]
        if name in self._peepholes:
            z = z + self._peepholes[name] * cell_state
        return self._sigmoid(z)


@keras.saving.register_keras_serializable(package="gated")
class GatedCell(keras.layers.Layer):
    """One step of a gated recurrence; `GatedRNN` or `keras.layers.RNN` runs it over time.

    Weights, each made of the blocks of `spec.maps` in their order:
        kernel: (D, G * H), what the maps see of the input.
        recurrent_kernel: (H, G * H), what they see of the last output.
        bias: (G * H,).
        recurrent_bias: (H,) for each map whose recurrent product has its own.
        {gate}_peephole: (H,) for each gate of `spec.peepholes`, zero at first.

    Args:
        units: H, the size of each state.
        spec: A `CellSpec`, or what `models.specs.find` makes one of.
        kernel_initializer: For each block of `kernel` by itself.
        recurrent_initializer: For each block of `recurrent_kernel` by itself.
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
        maps, width = self.spec.maps, len(self.spec.maps) * self.units
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[-1], width),
            initializer=_blocks(self.kernel_initializer, len(maps)),
        )
        self.recurrent_kernel = self.add_weight(
            name="recurrent_kernel",
            shape=(self.units, width),
            initializer=_blocks(self.recurrent_initializer, len(maps)),
        )
        self.bias = self.add_weight(name="bias", shape=(width,), initializer=self._initial_bias)
        self._recurrent_biased = self.spec.definition.recurrent_bias
        if self._recurrent_biased:
            self.recurrent_bias = self.add_weight(
                name="recurrent_bias",
                shape=(len(self._recurrent_biased) * self.units,),
                initializer="zeros",
            )
        for gate in self.spec.peepholes:
            weight = self.add_weight(
                name=f"{gate}_peephole", shape=(self.units,), initializer="zeros"
            )
            setattr(self, f"{gate}_peephole", weight)
        self.built = True

    @property
    def peepholes(self) -> dict:
        """The peephole weights (H,) by gate."""
        return {gate: getattr(self, f"{gate}_peephole") for gate in self.spec.peepholes}

    def project(self, inputs):
        """x W + b of (..., D) inputs, for any number of steps at once: (..., G * H)."""
        return ops.add(ops.matmul(inputs, self.kernel), self.bias)

    def full_recurrent_bias(self):
        """The recurrent bias of all maps, zero where a map has none, (G * H,); None for none."""
        if not self._recurrent_biased:
            return None
        own = dict(
            zip(
                self._recurrent_biased,
                ops.split(ops.convert_to_tensor(self.recurrent_bias), len(self._recurrent_biased)),
                strict=True,
            )
        )
        zero = ops.zeros((self.units,), dtype=self.compute_dtype)
        blocks = [ops.cast(own.get(name, zero), self.compute_dtype) for name in self.spec.maps]
        return ops.concatenate(blocks)

    def call(self, inputs, states, training=False):
        recurrent = ops.matmul(states[0], self.recurrent_kernel)
        if self._recurrent_biased:
            recurrent = ops.add(recurrent, self.full_recurrent_bias())
        see = See(
            self.spec,
            self.project(inputs),
            recurrent,
            {gate: ops.convert_to_tensor(p) for gate, p in self.peepholes.items()},
            split=lambda z, parts: ops.split(z, parts, axis=-1),
            sigmoid=ops.sigmoid,
            tanh=ops.tanh,
        )
        states = list(self.spec.definition.step(see, *states))
        return states[0], states

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

    def _initial_bias(self, shape, dtype=None):
        levels = [self.spec.bias.get(name, 0.0) for name in self.spec.maps]
        return ops.repeat(ops.cast(levels, dtype), self.units)


def _blocks(initializer, count):
    """Initialises each block by itself, so that its fans are a gate's own.

    A random initialiser of Keras gives the same numbers each time that it is
    called, so every block has a copy of its own, with a seed of its own. They
    are drawn in float32 at least: an orthogonal matrix cannot be had in less.
    """

    def init(shape, dtype=None):
        block = (*shape[:-1], shape[-1] // count)
        wide = dtype if dtype == "float64" else "float32"
        drawn = []
        for index in range(count):
            config = initializer.get_config()
            if isinstance(config.get("seed"), int):
                config["seed"] += index
            drawn.append(initializer.from_config(config)(block, wide))
        return ops.cast(ops.concatenate(drawn, axis=-1), dtype)

    return init
