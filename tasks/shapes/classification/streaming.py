"""Class, labels or value of a text that arrives in pieces, by a network that reads forward.

Signatures, B streams:

    start(batch: int32[B]) -> state: string[B]
    feed(state: string[B], text: string[B]) -> the outputs of serving_default, state: string[B],
        valid: bool[B], bytes_read: int32[B]
    finish(state: string[B]) -> the outputs of serving_default, valid: bool[B]

The outputs of `feed` are those of the text so far, without its incomplete last word; those of
`finish` are of the whole text. The values of `batch` do not matter, only their number. A text may
be cut anywhere, and have any length: `--max-length` is a limit of whole texts. `feed` reads at
most `MAX_PIECE` bytes of a piece, and says how many in `bytes_read`. A row whose state is not valid
(see `models.streaming`) has the outputs of an empty text, an empty state and `valid` false.

The network pools its outputs over time, so that the state has their mean and maximum so far next
to the states of its cells. It has the last word too, since the evidence of a word depends on the
word before.

Shapes: B rows, T words of a piece, D features, S numbers of the states of cells.
"""

import dataclasses
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import keras
import tensorflow as tf

from models.networks.stream_reader import StreamReader, split_features
from models.streaming import State, StateCodec, fingerprint_of, pieces_to_read
from models.text.pieces import chunks, complete
from models.text.words import PADDING

if TYPE_CHECKING:  # which imports this module
    from tasks.shapes.classification.task import Classification

_CHUNK_WORDS = 4096  # words that the network reads at once, to bound the memory of a request
_LEAST = -1e9  # below every output of a cell; the maximum of none
_MAX_COUNT = 2**30  # words whose mean is exact


class _Read(NamedTuple):
    """What was read.

    Attributes:
        states: States of the cells, (B, S).
        mean: Mean of the outputs so far, (B, D).
        largest: Their maximum, (B, D).
        count: Number of words, (B,) int32.
        last: Id of the last word, 0 before the first, (B,) int32.
    """

    states: tf.Tensor
    mean: tf.Tensor
    largest: tf.Tensor
    count: tf.Tensor
    last: tf.Tensor


class TextStream:
    """Reads texts in pieces.

    Args:
        task: The task.
        model: Its network, with direction "forward".
    """

    def __init__(self, task: "Classification", model: keras.Model):
        self._task, self._model = task, model
        self._reader = StreamReader(model, "reader", "encoder")
        self._vocabulary = len(task.words)
        settings = json.dumps(dataclasses.asdict(task.config), sort_keys=True)
        names = task.target.names.words if hasattr(task.target, "names") else ()
        parts = [settings, "\n".join(task.words.words), "\n".join(names)]
        with tf.init_scope():
            initial = self._to_state(self._initial(), tf.constant([""]))
        self._codec = StateCodec(fingerprint_of(model, parts), task.config.cell, initial)

    def signatures(self) -> dict[str, Callable]:
        """Returns the signatures of the module by name."""
        state, text = (tf.TensorSpec([None], tf.string, name) for name in ("state", "text"))

        @tf.function(input_signature=[state, text], autograph=False)
        def feed(state, text):
            before, rest, valid = self._unpack(state)
            text = pieces_to_read(text, state, valid)
            done, rest = complete(tf.strings.join([rest, text]))
            read = self._read(self._task.word_ids(done), before)
            state = self._codec.pack(self._to_state(read, rest))
            return {
                **self._outputs(read),
                "state": tf.where(valid, state, ""),
                "valid": valid,
                "bytes_read": tf.strings.length(text),
            }

        @tf.function(input_signature=[state], autograph=False)
        def finish(state):
            before, rest, valid = self._unpack(state)
            read = self._read(self._task.word_ids(chunks(rest)), before)
            return {**self._outputs(read), "valid": valid}

        return {"start": self._codec.start_signature(), "feed": feed, "finish": finish}

    def _initial(self) -> _Read:
        size, none = self._reader.output_size, tf.zeros([1], tf.int32)
        mean = tf.zeros([1, size])
        return _Read(self._reader.initial, mean, tf.fill([1, size], _LEAST), none, none)

    def _to_state(self, read: _Read, rest: tf.Tensor) -> State:
        numbers = tf.concat([read.states, read.mean, read.largest], axis=1)
        return State(numbers, tf.stack([read.count, read.last], axis=1), rest)

    def _unpack(self, strings: tf.Tensor) -> tuple[_Read, tf.Tensor, tf.Tensor]:
        """Returns what was read, the incomplete word, and whether the state is valid."""
        state, valid = self._codec.unpack(strings)
        size = self._reader.output_size
        numbers = split_features(state.numbers, [self._reader.initial.shape[1], size, size])
        count = tf.clip_by_value(state.integers[:, 0], 0, _MAX_COUNT)
        last = tf.clip_by_value(state.integers[:, 1], 0, self._vocabulary - 1)
        return _Read(*numbers, count, last), state.text, valid

    def _read(self, ids: tf.RaggedTensor, read: _Read) -> _Read:
        """Reads the next words (B, T), some steps at a time so that they take constant memory."""
        lengths = tf.cast(ids.row_lengths(), tf.int32)
        padded = ids.to_tensor(PADDING)
        width = tf.maximum(_CHUNK_WORDS // tf.maximum(tf.shape(padded)[0], 1), 1)

        def read_chunk(start, *read):
            chunk = padded[:, start : start + width]
            count = tf.clip_by_value(lengths - start, 0, tf.shape(chunk)[1])
            return start + width, *self._read_chunk(chunk, count, _Read(*read))

        size, states = self._reader.output_size, self._reader.initial.shape[1]
        shapes = [[], [None, states], [None, size], [None, size], [None], [None]]
        _, *read = tf.while_loop(
            lambda start, *_: start < tf.shape(padded)[1],
            read_chunk,
            [tf.constant(0), *read],
            shape_invariants=[tf.TensorShape(shape) for shape in shapes],
            parallel_iterations=1,
        )
        return _Read(*read)

    def _read_chunk(self, ids: tf.Tensor, count: tf.Tensor, read: _Read) -> _Read:
        """Reads words (B, T), of which the first `count` of each row are valid."""
        mask = tf.sequence_mask(count, tf.shape(ids)[1])
        joined = tf.concat([read.last[:, None], ids], axis=1)
        outputs, states = self._reader.advance(joined, read.states, mask, skip=1)
        valid = mask[..., None]
        total = tf.reduce_sum(tf.where(valid, outputs - read.mean[:, None], 0.0), axis=1)
        after = tf.minimum(read.count + count, _MAX_COUNT)
        return _Read(
            states,
            read.mean + total / tf.cast(tf.maximum(after, 1), tf.float32)[:, None],
            tf.maximum(read.largest, tf.reduce_max(tf.where(valid, outputs, _LEAST), axis=1)),
            after,
            tf.gather(joined, count, batch_dims=1),
        )

    def _outputs(self, read: _Read) -> dict[str, tf.Tensor]:
        largest = tf.where(read.count[:, None] > 0, read.largest, 0.0)
        pooled = zip(
            self._reader.by_network(read.mean), self._reader.by_network(largest), strict=True
        )
        outputs = self._reader.head([tf.concat(both, axis=1) for both in pooled])
        return self._task.target.signature_outputs(self._model, outputs)
