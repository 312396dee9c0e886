"""Log-probabilities of tokens by a trained network, in bounded memory.

Shapes: B rows, T tokens, V tokens of the vocabulary, S numbers of the states of cells.
"""

from typing import NamedTuple

import keras
import tensorflow as tf

from models.networks.stream_reader import StreamReader

_MAX_LOGITS = 2**23  # that are in memory at once
_MAX_STEPS = 4096  # that the network reads at once
_UNLIKELY = -1e9  # log-probability of a token that is not drawn
_MAX_TEMPERATURE = 1e3  # beyond, all tokens are equally probable


class Read(NamedTuple):
    """What was read of texts.

    Attributes:
        states: States of the cells before the last token, (B, S).
        last: Id of the last token, that of the start before the first, (B,) int32.
    """

    states: tf.Tensor
    last: tf.Tensor


class Scorer:
    """Scores texts token by token, from any state.

    Args:
        model: A network of `models.networks.language_model`, or an ensemble.
        start: Id before the first token.
        vocabulary: V.

    Attributes:
        reader: The network, taken apart.
    """

    def __init__(self, model: keras.Model, start: int, vocabulary: int):
        self.reader = StreamReader(model, "reader", "reader")
        self._start, self._vocabulary = start, vocabulary

    def initial(self, rows: tf.Tensor) -> Read:
        """Returns the state before the first token, of a number of rows."""
        states = tf.repeat(self.reader.initial, rows, axis=0)
        return Read(states, tf.fill([rows], self._start))

    def score(self, ids: tf.RaggedTensor, read: Read) -> tuple[tf.Tensor, Read]:
        """Returns the log-probabilities of the next tokens, and what was read after them.

        Args:
            ids: (B, T) int32.
            read: What was read before.

        Returns:
            (B, T) float32, 0 beyond the end of a row; and the new state.
        """
        scores, read = self._scan(ids, read, min(_MAX_STEPS, _MAX_LOGITS // self._vocabulary), True)
        return scores, read

    def advance(self, ids: tf.RaggedTensor, read: Read) -> Read:
        """Returns what was read after the next tokens (B, T)."""
        _, read = self._scan(ids, read, _MAX_STEPS, False)
        return read

    def following(self, read: Read) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the log-probabilities of what follows (B, V), and the states after `last`."""
        mask = tf.ones([tf.shape(read.last)[0], 1], tf.bool)
        outputs, states = self.reader.advance(read.last[:, None], read.states, mask)
        return self._log_probabilities(outputs)[:, 0], states

    def _log_probabilities(self, outputs: tf.Tensor) -> tf.Tensor:
        return tf.nn.log_softmax(self.reader.head(self.reader.by_network(outputs)))

    def _scan(
        self, ids: tf.RaggedTensor, read: Read, tokens: int, has_scores: bool
    ) -> tuple[tf.Tensor, Read]:
        """Reads tokens (B, T), about `tokens` of all rows at a time."""
        lengths = tf.cast(ids.row_lengths(), tf.int32)
        padded = ids.to_tensor(0)
        rows = tf.shape(padded)[0]
        width = tf.maximum(tokens // tf.maximum(rows, 1), 1)

        def read_chunk(begin, scores, states, last):
            chunk = padded[:, begin : begin + width]
            count = tf.clip_by_value(lengths - begin, 0, tf.shape(chunk)[1])
            mask = tf.sequence_mask(count, tf.shape(chunk)[1])
            joined = tf.concat([last[:, None], chunk], axis=1)
            outputs, states = self.reader.advance(joined[:, :-1], states, mask)
            if has_scores:
                logs = tf.gather(self._log_probabilities(outputs), chunk, batch_dims=2)
                scores = tf.concat([scores, tf.where(mask, logs, 0.0)], axis=1)
            return begin + width, scores, states, tf.gather(joined, count, batch_dims=1)

        _, scores, states, last = tf.while_loop(
            lambda begin, *_: begin < tf.shape(padded)[1],
            read_chunk,
            [tf.constant(0), tf.zeros([rows, 0]), *read],
            shape_invariants=[
                tf.TensorShape(shape) for shape in ([], [None, None], read.states.shape, [None])
            ],
            parallel_iterations=1,
        )
        return scores, Read(states, last)


class Sampler:
    """Draws continuations of texts, as a function of the seed of each row alone.

    Args:
        scorer: The network.
        end: Id of the end of a text, after which nothing is drawn.
        unwritten: Ids that are never drawn.
        vocabulary: V.
    """

    def __init__(self, scorer: Scorer, end: int, unwritten: tuple[int, ...], vocabulary: int):
        self._scorer, self._end = scorer, end
        self._is_written = [token not in unwritten for token in range(vocabulary)]

    def draw(
        self, read: Read, seed: tf.Tensor, temperature: tf.Tensor, length: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Draws the next tokens by the Gumbel-max trick.

        Args:
            read: What was read of the texts.
            seed: (B,) int32.
            temperature: (B,) float32; 0 and below, or NaN: the most probable token.
            length: Most tokens of each row, (B,) int32.

        Returns:
            Ids (B, T) int32, 0 after the end of a row; and their log-probabilities (B, T).
        """
        temperature = tf.where(temperature > 0, tf.minimum(temperature, _MAX_TEMPERATURE), 0.0)

        def step(number, ids, logs, states, last, goes_on):
            log_probabilities, states = self._scorer.following(Read(states, last))
            noise = self._noise(tf.stack([seed, tf.fill(tf.shape(seed), number)], axis=1))
            scores = tf.where(self._is_written, log_probabilities, _UNLIKELY)
            last = tf.argmax(scores + temperature[:, None] * noise, axis=1, output_type=tf.int32)
            goes_on &= (last != self._end) & (number < length)
            drawn = tf.gather(log_probabilities, last, batch_dims=1)
            ids = tf.concat([ids, tf.where(goes_on, last, 0)[:, None]], axis=1)
            logs = tf.concat([logs, tf.where(goes_on, drawn, 0.0)[:, None]], axis=1)
            return number + 1, ids, logs, states, last, goes_on

        rows = tf.shape(seed)[0]
        _, ids, logs, *_ = tf.while_loop(
            lambda number, *state: tf.reduce_any(state[-1] & (number < length)),
            step,
            [
                tf.constant(0),
                tf.zeros([rows, 0], tf.int32),
                tf.zeros([rows, 0]),
                *read,
                tf.ones([rows], tf.bool),
            ],
            shape_invariants=[
                tf.TensorShape(shape)
                for shape in ([], [None, None], [None, None], read.states.shape, [None], [None])
            ],
            parallel_iterations=1,
        )
        return ids, logs

    def _noise(self, seeds: tf.Tensor) -> tf.Tensor:
        """Returns noise (B, V) of a Gumbel distribution, each row from its own seed, (B, 2)."""
        size = len(self._is_written)

        def uniform(seed: tf.Tensor) -> tf.Tensor:
            return tf.random.stateless_uniform([size], seed)

        values = tf.map_fn(
            uniform, seeds, fn_output_signature=tf.TensorSpec([size], tf.float32)
        )  # in [0, 1)
        return -tf.math.log(-tf.math.log(tf.maximum(values, 1e-30)))
