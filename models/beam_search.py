"""Beam search in core TensorFlow ops: the most probable sequences of a decoder.

Shapes: B batch, W hypotheses, V tokens, S positions of the memory, t tokens generated so far.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

IMPOSSIBLE = -1e9  # a log-probability; finite, so that sums of it are not NaN


@dataclasses.dataclass(frozen=True)
class BeamSearchConfig:
    """Parameters of a beam search.

    A hypothesis of n tokens, including the end token, is scored by its log-probability /
    ((5 + n) / 6) ** `length_penalty` + `coverage` * the sum over positions of
    log(min(1, total attention to the position)) (Wu et al. 2016, eq. 14).

    Attributes:
        beam_size: W, the number of unfinished hypotheses that are kept. A finished one
            counts if it is among the W best, and the search ends with W of them. 1 is greedy
            search.
        length_penalty: Exponent of the length penalty; 0 compares log-probabilities, which
            prefers short sequences.
        coverage: Weight of the coverage penalty; 0 disables it.
        no_repeat_ngram: Length of n-grams that may not occur twice in a sequence; 0 allows
            all.

    Raises:
        ValueError: A value is below its minimum.

    Example:
        >>> BeamSearchConfig(beam_size=8, coverage=0.2).length_penalty
        1.0
    """

    beam_size: int = 4
    length_penalty: float = 1.0
    coverage: float = 0.0
    no_repeat_ngram: int = 0

    def __post_init__(self):
        for name, least in (
            ("beam_size", 1),
            ("length_penalty", 0),
            ("coverage", 0),
            ("no_repeat_ngram", 0),
        ):
            value = getattr(self, name)
            if not value >= least:
                raise ValueError(f"{name} must be at least {least}, got {value!r}.")

    def score(
        self, log_probability: tf.Tensor, lengths: tf.Tensor, covered: tf.Tensor
    ) -> tf.Tensor:
        """Returns the scores of hypotheses of any shape.

        Args:
            log_probability: Log-probabilities, (...).
            lengths: Numbers of tokens, (...), including the end token.
            covered: Total attention to each position, (..., S).
        """
        score = log_probability
        if self.length_penalty:
            lengths = tf.cast(lengths, tf.float32)
            score = score / ((5.0 + lengths) / 6.0) ** self.length_penalty
        if self.coverage:
            logs = tf.math.log(tf.clip_by_value(covered, 1e-6, 1.0))
            score += self.coverage * tf.reduce_sum(logs, axis=-1)
        return score


class Hypotheses(NamedTuple):
    """Results of a search, best first.

    Attributes:
        tokens: (B, W, t) int32, without the end token; 0 after the last token.
        scores: (B, W) float32, by which they are ordered; `IMPOSSIBLE` where a row has fewer
            hypotheses.
        log_probabilities: (B, W) float32, of all tokens including the end token.
        lengths: (B, W) int32, numbers of tokens without the end token.
    """

    tokens: tf.Tensor
    scores: tf.Tensor
    log_probabilities: tf.Tensor
    lengths: tf.Tensor


def search(
    step: Callable,
    states: Sequence[tf.Tensor],
    mask: tf.Tensor,
    *,
    vocabulary: int,
    start: int,
    end: int,
    longest: tf.Tensor,
    settings: BeamSearchConfig,
    forbidden: Sequence[int] = (0,),
) -> Hypotheses:
    """Returns the best sequences of each row of a batch.

    Args:
        step: Function of the last tokens (B * W,), the row of the batch of each hypothesis
            (B * W,) and the states, that returns logits (B * W, V), attention weights
            (B * W, S) and the next states.
        states: Initial states of the decoder, each (B, N).
        mask: (B, S) bool, true at valid positions of the memory.
        vocabulary: V.
        start: Token before the first.
        end: Token after the last.
        longest: (B,) int32, maximum number of tokens of each row, without the end token.
        settings: Parameters of the search.
        forbidden: Tokens that may not be generated, in addition to `start`.

    Returns:
        W hypotheses for each row.

    Example:
        A decoder that always prefers token 3, then the end token 2:

        >>> def step(tokens, rows, states):
        ...     logits = tf.where(tokens[:, None] == 3, [[0.0, 0, 9, 0]], [[0.0, 0, 0, 9]])
        ...     return logits, tf.ones([tf.size(tokens), 1]), states
        >>> hypotheses = search(
        ...     step,
        ...     [tf.zeros([1, 1])],
        ...     tf.constant([[True]]),
        ...     vocabulary=4,
        ...     start=1,
        ...     end=2,
        ...     longest=tf.constant([5]),
        ...     settings=BeamSearchConfig(beam_size=2),
        ... )
        >>> hypotheses.tokens[0, 0].numpy()[:1].tolist(), int(hypotheses.lengths[0, 0])
        ([3], 1)
    """
    searched = _Search(step, mask, vocabulary, start, end, longest, settings, forbidden)
    return searched.run(states)


class _Search:
    """A search: `alive`, the unfinished hypotheses of each row, and `done`, the finished ones.

    Both are dictionaries of tensors (B, W, ...): "tokens"; "log", the log-probability; of `alive`
    "covered", the total attention to each position, and "states", each (B * W, N); of `done`
    "scores" and "lengths".
    """

    def __init__(self, step, mask, vocabulary, start, end, longest, settings, forbidden):
        self._step, self._mask, self._settings = step, mask, settings
        self._vocabulary, self._start, self._end = vocabulary, start, end
        self._longest, self._width = longest, settings.beam_size
        self._batch = tf.shape(mask)[0]
        self._rows = tf.repeat(tf.range(self._batch), self._width)
        never = tf.one_hot([*forbidden, start], vocabulary)
        self._never = tf.reduce_max(never, axis=0) * IMPOSSIBLE
        self._only_end = (1.0 - tf.one_hot(end, vocabulary)) * IMPOSSIBLE

    def run(self, states):
        """Returns the hypotheses, given the initial states of the decoder."""
        width, alive, done = self._width, self._first_alive(states), self._first_done()
        shapes = (
            tf.TensorShape([]),
            {
                "tokens": tf.TensorShape([None, width, None]),
                "log": tf.TensorShape([None, width]),
                "covered": tf.TensorShape([None, width, None]),
                "states": [tf.TensorShape([None, *state.shape[1:]]) for state in states],
            },
            {
                "tokens": tf.TensorShape([None, width, None]),
                "scores": tf.TensorShape([None, width]),
                "log": tf.TensorShape([None, width]),
                "lengths": tf.TensorShape([None, width]),
            },
        )

        def any_is_open(t, alive, done):
            return tf.reduce_any(self._is_open(t, alive, done))

        loop = (0, alive, done)
        _, _, done = tf.while_loop(any_is_open, self._advance, loop, shape_invariants=shapes)
        return Hypotheses(done["tokens"], done["scores"], done["log"], done["lengths"])

    def _first_alive(self, states):
        """The empty hypothesis, once for each row."""
        width, batch = self._width, self._batch

        def widened(x):
            return tf.reshape(tf.repeat(x[:, None], width, axis=1), [batch * width, *x.shape[1:]])

        covered = tf.where(self._mask, 0.0, 1.0)  # masked positions count as covered
        return {
            "tokens": self._filled([0], 0, tf.int32),
            "log": tf.tile(tf.one_hot(0, width, 0.0, IMPOSSIBLE)[None], [batch, 1]),
            "covered": tf.repeat(covered[:, None], width, axis=1),
            "states": [widened(state) for state in states],
        }

    def _first_done(self):
        """No hypothesis."""
        return {
            "tokens": self._filled([0], 0, tf.int32),
            "scores": self._filled([], IMPOSSIBLE),
            "log": self._filled([], IMPOSSIBLE),
            "lengths": self._filled([], 0, tf.int32),
        }

    def _filled(self, shape, value, dtype=tf.float32):
        return tf.fill([self._batch, self._width, *shape], tf.constant(value, dtype))

    def _is_open(self, t, alive, done):
        """Whether a row needs more hypotheses and can still get them, (B,)."""
        full = tf.reduce_min(done["scores"], axis=1) > IMPOSSIBLE / 2
        alive_left = tf.reduce_max(alive["log"], axis=1) > IMPOSSIBLE / 2
        return alive_left & ~full & (t <= self._longest)

    def _advance(self, t, alive, done):
        """Appends a token to each unfinished hypothesis."""
        width = self._width
        logs, attention, states = self._next(t, alive)
        reached = alive["log"][:, :, None] + logs
        reached = tf.reshape(reached, [self._batch, width * self._vocabulary])
        best = tf.math.top_k(reached, 2 * width)  # at most half of them have ended
        parent, token = best.indices // self._vocabulary, best.indices % self._vocabulary
        logs, ended = best.values, token == self._end
        tokens = tf.gather(alive["tokens"], parent, batch_dims=1)
        covered = tf.gather(alive["covered"] + attention, parent, batch_dims=1)

        # A finished hypothesis counts if it is among the W best and its row is open.
        counts = ended & (tf.range(2 * width) < width) & self._is_open(t, alive, done)[:, None]
        counts &= logs > IMPOSSIBLE / 2
        finished = self._with_finished(done, t, counts, tokens, logs, covered)

        onward = tf.math.top_k(tf.where(ended, 2 * IMPOSSIBLE, logs), width).indices
        parent, token, log, tokens, covered = (
            tf.gather(each, onward, batch_dims=1) for each in (parent, token, logs, tokens, covered)
        )
        flat = tf.reshape(parent + tf.range(self._batch)[:, None] * width, [-1])
        alive = {
            "tokens": tf.concat([tokens, token[:, :, None]], axis=2),
            "log": tf.maximum(log, IMPOSSIBLE),
            "covered": covered,
            "states": [tf.gather(state, flat) for state in states],
        }
        return t + 1, alive, finished

    def _next(self, t, alive):
        """The log-probabilities of next tokens, (B, W, V), the attention and the next states."""
        batch, width = self._batch, self._width
        start = tf.fill([batch, width, 1], self._start)
        last = tf.concat([start, alive["tokens"]], axis=2)[:, :, -1]
        logits, attention, states = self._step(tf.reshape(last, [-1]), self._rows, alive["states"])
        logs = tf.nn.log_softmax(tf.cast(logits, tf.float32) + self._never)
        logs = tf.reshape(logs, [batch, width, self._vocabulary])
        logs += tf.where(t >= self._longest, 1.0, 0.0)[:, None, None] * self._only_end
        if self._settings.no_repeat_ngram:
            size = self._settings.no_repeat_ngram
            logs = forbid_repeats(logs, alive["tokens"], size, self._end)
        attention = tf.reshape(attention, [batch, width, tf.shape(self._mask)[1]])
        return logs, attention, states

    def _with_finished(self, done, t, counts, tokens, logs, covered):
        """The best W of the finished hypotheses and of those of 2 W new ones that count."""
        scores = tf.where(counts, self._settings.score(logs, t + 1, covered), IMPOSSIBLE)
        new = {
            "tokens": tokens,
            "scores": scores,
            "log": tf.where(counts, logs, IMPOSSIBLE),
            "lengths": tf.fill(tf.shape(logs), t),
        }
        finished = {name: tf.concat([done[name], new[name]], axis=1) for name in done}
        best = tf.math.top_k(finished["scores"], self._width).indices
        finished = {
            name: tf.gather(tensor, best, batch_dims=1) for name, tensor in finished.items()
        }
        finished["tokens"] = tf.pad(finished["tokens"], [[0, 0], [0, 0], [0, 1]])
        return finished


def forbid_repeats(logs: tf.Tensor, tokens: tf.Tensor, size: int, end: int) -> tf.Tensor:
    """Adds `IMPOSSIBLE` to the log-probability of each token that would repeat an n-gram.

    The cost of a step grows with the number of tokens so far, not with that number times the
    size of the vocabulary.

    Args:
        logs: Log-probabilities of the next token, (B, W, V).
        tokens: Tokens so far, (B, W, t) int32.
        size: Length of the n-grams, at least 1.
        end: The end token, which may always follow.
    """
    width, vocabulary = logs.shape[1:]
    batch, count = tf.shape(tokens)[0], tf.shape(tokens)[2]

    def forbid():
        runs = count - size + 1
        last = tokens[:, :, runs:][:, :, None]  # the last size - 1 tokens
        positions = tf.range(runs)[:, None] + tf.range(size - 1)[None]
        same = tf.reduce_all(tf.gather(tokens, positions, axis=2) == last, axis=-1)
        following = tokens[:, :, size - 1 :]
        hits = tf.cast(same & (following != end), logs.dtype)
        first = tf.range(batch * width) * vocabulary  # index of the row of each hypothesis
        indices = tf.reshape(following, [batch * width, runs]) + first[:, None]
        shape = [batch * width * vocabulary]
        counts = tf.scatter_nd(tf.reshape(indices, [-1, 1]), tf.reshape(hits, [-1]), shape)
        counts = tf.reshape(counts, [batch, width, vocabulary])
        return logs + tf.minimum(counts, 1.0) * IMPOSSIBLE

    return tf.cond(count >= size, forbid, lambda: logs)
