"""Warm-up requests, which TensorFlow Serving runs on a version before it serves it.

The first request of its kind is slow, because TensorFlow plans and allocates while it runs it.
The server replays these requests while it loads a version, and rejects the version if one fails.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from app.core import images
from app.serving import payloads
from app.serving.session import SavedModelSession

PATH = Path("assets.extra", "tf_serving_warmup_requests")  # in a version, as the server expects
BATCH_SIZES = (1, 8, 32)
MAX_BYTES = 2**20  # of a request; photographs would fill the folder
_IMAGE_SIZES = ((256, 256), (64, 64), (16, 16))  # to which photographs are scaled down


def write(
    folder: Path, model: str, signatures: Mapping[str, SignatureDef], rows: Sequence[Mapping]
) -> int:
    """Writes requests of several batch sizes and lengths for each signature.

    The rows of a request that would be too large are made smaller: images are scaled down, and
    texts are cut.

    Args:
        folder: Folder of the version.
        model: Name under which the model is served.
        signatures: The signatures by name.
        rows: One or more rows, each with a value for every input of every signature.

    Returns:
        The number of requests.
    """
    count = 0
    with tf.io.TFRecordWriter(str(folder / PATH)) as file:
        for name, signature in signatures.items():
            records = [_record(model, name, signature, batch) for batch in _batches(rows)]
            # The server needs a request for each signature, however large its rows are.
            largest = max(MAX_BYTES, min(map(len, records)))
            for record in records:
                if len(record) <= largest:
                    file.write(record)
                    count += 1
    return count


def _record(model: str, name: str, signature: SignatureDef, rows: Sequence[Mapping]) -> bytes:
    """Returns a request as a record of the server's log of predictions, small if possible."""

    def record(rows: Sequence[Mapping]) -> bytes:
        request = predict_request(model, name, payloads.columns(signature, rows))
        log = prediction_log_pb2.PredictLog(request=request)
        return prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString()

    result = record(rows)
    if len(result) > MAX_BYTES:
        limit = MAX_BYTES // (2 * len(rows) * len(signature.inputs))
        result = record([_reduced(row, limit) for row in rows])
    return result


def _reduced(row: Mapping, limit: int) -> dict:
    """Returns a row whose values have at most `limit` bytes each, if possible."""
    return {name: _reduced_value(value, limit) for name, value in row.items()}


def _reduced_value(value: object, limit: int) -> object:
    if isinstance(value, str):
        return value.encode()[:limit].decode("utf-8", "ignore")
    if isinstance(value, bytes):
        return _reduced_bytes(value, limit)
    if isinstance(value, list | tuple):  # of the same length, which another input may state
        return [_reduced_value(item, limit // len(value)) for item in value]
    return value


def _reduced_bytes(value: bytes, limit: int) -> bytes:
    """Returns an image scaled down, and other bytes cut."""
    for size in _IMAGE_SIZES:
        if len(value) <= limit:
            break
        value = images.scaled_down(value, size) or value
    return value[:limit]


def read(folder: Path) -> Iterator[predict_pb2.PredictRequest]:
    """Yields the warm-up requests of a version, in the server's order."""
    for record in tf.data.TFRecordDataset(str(folder / PATH)):
        yield prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request


def replay(folder: Path, session: SavedModelSession | None = None) -> int:
    """Runs the warm-up requests of a version, as its server will.

    Args:
        folder: Folder of the version.
        session: The version, if it is already loaded.

    Returns:
        The number of requests.

    Raises:
        ValueError: There are none, or one fails, so the server would reject the version.
    """
    path = folder / PATH
    if session is None:
        session = SavedModelSession(folder)
    try:
        requests = list(read(folder))
    except (tf.errors.OpError, DecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}.") from error
    if not requests:
        raise ValueError(f"{path} holds no request.")
    for number, request in enumerate(requests, start=1):
        arrays = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        try:
            session.predict_columns(arrays, request.model_spec.signature_name)
        except (tf.errors.OpError, KeyError) as error:
            raise ValueError(f"{path}: request {number} of {len(requests)}: {error}.") from error
    return len(requests)


def predict_request(
    model: str, signature: str, columns: Mapping[str, np.ndarray]
) -> predict_pb2.PredictRequest:
    """Returns a request with these arrays, by input, as TensorFlow Serving's message."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    for name, array in columns.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
    return request


def _batches(rows: Sequence[Mapping]) -> Iterator[list[Mapping]]:
    """Yields batches of the shortest rows, of rows of median size, and of the longest."""
    ordered = sorted(rows, key=_size)
    for batch_size in BATCH_SIZES:
        for position in (0.0, 0.5, 1.0):
            first = round(position * max(len(ordered) - batch_size, 0))
            available = ordered[first:]
            yield [available[index % len(available)] for index in range(batch_size)]


def _size(row: Mapping) -> int:
    return sum(len(value) for value in row.values() if hasattr(value, "__len__"))
