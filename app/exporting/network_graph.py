"""Graph of a network from ids to numbers, in which each recurrence is a single op.

A loop of TensorFlow has no counterpart in other formats that is as simple as the recurrence that it
computes. Therefore the network is traced with a placeholder op for each run of a cell, and the
cell is converted by itself.

Shapes: B batch, T time, D input features.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf

from models.cells.cell import GatedCell, Noise
from models.cells.recurrent import GatedRNN
from models.cells.tracing import implemented_by

RECURRENCE = "PyFunc"  # type of the placeholder ops, which the graph never runs


@dataclasses.dataclass(frozen=True)
class Recurrence:
    """A run of one cell over time, or of a forward and a backward cell.

    The inputs of its op are x (B, T, D), the mask (B, T) if there is one, and the initial states.
    Its outputs are for each cell the output at each step, (B, T, P), and the final states.

    Attributes:
        layer: The layer of the cells.
        number: Number of the layer in `layer`, from 0.
        cells: The cells.
        has_mask: Whether the op has a mask.
    """

    layer: GatedRNN
    number: int
    cells: tuple[GatedCell, ...]
    has_mask: bool


@dataclasses.dataclass(frozen=True)
class NetworkGraph:
    """A traced network.

    Attributes:
        function: The traced function.
        outputs: Its outputs by name.
        recurrences: The recurrences by the name of their op.
    """

    function: tf.types.experimental.ConcreteFunction
    outputs: dict[str, tf.Tensor]
    recurrences: dict[str, Recurrence]


def trace(
    network: keras.Model, function: tf.types.experimental.PolymorphicFunction
) -> NetworkGraph:
    """Traces a function of a network, with a placeholder op for each recurrence.

    Args:
        network: The network that the function calls.
        function: Function with an input signature, of tensors to a dict of tensors. It must be
            new: what is traced cannot be run, and what has been traced is not traced again.
    """
    recurrences: dict[str, Recurrence] = {}

    def implementation(layer: GatedRNN, path: str):
        return _Placeholders(layer, recurrences)

    with implemented_by(network, implementation):
        concrete = function.get_concrete_function()
    return NetworkGraph(concrete, dict(concrete.structured_outputs), recurrences)


@contextlib.contextmanager
def unrolled(network: keras.Model) -> Iterator[None]:
    """Has the layers of a network compute all steps one after the other, without a loop.

    The number of steps must be known where the network is called.
    """

    def implementation(layer: GatedRNN, path: str):
        return _Unrolled()

    with implemented_by(network, implementation):
        yield


class _Placeholders:
    """Implementation that adds an op without a meaning, and records what it stands for."""

    def __init__(self, layer, recurrences):
        self._layer, self._recurrences = layer, recurrences
        if layer.direction == "both":  # a single cell of a pair runs on reversed steps
            self.run_both = self._run_both

    def run(
        self,
        cell: GatedCell,
        inputs: tf.Tensor,
        mask: tf.Tensor | None,
        states: Sequence[tf.Tensor],
        noise: Noise,
        training: bool,
        concurrent: int = 1,
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Runs `cell` over inputs (B, T, D), as specified in `models.cells.implementations`."""
        return self._op([cell], inputs, mask, [states])[0]

    def _run_both(self, cells, inputs, mask, states, noises, training):
        return self._op(cells, inputs, mask, states)

    def _op(self, cells, inputs, mask, states):
        flat = [state for each_cell in states for state in each_cell]
        arguments = [inputs, *([] if mask is None else [mask]), *flat]
        types = [tensor.dtype for each_cell in states for tensor in (each_cell[0], *each_cell)]
        name = f"recurrence_{len(self._recurrences)}"
        tensors = iter(tf.numpy_function(_never_run, arguments, types, name=name))
        results = []
        for cell, initial in zip(cells, states, strict=True):
            output, *final = (next(tensors) for _ in range(1 + len(initial)))
            output.set_shape([*inputs.shape[:2], cell.output_size])
            for tensor, state in zip(final, initial, strict=True):
                tensor.set_shape(state.shape)
            results.append((output, final))
        index = next(i for i, other in enumerate(self._layer.cells) if other is cells[0])
        number = index // (len(self._layer.cells) // self._layer.layers)
        recurrence = Recurrence(self._layer, number, tuple(cells), mask is not None)
        self._recurrences[results[0][0].op.name] = recurrence
        return results


def _never_run(*arguments):
    raise AssertionError("the op stands for a recurrence, and is converted rather than run")


class _Unrolled:
    """Implementation whose steps are ops of the graph, one after the other."""

    def run(
        self,
        cell: GatedCell,
        inputs: tf.Tensor,
        mask: tf.Tensor | None,
        states: Sequence[tf.Tensor],
        noise: Noise,
        training: bool,
        concurrent: int = 1,
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Runs `cell` over inputs (B, T, D), as specified in `models.cells.implementations`."""
        states, outputs = list(states), []
        for t in range(inputs.shape[1]):
            after = cell.step(inputs[:, t], states, noise.at_step(t))
            if mask is not None:
                valid = mask[:, t, None]
                after = [tf.where(valid, new, old) for new, old in zip(after, states, strict=True)]
            states = after
            outputs.append(states[0])
        return tf.stack(outputs, axis=1), states
