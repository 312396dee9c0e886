"""`GatedRNN`, the layer that runs any gated cell over time.

Shapes: B batch, T time, D input features, H units, P the width of h, which differs from H only
in a cell with a projection.
"""

import importlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import keras
from keras import ops

from .cell import GatedCell, Noise, Tensor, fits, positive_integer, static_shape
from .specs import CellSpec

DIRECTIONS = ("forward", "backward", "both")
MERGES = ("concat", "sum", "mul", "ave", None)
IMPLEMENTATIONS = ("auto", "portable", "reference", "loop", "block", "scan", "cudnn")
PORTABLE = "portable"  # any cell on any device, in core TensorFlow ops: used in served graphs

_CHECKPOINTING = ("auto", "portable", "loop")  # implementations that `checkpoint_every` works with

# Arguments that are those of each cell.
_CELL_OPTIONS = (
    "kernel_initializer",
    "recurrent_initializer",
    "use_bias",
    "bias_initializer",
    "kernel_regularizer",
    "recurrent_regularizer",
    "bias_regularizer",
    "kernel_constraint",
    "recurrent_constraint",
    "bias_constraint",
)


@keras.saving.register_keras_serializable(package="gated")
class GatedRNN(keras.layers.Layer):
    """A gated cell over time, in one or both directions and in several layers.

    Masked steps leave the states unchanged. The output at a masked step is the last valid
    output before it, in reading direction, and zeros before the first valid step (as in
    `keras.layers.RNN`). Inputs at masked steps affect no value and no gradient, NaN included.

    Args:
        units: H, the number of units per direction.
        cell: A `CellSpec`, a name in `CELLS`, a spec as a mapping or JSON, or the path of a
            .json file with one.
        layers: Number of layers, each reading the output of the one below.
        direction: "forward", "backward" (with outputs in the order of the inputs) or "both".
        merge: How the outputs of both directions are combined: "concat", "sum", "mul", "ave", or
            None, which returns both and requires a single layer.
        dropout: Share of the features dropped between layers in training. With a single layer
            there is nothing to drop: it is ignored, with a warning. `dropout` of a Keras layer
            is `input_dropout` here.
        input_dropout: Share of the features of the inputs dropped in training, the same ones
            at all steps of a sequence.
        return_sequences: Whether to return the outputs of all steps.
        return_state: Whether to return the final states as well.
        stateful: Whether the final states of a batch are the initial states of the next, row by
            row, until `reset_state`. Requires a known batch size.
        zero_output_for_mask: Whether the outputs of all steps are zero at masked steps.
        go_backwards: Whether to reverse the inputs in time first; as in Keras, outputs then
            stay in that order.
        time_major: Whether time is the first axis of inputs, outputs and mask.
        implementation: "auto" selects the fastest implementation that computes the same
            function: "cudnn" on a GPU, for the cells that cuDNN supports; "scan", all steps at
            once, for cells whose states are linear; otherwise "portable", which chooses among
            "loop", "block" and "scan" by cell and size and runs any cell on any device.
            "reference" is the definition and needs no TensorFlow.
        checkpoint_every: K, if training keeps the states before every K-th step only, and
            computes the other values of K steps at a time again in the backward pass (gradient
            checkpointing; Chen et al. 2016, arXiv:1604.06174): less memory for long sequences,
            in about a third more time. Training then runs in "loop". With `jit_compile=True` and
            on other backends than TensorFlow it has no effect. None keeps the values of all steps.
        kernel_initializer: Initializer of the input weights, applied to each gate separately.
        recurrent_initializer: Initializer of the recurrent weights, applied to each gate
            separately.
        use_bias: Whether there are biases; without them the initial biases of the cell have
            no effect.
        bias_initializer: Initializer of the biases of gates to which the cell gives none.
        kernel_regularizer: Regularizer of the input weights.
        recurrent_regularizer: Regularizer of the recurrent weights.
        bias_regularizer: Regularizer of the biases.
        kernel_constraint: Constraint on the input weights.
        recurrent_constraint: Constraint on the recurrent weights.
        bias_constraint: Constraint on the biases.
        seed: Seed of dropout, recurrent dropout and zoneout; None draws one.
        **kwargs: `name`, `dtype` and `trainable` of a Keras layer.

    Call arguments:
        inputs: (B, T, D), or (T, B, D) if time-major.
        initial_state: List of initial states, in the order below; None means zeros.
        mask: (B, T) bool, or (T, B) if time-major, true at valid steps.
        training: Whether dropout and zoneout are applied.

    Returns:
        (B, `output_size`), the output after the last step of each direction; or
        (B, T, `output_size`) with `return_sequences`. With `return_state` a list: the output,
        then the final states, each (B, width), ordered by layer, by direction (forward
        first) and by state (h, then c). Outputs have the compute dtype of the layer, states
        that of its variables.

    Raises:
        ValueError: An argument is invalid, the implementation cannot run the cell, or the
            inputs have an unknown number of features.

    Example:
        >>> import numpy as np
        >>> from models import CellSpec, GatedRNN
        >>> spec = CellSpec("lstm", bias={"forget": 1.0}, peepholes=["output"])
        >>> layer = GatedRNN(8, spec, direction="both", return_sequences=True)
        >>> tuple(layer(np.ones((2, 5, 3), "float32")).shape)
        (2, 5, 16)
    """

    _tracer = None  # set by `models.cells.tracing` to run in place of an implementation
    tuning = None  # `Tuning` of `models.cells.tuning`, if training steps have been timed

    def __init__(
        self,
        units: int,
        cell: CellSpec | Mapping | str = "lstm",
        *,
        layers: int = 1,
        direction: str = "forward",
        merge: str | None = "concat",
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        return_sequences: bool = False,
        return_state: bool = False,
        stateful: bool = False,
        zero_output_for_mask: bool = False,
        go_backwards: bool = False,
        time_major: bool = False,
        implementation: str = "auto",
        checkpoint_every: int | None = None,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
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
        super().__init__(autocast=False, **kwargs)
        for name, value, choices in (
            ("direction", direction, DIRECTIONS),
            ("merge", merge, MERGES),
            ("implementation", implementation, IMPLEMENTATIONS),
        ):
            if value not in choices:
                raise ValueError(f"{name} must be one of {list(choices)}, got {value!r}.")
        for name, rate in (("dropout", dropout), ("input_dropout", input_dropout)):
            if not 0.0 <= rate < 1.0:
                raise ValueError(f"{name} must be at least 0 and below 1, got {rate!r}.")
        self.units = positive_integer("units", units)
        self.layers = positive_integer("layers", layers)
        if merge is None and direction == "both" and self.layers > 1:
            raise ValueError(
                f"merge must be one of {list(MERGES[:-1])} with {self.layers} layers, because the "
                "next layer reads one tensor, got None."
            )
        self.direction = direction
        self.merge = merge
        if dropout and self.layers == 1:
            warnings.warn(
                f"dropout={dropout!r} is ignored: it drops features between layers, and there is "
                "one layer. input_dropout drops features of the inputs.",
                stacklevel=2,
            )
            dropout = 0.0
        self.dropout = float(dropout)
        self.input_dropout = float(input_dropout)
        self.return_sequences = return_sequences
        self.return_state = return_state
        self.stateful = stateful
        self.zero_output_for_mask = zero_output_for_mask
        self.go_backwards = go_backwards
        self.time_major = time_major
        self.seed = None if seed is None else int(seed)
        self.implementation = implementation
        if checkpoint_every is not None:
            checkpoint_every = positive_integer("checkpoint_every", checkpoint_every)
        self.checkpoint_every = checkpoint_every
        self.supports_masking = True
        self._carried = _CarriedStates()
        self.input_spec = keras.InputSpec(ndim=3)
        self._backward = [False, True] if direction == "both" else [direction == "backward"]
        self.cells = self._make_cells(
            cell,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            use_bias=use_bias,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            recurrent_regularizer=recurrent_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            recurrent_constraint=recurrent_constraint,
            bias_constraint=bias_constraint,
        )
        self.spec = self.cells[0].spec
        # Keras compiles a model with XLA if all its layers support it: slow for every new shape.
        self.supports_jit = self.implementation_for() == "reference"
        count = self.layers - 1 if dropout else 0
        self._dropouts = [
            keras.layers.Dropout(
                dropout, seed=self._seed_of(len(self.cells) + index), dtype=self.dtype_policy
            )
            for index in range(count)
        ]
        if self.input_dropout:
            self._input_seed = keras.random.SeedGenerator(self.seed)

    def _make_cells(self, cell, **options):
        """A cell for each layer and direction, ordered by layer."""
        cells = []
        for layer in range(self.layers):
            for backward in self._backward:
                made = GatedCell(
                    self.units,
                    cell,
                    seed=self._seed_of(len(cells)),
                    dtype=self.dtype_policy,
                    trainable=self.trainable,
                    name=f"{'backward' if backward else 'forward'}_{layer}",
                    **options,
                )
                cells.append(made)
        return cells

    def _seed_of(self, index):
        """A seed for one of several generators, so that they differ."""
        return None if self.seed is None else self.seed + 1 + index

    @property
    def output_size(self) -> int:
        """Number of features of an output."""
        if self.direction == "both" and self.merge == "concat":
            return 2 * self.cells[0].output_size
        return self.cells[0].output_size

    @property
    def states(self) -> list[keras.Variable] | None:
        """States that a stateful layer carries to the next batch; None if it has none."""
        return self._carried.variables

    @property
    def state_size(self) -> list[int]:
        """Width of each state, in the order of `initial_state`."""
        return [size for cell in self.cells for size in cell.state_size]

    def get_initial_state(self, batch_size: int | Tensor) -> list[Tensor]:
        """Returns zeros for each state, (batch_size, width), in the order of `initial_state`."""
        return [state for cell in self.cells for state in cell.get_initial_state(batch_size)]

    def reset_state(self) -> None:
        """Sets the states that a stateful layer carries to zero."""
        for state in self.states or []:
            state.assign(ops.zeros_like(state))

    def reset_states(self) -> None:
        """Alias of `reset_state`, as in Keras."""
        self.reset_state()

    def implementation_for(self, device: str | None = None, training: bool = False) -> str:
        """Returns the name of the implementation that runs on a device.

        Args:
            device: "cpu" or "gpu"; None means a GPU if one is visible.
            training: Whether in training, where a layer that has been tuned
                (`models.cells.tuning`) runs the implementation that was the fastest.
        """
        if training and self._has_checkpoints:
            return "loop"
        if self.tuning and training:
            return self.tuning.implementation
        if self.implementation != "auto":
            return self.implementation
        if keras.backend.backend() != "tensorflow":
            return "reference"
        if device is None:
            device = "gpu" if _gpu_is_visible() else "cpu"
        for name in ("cudnn", "scan"):
            if _implementation(name).runs(self.spec, device, self.compute_dtype):
                return name
        return PORTABLE

    @property
    def _has_checkpoints(self) -> bool:
        # Not on other backends, on which a layer that was trained on TensorFlow may be loaded.
        return bool(self.checkpoint_every) and keras.backend.backend() == "tensorflow"

    def explain_implementation(self, device: str | None = None) -> str:
        """Returns which implementation runs on a device, and why, in one line.

        Args:
            device: "cpu" or "gpu"; None means a GPU if one is visible.
        """
        name = self.implementation_for(device)
        if self._has_checkpoints:
            return f"in training loop, because of checkpoint_every; otherwise {name}"
        if self.implementation != "auto":
            return f"{name}, as the argument says"
        if self.tuning:
            return f"in training {self.tuning.sentence()}; otherwise {name}, by rule"
        return f"{name}, by rule"

    def build(self, inputs_shape: Sequence[int | None]) -> None:
        features = inputs_shape[-1]
        self._check_implementation()
        if features is None:
            raise ValueError(
                f"{self.name}: the number of input features must be known, got {inputs_shape}."
            )
        per_layer = len(self._backward)
        for index, cell in enumerate(self.cells):
            cell.build((None, features if index < per_layer else self.output_size))
        if self.stateful:
            self._build_states(inputs_shape)
        self.input_spec = keras.InputSpec(ndim=3, axes={-1: features})
        self.built = True

    def _build_states(self, inputs_shape):
        batch = inputs_shape[1 if self.time_major else 0]
        if batch is None:
            raise ValueError(
                f"{self.name}: a stateful layer needs a known batch size, such as of "
                f"keras.Input(batch_shape=...), got inputs of shape {tuple(inputs_shape)}."
            )
        self._carried.variables = [
            keras.Variable(
                "zeros",
                shape=(batch, size),
                dtype=self.variable_dtype,
                trainable=False,
                name="rnn_state",
            )
            for size in self.state_size
        ]

    def _check_implementation(self):
        name = self.implementation
        available = ["reference"]
        if keras.backend.backend() == "tensorflow":
            device = "gpu" if name == "cudnn" else "cpu"
            available = implementations_of(self.spec, device, self.compute_dtype)
        if name not in ("auto", *available):
            reason = ""
            if name == "scan" and keras.backend.backend() == "tensorflow":
                reason = _reason_against_scan(self.spec)
            raise ValueError(
                f"implementation of {self.name} must be one of {['auto', *available]} for a cell "
                f"{self.spec.to_json()} of {self.compute_dtype} on the backend "
                f"{keras.backend.backend()}, got {name!r}{reason}."
            )
        if self._has_checkpoints and name not in _CHECKPOINTING:
            raise ValueError(
                f"checkpoint_every of {self.name} needs an implementation of "
                f"{list(_CHECKPOINTING)}, got {name!r}."
            )

    def call(
        self,
        inputs: Tensor,
        initial_state: Sequence[Tensor] | Tensor | None = None,
        mask: Tensor | None = None,
        training: bool = False,
    ) -> Tensor | list[Tensor]:
        if mask is None:  # Keras passes an attached mask itself, except when `call` is called
            mask = getattr(inputs, "_keras_mask", None)
        mask = None if mask is None else ops.convert_to_tensor(mask)
        if initial_state is None and self.stateful:
            initial_state = self.states
        if initial_state is not None:
            initial_state = [ops.convert_to_tensor(state) for state in _as_list(initial_state)]
        self._check_call(inputs, initial_state, mask)
        if self.time_major:
            inputs = ops.swapaxes(inputs, 0, 1)
            mask = None if mask is None else ops.swapaxes(mask, 0, 1)
        if self.go_backwards:
            inputs = ops.flip(inputs, 1)
            mask = None if mask is None else ops.flip(mask, 1)
        if mask is not None:
            mask = ops.cast(mask, "bool")
            inputs = ops.where(mask[..., None], inputs, ops.zeros_like(inputs))
        inputs = ops.cast(inputs, self.compute_dtype)
        if training and self.input_dropout:
            inputs = self._drop_features(inputs)
        outputs, lasts, finals = self._run(inputs, initial_state, mask, training)
        if self.stateful:
            for variable, state in zip(self.states, finals, strict=True):
                variable.assign(state)
        results = self._results(outputs, mask) if self.return_sequences else self._merged(lasts)
        if self.return_state:
            return [*results, *finals] if isinstance(results, list) else [results, *finals]
        return results

    def advance(
        self, inputs: Tensor, states: Sequence[Tensor], mask: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Reads the next steps of sequences, outside training.

        It returns the same whatever `return_sequences`, `return_state` and `stateful` are, so that
        the layer of a trained model can read a stream.

        Args:
            inputs: (B, T, D).
            states: Previous states, in the order of `initial_state`.
            mask: (B, T) bool, true at valid steps; None if all are.

        Returns:
            The outputs of all steps, (B, T, `output_size`), and the states after them.

        Raises:
            ValueError: The layer does not read forward.
        """
        if self.direction != "forward" or self.go_backwards or self.time_major:
            raise ValueError(
                f"{self.name}: only a layer of direction 'forward', without go_backwards and "
                f"time_major, can read a stream, got {self.direction!r}."
            )
        states = [ops.convert_to_tensor(state) for state in states]
        self._check_call(inputs, states, mask)
        if mask is not None:
            mask = ops.cast(mask, "bool")
            inputs = ops.where(mask[..., None], inputs, ops.zeros_like(inputs))
        outputs, _, finals = self._run(ops.cast(inputs, self.compute_dtype), states, mask, False)
        return outputs, finals

    def _drop_features(self, inputs):
        batch, _, features = ops.shape(inputs)
        ones = ops.ones((batch, 1, features), dtype=inputs.dtype)
        return inputs * keras.random.dropout(ones, self.input_dropout, seed=self._input_seed)

    def _run(self, inputs, initial_state, mask, training):
        """Runs all layers over inputs (B, T, D).

        Returns the outputs of the last layer, (B, T, ...), merged; the output after the last
        step of each of its directions, (B, P); and the final states of all layers.
        """
        states = self._states(inputs, initial_state)
        implementation = self._tracer or self._selected(training)
        per_layer, finals = len(self._backward), []
        for layer in range(self.layers):
            if layer and self._dropouts:
                inputs = self._dropouts[layer - 1](inputs, training=training)
            cells = self.cells[layer * per_layer : (layer + 1) * per_layer]
            initial = [next(states) for _ in cells]
            noises = [self._noise(cell, inputs, training) for cell in cells]
            arguments = (implementation, cells, inputs, mask, initial, noises, training)
            if len(cells) == 2 and hasattr(implementation, "run_both"):
                results = _run_both(*arguments)
            else:
                results = _run_each(*arguments, self._backward)
            inputs = self._merged([ops.cast(output, self.compute_dtype) for output, _ in results])
            finals += [state for _, final in results for state in final]
        lasts = [ops.cast(final[0], self.compute_dtype) for _, final in results]
        if mask is not None and initial_state is not None:
            # As in Keras, a row without valid steps has outputs of 0, but keeps its states.
            valid = ops.any(mask, axis=1)[:, None]
            lasts = [ops.where(valid, last, ops.zeros_like(last)) for last in lasts]
        return inputs, lasts, finals

    def _check_call(self, inputs, initial_state, mask):
        """Checks the shapes of the arguments of a call, as far as they are known."""
        if hasattr(inputs, "row_splits") or getattr(inputs, "ragged", False):
            raise ValueError(
                f"{self.name}: inputs must be a dense tensor, got a ragged one; pass "
                "inputs.to_tensor() and mask=tf.sequence_mask(inputs.row_lengths())."
            )
        shape = static_shape(inputs)
        batch = shape[1 if self.time_major else 0]
        if self.states and batch not in (None, self.states[0].shape[0]):
            raise ValueError(
                f"{self.name}: the batch size of a stateful layer must stay "
                f"{self.states[0].shape[0]}, got {batch}."
            )
        if mask is not None and not fits(static_shape(mask), shape[:2]):
            raise ValueError(
                f"{self.name}: mask must have the first two axes of the inputs, {shape[:2]}, "
                f"got {static_shape(mask)}."
            )
        if initial_state is None:
            return
        states, count = _as_list(initial_state), len(self.state_size)
        if len(states) != count:
            raise ValueError(
                f"{self.name}: initial_state must be a list of {count} states "
                f"({len(self.cells)} cells with {count // len(self.cells)} each), "
                f"got {len(states)}."
            )
        for state, width in zip(states, self.state_size, strict=True):
            actual = static_shape(state)
            if not (fits(actual, (batch, width)) or fits(actual, (1, width))):
                raise ValueError(
                    f"{self.name}: initial_state must have the shapes "
                    f"{[(batch, n) for n in self.state_size]}, where a batch of 1 is repeated, "
                    f"got {[static_shape(each) for each in states]}."
                )

    def _selected(self, training):
        """The module of the implementation that runs."""
        name = self.implementation_for(training=training)
        if training and self._has_checkpoints:
            return _Checkpointed(_implementation(name), self.checkpoint_every)
        if self.implementation == "auto":
            portable = _implementation(PORTABLE)
            if name == "scan" and not (self.tuning and training):  # for sizes where it is faster
                return portable
            # XLA has no kernel for the ops of cuDNN and of `block`.
            if name in ("cudnn", "block") and _implementation("loop").is_compiled_by_xla():
                return portable
        return _implementation(name)

    def _states(self, inputs, initial_state) -> Iterator[list[Tensor]]:
        """The list of initial states of each cell."""
        if initial_state is None:
            batch = ops.shape(inputs)[0]
            return (cell.get_initial_state(batch) for cell in self.cells)
        flat = []
        for state, width in zip(initial_state, self.state_size, strict=True):
            state = ops.cast(state, self.variable_dtype)
            if state.shape[0] == 1 and inputs.shape[0] != 1:
                state = ops.broadcast_to(state, (ops.shape(inputs)[0], width))
            flat.append(state)
        per_cell = len(self.cells[0].state_size)
        return (flat[i : i + per_cell] for i in range(0, len(flat), per_cell))

    def _noise(self, cell, inputs, training) -> Noise:
        if not (training and cell.spec.random):
            return cell.inference_noise()
        batch, steps = ops.shape(inputs)[:2]
        return cell.draw(batch, steps)

    def _merged(self, outputs):
        """The outputs of the directions as one tensor, or as a list if they are not merged."""
        if len(outputs) == 1:
            return outputs[0]
        if self.merge is None:
            return outputs
        if self.merge == "concat":
            return ops.concatenate(outputs, axis=-1)
        if self.merge == "mul":
            return ops.multiply(*outputs)
        total = ops.add(*outputs)
        return total / 2 if self.merge == "ave" else total

    def _results(self, outputs, mask):
        """The outputs of all steps, (B, T, ...), as they are returned."""
        if isinstance(outputs, list):
            return [self._results(output, mask) for output in outputs]
        if self.zero_output_for_mask and mask is not None:
            outputs = ops.where(mask[..., None], outputs, ops.zeros_like(outputs))
        return ops.swapaxes(outputs, 0, 1) if self.time_major else outputs

    @property
    def _result_count(self):
        """Number of tensors of outputs: one, or two if the directions are not merged."""
        return 2 if self.direction == "both" and self.merge is None else 1

    def compute_output_shape(
        self, inputs_shape: Sequence[int | None], initial_state_shape: Any = None
    ) -> tuple:
        first, second, _ = inputs_shape
        batch = second if self.time_major else first
        shape = (first, second) if self.return_sequences else (batch,)
        results = [(*shape, self.output_size)] * self._result_count
        if self.return_state:
            results += [(batch, size) for size in self.state_size]
        return tuple(results) if len(results) > 1 else results[0]

    def compute_output_spec(
        self,
        inputs: Tensor,
        initial_state: Sequence[Tensor] | Tensor | None = None,
        mask: Tensor | None = None,
        training: bool = False,
    ) -> keras.KerasTensor | list[keras.KerasTensor]:
        self._check_call(inputs, initial_state, mask)
        # By default Keras would declare the compute dtype for the states as well.
        count, shapes = self._result_count, self.compute_output_shape(inputs.shape)
        if count == 1 and not self.return_state:
            return keras.KerasTensor(shapes, self.compute_dtype)
        outputs = [keras.KerasTensor(shape, self.compute_dtype) for shape in shapes[:count]]
        return outputs + [keras.KerasTensor(shape, self.variable_dtype) for shape in shapes[count:]]

    def compute_mask(
        self, inputs: Tensor, previous_mask: Tensor | None = None
    ) -> Tensor | list[Tensor | None] | None:
        mask = previous_mask if self.return_sequences else None
        if self.go_backwards and mask is not None:
            mask = ops.flip(mask, 0 if self.time_major else 1)
        masks = [mask] * self._result_count
        if self.return_state:
            masks += [None] * len(self.state_size)
        return masks if len(masks) > 1 else mask

    def get_config(self) -> dict[str, Any]:
        cell = self.cells[0].get_config()
        return {
            **super().get_config(),
            "units": self.units,
            "cell": cell["spec"],
            "layers": self.layers,
            "direction": self.direction,
            "merge": self.merge,
            "dropout": self.dropout,
            "input_dropout": self.input_dropout,
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
            "stateful": self.stateful,
            "zero_output_for_mask": self.zero_output_for_mask,
            "go_backwards": self.go_backwards,
            "time_major": self.time_major,
            "implementation": self.implementation,
            "checkpoint_every": self.checkpoint_every,
            "seed": self.seed,
            **{name: cell[name] for name in _CELL_OPTIONS},
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "GatedRNN":
        if config.get("layers", 1) == 1:  # older files may contain a rate that has no effect
            config = {**config, "dropout": 0.0}
        return super().from_config(config)


class _CarriedStates:
    """Holder of the states of a stateful layer.

    Keras would count variables that are attributes of a layer among its weights.
    """

    def __init__(self):
        self.variables: list[keras.Variable] | None = None


class _Checkpointed:
    """The implementation `loop` with checkpoints of every K-th step."""

    def __init__(self, loop: ModuleType, every: int):
        self._loop, self._every = loop, every

    def run(self, *arguments: Any) -> tuple[Tensor, list[Tensor]]:
        """Does what `run` of an implementation does."""
        return self._loop.run(*arguments, checkpoint_every=self._every)


def _as_list(states):
    return list(states) if isinstance(states, (list, tuple)) else [states]


def _run_each(implementation, cells, inputs, mask, states, noises, training, backward):
    """Outputs (B, T, P) of each cell, in the order of the inputs, and its final states."""
    results = []
    for cell, state, noise, reverse in zip(cells, states, noises, backward, strict=True):
        x, m = inputs, mask
        if reverse:
            x, m = ops.flip(x, 1), None if m is None else ops.flip(m, 1)
        output, final = implementation.run(cell, x, m, state, noise, training, len(cells))
        output = _zero_before_first(output, m)
        results.append((ops.flip(output, 1) if reverse else output, final))
    return results


def _run_both(implementation, cells, inputs, mask, states, noises, training):
    """As `_run_each`, for a forward and a backward cell in one call."""
    (first, first_last), (second, second_last) = implementation.run_both(
        cells, inputs, mask, states, noises, training
    )
    reverse = None if mask is None else ops.flip(mask, 1)
    second = ops.flip(_zero_before_first(ops.flip(second, 1), reverse), 1)
    return [(_zero_before_first(first, mask), first_last), (second, second_last)]


def _zero_before_first(outputs, mask):
    """Sets the outputs before the first valid step to zero."""
    if mask is None:
        return outputs
    started = ops.cumsum(ops.cast(mask, "int32"), 1) > 0
    return ops.where(started[..., None], outputs, ops.zeros_like(outputs))


def implementations_of(spec: CellSpec, device: str = "cpu", dtype: str = "float32") -> list[str]:
    """Returns the names of the implementations that can run a cell.

    Args:
        spec: The cell.
        device: "cpu" or "gpu".
        dtype: Compute dtype, such as "float32".
    """
    names = IMPLEMENTATIONS[1:]
    return [name for name in names if _implementation(name).runs(spec, device, dtype)]


def _reason_against_scan(spec):
    """The term of an equation that is not linear, as the end of a message."""
    from .linearity import NotLinear, scan_order

    try:
        scan_order(spec)
    except NotLinear as error:
        return f", whose states are not linear: {error}"
    return ""


def _implementation(name: str) -> ModuleType:
    return importlib.import_module(f".implementations.{name}", __package__)


def _gpu_is_visible() -> bool:
    import tensorflow as tf

    return bool(tf.config.get_visible_devices("GPU"))
