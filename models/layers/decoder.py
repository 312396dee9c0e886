"""A gated decoder: predicts each token from the tokens before it and a memory.

Shapes: B batch, T time, S places of the memory, M their features, V tokens.
"""

from typing import NamedTuple

import keras
from keras import ops

from ..cells.recurrent import GatedRNN
from .attention import ATTENTIONS, Attention

KINDS = (*ATTENTIONS, "none")


class Memory(NamedTuple):
    """What a decoder looks at.

    Attributes:
        values: (B, S, M).
        mask: (B, S) bool, true where there is something.
        keys: What `Attention.keys` made of the values.
    """

    values: object
    mask: object
    keys: object


@keras.saving.register_keras_serializable(package="gated")
class Decoder(keras.layers.Layer):
    """Layers of gated cells, attention, and the logits of the next token.

    Each layer adds its output to its input from the second on. Attention comes after
    the recurrence (Luong et al. 2015), so that under teacher forcing each layer runs
    over the whole sequence at once; what it looked at is mixed in by a tanh. With
    `input_feeding` that mix goes into the next step too, so steps come one by one.
    The first states are what a tanh makes of the mean of the memory.

    Args:
        vocabulary: V.
        embedding: Features of a token, and of the mix that is held against the
            tokens where weights are tied.
        units: Of each layer.
        cell: What `models.cells.specs.find` takes.
        layers: How many.
        attention: One of `KINDS`; with "none" the memory is in the first states alone.
        input_feeding: Whether a step reads the mix of the one before.
        tied: Whether the output's weights are the embedding's.
        dropout: Share of features dropped while training.
        implementation: That of `GatedRNN`.

    Call arguments:
        tokens: (B, T) int32, each the token before the one to predict; or (B, C, T), C
            sequences of one memory, which then have logits and weights each.
        memory: (B, S, M).
        mask: (B, S) bool, true where the memory holds something.
        training: Whether dropout drops.

    Returns:
        The logits, (B, T, V) float32; and the weights of attention, (B, T, S) float32,
        zeros without attention.
    """

    def __init__(
        self,
        vocabulary: int,
        embedding: int,
        units: int,
        cell="lstm",
        *,
        layers: int = 1,
        attention: str = "multiplicative",
        input_feeding: bool = False,
        tied: bool = True,
        dropout: float = 0.0,
        implementation: str = "auto",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if attention not in KINDS:
            raise ValueError(f"attention must be one of {list(KINDS)}, got {attention!r}.")
        self._told = {
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
        policy = self.dtype_policy
        self.input_feeding, self.tied = input_feeding, tied
        # Tied weights are an output's too: of Keras's small ones nothing would come.
        self.embedding = keras.layers.Embedding(
            vocabulary,
            embedding,
            embeddings_initializer=keras.initializers.RandomNormal(stddev=embedding**-0.5),
            dtype=policy,
            name="embedding",
        )
        self.layers = [
            GatedRNN(
                units,
                cell,
                return_sequences=True,
                return_state=True,
                implementation=implementation,
                dtype=policy,
                name=f"layer_{at}",
            )
            for at in range(layers)
        ]
        self.attention = None
        if attention != "none":
            self.attention = Attention(attention, dtype=policy, name="attention")
        self.mix = keras.layers.Dense(embedding, activation="tanh", dtype=policy, name="mix")
        widths = [width for layer in self.layers for width in layer.cells[0].state_size]
        self.first = [
            keras.layers.Dense(width, activation="tanh", dtype=policy, name=f"first_{at}")
            for at, width in enumerate(widths)
        ]
        self.dropout = keras.layers.Dropout(dropout, dtype=policy)
        self.supports_masking = True  # that of the memory, which ends here

    def compute_mask(self, tokens, memory, mask=None):
        return [None, None]

    def build(self, tokens_shape, memory_shape, *others):
        size, hidden = self._told["embedding"], self.layers[0].output_size
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
            name="bias", shape=(self._told["vocabulary"],), initializer="zeros"
        )
        if not self.tied:
            self.output_embedding = self.add_weight(
                name="output_embedding",
                shape=(self._told["vocabulary"], size),
                initializer="glorot_uniform",
            )
        self.built = True

    def call(self, tokens, memory, mask=None, training=False):
        memory = self.look_at(memory, mask)
        shape = ops.shape(tokens)
        if len(shape) == 3:
            memory = Memory(*(_repeated(each, shape[1]) for each in memory))
            logits, weights = self._taught(ops.reshape(tokens, (-1, shape[2])), memory, training)
            return tuple(
                ops.reshape(each, (*shape, ops.shape(each)[-1])) for each in (logits, weights)
            )
        return self._taught(tokens, memory, training)

    def _taught(self, tokens, memory, training):
        """The logits and weights of tokens (B, T) that are all known."""
        states = self.begin(memory)
        x = self.dropout(self.embedding(tokens), training=training)
        if self.input_feeding:
            mixed, weights = self._one_by_one(x, memory, states)
        else:
            mixed, weights = self._at_once(x, memory, states, training)
        return self.logits(self.dropout(mixed, training=training)), weights

    def look_at(self, values, mask=None) -> Memory:
        """Makes a memory of values (B, S, M) and a mask (B, S), once for all steps."""
        values = ops.cast(values, self.compute_dtype)
        if mask is None:
            mask = ops.ones_like(values[..., 0], dtype="bool")
        mask = ops.cast(mask, "bool")
        values = ops.where(mask[..., None], values, ops.zeros_like(values))
        return Memory(values, mask, self.attention.keys(values) if self.attention else values)

    def begin(self, memory: Memory) -> list:
        """The states before the first token: those of each layer, each (B, its width).

        With input feeding the mix of the step before comes last, as zeros.
        """
        count = ops.sum(ops.cast(memory.mask, "float32"), axis=1, keepdims=True)
        total = ops.sum(ops.cast(memory.values, "float32"), axis=1)
        mean = ops.cast(total / ops.maximum(count, 1.0), self.compute_dtype)
        kind = self.layers[0].cells[0].state_dtype
        states = [ops.cast(dense(mean), kind) for dense in self.first]
        if self.input_feeding:
            none = ops.zeros_like(mean[:, :1])
            states.append(ops.cast(ops.repeat(none, self._told["embedding"], axis=1), kind))
        return states

    def step(self, tokens, memory: Memory, states: list) -> tuple:
        """Takes one token (B,) int32 and gives what the next may be.

        Returns:
            The logits (B, V), the weights of attention (B, S), and the next states.
        """
        mixed, weights, states = self._advance(self.embedding(tokens), memory, states)
        return self.logits(mixed), weights, states

    def logits(self, mixed):
        """The logits of a mix (..., embedding): (..., V) float32."""
        table = self.embedding.embeddings if self.tied else self.output_embedding
        table = ops.cast(ops.convert_to_tensor(table), mixed.dtype)
        logits = ops.matmul(mixed, ops.transpose(table))
        return ops.cast(logits, "float32") + ops.cast(self.bias, "float32")

    def _at_once(self, x, memory, states, training):
        states = iter(states)
        for at, layer in enumerate(self.layers):
            given = [next(states) for _ in layer.cells[0].state_size]
            read = x if not at else self.dropout(x, training=training)
            output, *_ = layer(read, initial_state=given)
            x = x + output if at else output
        return self._looked(x, memory)

    def _looked(self, hidden, memory):
        """The mix of outputs (B, T, H) and what they look at; and the weights."""
        if not self.attention:
            weights = ops.zeros_like(hidden[..., :1], dtype="float32")
            there = ops.zeros_like(memory.mask, dtype="float32")
            return self.mix(hidden), weights * there[:, None]
        context, weights = self.attention(hidden, memory.values, memory.mask, memory.keys)
        return self.mix(ops.concatenate([hidden, context], axis=-1)), weights

    def _advance(self, x, memory, states):
        """One step of what is embedded, (B, E): its mix, its weights, the next states."""
        states, after = list(states), []
        if self.input_feeding:
            x = ops.concatenate([x, ops.cast(states.pop(), x.dtype)], axis=-1)
        for at, layer in enumerate(self.layers):
            cell = layer.cells[0]
            given = [states.pop(0) for _ in cell.state_size]
            output, found = cell(x, given)
            after += found
            output = ops.cast(output, self.compute_dtype)
            x = x + output if at else output
        mixed, weights = self._looked(x[:, None], memory)
        mixed, weights = mixed[:, 0], weights[:, 0]
        if self.input_feeding:
            after.append(ops.cast(mixed, after[0].dtype))
        return mixed, weights, after

    def _one_by_one(self, x, memory, states):
        """The mixes of all steps (B, T, E), each of which reads the one before, and the weights."""
        widths, size = [state.shape[-1] for state in states], self._told["embedding"]

        def advance(packed, now):
            mixed, weights, after = self._advance(now, memory, _split(packed, widths))
            told = [ops.cast(mixed, "float32"), weights]
            packed = ops.concatenate([*after, *told], axis=-1)
            return packed, packed

        # Keras scans one tensor, of one step or more, into steps of the shape of the state.
        steps = ops.swapaxes(ops.pad(x, [[0, 0], [0, 1], [0, 0]]), 0, 1)
        told = ops.concatenate([steps[0], memory.values[..., 0]], axis=-1)
        first = ops.concatenate([*states, ops.cast(ops.zeros_like(told), "float32")], axis=-1)
        told = ops.swapaxes(ops.scan(advance, first, steps)[1], 0, 1)[:, :-1, sum(widths) :]
        return ops.cast(told[..., :size], self.compute_dtype), told[..., size:]

    def compute_output_shape(self, tokens_shape, memory_shape, *others):
        steps = tuple(tokens_shape)
        return (*steps, self._told["vocabulary"]), (*steps, memory_shape[1])

    def get_config(self):
        cell = self.layers[0].get_config()["cell"]
        return {**super().get_config(), **self._told, "cell": cell}


def _repeated(x, times):
    """Each row some times, one after another."""
    shape = ops.shape(x)
    x = ops.broadcast_to(x[:, None], (shape[0], times, *shape[1:]))
    return ops.reshape(x, (-1, *shape[1:]))


def _split(packed, widths):
    """Parts of the last axis, of some widths."""
    ends, parts = 0, []
    for width in widths:
        parts.append(packed[..., ends : ends + width])
        ends += width
    return parts
