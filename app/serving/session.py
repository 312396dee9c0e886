"""A published model as TensorFlow Serving runs it: the SavedModel in a graph session."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef, SignatureDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow_serving.apis.get_model_metadata_pb2 import SignatureDefMap

from app.serving import payloads
from tasks.core.examples import Example, Stream
from tasks.core.task import Task

BATCH = 64  # rows asked at once, where many are to be
_AT_ONCE = 2048  # examples sorted by size, so that those of like size share a batch


class SavedModelSession:
    """A SavedModel, loaded by the session that Serving's loader wraps.

    Args:
        folder: The folder of a version, or of a draft.
    """

    def __init__(self, folder: Path):
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        with self._session.graph.as_default():
            self._loaded = tf.compat.v1.saved_model.load(self._session, ["serve"], str(folder))
        self.signatures = own(self._loaded)

    def ask(self, request: dict[str, Sequence], signature: str = "serving_default") -> dict:
        """Answers a request of B rows: arrays with B rows each, by name.

        Args:
            request: Rows by the name of each input. Rows of an input of two
                dimensions may differ in length: they are padded.
            signature: The signature to ask.
        """
        told = self.signatures[signature]
        feeds = {
            told.inputs[name].name: payloads.array(told.inputs[name], request[name])
            for name in request
        }
        return self._session.run({k: t.name for k, t in told.outputs.items()}, feeds)

    def predict(self, asked: Sequence[Mapping], signature: str = "serving_default") -> list[dict]:
        """Answers requests of one row each, in one: of each its row of each output, by name."""
        names = self.signatures[signature].inputs
        return payloads.by_row(
            self.ask({name: [row[name] for row in asked] for name in names}, signature)
        )

    def answers(self, task: Task, examples: Stream) -> Iterator[tuple[Example, dict]]:
        """The answer of the signature that judges to each example, in their order."""
        for some in examples.batches(_AT_ONCE):
            asked = [task.row(example.values) for example in some]
            answers = payloads.answered(self.predict, asked, task.judged, BATCH)
            yield from zip(some, answers, strict=True)


def signatures(folder: Path) -> dict[str, SignatureDef]:
    """The signatures of a SavedModel, by name, without loading it."""
    return own(SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs[0])


def own(told: MetaGraphDef | SignatureDefMap) -> dict[str, SignatureDef]:
    """Those that are asked; TensorFlow's own, which initialises tables, is not."""
    return {
        name: signature
        for name, signature in told.signature_def.items()
        if not name.startswith("__")
    }
