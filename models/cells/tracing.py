"""Recording of the gates and states of gated layers, by step and name.

    with trace(model) as traces:
        model(inputs)

Shapes: B batch, T time, D input features, H units, P the width of h, which differs from H only
in a cell with a projection.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
from keras import ops

from .cell import GatedCell, Noise, StepContext, Tensor
from .equations import CANDIDATE
from .recurrent import GatedRNN
from .specs import GATE_ACTIVATIONS


@dataclasses.dataclass(frozen=True)
class CellTrace:
    """Values of one cell on a batch of sequences, in the order of the input of its layer.

    At a masked step the states are those of the step before in reading direction; gates and
    candidate are computed, but not used.

    Attributes:
        place: Names of the layers that lead from the model to the `GatedRNN`, joined by
            slashes, such as "decoder/layer_0".
        layer: Index of the layer of the `GatedRNN` that contains the cell, from 0.
        backward: Whether the cell reads from the last step to the first.
        gates: Gates by name, (B, T, H), without pinned ones and maps that are not from 0
            to 1. The second of two gates that differ in their bias only, as in JANET, is
            "forget_2".
        candidate: Candidate, (B, T, H).
        states: States after each step by name: "h" (B, T, P), and others (B, T, H).
        first: Initial states by name: "h" (B, P), and others (B, H).
    """

    place: str
    layer: int
    backward: bool
    gates: dict[str, Tensor]
    candidate: Tensor
    states: dict[str, Tensor]
    first: dict[str, Tensor]

    def row(self, index: int) -> "CellTrace":
        """Returns the trace of one sequence, as NumPy arrays without the axis B.

        Args:
            index: Position of the sequence in the batch.
        """

        def select(values):
            return ops.convert_to_numpy(values)[index]

        fields = {
            field: {name: select(values) for name, values in getattr(self, field).items()}
            for field in ("gates", "states", "first")
        }
        return dataclasses.replace(self, candidate=select(self.candidate), **fields)


@contextlib.contextmanager
def trace(model: keras.Layer) -> Iterator[list[CellTrace]]:
    """Records the values of all cells of a model within a block.

    Layers run the definition meanwhile, step by step, so the number of steps must be known and
    at least 1. Their results are the same. Cells that are called directly, as in a `Decoder`
    with input feeding, are not recorded.

    Args:
        model: A model or layer.

    Yields:
        A list to which each call of a `GatedRNN` appends the traces of its cells, by layer and
        direction, forward first.

    Example:
        >>> import numpy as np
        >>> from models import GatedRNN, trace
        >>> layer = GatedRNN(4, "gru")
        >>> with trace(layer) as traces:
        ...     output = layer(np.ones((2, 5, 3)))
        >>> sorted(traces[0].gates), tuple(traces[0].states["h"].shape)
        (['reset', 'update'], (2, 5, 4))
    """
    traces = []
    with implemented_by(model, lambda layer, place: _Tracer(layer, place, traces)):
        yield traces


@contextlib.contextmanager
def implemented_by(
    model: keras.Layer, implementation: Callable[[GatedRNN, str], object]
) -> Iterator[None]:
    """Has the recurrent layers of a model run another implementation within a block.

    Args:
        model: A model or layer.
        implementation: Returns the implementation of a layer, given the layer and the names that
            lead to it: a module as in `models.cells.implementations`, or an object with such
            functions.
    """
    previous = []
    try:
        for layer, place in recurrent_layers(model):
            previous.append((layer, layer._tracer))
            layer._tracer = implementation(layer, place)
        yield
    finally:
        for layer, tracer in reversed(previous):  # a layer may occur twice in a model
            layer._tracer = tracer


def recurrent_layers(
    layer: keras.Layer, path: tuple[str, ...] = ()
) -> Iterator[tuple[GatedRNN, str]]:
    """Yields each `GatedRNN` in a layer, including itself, and the names that lead to it.

    Args:
        layer: A model or layer.
        path: Names of the layers that contain it.
    """
    if isinstance(layer, GatedRNN):
        yield layer, "/".join(path) or layer.name
        return
    for inner in layer._flatten_layers(include_self=False, recursive=False):
        yield from recurrent_layers(inner, (*path, inner.name))


class _Tracer:
    """An implementation that runs the definition and records its values."""

    def __init__(self, layer: GatedRNN, place: str, traces: list[CellTrace]):
        self._layer, self._place, self._traces = layer, place, traces

    def run(
        self,
        cell: GatedCell,
        inputs: Tensor,
        mask: Tensor | None,
        states: Sequence[Tensor],
        noise: Noise,
        training: bool,
        concurrent: int = 1,
    ) -> tuple[Tensor, list[Tensor]]:
        """Runs `cell` over inputs (B, T, D), as specified in `models.cells.implementations`."""
        names, states = cell.spec.definition.states, list(states)
        initial = dict(zip(names, states, strict=True))
        states_by_step, maps_by_step = [], []
        for t in range(inputs.shape[1]):
            maps = {}
            context = functools.partial(_RecordingContext, maps)
            after = cell.step(inputs[:, t], states, noise.at_step(t), context)
            if mask is not None:
                valid = mask[:, t, None]
                after = [ops.where(valid, new, old) for new, old in zip(after, states, strict=True)]
            states = after
            states_by_step.append(dict(zip(names, states, strict=True)))
            maps_by_step.append(maps)
        layer, backward = self._position(cell)
        gates = self._stack(maps_by_step, backward)
        candidate = gates.pop(CANDIDATE)
        recorded = self._stack(states_by_step, backward)
        self._traces.append(
            CellTrace(self._place, layer, backward, gates, candidate, recorded, initial)
        )
        return ops.stack([step[names[0]] for step in states_by_step], axis=1), list(states)

    def _position(self, cell):
        """The index of the layer of a cell, and whether the cell reads backward."""
        layer = self._layer
        index = next(i for i, other in enumerate(layer.cells) if other is cell)
        number, direction = divmod(index, len(layer.cells) // layer.layers)
        return number, layer.direction == "backward" or direction == 1

    def _stack(self, steps, backward):
        """Stacks the values (B, ...) of each step to (B, T, ...), in the order of the input."""
        if backward != self._layer.go_backwards:
            steps = steps[::-1]
        return {name: ops.stack([step[name] for step in steps], axis=1) for name in steps[0]}


class _RecordingContext(StepContext):
    """A `StepContext` that records each gate and the candidate under its name.

    Args:
        values: Dictionary to which the values are added.
        *args: Arguments of `StepContext`.
    """

    def __init__(self, values: dict[str, Tensor], *args: Any):
        super().__init__(*args)
        self._values = values

    def gate(self, name, cell_state=None, also=0.0, shift=0.0):
        value = super().gate(name, cell_state, also, shift)
        is_gate = self._spec.activation(name) in GATE_ACTIVATIONS
        return self._record(name, value) if is_gate else value

    def activate(self, z):
        return self._record(CANDIDATE, super().activate(z))

    def _record(self, name, value):
        if not isinstance(value, float):  # a pinned gate is a constant
            self._values[f"{name}_2" if name in self._values else name] = value
        return value
