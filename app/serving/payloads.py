"""Requests of rows as the arrays that a signature takes, and arrays that it gives as rows."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

AT_ONCE = 32  # rows of a request to a server: what its batching is set to take


def columns(signature: SignatureDef, rows: Sequence[Mapping]) -> dict[str, np.ndarray]:
    """The rows of a request as an array of each input, by name.

    Args:
        signature: What is to be asked.
        rows: Of each a value of each input, by name; those of an input of two dimensions
            may differ in length: they are padded with 0 or nothing.
    """
    return {
        name: array(told, [row[name] for row in rows]) for name, told in signature.inputs.items()
    }


def array(told, values: Sequence) -> np.ndarray:
    """The values of one input, a `TensorInfo`, as an array of its type."""
    dtype = tf.as_dtype(told.dtype)
    kind = object if dtype == tf.string else dtype.as_numpy_dtype
    if len(told.tensor_shape.dim) == 1:
        return np.array(values, kind)
    longest = max(map(len, values), default=0)
    padding = "" if dtype == tf.string else 0
    padded = [[*value, *[padding] * (longest - len(value))] for value in values]
    return np.array(padded, kind).reshape(len(values), longest)


def by_row(answer: Mapping[str, Iterable]) -> list[dict]:
    """Turns an answer of columns into one of rows, each cut by its `lengths` if it has them."""
    rows = [dict(zip(answer, row, strict=True)) for row in zip(*answer.values(), strict=True)]
    for row in rows:
        if "lengths" in row:
            cut = row["lengths"]
            row.update({name: value[:cut] for name, value in row.items() if np.ndim(value)})
    return rows


def size(row: Mapping) -> int:
    """The length of all that is to be read of a row: of a text, an image, the tokens of a list."""
    texts = sum(len(value) for value in row.values() if isinstance(value, str | bytes))
    lists = (value for value in row.values() if isinstance(value, list | tuple))
    return texts + sum(len(token) for tokens in lists for token in tokens)


def answered(
    predict: Callable[..., list[dict]], rows: Sequence[Mapping], signature: str, at_once: int
) -> list[dict]:
    """The answers to many rows, in their order; rows of like size share a batch.

    Args:
        predict: `app.serving.session.SavedModelSession.predict` or that of a client.
        rows: The rows.
        signature: The signature to ask.
        at_once: Rows of a batch.
    """
    order, answers = np.argsort([size(row) for row in rows], kind="stable"), [{}] * len(rows)
    for batch in np.split(order, range(at_once, len(order), at_once)):
        asked = [rows[at] for at in batch]
        for at, answer in zip(batch, predict(asked, signature), strict=True):
            answers[at] = answer
    return answers
