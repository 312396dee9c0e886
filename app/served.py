"""A published model as TensorFlow Serving runs it: the SavedModel in a graph session."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tasks.corpora import Example, Stream
from tasks.shapes.task import Task

_AT_ONCE = 2048  # examples sorted by size, so that those of like size share a batch
_BATCH = 64


class Served:
    """A SavedModel, loaded by the session that Serving's loader wraps.

    Args:
        folder: The folder of a version, or of a draft.
    """

    def __init__(self, folder: Path):
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        with self._session.graph.as_default():
            self._loaded = tf.compat.v1.saved_model.load(self._session, ["serve"], str(folder))
        self.signatures = {
            name: signature
            for name, signature in self._loaded.signature_def.items()
            if not name.startswith("__")
        }

    def ask(self, request: dict[str, Sequence], signature: str = "serving_default") -> dict:
        """Answers a request of B rows: arrays with B rows each, by name.

        Args:
            request: Rows by the name of each input. Rows of an input of two
                dimensions may differ in length: they are padded.
            signature: The signature to ask.
        """
        told = self.signatures[signature]
        feeds = {
            told.inputs[name].name: _array(told.inputs[name], request[name]) for name in request
        }
        return self._session.run({k: t.name for k, t in told.outputs.items()}, feeds)

    def ask_rows(self, rows: Sequence[Mapping], signature: str = "serving_default") -> list[dict]:
        """Answers requests of one row each, in one: of each its row of each output, by name."""
        names = self.signatures[signature].inputs
        return by_row(self.ask({name: [row[name] for row in rows] for name in names}, signature))

    def answers(self, task: Task, examples: Stream) -> Iterator[tuple[Example, dict]]:
        """The answer of the signature that judges to each example, in their order."""
        for some in examples.batches(_AT_ONCE):
            sizes = [sum(map(len, example.values.values())) for example in some]
            order, answers = np.argsort(sizes, kind="stable"), [{}] * len(some)
            for rows in np.split(order, range(_BATCH, len(order), _BATCH)):
                asked = [task.row(some[row].values) for row in rows]
                for row, answer in zip(rows, self.ask_rows(asked, task.judged), strict=True):
                    answers[row] = answer
            yield from zip(some, answers, strict=True)


def _array(told, rows):
    """The rows of one input as an array of its type, padded by zeros or nothing."""
    dtype = tf.as_dtype(told.dtype)
    if len(told.tensor_shape.dim) == 1:
        return np.array(rows, object if dtype == tf.string else dtype.as_numpy_dtype)
    longest = max(map(len, rows), default=0)
    padding = "" if dtype == tf.string else 0
    padded = [[*row, *[padding] * (longest - len(row))] for row in rows]
    return np.array(padded, object).reshape(len(rows), longest)


def by_row(answer: dict[str, Iterable]) -> list[dict]:
    """Turns an answer of columns into one of rows, each cut by its `lengths` if it has them."""
    rows = [dict(zip(answer, row, strict=True)) for row in zip(*answer.values(), strict=True)]
    for row in rows:
        if "lengths" in row:
            cut = row["lengths"]
            row.update({name: value[:cut] for name, value in row.items() if np.ndim(value)})
    return rows
