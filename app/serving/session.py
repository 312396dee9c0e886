"""Published model as TensorFlow Serving runs it: a SavedModel in a graph session."""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef, SignatureDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow_serving.apis.get_model_metadata_pb2 import SignatureDefMap

from app.serving import payloads
from app.serving.streaming import PredictionStream
from tasks.core.errors import UserError
from tasks.core.examples import Example, Stream
from tasks.core.task import Task

PREDICT_BATCH = 64  # rows per session run where there are many to predict
# Characters of a path that TensorFlow takes for a pattern which does not match the path itself.
_PATTERN = set("[") if os.name == "nt" else set("[\\")
_SORT_WINDOW = 2048  # examples sorted by size, so that a batch holds rows of similar size
_WINDOW_BYTES = 2**28  # of these examples; photographs are large


class SavedModelSession:
    """SavedModel loaded by the session that TensorFlow Serving's loader wraps.

    A `tasks.core.predictor.Predictor`.

    Args:
        folder: Folder of a version or of a draft.

    Attributes:
        signatures: The signatures by name, without those that TensorFlow adds.

    Example::

        session = SavedModelSession(Path("saved_models/sentiment/1"))
        [row] = session.predict([{"text": "a dull film"}])
        row["label"]    # b"negative"
    """

    def __init__(self, folder: Path):
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        with self._session.graph.as_default(), _plain_path(folder) as path:
            loaded = tf.compat.v1.saved_model.load(self._session, ["serve"], str(path))
        self.signatures = public_signatures(loaded)

    def predict(self, rows: Sequence[Mapping], signature: str = "serving_default") -> list[dict]:
        """Predicts rows as one batch; see `tasks.core.predictor.Predictor.predict`.

        Raises:
            KeyError: There is no such signature, or a row lacks one of its inputs.
        """
        columns = payloads.columns(self.signatures[signature], rows)
        return payloads.rows(self._run(signature, columns))

    def predict_columns(
        self, columns: Mapping[str, Sequence], signature: str = "serving_default"
    ) -> dict[str, np.ndarray]:
        """Predicts a batch of B rows that is given by columns.

        Args:
            columns: B values for each input, by name. Lists of an input of two dimensions may
                differ in length; they are padded.
            signature: Name of the signature.

        Returns:
            The outputs by name, each of shape (B, ...).

        Raises:
            KeyError: There is no such signature or input.
            tf.errors.OpError: The graph rejects the values, or an input is missing.
        """
        inputs = self.signatures[signature].inputs
        for name in columns:
            if name not in inputs:  # indexing a protobuf map would add the name
                raise KeyError(name)
        arrays = {name: payloads.array(inputs[name], values) for name, values in columns.items()}
        return self._run(signature, arrays)

    def stream(self) -> PredictionStream:
        """Starts a text that is read in pieces; the version must read forward.

        Raises:
            UserError: The version has no streams.
        """
        return PredictionStream(self)

    def predict_examples(self, task: Task, examples: Stream) -> Iterator[tuple[Example, dict]]:
        """Pairs each example with the response of the signature that the task is evaluated by."""
        for window in examples.batches(_SORT_WINDOW, _WINDOW_BYTES):
            rows = [task.row(example.values) for example in window]
            responses = payloads.predict_in_batches(
                self, rows, task.evaluation_signature, PREDICT_BATCH
            )
            yield from zip(window, responses, strict=True)

    def _run(self, signature: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        definition = self.signatures[signature]
        feeds = {definition.inputs[name].name: array for name, array in arrays.items()}
        fetches = {name: tensor.name for name, tensor in definition.outputs.items()}
        return self._session.run(fetches, feeds)


@contextlib.contextmanager
def _plain_path(folder: Path) -> Iterator[Path]:
    """Yields a path of a folder that is no pattern for TensorFlow, such as `models[1]` is.

    Raises:
        UserError: This system cannot create a link to the folder.
    """
    if not _PATTERN.intersection(str(folder)):
        yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        link = Path(temporary, "model")
        try:
            link.symlink_to(folder.absolute(), target_is_directory=True)
        except OSError as error:
            raise UserError(
                f"{folder} cannot be loaded: TensorFlow reads the [ in its path as a pattern. "
                "Move the folder or rename it."
            ) from error
        yield link


def signatures(folder: Path) -> dict[str, SignatureDef]:
    """Returns the public signatures of a SavedModel by name, without loading the model."""
    saved_model = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    return public_signatures(saved_model.meta_graphs[0])


def public_signatures(graph: MetaGraphDef | SignatureDefMap) -> dict[str, SignatureDef]:
    """Returns the signatures by name, without TensorFlow's own, which initialises tables."""
    return {
        name: signature
        for name, signature in graph.signature_def.items()
        if not name.startswith("__")
    }
