"""Log-probabilities of a text that arrives in pieces.

Signatures, B streams:

    start(batch: int32[B]) -> state: string[B]
    feed(state: string[B], text: string[B]) -> tokens: string[B, T],
        log_probabilities: float32[B, T], lengths: int32[B], next_tokens: string[B, 10],
        next_log_probabilities: float32[B, 10], state: string[B], valid: bool[B],
        bytes_read: int32[B]
    finish(state: string[B]) -> tokens, log_probabilities and lengths of the rest, valid: bool[B]

`feed` returns the tokens that what follows cannot change: all but the last word, or character, of
the text so far. The next tokens are the most probable ones after these. `finish` returns the rest,
with the end of the text; all tokens together are those of the whole text. The values of `batch` do
not matter, only their number. A text may be cut anywhere, and have any length: `--max-length` is a
limit of whole texts. `feed` reads at most `MAX_PIECE` bytes of a piece, and says how many in
`bytes_read`. A row whose state is not valid (see `models.streaming`) has no tokens, an empty state
and `valid` false.

Shapes: B rows, T tokens of a piece, S numbers of the states of cells.
"""

import dataclasses
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import keras
import tensorflow as tf

from models.streaming import State, StateCodec, fingerprint_of, pieces_to_read
from models.text.tokens import without_first_blanks
from tasks.shapes.language_modelling.scoring import Read, Scorer

if TYPE_CHECKING:  # which imports this module
    from tasks.shapes.language_modelling.task import LanguageModelling


class TokenStream:
    """Scores texts in pieces.

    Args:
        task: The task.
        model: Its network.
        scorer: The network, taken apart.
    """

    def __init__(self, task: "LanguageModelling", model: keras.Model, scorer: Scorer):
        self._task, self._scorer = task, scorer
        self._vocabulary = len(task.tokens)
        settings = json.dumps(dataclasses.asdict(task.config), sort_keys=True)
        fingerprint = fingerprint_of(model, [settings, task.vocabulary_text])
        with tf.init_scope():
            initial = self._to_state(scorer.initial(tf.constant(1)), tf.constant([""]))
        self._codec = StateCodec(fingerprint, task.config.cell, initial)

    def signatures(self) -> dict[str, Callable]:
        """Returns the signatures of the module by name."""
        state, text = (tf.TensorSpec([None], tf.string, name) for name in ("state", "text"))

        @tf.function(input_signature=[state, text], autograph=False)
        def feed(state, text):
            before, rest, valid = self._unpack(state)
            text = pieces_to_read(text, state, valid)
            unread = self._unread(before, tf.strings.join([rest, text]))
            ids, rest = self._task.tokens.complete(unread)
            scores, read = self._scorer.score(ids, before)
            next_tokens, next_scores = self._task.most_probable(self._scorer.following(read)[0])
            return {
                **self._task.token_outputs(ids, scores),
                "next_tokens": tf.where(valid[:, None], next_tokens, ""),
                "next_log_probabilities": tf.where(valid[:, None], next_scores, 0.0),
                "state": tf.where(valid, self._codec.pack(self._to_state(read, rest)), ""),
                "valid": valid,
                "bytes_read": tf.strings.length(text),
            }

        @tf.function(input_signature=[state], autograph=False)
        def finish(state):
            before, rest, valid = self._unpack(state)
            ids = self._task.tokens.encode(self._unread(before, rest))
            has_tokens = self._has_begun(before) | (ids.row_lengths() > 0)
            ids = self._task.with_end(ids, has_tokens)
            scores, _ = self._scorer.score(ids, before)
            return {**self._task.token_outputs(ids, scores), "valid": valid}

        return {"start": self._codec.start_signature(), "feed": feed, "finish": finish}

    def _has_begun(self, read: Read) -> tf.Tensor:
        """Returns whether there were tokens, (B,) bool."""
        return read.last != self._task.tokens.start

    def _unread(self, read: Read, text: tf.Tensor) -> tf.Tensor:
        """Returns texts (B,), without the blanks before the first token."""
        return tf.where(self._has_begun(read), text, without_first_blanks(text))

    @staticmethod
    def _to_state(read: Read, rest: tf.Tensor) -> State:
        return State(read.states, read.last[:, None], rest)

    def _unpack(self, strings: tf.Tensor) -> tuple[Read, tf.Tensor, tf.Tensor]:
        """Returns what was read, the incomplete word, and whether the state is valid."""
        state, valid = self._codec.unpack(strings)
        last = tf.clip_by_value(state.integers[:, 0], 0, self._vocabulary - 1)
        return Read(state.numbers, last), state.text, valid
