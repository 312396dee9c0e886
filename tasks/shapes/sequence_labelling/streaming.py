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

With a CRF, or constraints of entities, tags are chosen together, each when the next words are
known (`models.layers.fixed_lag`): the tag of a token is final W = K + L tokens later, of which the
network needs the first K and the decoder the others. Without, it is final K tokens later: L = 0.

Shapes: B rows, T tokens of a piece, K steps of lookahead, L steps of lag, D features, C tags.
"""

import dataclasses
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import keras
import tensorflow as tf

from models.layers.fixed_lag import Chosen, nothing_chosen
from models.layers.lookahead import stack_steps
from models.networks.stream_reader import StreamReader, split_features
from models.streaming import State, StateCodec, fingerprint_of, pieces_to_read
from models.text.pieces import chunks, complete
from models.text.ud_tokenizer import tokenize
from models.text.words import PADDING

if TYPE_CHECKING:  # which imports this module
    from tasks.shapes.sequence_labelling.task import SequenceLabelling

_CHUNK_TOKENS = 4096  # tokens that the network reads at once
_CHUNK_PAIRS = 2**22  # of tags, at all tokens that are decoded at once


class _Held(NamedTuple):
    """Where a stream is.

    Attributes:
        states: States of the cells, (B, S).
        outputs: Outputs of the last W tokens, which have no tags yet, (B, W, D).
        tokens: These tokens, (B, W); the first ones are "" if there were fewer.
        count: Number of tokens that have no tags yet, (B,) int32.
        chosen: What was chosen for the tokens before; without a decoder this does not change.
    """

    states: tf.Tensor
    outputs: tf.Tensor
    tokens: tf.Tensor
    count: tf.Tensor
    chosen: Chosen


class _Tagged(NamedTuple):
    """Indices of the tags of responses, (B, N) each, of which those of `final` count."""

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
        self._task, self._model, self._lookahead = task, model, task.config.lookahead
        self._is_decoded = task.fixed_lag_decoder(model) is not None
        self._lag = task.config.lag if self._is_decoded else 0
        self._wait = self._lookahead + self._lag
        after = "lookahead" if self._lookahead else "encoder"
        # The output of a CRF needs a mask; it is that of the layer before.
        until = "logits" if task.config.crf else None
        self._reader = StreamReader(model, "encoder", after, until)
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

        @tf.function(input_signature=[state, text], autograph=False)
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

        @tf.function(input_signature=[state], autograph=False)
        def finish(state):
            held, rest, valid = self._unpack(state)
            tagged, held = self._read(tokenize(chunks(rest)), held)
            return {**self._outputs([tagged, self._flush(held)], valid), "valid": valid}

        return {"start": self._codec.start_signature(), "feed": feed, "finish": finish}

    def tag(self, tokens: tf.RaggedTensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the tags of whole sentences of N tokens: ids (N,), and probabilities (N,).

        Some sentences are read at a time, so that many short ones take constant memory.
        """
        count = max(self._tokens_at_once() // (self._wait + self._lag + 1), 1)

        def tag_rows(start, ids, probability):
            rows = tokens[start : start + count]
            tagged, held = self._read(rows, self._initial(rows.nrows(tf.int32)))
            joined = _joined([tagged, self._flush(held)])
            return (
                start + count,
                tf.concat([ids, tf.boolean_mask(joined.tags, joined.final)], 0),
                tf.concat([probability, tf.boolean_mask(joined.probability, joined.final)], 0),
            )

        start, vector = tf.constant(0, tf.int64), tf.TensorShape([None])
        _, ids, probability = tf.while_loop(
            lambda start, *_: start < tokens.nrows(),
            tag_rows,
            [start, tf.zeros([0], tf.int32), tf.zeros([0])],
            shape_invariants=[start.shape, vector, vector],
            parallel_iterations=1,
        )
        return ids, probability

    def _tokens_at_once(self) -> int:
        """Returns the number of tokens that are read at once, to bound the memory of a request."""
        if not self._is_decoded:
            return _CHUNK_TOKENS
        return min(_CHUNK_TOKENS, max(_CHUNK_PAIRS // len(self._task.tags) ** 2, 1))

    def _initial(self, rows: tf.Tensor | int) -> _Held:
        return _Held(
            tf.repeat(self._reader.initial, rows, axis=0),
            tf.zeros([rows, self._wait, self._reader.output_size]),
            tf.fill([rows, self._wait], ""),
            tf.zeros([rows], tf.int32),
            nothing_chosen(rows, len(self._task.tags) if self._is_decoded else 0),
        )

    def _to_state(self, held: _Held, rest: tf.Tensor) -> State:
        rows, size = tf.shape(held.count)[0], self._wait * self._reader.output_size
        outputs = tf.reshape(held.outputs, [rows, size])
        parts = [*tf.unstack(held.tokens, num=self._wait, axis=1), rest]
        return State(
            tf.concat([held.states, outputs, held.chosen.shares], axis=1),
            tf.stack([held.count, held.chosen.tag], axis=1),
            tf.strings.join(parts, " "),  # neither tokens nor the rest contain blanks
        )

    def _unpack(self, strings: tf.Tensor) -> tuple[_Held, tf.Tensor, tf.Tensor]:
        """Returns where each stream is, its incomplete token, and whether its state is valid."""
        wait, size, tags = self._wait, self._reader.output_size, len(self._task.tags)
        state, valid = self._codec.unpack(strings)
        sizes = [self._reader.initial.shape[1], wait * size, tags * self._is_decoded]
        states, outputs, shares = split_features(state.numbers, sizes)
        parts = tf.strings.split(state.text, " ").to_tensor("", shape=[None, wait + 1])
        parts = tf.where(valid[:, None], parts, "")
        held = _Held(
            states,
            tf.reshape(outputs, [tf.shape(strings)[0], wait, size]),
            parts[:, :wait],
            tf.clip_by_value(state.integers[:, 0], 0, wait),
            Chosen(tf.clip_by_value(state.integers[:, 1], -1, tags - 1), shares),
        )
        return held, parts[:, wait], valid

    def _read(self, tokens: tf.RaggedTensor, held: _Held) -> tuple[_Tagged, _Held]:
        """Reads the next tokens (B, T), some steps at a time so that they take constant memory."""
        lengths = tf.cast(tokens.row_lengths(), tf.int32)
        padded = tokens.to_tensor("")
        rows = tf.shape(padded)[0]
        width = tf.maximum(self._tokens_at_once() // tf.maximum(rows, 1), 1)

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
        shares = held.chosen.shares.shape[1]
        _, held, tagged = tf.while_loop(
            lambda start, *_: start < tf.shape(padded)[1],
            read_chunk,
            [tf.constant(0), held, tagged],
            shape_invariants=[
                tf.TensorShape([]),
                _Held(
                    tf.TensorShape([None, self._reader.initial.shape[1]]),
                    tf.TensorShape([None, self._wait, self._reader.output_size]),
                    tf.TensorShape([None, self._wait]),
                    tf.TensorShape([None]),
                    Chosen(tf.TensorShape([None]), tf.TensorShape([None, shares])),
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
        count = tf.fill(tf.shape(held.count), self._wait)
        tokens = tf.fill(tf.shape(held.tokens), "")
        return self._tag(tokens, tf.zeros_like(held.outputs), count, held, is_end=True)[0]

    def _tag(
        self,
        tokens: tf.Tensor,
        outputs: tf.Tensor,
        count: tf.Tensor,
        held: _Held,
        is_end: bool = False,
    ) -> tuple[_Tagged, _Held]:
        """Tags the tokens that now have W successors.

        Args:
            tokens: (B, T) strings.
            outputs: Outputs at these tokens, (B, T, D), 0 at those that are not valid.
            count: Number of valid tokens, which come first, (B,) int32.
            held: Where the streams are.
            is_end: Whether the sentence ends with the tokens that have no tags yet.
        """
        wait = self._wait
        joined = tf.concat([held.outputs, outputs], axis=1)
        all_tokens = tf.concat([held.tokens, tokens], axis=1)
        steps = tf.shape(tokens)[1]
        logits = self._reader.head(
            [stack_steps(each, self._lookahead) for each in self._reader.by_network(joined)]
        )
        position = tf.range(steps)[None]
        final = (position >= wait - held.count[:, None]) & (position < count[:, None])
        tags, probability, chosen = self._choose(logits, final, held.chosen, is_end)
        tagged = _Tagged(all_tokens[:, :steps], tags, probability, final)
        last = count[:, None] + tf.range(wait)[None]
        return tagged, held._replace(
            outputs=tf.gather(joined, last, batch_dims=1),
            tokens=tf.gather(all_tokens, last, batch_dims=1),
            count=tf.minimum(held.count + count, wait),
            chosen=chosen,
        )

    def _choose(
        self, logits: tf.Tensor, final: tf.Tensor, chosen: Chosen, is_end: bool
    ) -> tuple[tf.Tensor, tf.Tensor, Chosen]:
        """Returns the tags of responses (B, T), their probabilities (B, T), and what was chosen.

        Args:
            logits: (B, T + L, C).
            final: (B, T) bool, true at the steps that get a tag.
            chosen: What was chosen for the steps before.
            is_end: Whether the last of these steps is that of the sentence.
        """
        probabilities = tf.nn.softmax(logits[:, : tf.shape(final)[1]])
        decoder = self._task.fixed_lag_decoder(self._model)
        if decoder is None:
            tags = tf.argmax(logits, axis=-1, output_type=tf.int32)
            return tags, self._task.probability_of(tags, probabilities), chosen
        is_last = None
        if is_end:
            is_last = tf.range(tf.shape(logits)[1]) == tf.shape(final)[1] - 1
        tags, marginals, after = decoder.decode(logits, final, chosen, is_last)
        if self._task.config.crf:
            probabilities = marginals
        probability = self._task.probability_of(tags, probabilities)
        if self._task.scheme.converts:
            tags = self._task.scheme.to_reported_one_by_one(tags, final, chosen.tag)
        return tags, probability, after

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
            "tags": select(self._task.reported_tags(joined.tags), ""),
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
