"""A gated decoder: predicts each token from the tokens before it and a memory.

Shapes: B batch, T time, S places of the memory, M their features, V tokens.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from ..cells.cell import Noise, Tensor
from ..cells.recurrent import GatedRNN
from ..cells.specs import CellSpec
from .attention import ATTENTIONS, Attention

KINDS = (*ATTENTIONS, "none")


class Memory(NamedTuple):
    """Encoded source that a decoder attends to.

    Attributes:
        values: (B, S, M).
        mask: (B, S) bool, true at valid positions.
        keys: `Attention.keys(values)`, (B, S, units).
    """

    values: object
    mask: object
    keys: object


@keras.saving.register_keras_serializable(package="gated")
class Decoder(keras.layers.Layer):
    """Gated layers with attention over a memory, predicting the next token.

    From the second layer on, each layer adds its output to its input. Attention follows the
    recurrence (Luong et al. 2015, sec. 3.1), so that with teacher forcing each layer
    computes the whole sequence in one call; a tanh layer combines hidden state and context
    into the attentional state (eq. 5). With `input_feeding` the next step reads the
    attentional state as well (sec. 3.3), so steps are computed one by one. The initial
    states are tanh layers of the mean of the memory.

    Args:
        vocabulary: V, one more than the largest id.
        embedding: Features of an embedded token and of the attentional state.
        units: Units of each layer.
        cell: Cell spec or name, as accepted by `models.cells.specs.find`.
        layers: Number of recurrent layers.
        attention: One of `KINDS`; with "none" the memory only sets the initial states.
        input_feeding: Whether a step reads the attentional state of the previous step.
        tied: Whether output weights and embedding are shared.
        dropout: Share of features dropped in training.
        implementation: Implementation of `GatedRNN`.
        **kwargs: `name`, `dtype` and `trainable` of a Keras layer.

    Call arguments:
        tokens: (B, T) int32, at each step the token before the one to predict; or
            (B, C, T), C sequences per memory.
        memory: (B, S, M).
        mask: (B, S) bool, true at valid positions of the memory; None means all are.
        training: Whether dropout is applied.

    Returns:
        The logits, (B, T, V) float32, or (B, C, T, V); and the attention weights,
        (B, T, S) float32, or (B, C, T, S), zeros without attention.

    Raises:
        ValueError: `attention` is not in `KINDS`, or the cell is invalid.

    Example:
        >>> import numpy as np
        >>> from models.layers.decoder import Decoder
        >>> decoder = Decoder(vocabulary=9, embedding=4, units=5, cell="gru")
        >>> logits, weights = decoder(np.array([[1, 7, 3]]), np.ones((1, 6, 2), "float32"))
        >>> tuple(logits.shape), tuple(weights.shape)
        ((1, 3, 9), (1, 3, 6))
    """

    def __init__(
        self,
        vocabulary: int,
        embedding: int,
        units: int,
        cell: CellSpec | Mapping | str = "lstm",
        *,
        layers: int = 1,
        attention: str = "multiplicative",
        input_feeding: bool = False,
        tied: bool = True,
        dropout: float = 0.0,
        implementation: str = "auto",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if attention not in KINDS:
            raise ValueError(f"attention must be one of {list(KINDS)}, got {attention!r}.")
        self._settings = {
            "vocabulary": vocabulary,
            "embedding": embedding,
            "units": units,
            "layers": layers,
            "attention": attention,
            "input_feeding": input_feeding,
            "tied": tied,
            "dropout": dropout,
            "implementation": implementation,
        }
        common = {"dtype": self.dtype_policy, "trainable": self.trainable}
        self.input_feeding, self.tied = input_feeding, tied
        # Tied weights also form the output: with Keras's small defaults the logits would vanish.
        self.embedding = keras.layers.Embedding(
            vocabulary,
            embedding,
            embeddings_initializer=keras.initializers.RandomNormal(stddev=embedding**-0.5),
            name="embedding",
            **common,
        )
        self.layers = [
            GatedRNN(
                units,
                cell,
                return_sequences=True,
                return_state=True,
                implementation=implementation,
                name=f"layer_{number}",
                **common,
            )
            for number in range(layers)
        ]
        self.attention = None
        if attention != "none":
            self.attention = Attention(attention, name="attention", **common)
        self.mix = keras.layers.Dense(embedding, activation="tanh", name="mix", **common)
        widths = [width for layer in self.layers for width in layer.cells[0].state_size]
        self.first = [
            keras.layers.Dense(width, activation="tanh", name=f"first_{number}", **common)
            for number, width in enumerate(widths)
        ]
        self.dropout = keras.layers.Dropout(dropout, **common)
        self.supports_masking = True  # the mask of the memory; outputs carry none

    def compute_mask(
        self, tokens: Tensor, memory: Tensor, mask: Tensor | None = None
    ) -> list[None]:
        return [None, None]

    def build(
        self, tokens_shape: Sequence[int | None], memory_shape: Sequence[int | None], *others: Any
    ) -> None:
        size, hidden = self._settings["embedding"], self.layers[0].output_size
        features = memory_shape[-1]
        self.embedding.build((None, None))
        inputs = size * (2 if self.input_feeding else 1)
        for layer in self.layers:
            layer.build((None, None, inputs))
            inputs = hidden
        if self.attention:
            self.attention.build((None, None, hidden), (None, None, features))
            hidden += features
        self.mix.build((None, None, hidden))
        for dense in self.first:
            dense.build((None, features))
        self.bias = self.add_weight(
            name="bias", shape=(self._settings["vocabulary"],), initializer="zeros"
        )
        if not self.tied:
            self.output_embedding = self.add_weight(
                name="output_embedding",
                shape=(self._settings["vocabulary"], size),
                initializer="glorot_uniform",
            )
        self.built = True

    def call(
        self, tokens: Tensor, memory: Tensor, mask: Tensor | None = None, training: bool = False
    ) -> tuple[Tensor, Tensor]:
        if mask is None:  # Keras passes an attached mask itself only to layers with one input
            mask = getattr(memory, "_keras_mask", None)
        memory = self.prepare_memory(memory, mask)
        shape = ops.shape(tokens)
        if len(shape) == 3:
            memory = Memory(*(_repeat_rows(tensor, shape[1]) for tensor in memory))
            flat = ops.reshape(tokens, (-1, shape[2]))
            logits, weights = self._teacher_forcing(flat, memory, training)
            return tuple(
                ops.reshape(output, (*shape, ops.shape(output)[-1])) for output in (logits, weights)
            )
        return self._teacher_forcing(tokens, memory, training)

    def _teacher_forcing(self, tokens, memory, training):
        """Logits and attention weights of tokens (B, T) that are given in advance."""
        states = self.initial_states(memory)
        x = self.dropout(self.embedding(tokens), training=training)
        if self.input_feeding:
            attentional, weights = self._step_by_step(x, memory, states, training)
        else:
            attentional, weights = self._whole_sequence(x, memory, states, training)
        return self.logits(self.dropout(attentional, training=training)), weights

    def prepare_memory(self, values: Tensor, mask: Tensor | None = None) -> Memory:
        """Returns the `Memory` of values (B, S, M) and a mask (B, S) or None, for all steps."""
        values = ops.cast(values, self.compute_dtype)
        if mask is None:
            mask = ops.ones_like(values[..., 0], dtype="bool")
        mask = ops.cast(mask, "bool")
        values = ops.where(mask[..., None], values, ops.zeros_like(values))
        return Memory(values, mask, self.attention.keys(values) if self.attention else values)

    def initial_states(self, memory: Memory) -> list:
        """Returns the states before the first token, those of each layer in turn, each (B, width).

        With input feeding the last one is the attentional state, zeros at first.
        """
        count = ops.sum(ops.cast(memory.mask, "float32"), axis=1, keepdims=True)
        total = ops.sum(ops.cast(memory.values, "float32"), axis=1)
        mean = ops.cast(total / ops.maximum(count, 1.0), self.compute_dtype)
        dtype = self.layers[0].cells[0].state_dtype
        states = [ops.cast(dense(mean), dtype) for dense in self.first]
        if self.input_feeding:
            zeros = ops.zeros_like(mean[:, :1])
            states.append(ops.cast(ops.repeat(zeros, self._settings["embedding"], axis=1), dtype))
        return states

    def step(self, tokens: Tensor, memory: Memory, states: list) -> tuple:
        """Computes one step.

        Args:
            tokens: (B,) int32, the previous tokens.
            memory: Output of `prepare_memory`.
            states: Output of `initial_states`, or those of the previous step.

        Returns:
            The logits of the next token, (B, V) float32; the attention weights, (B, S)
            float32; and the next states.
        """
        attentional, weights, states = self._advance(self.embedding(tokens), memory, states)
        return self.logits(attentional), weights, states

    def logits(self, attentional: Tensor) -> Tensor:
        """Returns the logits (..., V) float32 of attentional states (..., embedding)."""
        table = self.embedding.embeddings if self.tied else self.output_embedding
        table = ops.cast(ops.convert_to_tensor(table), attentional.dtype)
        logits = ops.matmul(attentional, ops.transpose(table))
        return ops.cast(logits, "float32") + ops.cast(self.bias, "float32")

    def _whole_sequence(self, x, memory, states, training):
        """Attentional states (B, T, E) and weights of a sequence, layer by layer."""
        states = iter(states)
        for number, layer in enumerate(self.layers):
            initial = [next(states) for _ in layer.cells[0].state_size]
            if number == 0:
                x, *_ = layer(x, initial_state=initial)
            else:
                inputs = self.dropout(x, training=training)
                output, *_ = layer(inputs, initial_state=initial)
                x = x + output
        return self._attend(x, memory)

    def _attend(self, hidden, memory):
        """Attentional states (B, T, E) of hidden states (B, T, H), and the attention weights."""
        if not self.attention:
            steps = ops.zeros_like(hidden[..., :1], dtype="float32")
            positions = ops.zeros_like(memory.mask, dtype="float32")
            return self.mix(hidden), steps * positions[:, None]
        context, weights = self.attention(hidden, memory.values, memory.mask, memory.keys)
        return self.mix(ops.concatenate([hidden, context], axis=-1)), weights

    def _advance(self, x, memory, states, noises=None):
        """Attentional state, weights and next states of one embedded token (B, E).

        `noises` has the masks of the step for the cell of each layer, in training.
        """
        states, next_states = list(states), []
        if self.input_feeding:
            x = ops.concatenate([x, ops.cast(states.pop(), x.dtype)], axis=-1)
        for number, layer in enumerate(self.layers):
            cell = layer.cells[0]
            previous = [states.pop(0) for _ in cell.state_size]
            noise = None if noises is None else noises[number]
            output, following = cell(x, previous, noise=noise)
            next_states += following
            output = ops.cast(output, self.compute_dtype)
            x = x + output if number else output
        attentional, weights = self._attend(x[:, None], memory)
        attentional, weights = attentional[:, 0], weights[:, 0]
        if self.input_feeding:
            next_states.append(ops.cast(attentional, next_states[0].dtype))
        return attentional, weights, next_states

    def _step_by_step(self, x, memory, states, training):
        """Attentional states (B, T, E) and weights, each step reading the previous state."""
        widths, size = [state.shape[-1] for state in states], self._settings["embedding"]
        dtype = keras.backend.result_type(states[0].dtype, "float32")

        def advance(packed, inputs):
            previous = _split(packed, widths)
            token, noises = unpack(inputs)
            attentional, weights, following = self._advance(token, memory, previous, noises)
            packed = ops.concatenate(
                [*following, ops.cast(attentional, dtype), ops.cast(weights, dtype)], axis=-1
            )
            return packed, packed

        # Keras scans one tensor, of at least one step, into outputs of the shape of the state.
        steps = ops.swapaxes(ops.pad(x, [[0, 0], [0, 1], [0, 0]]), 0, 1)
        outputs = ops.concatenate([steps[0], memory.values[..., 0]], axis=-1)
        first = ops.concatenate([*states, ops.cast(ops.zeros_like(outputs), dtype)], axis=-1)
        steps, unpack = self._with_noise(steps, training)
        outputs = ops.swapaxes(ops.scan(advance, first, steps)[1], 0, 1)[:, :-1, sum(widths) :]
        attentional, weights = outputs[..., :size], outputs[..., size:]
        return ops.cast(attentional, self.compute_dtype), ops.cast(weights, "float32")

    def _with_noise(self, steps, training):
        """Packs inputs (T, B, E) and the random masks of the cells into one tensor.

        Masks are drawn once for the sequence, as in `GatedRNN`. Returns the tensor, and a
        function from a step of it to the input (B, E) and the `Noise` of each layer.
        """
        if not (training and self.layers[0].spec.random):
            return steps, lambda step: (step, None)
        count, batch = ops.shape(steps)[:2]
        noises = [layer.cells[0].draw(batch, count) for layer in self.layers]
        masks = [mask for noise in noises for mask in noise.steps.values()]
        widths = [tensor.shape[-1] for tensor in (steps, *masks)]
        dtype = self.layers[0].cells[0].state_dtype
        packed = ops.concatenate([ops.cast(tensor, dtype) for tensor in (steps, *masks)], axis=-1)

        def unpack(step):
            x, *masks = _split(step, widths)
            step_noises, remaining = [], iter(masks)
            for noise in noises:
                always = {**noise.always, **{name: next(remaining) for name in noise.steps}}
                step_noises.append(Noise(always, weights=noise.weights))
            return ops.cast(x, self.compute_dtype), step_noises

        return packed, unpack

    def compute_output_shape(
        self, tokens_shape: Sequence[int | None], memory_shape: Sequence[int | None], *others: Any
    ) -> tuple[tuple, tuple]:
        steps = tuple(tokens_shape)
        return (*steps, self._settings["vocabulary"]), (*steps, memory_shape[1])

    def compute_output_spec(
        self, tokens: Tensor, memory: Tensor, mask: Tensor | None = None, training: bool = False
    ) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        logits, weights = self.compute_output_shape(tokens.shape, memory.shape)
        return keras.KerasTensor(logits, "float32"), keras.KerasTensor(weights, "float32")

    def get_config(self) -> dict[str, Any]:
        cell = self.layers[0].get_config()["cell"]
        return {**super().get_config(), **self._settings, "cell": cell}


def _repeat_rows(x, times):
    """Repeats each row `times` times, consecutively."""
    shape = ops.shape(x)
    x = ops.broadcast_to(x[:, None], (shape[0], times, *shape[1:]))
    return ops.reshape(x, (-1, *shape[1:]))


def _split(packed, widths):
    """Splits the last axis into parts of the given widths."""
    start, parts = 0, []
    for width in widths:
        parts.append(packed[..., start : start + width])
        start += width
    return parts
