"""Check that a batch fits into the memory of this machine, before training starts."""

import math
import os
import sys
from pathlib import Path

import keras
import tensorflow as tf

from app.training.batches import Batches
from tasks.core.errors import UserError

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")  # holds a number, or the word "max"


def check(model: keras.Model, batches: Batches, tokens: int, machines: int) -> None:
    """Checks that the largest batch can fit into memory.

    Layer outputs are kept until the gradients are computed, so a batch needs at least their
    size. Without the check, the system would kill the process. On a GPU it is not needed,
    because TensorFlow raises an error if the memory of a GPU is exhausted.

    Args:
        model: The network.
        batches: Batches of the training part.
        tokens: Token budget of a batch, for the message.
        machines: Number of machines that share each batch.

    Raises:
        UserError: The largest batch does not fit.
    """
    if tf.config.get_visible_devices("GPU"):
        return
    outputs = [tensor for layer in model.layers for tensor in keras.tree.flatten(layer.output)]
    needed = max(
        sum(_output_bytes(output, -(-rows // machines), time) for output in outputs)
        for rows, time in batches.shapes()
    )
    available = available_bytes()
    if needed > available:
        raise UserError(
            f"--batch-tokens {tokens}: a batch needs at least {needed / 2**30:,.1f} GiB of memory, "
            f"but only {available / 2**30:,.1f} GiB are available; lower --batch-tokens."
        )


def _output_bytes(output: keras.KerasTensor, rows: int, time: int) -> int:
    """Returns the size of a layer output; unknown dimensions together count as the time."""
    sizes = [size for size in output.shape[1:] if size is not None]
    steps = time if None in output.shape[1:] else 1
    return rows * steps * math.prod(sizes) * tf.as_dtype(output.dtype).size


def available_bytes() -> int:
    """Returns the memory of the machine, or of its container if that is less.

    Where the system does not report it, as on Windows, the memory counts as unlimited.
    """
    limits = []
    if hasattr(os, "sysconf"):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    text = _CGROUP_LIMIT.read_text().strip() if _CGROUP_LIMIT.exists() else ""
    if text.isdigit():
        limits.append(int(text))
    return min(limits, default=sys.maxsize)
