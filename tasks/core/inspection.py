"""Inspection of a network while it computes one response: gates, states and saliency."""

import abc
import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from models.cells.tracing import CellTrace
from models.text.subwords import BLANK
from tasks.core.errors import UserError
from tasks.core.evaluation import Alignment, AttentionMaps
from tasks.core.predictor import Predictor

if TYPE_CHECKING:  # a task names its inspector
    from tasks.core.task import Task

_BATCH_SIZE = 16  # targets whose gradients are computed together


@dataclasses.dataclass(frozen=True)
class Reading:
    """Trace of one cell over one sequence.

    Attributes:
        name: Name for people, such as "reader, layer 1, backward".
        steps: Tokens or positions that the cell read, one for each of T steps.
        trace: Gates, candidate and states by name, each of shape (T, H).
    """

    name: str
    steps: Sequence[str]
    trace: CellTrace


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What a network computed for one request.

    Attributes:
        response: The response of the published model, formatted for people.
        token: The token that is shown in detail, with a number if it is repeated (see
            `numbered_tokens`).
        readings: Traces of the cells, in the order of computation.
        saliency: Saliency of each input token or pixel for each output; the maximum of a
            row is 1.
        attention: Attention weights of each output token; None without attention.
        notes: Remarks for the reader, in sentences.
    """

    response: str
    token: str
    readings: Sequence[Reading]
    saliency: Alignment | AttentionMaps
    attention: Alignment | AttentionMaps | None = None
    notes: Sequence[str] = ()


class Inspector(abc.ABC):
    """Inspection of a task's network; a task may name a subclass as its `Inspector`.

    Args:
        task: The task.
        model: Its network for reuse, as `models.load` returns it.
        predictor: Its published model.
    """

    def __init__(self, task: "Task", model: keras.Model, predictor: Predictor):
        self.task, self.model, self.predictor = task, model, predictor

    @abc.abstractmethod
    def inspect(self, row: dict, token: str = "") -> Inspection:
        """Inspects how the network computes the response to a request.

        Args:
            row: Row of the request, as read by `RequestFormat.requests`.
            token: The token to be shown in detail; "" for the one with the greatest saliency.

        Raises:
            UserError: The request is empty, or `token` is not one of its tokens.
        """


def reading(
    trace: CellTrace, part: str, steps: Sequence[str], row: int = 0, first_layer: int = 0
) -> Reading:
    """Returns the reading of one row of a batch.

    Args:
        trace: Trace of the cell over the batch.
        part: Name of the part of the network that the cell belongs to.
        steps: Tokens or positions that the cell read.
        row: Index of the row.
        first_layer: Number of layers below those of the cell's `GatedRNN`.
    """
    direction = "backward" if trace.backward else "forward"
    layer = first_layer + trace.layer + 1
    return Reading(f"{part}, layer {layer}, {direction}", steps, trace.row(row))


def numbered_tokens(tokens: Sequence[str]) -> list[str]:
    """Makes repeated tokens distinct by a number.

    >>> numbered_tokens(["not", "dull", ",", "dull"])
    ['not', 'dull', ',', 'dull:2']
    """
    counts = collections.Counter()
    labels = []
    for token in tokens:
        counts[token] += 1
        labels.append(token if counts[token] == 1 else f"{token}:{counts[token]}")
    return labels


def select_token(token: str, tokens: Sequence[str], saliency: np.ndarray) -> str:
    """Returns the token to be shown in detail.

    Args:
        token: The requested token; "" for the one with the greatest saliency. The leading
            blank of a subword may be omitted.
        tokens: Numbered tokens to choose from.
        saliency: Saliency of the first of them, shape (outputs, T).

    Raises:
        UserError: The requested token does not exist.
    """
    if not token:
        return tokens[int(np.sum(saliency, axis=0).argmax())]
    for candidate in tokens:
        if token in (candidate, candidate.removeprefix(BLANK)):
            return candidate
    raise UserError(f"--token must be one of {list(dict.fromkeys(tokens))}, got {token!r}.")


def target_log_probability(logits: tf.Tensor, indices: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Returns the log-probability (N,) of the target at one step of each row.

    Args:
        logits: Logits (N, T, K).
        indices: Step of each row, (N,).
        targets: Class at each step, (T,).
    """
    rows = tf.stack([tf.range(len(indices)), indices, tf.gather(targets, indices)], axis=1)
    return tf.gather_nd(tf.nn.log_softmax(logits), rows)


def gradients(log_probability: Callable, x: tf.Tensor, targets: int) -> np.ndarray:
    """Returns the gradients of the log-probabilities of targets with respect to an input.

    Args:
        log_probability: Function of copies of x, (N, ...), and the index of the target that
            each copy is for, (N,), that returns the log-probability of each, (N,). The rows
            must not depend on each other.
        x: The input.
        targets: Number of targets.

    Returns:
        The gradients, shape (targets, ...).
    """
    results = []
    for first in range(0, targets, _BATCH_SIZE):
        indices = tf.range(first, min(first + _BATCH_SIZE, targets))
        rows = tf.repeat(x[None], len(indices), axis=0)
        with tf.GradientTape() as tape:
            tape.watch(rows)
            outputs = log_probability(rows, indices)
        results.append(tape.gradient(outputs, rows).numpy())
    return np.concatenate(results)


def saliency(
    model: keras.Model,
    features: keras.KerasTensor,
    inputs: Mapping[str, tf.Tensor],
    log_probability: Callable,
    targets: int,
) -> np.ndarray:
    """Returns the saliency of each step: the norm of the gradient times the features.

    Args:
        model: The network.
        features: Symbolic features of the steps inside the network, (B, T, D).
        inputs: Inputs of the network by name, for a single row.
        log_probability: Function of the outputs of the network, (N, ...), and the index of
            the target that each row is for, (N,), that returns the log-probability of each.
        targets: Number of targets.

    Returns:
        The saliency, shape (targets, T), relative to the maximum of its row.
    """
    values = [inputs[tensor.name] for tensor in model.inputs]
    rest = keras.Model([features, *model.inputs], model.output)
    x = keras.Model(model.inputs, features)(values, training=False)[0]

    def of_features(rows, indices):
        repeated = [tf.repeat(value, len(rows), axis=0) for value in values]
        return log_probability(rest([rows, *repeated], training=False), indices)

    return relative(np.linalg.norm(gradients(of_features, x, targets) * x.numpy(), axis=-1))


def relative(values: np.ndarray) -> np.ndarray:
    """Divides each of N arrays, (N, ...), by its maximum."""
    greatest = values.max(axis=tuple(range(1, values.ndim)), keepdims=True, initial=0)
    return values / np.maximum(greatest, 1e-30)
