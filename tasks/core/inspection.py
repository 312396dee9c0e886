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

_NODES = 24  # of the quadrature; features of tokens
_BATCH_NUMBERS = 2**22  # numbers of the inputs whose gradients are computed together
_MAX_BATCH_SIZE = 256


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
class Saliency:
    """Signed contributions of inputs to outputs: integrated gradients.

    The contributions to an output sum to the difference between its value and its baseline, as far
    as the quadrature is exact.

    Attributes:
        contributions: Contribution of each input token or pixel to each of T outputs; positive
            where it raises the output.
        values: The outputs for the request, (T,).
        baselines: The outputs if all features of tokens, or all rescaled pixels, are 0, (T,).
        quantity: What the outputs are, such as "log-probability".
    """

    contributions: Alignment | AttentionMaps
    values: np.ndarray
    baselines: np.ndarray
    quantity: str = "log-probability"


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What a network computed for one request.

    Attributes:
        response: The response of the published model, formatted for people.
        token: The token that is shown in detail, with a number if it is repeated (see
            `numbered_tokens`).
        readings: Traces of the cells, in the order of computation.
        saliency: Contributions of the input tokens or pixels to each output.
        attention: Attention weights of each output token; None without attention.
        notes: Remarks for the reader, in sentences.
    """

    response: str
    token: str
    readings: Sequence[Reading]
    saliency: Saliency
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
        saliency: Contributions of the first of them, shape (outputs, T).

    Raises:
        UserError: The requested token does not exist.
    """
    if not token:
        return tokens[int(np.abs(relative(saliency)).sum(axis=0).argmax())]
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


def integrated_gradients(
    value: Callable, x: tf.Tensor, targets: int, nodes: int = _NODES
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the contributions of an input to the values of targets.

    Gradients are integrated along the line from 0 to the input, by Gauss-Legendre quadrature,
    and multiplied by the input (Sundararajan et al. 2017, "Axiomatic attribution for deep
    networks"). The contributions to a target sum to the difference between its values at both ends.

    Args:
        value: Function of N inputs, (N, ...), and the index of the target that each is for,
            (N,), that returns the value of each, (N,). The rows must not depend on each other.
        x: The input.
        targets: Number of targets.
        nodes: Points of the line at which gradients are computed.

    Returns:
        The contributions, shape (targets, ...), and the values at the input and at 0, (targets,).
    """
    points, weights = np.polynomial.legendre.leggauss(nodes)
    points, weights = (points + 1) / 2, weights / 2
    # A row for each target and point, and two for the ends, which have no weight.
    shares = np.tile([*points, 1.0, 0.0], targets).astype("float32")
    weights = np.tile([*weights, 0.0, 0.0], targets)
    indices = np.repeat(np.arange(targets, dtype="int32"), nodes + 2)
    sums = np.zeros((targets, *x.shape))
    values = np.zeros(len(shares))
    size = int(np.clip(_BATCH_NUMBERS // max(1, np.prod(x.shape)), 1, _MAX_BATCH_SIZE))
    for first in range(0, len(shares), size):
        batch = slice(first, first + size)
        factors = shares[batch].reshape(-1, *[1] * len(x.shape))
        rows = tf.constant(factors) * x[None]
        with tf.GradientTape() as tape:
            tape.watch(rows)
            outputs = value(rows, tf.constant(indices[batch]))
        slopes = tape.gradient(outputs, rows).numpy()
        values[batch] = outputs.numpy()
        weighted = slopes * weights[batch].reshape(factors.shape)
        np.add.at(sums, indices[batch], weighted)
    at_input, at_zero = values.reshape(targets, nodes + 2)[:, -2:].T
    return sums * x.numpy(), at_input, at_zero


def token_saliency(
    model: keras.Model,
    features: keras.KerasTensor,
    inputs: Mapping[str, tf.Tensor],
    value: Callable,
    tokens: tuple[Sequence[str], Sequence[str]],
    quantity: str = "log-probability",
) -> Saliency:
    """Returns the contributions of the tokens of a text to the outputs of a network.

    Args:
        model: The network.
        features: Symbolic features of the T steps inside the network, (B, T, D).
        inputs: Inputs of the network by name, for a single row.
        value: Function of the outputs of the network, (N, ...), and the index of the target
            that each row is for, (N,), that returns the value of each.
        tokens: Names of the T tokens, and of the targets.
        quantity: What the values are.
    """
    fixed = [inputs[tensor.name] for tensor in model.inputs]
    rest = keras.Model([features, *model.inputs], model.output)
    x = keras.Model(model.inputs, features)(fixed, training=False)[0]

    def of_features(rows, indices):
        repeated = [tf.repeat(tensor, len(rows), axis=0) for tensor in fixed]
        return value(rest([rows, *repeated], training=False), indices)

    source, target = tokens
    contributions, values, baselines = integrated_gradients(of_features, x, len(target))
    alignment = Alignment(source, target, contributions.sum(axis=-1))
    return Saliency(alignment, values, baselines, quantity)


def relative(values: np.ndarray) -> np.ndarray:
    """Divides each of N arrays, (N, ...), by its maximum of absolute values."""
    sizes = np.abs(values).max(axis=tuple(range(1, values.ndim)), keepdims=True, initial=0)
    return values / np.maximum(sizes, 1e-30)
