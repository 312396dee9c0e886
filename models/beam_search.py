"""Beam search in core TensorFlow ops: the most probable sequences that a decoder can write.

Shapes: B batch, W beams, V tokens, S places of the memory, t tokens written so far.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

IMPOSSIBLE = -1e9  # a log-probability; finite, so that sums of it are no NaN


@dataclasses.dataclass(frozen=True)
class BeamSearchConfig:
    """How sequences are searched for, and what makes one better than another.

    A sequence of n tokens, its end among them, is judged by its log-probability / ((5 +
    n) / 6) ** `length_penalty` + `coverage` * the sum over places of log(min(1, all
    attention that the place was given)), as Wu et al. (2016, eq. 14) have it.

    Attributes:
        beam_size: W: so many unfinished sequences are kept, one that ends counts if it is
            among the best so many, and with so many ended the search is over. 1 is greedy.
        length_penalty: 0 judges by probability alone, which prefers short ones.
        coverage: 0 asks for none.
        no_repeat_ngram: No run of that many tokens comes twice in a sequence; 0 allows any.
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

    def judge(self, log_probability, lengths, covered):
        """How good sequences are, of any shape; `covered` has the places behind it."""
        score = log_probability
        if self.length_penalty:
            lengths = tf.cast(lengths, tf.float32)
            score = score / ((5.0 + lengths) / 6.0) ** self.length_penalty
        if self.coverage:
            there = tf.math.log(tf.clip_by_value(covered, 1e-6, 1.0))
            score += self.coverage * tf.reduce_sum(there, axis=-1)
        return score


class Hypotheses(NamedTuple):
    """What a search found, the best first.

    Attributes:
        tokens: (B, N, t) int32, without the end; 0 from there on.
        scores: (B, N), what the search judged them by.
        log_probabilities: (B, N), of all their tokens, the end among them.
        lengths: (B, N) int32, of tokens without the end.
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
    """Searches for the best sequences of each row.

    Args:
        step: Of the last tokens (B * W,), the row of the batch that each continues
            (B * W,) and the states, gives logits (B * W, V), what was looked at
            (B * W, S) and the next states.
        states: Of the decoder before its first token, each (B, N).
        mask: (B, S) bool, true where there is something to look at.
        vocabulary: V.
        start: The token before the first.
        end: The token after the last.
        longest: (B,) int32, the most tokens of each row, not counting the end; at
            least 0.
        settings: How to search.
        forbidden: Tokens that no sequence may hold, beside `start`.

    Returns:
        As many sequences of each row as there are beams. A row may have fewer: the
        scores of those that it lacks are `IMPOSSIBLE`.
    """
    width = settings.beam_size
    batch, places = tf.shape(mask)[0], tf.shape(mask)[1]
    never = tf.reduce_max(tf.one_hot([*forbidden, start], vocabulary), axis=0) * IMPOSSIBLE
    only_end = (1.0 - tf.one_hot(end, vocabulary)) * IMPOSSIBLE
    # What is not there needs no attention.
    covered = tf.where(mask, 0.0, 1.0)

    def widened(x):
        return tf.reshape(tf.repeat(x[:, None], width, axis=1), [batch * width, *x.shape[1:]])

    def started(shape, value, dtype=tf.float32):
        return tf.fill([batch, width, *shape], tf.constant(value, dtype))

    alive = {
        "tokens": started([0], 0, tf.int32),
        # Only the first beam of each row is there to begin with.
        "log": tf.tile(tf.one_hot(0, width, 0.0, IMPOSSIBLE)[None], [batch, 1]),
        "covered": tf.repeat(covered[:, None], width, axis=1),
        "states": [widened(state) for state in states],
    }
    done = {
        "tokens": started([0], 0, tf.int32),
        "scores": started([], IMPOSSIBLE),
        "log": started([], IMPOSSIBLE),
        "lengths": started([], 0, tf.int32),
    }
    rows = tf.repeat(tf.range(batch), width)

    def is_open(t, alive, done):
        """Whether a row still wants sequences, and may have more, (B,)."""
        full = tf.reduce_min(done["scores"], axis=1) > IMPOSSIBLE / 2
        some = tf.reduce_max(alive["log"], axis=1) > IMPOSSIBLE / 2
        return some & ~full & (t <= longest)

    def going(t, alive, done):
        return tf.reduce_any(is_open(t, alive, done))

    def advance(t, alive, done):
        last = tf.concat([tf.fill([batch, width, 1], start), alive["tokens"]], axis=2)[:, :, -1]
        logits, looked, states = step(tf.reshape(last, [-1]), rows, alive["states"])
        logs = tf.nn.log_softmax(tf.cast(logits, tf.float32) + never)
        logs = tf.reshape(logs, [batch, width, vocabulary])
        logs += tf.where(t >= longest, 1.0, 0.0)[:, None, None] * only_end
        if settings.no_repeat_ngram:
            logs += (
                _repeated(alive["tokens"], settings.no_repeat_ngram, vocabulary, end) * IMPOSSIBLE
            )
        looked = tf.reshape(looked, [batch, width, places])
        covered = alive["covered"] + looked

        reached = tf.reshape(alive["log"][:, :, None] + logs, [batch, width * vocabulary])
        best = tf.math.top_k(reached, 2 * width)  # no more than half of them have ended
        parent, token = best.indices // vocabulary, best.indices % vocabulary
        logs, ended = best.values, token == end
        tokens = tf.gather(alive["tokens"], parent, batch_dims=1)
        covered = tf.gather(covered, parent, batch_dims=1)

        # One that has ended counts if it is among the best so far, and its row is open.
        counts = ended & (tf.range(2 * width) < width) & is_open(t, alive, done)[:, None]
        counts &= logs > IMPOSSIBLE / 2
        scores = tf.where(counts, settings.judge(logs, t + 1, covered), IMPOSSIBLE)
        found = {
            "tokens": tf.concat([done["tokens"], tokens], axis=1),
            "scores": tf.concat([done["scores"], scores], axis=1),
            "log": tf.concat([done["log"], tf.where(counts, logs, IMPOSSIBLE)], axis=1),
            "lengths": tf.concat([done["lengths"], tf.fill(tf.shape(token), t)], axis=1),
        }
        kept = tf.math.top_k(found["scores"], width).indices
        found = {name: tf.gather(each, kept, batch_dims=1) for name, each in found.items()}
        found["tokens"] = tf.pad(found["tokens"], [[0, 0], [0, 0], [0, 1]])

        onward = tf.math.top_k(tf.where(ended, 2 * IMPOSSIBLE, logs), width).indices
        parent, token, log, tokens, covered = (
            tf.gather(each, onward, batch_dims=1) for each in (parent, token, logs, tokens, covered)
        )
        flat = tf.reshape(parent + tf.range(batch)[:, None] * width, [-1])
        alive = {
            "tokens": tf.concat([tokens, token[:, :, None]], axis=2),
            "log": tf.maximum(log, IMPOSSIBLE),
            "covered": covered,
            "states": [tf.gather(state, flat) for state in states],
        }
        return t + 1, alive, found

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
    _, _, done = tf.while_loop(going, advance, (0, alive, done), shape_invariants=shapes)
    return Hypotheses(done["tokens"], done["scores"], done["log"], done["lengths"])


def _repeated(tokens, size, vocabulary, end):
    """1 at each token that would complete a run of `size` tokens for the second time, (B, W, V)."""
    batch, width, written = tf.unstack(tf.shape(tokens))

    def none():
        return tf.zeros([batch, width, vocabulary])

    def some():
        runs = written - size + 1
        before = tokens[:, :, written - size + 1 :][:, :, None]  # the last size - 1 of them
        starts = tf.range(runs)[:, None] + tf.range(size - 1)[None]
        same = tf.reduce_all(tf.gather(tokens, starts, axis=2) == before, axis=-1)
        after = tokens[:, :, size - 1 :]
        hits = tf.one_hot(after, vocabulary) * tf.cast(same, tf.float32)[..., None]
        return tf.reduce_max(hits, axis=2) * (1.0 - tf.one_hot(end, vocabulary))

    return tf.cond(written >= size, some, none)
