"""Fitting on the validation part: outputs of a trained network over encoded batches."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

if TYPE_CHECKING:  # a task fits its network with these functions
    from tasks.core.task import Task

_MAX_VALUES = 2**24  # outputs that are fitted to; of more, a random sample


def outputs(
    task: "Task", model: keras.Model, batches: Iterable[dict[str, np.ndarray]]
) -> Iterator[tuple]:
    """Yields what a network returns for batches, with their targets and sample weights.

    Args:
        task: The task that encoded the batches.
        model: The network for training, or another with the same inputs.
        batches: Encoded examples, padded with 0.

    Yields:
        For each batch the outputs, in the structure of the network's, the targets, and the
        sample weights or None; as arrays.
    """

    @tf.function(autograph=False, reduce_retracing=True)
    def predict(x):
        return model(x, training=False)

    for batch in batches:
        tensors = {name: tf.constant(values) for name, values in batch.items()}
        x, y, weight = keras.utils.unpack_x_y_sample_weight(task.to_inputs(tensors, training=False))
        yield tf.nest.map_structure(
            lambda tensor: None if tensor is None else tensor.numpy(), (predict(x), y, weight)
        )


def logits_and_classes(
    task: "Task",
    model: keras.Model,
    batches: Iterable[dict[str, np.ndarray]],
    seed: int = 0,
    column: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the logits and the correct classes of the rows or steps with a sample weight.

    Where there are many, they are a random sample, which bounds the memory.

    Args:
        task: The task that encoded the batches.
        model: A network that returns logits (..., K).
        batches: Encoded examples, padded with 0.
        seed: Seed of the sample.
        column: Column of the classes in the targets, if these have several; steps whose class is
            negative, which is unknown, are left out.

    Returns:
        Logits (N, K) float32, and classes (N,).
    """
    rng = np.random.default_rng(seed)
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # random keys, logits, classes
    count, limit = 0, 1
    for values, targets, weight in outputs(task, model, batches):
        targets = targets if column is None else targets[..., column]
        chosen = np.ones(targets.shape, bool) if weight is None else weight > 0
        chosen &= targets >= 0
        parts.append((rng.random(chosen.sum()), values[chosen], targets[chosen]))
        count, limit = count + len(parts[-1][0]), max(1, _MAX_VALUES // values.shape[-1])
        if count > 2 * limit:
            keys, values, classes = map(np.concatenate, zip(*parts, strict=True))
            smallest = np.argpartition(keys, limit)[:limit]
            parts, count = [(keys[smallest], values[smallest], classes[smallest])], limit
    if not parts:
        return np.zeros([0, 0], np.float32), np.zeros([0], int)
    keys, values, classes = map(np.concatenate, zip(*parts, strict=True))
    smallest = np.argsort(keys)[:limit]
    return values[smallest], classes[smallest]


def outputs_and_targets(
    task: "Task", model: keras.Model, batches: Iterable[dict[str, np.ndarray]], seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the outputs of a network and the targets of all rows, or of a random sample.

    Args:
        task: The task that encoded the batches.
        model: A network that returns (B, K).
        batches: Encoded examples, padded with 0.
        seed: Seed of the sample.

    Returns:
        Outputs (N, K) float32, and targets (N, ...).
    """
    rng = np.random.default_rng(seed)
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # random keys, outputs, targets
    count, share = 0, 1.0
    for values, targets, _ in outputs(task, model, batches):
        keys = rng.random(len(values))
        rows = keys < share
        parts.append((keys[rows], values[rows], targets[rows]))
        count += int(rows.sum()) * values.shape[-1]
        if count > _MAX_VALUES:
            share /= 2
            parts = [tuple(column[part[0] < share] for column in part) for part in parts]
            count = sum(part[1].size for part in parts)
    _, values, targets = map(np.concatenate, zip(*parts, strict=True))
    return values, targets


def caveat(calibrated: bool) -> str:
    """Returns the sentence of `Task.limits` about probabilities."""
    if calibrated:
        return (
            "The probabilities are calibrated by a temperature that was fitted on the validation "
            "part, and hold for texts of that kind."
        )
    return "The probabilities are the network's own and have not been calibrated."
