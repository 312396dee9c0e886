"""A published model as TensorFlow Serving runs it: the SavedModel in a graph session."""

from collections.abc import Iterable, Iterator
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

    def ask(self, request: dict[str, list], signature: str = "serving_default") -> dict:
        """Answers a request of B rows: arrays with B rows each, by name.

        Args:
            request: Rows by the name of each input.
            signature: The signature to ask.
        """
        told = self.signatures[signature]
        feeds = {told.inputs[name].name: np.array(rows, object) for name, rows in request.items()}
        return self._session.run({k: t.name for k, t in told.outputs.items()}, feeds)

    def answers(self, task: type[Task], examples: Stream) -> Iterator[tuple[Example, dict]]:
        """The answer of `serving_default` to each example, in their order."""
        for some in examples.batches(_AT_ONCE):
            sizes = [sum(len(e.values[key]) for key in task.request) for e in some]
            order, answers = np.argsort(sizes, kind="stable"), [{}] * len(some)
            for rows in np.split(order, range(_BATCH, len(order), _BATCH)):
                request = {key: [some[row].values[key] for row in rows] for key in task.request}
                for row, answer in zip(rows, by_row(self.ask(request)), strict=True):
                    answers[row] = answer
            yield from zip(some, answers, strict=True)


def by_row(answer: dict[str, Iterable]) -> list[dict]:
    """Turns an answer of columns into one of rows."""
    return [dict(zip(answer, row, strict=True)) for row in zip(*answer.values(), strict=True)]
