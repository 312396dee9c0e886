"""Interface to a published model, whether it is loaded in this process or runs on a server."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # requests are read without TensorFlow
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef


class Predictor(Protocol):
    """A published model that predicts from rows.

    `app.serving.session.SavedModelSession` and `app.serving.client.Client` are predictors:
    both return the same rows for the same rows.
    """

    @property
    def signatures(self) -> Mapping[str, "SignatureDef"]:
        """The signatures of the model, by name; TensorFlow's own are left out."""

    def predict(self, rows: Sequence[Mapping], signature: str = "serving_default") -> list[dict]:
        """Sends rows as one request, and returns one row of outputs for each.

        Args:
            rows: One or more, each with a value for every input of the signature, by name:
                a scalar, or a list where the input has two dimensions; lists may differ in
                length.
            signature: Name of the signature.

        Returns:
            A dict for each row, in the same order: the value of each output, by name, as a
            NumPy scalar, `bytes` or array with one dimension fewer than the output. Outputs with a
            time dimension are truncated to the `lengths` of the row if there is such an output.
        """
