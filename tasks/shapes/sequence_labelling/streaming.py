"""Tags of a text that arrives in pieces, by a network that reads forward.

Signatures, B streams:

    start(batch: int32[B]) -> state: string[B]
    feed(state: string[B], text: string[B]) -> tokens: string[B, T], tags: string[B, T],
        probability: float32[B, T], lengths: int32[B], state: string[B], valid: bool[B],
        bytes_read: int32[B]
    finish(state: string[B]) -> tokens, tags, probability, lengths, valid

`feed` returns the tokens whose tags are final, in order, and `finish` the others. The values of
`batch` do not matter, only their number. A text may be cut anywhere. `feed` reads at most
`MAX_PIECE` bytes of it, and says how many in `bytes_read`. A row whose state is not valid (see
`models.streaming`) has no tokens, an empty state and `valid` false.

Shapes: B rows, T tokens of a piece, K steps of lookahead, D features.
"""

import dataclasses
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import keras
import tensorflow as tf

from models.layers.lookahead import stack_steps
from models.networks.stream_reader import StreamReader, split_features
from models.streaming import State, StateCodec, fingerprint_of, pieces_to_read
from models.text.pieces import chunks, complete
from models.text.ud_tokenizer import tokenize
from models.text.words import PADDING

if TYPE_CHECKING:  # which imports this module
    from tasks.shapes.sequence_labelling.task import SequenceLabelling

_CHUNK_TOKENS = 4096  # tokens that the network reads at once, to bound the memory of a request


class _Held(NamedTuple):
    """Where a stream is.

    Attributes:
        states: States of the cells, (B, S).
        outputs: Outputs of the last K tokens, which have no tags yet, (B, K, D).
        tokens: These tokens, (B, K); the first ones are "" if there were fewer.
        count: Number of tokens that have no tags yet, (B,) int32.
    """

    states: tf.Tensor
    outputs: tf.Tensor
    tokens: tf.Tensor
    count: tf.Tensor


class _Tagged(NamedTuple):
    """Ids of tags, (B, N) each, of which those of `final` count."""

    tokens: tf.Tensor
    tags: tf.Tensor
    probability: tf.Tensor
    final: tf.Tensor


class TagStream:
    """Reads sentences in pieces.

    Args:
        task: The task.
        model: Its network, with direction "forward".
    """

    def __init__(self, task: "SequenceLabelling", model: keras.Model):
        self._task, self._lookahead = task, task.config.lookahead
        after = "lookahead" if self._lookahead else "encoder"
        self._reader = StreamReader(model, "encoder", after)
        settings = json.dumps(dataclasses.asdict(task.config), sort_keys=True)
        vocabularies = (task.words, task.characters, task.tags)
        words = ("\n".join(vocabulary.words) for vocabulary in vocabularies)
        with tf.init_scope():
            initial = self._to_state(self._initial(1), tf.constant([""]))
        self._codec = StateCodec(
            fingerprint_of(model, [settings, *words]), task.config.cell, initial
        )

    def signatures(self) -> dict[str, Callable]:
        """Returns the signatures of the module by name."""
        state, text = (tf.TensorSpec([None], tf.string, name) for name in ("state", "text"))

        @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, "batch")])
        def start(batch):
            return {"state": self._codec.start(tf.shape(tf.ensure_shape(batch, [None]))[0])}

        @tf.function(input_signature=[state, text])
        def feed(state, text):
            held, rest, valid = self._unpack(state)
            text = pieces_to_read(text, state, valid)
            done, rest = complete(tf.strings.join([rest, text]))
            tagged, held = self._read(tokenize(done), held)
            state = self._codec.pack(self._to_state(held, rest))
            return {
                **self._outputs([tagged], valid),
                "state": tf.where(valid, state, ""),
                "valid": valid,
                "bytes_read": tf.strings.length(text),
            }

        @tf.function(input_signature=[state])
        def finish(state):
            held, rest, valid = self._unpack(state)
            tagged, held = self._read(tokenize(chunks(rest)), held)
            return {**self._outputs([tagged, self._flush(held)], valid), "valid": valid}

        return {"start": start, "feed": feed, "finish": finish}

    def tag(self, tokens: tf.RaggedTensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the tags of whole sentences of N tokens: ids (N,), and probabilities (N,)."""
        tagged, held = self._read(tokens, self._initial(tokens.nrows(tf.int32)))
        _, ids, probability, final = _joined([tagged, self._flush(held)])
        return tf.boolean_mask(ids, final), tf.boolean_mask(probability, final)

    def _initial(self, rows: tf.Tensor | int) -> _Held:
        k = self._lookahead
        return _Held(
            tf.repeat(self._reader.initial, rows, axis=0),
            tf.zeros([rows, k, self._reader.output_size]),
            tf.fill([rows, k], ""),
            tf.zeros([rows], tf.int32),
        )

    def _to_state(self, held: _Held, rest: tf.Tensor) -> State:
        rows, size = tf.shape(held.count)[0], self._lookahead * self._reader.output_size
        outputs = tf.reshape(held.outputs, [rows, size])
        parts = [*tf.unstack(held.tokens, num=self._lookahead, axis=1), rest]
        return State(
            tf.concat([held.states, outputs], axis=1),
            held.count[:, None],
            tf.strings.join(parts, " "),  # neither tokens nor the rest contain blanks
        )

    def _unpack(self, strings: tf.Tensor) -> tuple[_Held, tf.Tensor, tf.Tensor]:
        """Returns where each stream is, its incomplete token, and whether its state is valid."""
        k, size = self._lookahead, self._reader.output_size
        state, valid = self._codec.unpack(strings)
        states, outputs = split_features(state.numbers, [self._reader.initial.shape[1], k * size])
        parts = tf.strings.split(state.text, " ").to_tensor("", shape=[None, k + 1])
        parts = tf.where(valid[:, None], parts, "")
        held = _Held(
            states,
            tf.reshape(outputs, [tf.shape(strings)[0], k, size]),
            parts[:, :k],
            tf.clip_by_value(state.integers[:, 0], 0, k),
        )
        return held, parts[:, k], valid

    def _read(self, tokens: tf.RaggedTensor, held: _Held) -> tuple[_Tagged, _Held]:
        """Reads the next tokens (B, T), some steps at a time so that they take constant memory."""
        lengths = tf.cast(tokens.row_lengths(), tf.int32)
        padded = tokens.to_tensor("")
        rows = tf.shape(padded)[0]
        width = tf.maximum(_CHUNK_TOKENS // tf.maximum(rows, 1), 1)

        def read_chunk(start, held, tagged):
            chunk = padded[:, start : start + width]
            count = tf.clip_by_value(lengths - start, 0, tf.shape(chunk)[1])
            more, held = self._read_chunk(chunk, count, held)
            return (
                start + width,
                held,
                _Tagged(*[tf.concat(both, 1) for both in zip(tagged, more, strict=True)]),
            )

        dtypes = (tf.string, tf.int32, tf.float32, tf.bool)
        tagged = _Tagged(*[tf.zeros([rows, 0], dtype) for dtype in dtypes])
        _, held, tagged = tf.while_loop(
            lambda start, *_: start < tf.shape(padded)[1],
            read_chunk,
            [tf.constant(0), held, tagged],
            shape_invariants=[
                tf.TensorShape([]),
                _Held(
                    tf.TensorShape([None, self._reader.initial.shape[1]]),
                    tf.TensorShape([None, self._lookahead, self._reader.output_size]),
                    tf.TensorShape([None, self._lookahead]),
                    tf.TensorShape([None]),
                ),
                _Tagged(*[tf.TensorShape([None, None])] * 4),
            ],
            parallel_iterations=1,
        )
        return tagged, held

    def _read_chunk(
        self, tokens: tf.Tensor, count: tf.Tensor, held: _Held
    ) -> tuple[_Tagged, _Held]:
        """Reads tokens (B, T), of which the first `count` of each row are valid."""
        rows, steps = tf.unstack(tf.shape(tokens))
        mask = tf.sequence_mask(count, steps)
        inputs = {}
        for name, values in self._task.network_inputs(tf.reshape(tokens, [-1])).items():
            values = tf.reshape(values, [rows, steps, *values.shape[1:]])
            valid = mask if values.shape.rank == 2 else mask[..., None]
            inputs[name] = tf.where(valid, values, PADDING)
        outputs, states = self._reader.advance(inputs, held.states, mask)
        outputs = tf.where(mask[..., None], outputs, 0.0)
        tagged, held = self._tag(tokens, outputs, count, held)
        return tagged, held._replace(states=states)

    def _flush(self, held: _Held) -> _Tagged:
        """Returns the tags of the tokens that have none yet, at the end of a sentence."""
        count = tf.fill(tf.shape(held.count), self._lookahead)
        return self._tag(
            tf.fill(tf.shape(held.tokens), ""), tf.zeros_like(held.outputs), count, held
        )[0]

    def _tag(
        self, tokens: tf.Tensor, outputs: tf.Tensor, count: tf.Tensor, held: _Held
    ) -> tuple[_Tagged, _Held]:
        """Tags the tokens that now have K successors.

        Args:
            tokens: (B, T) strings.
            outputs: Outputs at these tokens, (B, T, D), 0 at those that are not valid.
            count: Number of valid tokens, which come first, (B,) int32.
            held: Where the streams are.
        """
        k = self._lookahead
        joined = tf.concat([held.outputs, outputs], axis=1)
        all_tokens = tf.concat([held.tokens, tokens], axis=1)
        steps = tf.shape(tokens)[1]
        logits = self._reader.head(
            [stack_steps(each, k) for each in self._reader.by_network(joined)]
        )
        tags = tf.argmax(logits, axis=-1, output_type=tf.int32)
        position = tf.range(steps)[None]
        tagged = _Tagged(
            all_tokens[:, :steps],
            tags,
            tf.gather(tf.nn.softmax(logits), tags, batch_dims=2),
            (position >= k - held.count[:, None]) & (position < count[:, None]),
        )
        last = count[:, None] + tf.range(k)[None]
        return tagged, held._replace(
            outputs=tf.gather(joined, last, batch_dims=1),
            tokens=tf.gather(all_tokens, last, batch_dims=1),
            count=tf.minimum(held.count + count, k),
        )

    def _outputs(self, tagged: list[_Tagged], valid: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the outputs for what was tagged; rows that are not valid have none."""
        joined = _joined(tagged)
        final = joined.final & valid[:, None]
        order = tf.ragged.boolean_mask(
            tf.broadcast_to(tf.range(tf.shape(final)[1]), tf.shape(final)), final
        )
        index = order.to_tensor(0)
        selected = tf.sequence_mask(order.row_lengths(), tf.shape(index)[1])

        def select(values, padding):
            return tf.where(selected, tf.gather(values, index, batch_dims=1), padding)

        outputs = {
            "tokens": select(joined.tokens, ""),
            "tags": select(self._task.tags.decode(joined.tags), ""),
            "probability": select(joined.probability, 0.0),
            "lengths": tf.cast(order.row_lengths(), tf.int32),
        }
        if scripts := self._task.edit_scripts:
            flat = (tf.reshape(values, [-1]) for values in (joined.tags, joined.tokens))
            lemmas = tf.reshape(scripts.apply(*flat), tf.shape(joined.tokens))
            outputs["lemmas"] = select(lemmas, "")
        return outputs


def _joined(tagged: list[_Tagged]) -> _Tagged:
    return _Tagged(*[tf.concat(parts, 1) for parts in zip(*tagged, strict=True)])
