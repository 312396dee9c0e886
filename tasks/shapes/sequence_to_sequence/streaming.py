"""Translation of a text that arrives in pieces.

Signatures, B streams:

    start(batch: int32[B]) -> state: string[B]
    feed(state: string[B], text: string[B]) -> state: string[B], valid: bool[B],
        bytes_read: int32[B]
    finish(state: string[B]) -> the outputs of serving_default, valid: bool[B]

The network reads the source in both directions, so nothing of a translation is final before the
end: `feed` only collects the text, and `finish` encodes it once and translates it. The state holds
the text, as far as the translation reads it (`--max-length`), so that its size is bounded; that is
less than the outputs of an encoder for the text would take. A text may be cut anywhere. `feed`
reads at most `MAX_PIECE` bytes of it, and says how many in `bytes_read`. A row whose state is not
valid (see `models.streaming`) has the translation of an empty text, an empty state and `valid`
false.

Shapes: B rows.
"""

import dataclasses
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import keras
import tensorflow as tf

from models.streaming import State, StateCodec, fingerprint_of, pieces_to_read
from models.text.words import max_bytes

if TYPE_CHECKING:  # which imports this module
    from tasks.shapes.sequence_to_sequence.task import SequenceToSequence


class SourceStream:
    """Reads sources in pieces.

    Args:
        task: The task.
        model: Its network.
    """

    def __init__(self, task: "SequenceToSequence", model: keras.Model):
        self._task = task
        settings = json.dumps(dataclasses.asdict(task.config), sort_keys=True)
        with tf.init_scope():
            nothing = self._to_state(tf.constant([""]))
        self._codec = StateCodec(
            fingerprint_of(model, [settings, *task.subwords.learnt]),
            task.config.cell,
            nothing,
            max_text=max_bytes(task.config.max_length + 1),
        )

    def signatures(self, translate: Callable[[tf.Tensor], dict[str, tf.Tensor]]) -> dict:
        """Returns the signatures of the module by name.

        Args:
            translate: Function of texts (B,) that returns the outputs of `serving_default`.
        """
        state, text = (tf.TensorSpec([None], tf.string, name) for name in ("state", "text"))

        @tf.function(input_signature=[state, text], autograph=False)
        def feed(state, text):
            before, valid = self._codec.unpack(state)
            text = pieces_to_read(text, state, valid)
            joined = self._task.truncate_source(tf.strings.join([before.text, text]))
            return {
                "state": tf.where(valid, self._codec.pack(self._to_state(joined)), ""),
                "valid": valid,
                "bytes_read": tf.strings.length(text),
            }

        @tf.function(input_signature=[state], autograph=False)
        def finish(state):
            before, valid = self._codec.unpack(state)
            return {**translate(before.text), "valid": valid}

        return {"start": self._codec.start_signature(), "feed": feed, "finish": finish}

    @staticmethod
    def _to_state(text: tf.Tensor) -> State:
        rows = tf.size(text)
        return State(tf.zeros([rows, 0]), tf.zeros([rows, 0], tf.int32), text)
