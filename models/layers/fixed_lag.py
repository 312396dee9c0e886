"""Decoding of tags while their sequence arrives, each a fixed number of steps later.

Viterbi decoding chooses all tags of a sequence together, so that none is final before the last
step. With a lag of L, the tag of step t is final once the next L steps are known: it is the first
tag of the most probable tags of the steps t to t + L, after the tag that was chosen for step
t - 1. With L of at least the length of the sequence this is Viterbi decoding.

Survivors of Viterbi decoding with their back-pointers would be cheaper to carry on, but the best
of them may not contain the tags that are final already, and none of those that contain them may
be allowed to end. Here each tag is chosen from sequences that contain those before, so that all
tags together obey the constraints, if every tag may be followed by one that may end.

Shapes: B batch, T steps that get their tags, L steps of lag, K tags.
"""

from typing import NamedTuple

from keras import ops

from ..cells.cell import Tensor

_LEAST = -1e4  # logarithm of a share that is 0 in float32


class Chosen(NamedTuple):
    """What is carried from one call to the next.

    Attributes:
        tag: The last tag that was chosen, -1 for none, (B,) int32.
        shares: Logarithms of the probabilities of the tags at its step, given the steps up to
            it, (B, K).
    """

    tag: Tensor
    shares: Tensor


def nothing_chosen(rows: Tensor | int, tags: int) -> Chosen:
    """Returns what precedes the first step of a number of rows, for K tags."""
    return Chosen(ops.full((rows,), -1, "int32"), ops.zeros((rows, tags)))


class FixedLagDecoder:
    """Chooses tags in a linear chain with a fixed lag.

    Args:
        transitions: (K, K), scores of a tag (column) after another (row), -inf if it is forbidden.
        start, end: (K,), scores of the first and of the last tag.
        lag: L.

    Example:
        >>> import numpy as np
        >>> decoder = FixedLagDecoder(np.zeros((2, 2)), np.zeros(2), np.zeros(2), lag=1)
        >>> logits = np.array([[[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]]], "float32")
        >>> mask = np.ones((1, 2), "bool")
        >>> tags, _, chosen = decoder.decode(logits, mask, nothing_chosen(1, 2))
        >>> np.array(tags).tolist(), np.array(chosen.tag).tolist()
        ([[0, 1]], [1])
    """

    def __init__(self, transitions: Tensor, start: Tensor, end: Tensor, lag: int):
        weights = (transitions, start, end)
        self._transitions, self._start, self._end = (
            ops.convert_to_tensor(weight, "float32") for weight in weights
        )
        self._lag = lag

    def decode(
        self, logits: Tensor, mask: Tensor, chosen: Chosen, is_last: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Chosen]:
        """Chooses the tags of the next steps.

        Args:
            logits: (B, T + L, K).
            mask: (B, T) bool, true at the steps that get a tag; the L steps after the last of
                them are known, or the sequence ends before.
            chosen: What earlier calls chose.
            is_last: (T + L,) bool, true at the last step of the sequences; None if more follow.

        Returns:
            The tags, (B, T) int32; the probability of each tag, given all steps that are known,
            (B, T, K); and what the next call needs. Values at masked steps are arbitrary.
        """
        logits = ops.cast(logits, "float32")
        steps = ops.shape(mask)[1]
        best = self._values(logits, is_last, _best)
        sums = self._values(logits, is_last, ops.logsumexp)
        tags_of = logits.shape[-1]

        def choose(state, inputs):
            now, after, total = (
                inputs[:, number * tags_of : (number + 1) * tags_of] for number in range(3)
            )
            previous, shares = ops.cast(state[:, 0], "int32"), state[:, 1:]
            is_first = previous[:, None] < 0
            follow = ops.take(self._transitions, ops.maximum(previous, 0), axis=0)
            scores = now + after + ops.where(is_first, self._start, follow)
            tag = ops.cast(ops.argmax(scores, axis=-1), state.dtype)[:, None]
            before = ops.logsumexp(shares[:, :, None] + self._transitions, axis=1)
            shares = now + ops.where(is_first, self._start, before)
            # The scale is removed, so that the numbers remain exact in an endless sequence.
            shares = ops.maximum(ops.log_softmax(shares, axis=-1), _LEAST)
            following = ops.concatenate([tag, shares], axis=-1)
            is_valid = inputs[:, -1:] > 0
            after_step = ops.where(is_valid, following, state)
            return after_step, ops.concatenate([tag, shares + total], axis=-1)

        flags = ops.cast(mask, "float32")[..., None]
        inputs = ops.concatenate([logits[:, :steps], best, sums, flags], axis=-1)
        # One masked step more, because TensorFlow cannot scan zero steps.
        inputs = ops.pad(inputs, [[0, 0], [0, 1], [0, 0]])
        state = ops.concatenate([ops.cast(chosen.tag, "float32")[:, None], chosen.shares], axis=-1)
        state, outputs = ops.scan(choose, state, ops.swapaxes(inputs, 0, 1))
        outputs = ops.swapaxes(outputs, 0, 1)[:, :-1]
        tags = ops.cast(outputs[..., 0], "int32")
        probabilities = ops.softmax(outputs[..., 1:], axis=-1)
        return tags, probabilities, Chosen(ops.cast(state[:, 0], "int32"), state[:, 1:])

    def _values(self, logits, is_last, total):
        """The score of the next L steps after each tag of a step, (B, T, K).

        `total` is `_best` for the score of the best tags, or `ops.logsumexp` for that of all.
        """
        values = ops.zeros_like(logits)
        if is_last is not None:
            is_last = is_last[None, :, None]
            values = ops.where(is_last, self._end, values)
        for _ in range(self._lag):
            following = (logits[:, 1 : ops.shape(values)[1]] + values[:, 1:])[:, :, None]
            values = total(self._transitions + following, axis=-1)
            if is_last is not None:
                values = ops.where(is_last[:, : ops.shape(values)[1]], self._end, values)
        return values


def _best(x, axis):
    """Maximum that allows an empty batch."""
    return ops.max(x, axis=axis, initial=float("-inf"))
