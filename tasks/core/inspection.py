"""What went on in a network as it answered one request."""

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from models.cells.tracing import CellTrace
from models.text.subwords import BLANK
from tasks.core.errors import UserError
from tasks.core.evaluation import Alignment, AttentionMaps

_AT_ONCE = 16  # answers whose gradients are taken in one batch


@dataclasses.dataclass(frozen=True)
class Reading:
    """What one cell did as it read one sequence.

    Attributes:
        name: For people: "reader, layer 1, backward".
        steps: What it read at each step, (T).
        seen: Its gates, candidate and states, by name, each (T, H).
    """

    name: str
    steps: Sequence[str]
    seen: CellTrace


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What went on as a request was answered.

    Attributes:
        answer: What the served signature answered, for a person.
        at: The token that is looked at closely, as `numbered` has it.
        readings: What each cell did, in the order in which they read.
        saliency: How much each token or pixel says for each answer: the most of a row is 1.
        attention: What each token of the answer looked at; None where there is no attention.
        notes: What a person should know of all this, in sentences.
    """

    answer: str
    at: str
    readings: Sequence[Reading]
    saliency: Alignment | AttentionMaps
    attention: Alignment | AttentionMaps | None = None
    notes: Sequence[str] = ()


def reading(
    seen: CellTrace, what: str, steps: Sequence[str], row: int = 0, layer: int = 0
) -> Reading:
    """What a cell did, of one row of its batch, cut to its steps.

    Args:
        seen: What was seen of the cell.
        what: What the cell is part of, for people.
        steps: What it read.
        row: Of the batch.
        layer: How many layers lie below those of its `GatedRNN`.
    """
    direction = "backward" if seen.backward else "forward"
    return Reading(f"{what}, layer {layer + seen.layer + 1}, {direction}", steps, seen.row(row))


def numbered(tokens: Sequence[str]) -> list[str]:
    """Tokens by which each is found: of equal ones the second is "dull:2".

    >>> numbered(["not", "dull", ",", "dull"])
    ['not', 'dull', ',', 'dull:2']
    """
    times = collections.Counter()
    labels = []
    for token in tokens:
        times[token] += 1
        labels.append(token if times[token] == 1 else f"{token}:{times[token]}")
    return labels


def chosen(at: str, tokens: Sequence[str], weights: np.ndarray) -> str:
    """The token that is looked at closely: the one asked for, or the most salient.

    Args:
        at: What was asked for; "" for nothing. A subword may be told without its blank.
        tokens: Those that may be asked for, as `numbered` has them.
        weights: How salient the first of them are, in rows.

    Raises:
        UserError: None of the tokens was asked for.
    """
    if not at:
        return tokens[int(np.sum(weights, axis=0).argmax())]
    for token in tokens:
        if at in (token, token.removeprefix(BLANK)):
            return token
    raise UserError(f"--at must be one of {list(dict.fromkeys(tokens))}, got {at!r}.")


def picked(logits: tf.Tensor, which: tf.Tensor, answers: tf.Tensor) -> tf.Tensor:
    """The log-probabilities (N,) of answers (T,) at the steps `which` (N,), by logits (N, T, K)."""
    rows = tf.stack([tf.range(len(which)), which, tf.gather(answers, which)], axis=1)
    return tf.gather_nd(tf.nn.log_softmax(logits), rows)


def gradients(of: Callable, x: tf.Tensor, answers: int) -> np.ndarray:
    """How the log-probability of each answer changes with what was read.

    Args:
        of: Of copies of x, (N, ...), and the numbers (N,) of the answers that each is for,
            gives the log-probability (N,) of each answer; no row may depend on another.
        x: What was read.
        answers: How many there are.

    Returns:
        (answers, ...): the gradient of each.
    """
    found = []
    for first in range(0, answers, _AT_ONCE):
        which = tf.range(first, min(first + _AT_ONCE, answers))
        rows = tf.repeat(x[None], len(which), axis=0)
        with tf.GradientTape() as tape:
            tape.watch(rows)
            log_probability = of(rows, which)
        found.append(tape.gradient(log_probability, rows).numpy())
    return np.concatenate(found)


def salience(
    model: keras.Model,
    tensor: keras.KerasTensor,
    inputs: Mapping[str, tf.Tensor],
    log_probability: Callable,
    answers: int,
) -> np.ndarray:
    """How much each step says for each answer: the norm of its gradient times its features.

    Args:
        model: What answers.
        tensor: The features of each step within the model, (B, T, D).
        inputs: Those of the model, by name, of one row.
        log_probability: Of what the model gives, (N, ...), and the numbers (N,) of the answers
            that each row is for, gives the log-probability (N,) of each.
        answers: How many there are.

    Returns:
        (answers, T), relative to the greatest of a row.
    """
    told = [inputs[each.name] for each in model.inputs]
    onward = keras.Model([tensor, *model.inputs], model.output)
    x = keras.Model(model.inputs, tensor)(told, training=False)[0]

    def of(rows, which):
        repeated = [tf.repeat(each, len(rows), axis=0) for each in told]
        return log_probability(onward([rows, *repeated], training=False), which)

    return relative(np.linalg.norm(gradients(of, x, answers) * x.numpy(), axis=-1))


def relative(values: np.ndarray) -> np.ndarray:
    """Values (N, ...), each of the N divided by its greatest."""
    greatest = values.max(axis=tuple(range(1, values.ndim)), keepdims=True, initial=0)
    return values / np.maximum(greatest, 1e-30)
