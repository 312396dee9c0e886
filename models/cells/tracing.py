"""What goes on inside gated layers: each gate and state of each step, by name.

    with trace(model) as traces:
        model(inputs)

Shapes: B batch, T time, H units, P the width of h, which is H but for a projection.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator

import keras
from keras import ops

from .cell import StepContext
from .equations import CANDIDATE
from .recurrent import GatedRNN


@dataclasses.dataclass(frozen=True)
class CellTrace:
    """What a cell computed as it read a batch of sequences, in the order of the layer's input.

    Attributes:
        place: The names that lead to the `GatedRNN` from the model: "decoder/layer_0".
        layer: Which of its layers, from 0.
        backward: Whether the cell read from the last step to the first.
        gates: By name (B, T, H), less those that are pinned. One that the equation asks for
            with two biases, as JANET does, is there twice: "forget" and "forget_2".
        candidate: (B, T, H).
        states: By name, after each step: "h" (B, T, P), "c" (B, T, H) and what else there is.
        first: By name, before the first step that the cell read: (B, P) or (B, H).

    A masked step keeps the states; its gates and candidate were computed and not used.
    """

    place: str
    layer: int
    backward: bool
    gates: dict
    candidate: object
    states: dict
    first: dict

    def row(self, index: int) -> "CellTrace":
        """What it computed of one sequence: NumPy arrays without B."""

        def cut(values):
            return ops.convert_to_numpy(values)[index]

        arrays = {
            name: {key: cut(value) for key, value in getattr(self, name).items()}
            for name in ("gates", "states", "first")
        }
        return dataclasses.replace(self, candidate=cut(self.candidate), **arrays)


@contextlib.contextmanager
def trace(model: keras.Layer) -> Iterator[list[CellTrace]]:
    """Has every `GatedRNN` of a model keep what its cells compute, until the block ends.

    They run the definition meanwhile, step by step and eagerly, so their sequences must
    have a step or more; they give what they give unwatched. Cells that are called one by
    one and not through their layer, as a `Decoder` with input feeding does, are not seen.

    Args:
        model: Or any layer.

    Returns:
        A list that grows with each call of a layer: the cells of its first layer, forward
        first, then those of the next.
    """
    traces, before = [], []
    try:
        for layer, place in _within(model, ()):
            before.append((layer, layer._watch))
            layer._watch = _Watch(layer, place, traces)
        yield traces
    finally:
        for layer, watch in reversed(before):  # a layer may be in a model twice
            layer._watch = watch


def _within(layer, path):
    """Each `GatedRNN` in a layer, itself if it is one, and the names that lead there."""
    if isinstance(layer, GatedRNN):
        yield layer, "/".join(path) or layer.name
        return
    for inner in layer._flatten_layers(include_self=False, recursive=False):
        yield from _within(inner, (*path, inner.name))


class _Watch:
    """The definition over time, keeping what it computes; in place of an implementation."""

    def __init__(self, layer: GatedRNN, place: str, traces: list[CellTrace]):
        self._layer, self._place, self._traces = layer, place, traces

    def run(self, cell, inputs, mask, states, noise, training, concurrent=1):
        """Runs `cell` over inputs (B, T, D); see the implementations for the contract."""
        names, first = cell.spec.definition.states, list(states)
        steps, noted = [], []
        for t in range(inputs.shape[1]):
            notes = {}
            context = functools.partial(_Noting, notes)
            after = cell.step(inputs[:, t], states, noise.at_step(t), context)
            if mask is not None:
                now = mask[:, t, None]
                after = [ops.where(now, new, old) for new, old in zip(after, states, strict=True)]
            states = after
            steps.append(dict(zip(names, states, strict=True)))
            noted.append(notes)
        number, backward = self._which(cell)
        gates = self._over_time(noted, backward)
        candidate = gates.pop(CANDIDATE)
        values = (gates, candidate, self._over_time(steps, backward))
        first = dict(zip(names, first, strict=True))
        self._traces.append(CellTrace(self._place, number, backward, *values, first))
        return ops.stack([step[names[0]] for step in steps], axis=1), list(states)

    def _which(self, cell):
        """The layer of a cell, and whether it reads backward; its place says both."""
        layer = self._layer
        place = next(index for index, other in enumerate(layer.cells) if other is cell)
        number, direction = divmod(place, len(layer.cells) // layer.layers)
        return number, layer.direction == "backward" or direction == 1

    def _over_time(self, steps, backward):
        """Values (B, ...) of each step, by name, as (B, T, ...) in the order of the input."""
        turned = backward != self._layer.go_backwards
        steps = steps[::-1] if turned else steps
        return {name: ops.stack([step[name] for step in steps], axis=1) for name in steps[0]}


class _Noting(StepContext):
    """Keeps each gate and the candidate under its name."""

    def __init__(self, notes: dict, *args):
        super().__init__(*args)
        self._notes = notes

    def gate(self, name, cell_state=None, also=0.0, shift=0.0):
        return self._noted(name, super().gate(name, cell_state, also, shift))

    def activate(self, z):
        return self._noted(CANDIDATE, super().activate(z))

    def _noted(self, name, value):
        if not isinstance(value, float):  # pinned
            self._notes[f"{name}_2" if name in self._notes else name] = value
        return value
