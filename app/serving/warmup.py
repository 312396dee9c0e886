"""Warm-up requests: what TensorFlow Serving asks a version before it serves it.

A first request of a kind is slow, for TensorFlow plans and allocates while it runs. The
server replays these while it loads, and takes no version that fails one of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from app.serving import payloads
from app.serving.session import SavedModelSession

PLACE = Path("assets.extra", "tf_serving_warmup_requests")  # where the server looks
BATCHES = (1, 8, 32)
LARGEST = 2**20  # bytes of a request; photographs would fill the folder


def write(
    folder: Path, model: str, signatures: Mapping[str, SignatureDef], asked: Sequence[Mapping]
) -> int:
    """Writes requests of several batch sizes and lengths to each signature.

    Args:
        folder: That of the version.
        model: The name under which it is served.
        signatures: By name.
        asked: Some rows, each with a value of every input of every signature; one or more.

    Returns:
        How many there are.
    """
    count = 0
    with tf.io.TFRecordWriter(str(folder / PLACE)) as file:
        for name, signature in signatures.items():
            for some in _chosen(asked):
                request = predict_request(model, name, payloads.columns(signature, some))
                log = prediction_log_pb2.PredictLog(request=request)
                record = prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString()
                if len(record) <= LARGEST:
                    file.write(record)
                    count += 1
    return count


def read(folder: Path) -> Iterator[predict_pb2.PredictRequest]:
    """The requests that a version has, in the server's order."""
    for record in tf.data.TFRecordDataset(str(folder / PLACE)):
        yield prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request


def replay(folder: Path, served: SavedModelSession | None = None) -> int:
    """Asks a version what its server will, and returns how many requests that were.

    Args:
        folder: That of the version.
        served: The version, if it has been loaded.

    Raises:
        ValueError: There are none, or one fails, and the server would not take the version.
    """
    place, served = folder / PLACE, served or SavedModelSession(folder)
    try:
        requests = list(read(folder))
    except (tf.errors.OpError, DecodeError) as error:
        raise ValueError(f"{place} cannot be read: {error}.") from error
    if not requests:
        raise ValueError(f"{place} holds no request.")
    for number, request in enumerate(requests, start=1):
        arrays = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        try:
            served.predict_columns(arrays, request.model_spec.signature_name)
        except (tf.errors.OpError, KeyError) as error:
            raise ValueError(f"{place}: request {number} of {len(requests)}: {error}.") from error
    return len(requests)


def predict_request(
    model: str, signature: str, columns: Mapping[str, object]
) -> predict_pb2.PredictRequest:
    """A request of arrays by input, as TensorFlow Serving has it on the wire."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    for name, array in columns.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
    return request


def _chosen(asked: Sequence[Mapping]) -> Iterator[list[Mapping]]:
    """Batches of the shortest rows, of those of median length and of the longest."""
    ordered = sorted(asked, key=_size)
    for size in BATCHES:
        for share in (0.0, 0.5, 1.0):
            first = round(share * max(len(ordered) - size, 0))
            yield [ordered[first + at % (len(ordered) - first)] for at in range(size)]


def _size(row: Mapping) -> int:
    return sum(len(value) for value in row.values() if hasattr(value, "__len__"))
