"""Conversion between rows of values and the arrays that a signature takes and returns."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo

from tasks.core.predictor import Predictor

_SIZES = {"lengths", "count"}  # outputs that say how many values of the others are valid
_NEXT = "next_"  # begins the names of outputs on what may follow, which have a size of their own


def columns(signature: SignatureDef, rows: Sequence[Mapping]) -> dict[str, np.ndarray]:
    """Converts B rows to one array per input, by name, each of shape (B,) or (B, longest).

    Args:
        signature: The signature that takes the arrays.
        rows: A value for each input, by name. Lists of an input of two dimensions may differ
            in length; they are padded with 0 or "".

    Raises:
        KeyError: A row lacks an input.
    """
    return {
        name: array(info, [row[name] for row in rows]) for name, info in signature.inputs.items()
    }


def array(info: TensorInfo, values: Sequence) -> np.ndarray:
    """Converts the B values of one input to an array of its dtype, (B,) or (B, longest)."""
    dtype = tf.as_dtype(info.dtype)
    numpy_dtype = object if dtype == tf.string else dtype.as_numpy_dtype
    if len(info.tensor_shape.dim) == 1:
        return np.array(values, numpy_dtype)
    longest = max(map(len, values), default=0)
    padding = "" if dtype == tf.string else 0
    padded = [[*value, *[padding] * (longest - len(value))] for value in values]
    return np.array(padded, numpy_dtype).reshape(len(values), longest)


def rows(outputs: Mapping[str, Iterable]) -> list[dict]:
    """Converts outputs of shape (B, ...) to B rows, each truncated to its size, if it has one."""
    by_row = [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]
    for row in by_row:
        for size in _SIZES & row.keys():
            length = row[size]
            row.update({n: value[:length] for n, value in row.items() if has_time(n, value)})
    return by_row


def has_time(name: str, value: object) -> bool:
    """Returns whether an output of a row has a value for each step of a sequence."""
    return np.ndim(value) > 0 and not name.startswith(_NEXT)


def row_size(row: Mapping) -> int:
    """Returns the size of a row: bytes or characters of its strings and of lists of strings."""
    size = 0
    for value in row.values():
        if isinstance(value, str | bytes):
            size += len(value)
        elif isinstance(value, list | tuple):
            size += sum(map(len, value))
    return size


def predict_in_batches(
    predictor: Predictor, rows: Sequence[Mapping], signature: str, batch_size: int
) -> list[dict]:
    """Predicts many rows, in batches of rows of similar size; returns responses in row order.

    Args:
        predictor: The model.
        rows: N rows.
        signature: Name of the signature.
        batch_size: Most rows per batch.
    """
    order = np.argsort([row_size(row) for row in rows], kind="stable")
    responses: list[dict] = [{}] * len(rows)
    for indices in np.split(order, range(batch_size, len(order), batch_size)):
        predicted = predictor.predict([rows[index] for index in indices], signature)
        for index, response in zip(indices, predicted, strict=True):
            responses[index] = response
    return responses
