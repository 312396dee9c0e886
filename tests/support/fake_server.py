"""Fake of TensorFlow Serving: its REST and gRPC interfaces over a graph session.

It tests clients and documentation, never the server itself: its behaviour was taken from the
source and documentation of the server. It listens on free ports of 127.0.0.1 only.
"""

import base64
import contextlib
import dataclasses
import http.server
import json
import math
import queue
import re
import socket
import threading
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from concurrent import futures
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

DEFAULT = "serving_default"
WARM_UP = Path("assets.extra", "tf_serving_warmup_requests")
_HTTP_STATUS = {  # by gRPC status code
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
_CODE_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}
_MAX_MESSAGE = 1024  # characters of a message over gRPC
_MODEL_PATH = r"(?i)/v1/models/([^/:]+)(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?"
_PREDICTION = re.compile(_MODEL_PATH + r":(classify|regress|predict)")
_STATE = re.compile(
    r"(?i)/v1/models(?:/([^/:]+))?(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?(?:/(metadata))?"
)
_NO_TASK = object()


class RequestError(Exception):
    """A status other than OK: the name of its code, and a message."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code, self.message = code, message


@dataclasses.dataclass(frozen=True)
class Batching:
    """Settings of BatchingParameters; times in seconds."""

    max_batch_size: int = 32
    timeout: float = 0.002
    max_enqueued_batches: int = 64
    allowed_batch_sizes: Sequence[int] = ()
    pad_variable_length_inputs: bool = False

    def __post_init__(self):
        if self.allowed_batch_sizes and self.allowed_batch_sizes[-1] != self.max_batch_size:
            raise ValueError("Last entry in allowed_batch_sizes must match max_batch_size")


class _Loaded:
    """A version in a session, with optional queues that merge requests."""

    def __init__(self, folder: Path, warm_up: bool, batching: Batching | None):
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        self._queues: dict[tuple, _Queue] = {}
        self._batching, self._lock, self.runs = batching, threading.Lock(), 0
        try:
            with self._session.graph.as_default():
                graph = tf.compat.v1.saved_model.load(self._session, ["serve"], str(folder))
            self.signatures = dict(graph.signature_def.items())
            if warm_up and (folder / WARM_UP).exists():
                for record in tf.data.TFRecordDataset(str(folder / WARM_UP)):
                    log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
                    self.predict(log.predict_log.request)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for queue_ in self._queues.values():
            queue_.close()
        self._session.close()

    def predict(self, request: predict_pb2.PredictRequest) -> dict[str, np.ndarray]:
        """Returns the outputs by name."""
        name = request.model_spec.signature_name or DEFAULT
        if name not in self.signatures:
            raise RequestError("FAILED_PRECONDITION", f'Serving signature key "{name}" not found.')
        signature = self.signatures[name]
        _check_names(signature, request)
        feeds = {
            info.name: _to_array(alias, info, request.inputs[alias])
            for alias, info in signature.inputs.items()
        }
        names = list(request.output_filter) or list(signature.outputs)
        fetches = [signature.outputs[alias].name for alias in names]
        if not self._batching:
            return dict(zip(names, self.run(feeds, fetches), strict=True))
        return dict(zip(names, self._queue(feeds, fetches).run(feeds), strict=True))

    def run(self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str]) -> list[np.ndarray]:
        """Runs the session; its errors become RequestError."""
        with self._lock:
            self.runs += 1
        try:
            return self._session.run(list(fetches), dict(feeds))
        except tf.errors.OpError as error:
            code = _CODE_BY_NUMBER.get(error.error_code, grpc.StatusCode.UNKNOWN).name
            raise RequestError(code, error.message) from error

    def _queue(self, feeds, fetches):
        key = (tuple(sorted(feeds)), tuple(fetches))
        with self._lock:
            if key not in self._queues:
                self._queues[key] = _Queue(self, fetches, self._batching)
            return self._queues[key]


def _check_names(signature, request):
    """Checks that the inputs are those of the signature and the outputs exist, once each."""
    sent, expected = set(request.inputs), set(signature.inputs)
    if sent != expected:
        names = [
            ",".join(sorted(group)) for group in (sent, expected, sent - expected, expected - sent)
        ]
        raise RequestError(
            "INVALID_ARGUMENT",
            f"input size does not match signature: {len(sent)}!={len(expected)} "
            f"len({{{names[0]}}}) != len({{{names[1]}}}). "
            f"Sent extra: {{{names[2]}}}. Missing but required: {{{names[3]}}}.",
        )
    for position, alias in enumerate(request.output_filter):
        if alias not in signature.outputs:
            outputs = ",".join(sorted(signature.outputs))
            raise RequestError(
                "INVALID_ARGUMENT",
                f"output tensor alias not found in signature: {alias} "
                f"Outputs expected to be in the set {{{outputs}}}.",
            )
        if alias in request.output_filter[:position]:
            raise RequestError("INVALID_ARGUMENT", f"duplicate output tensor alias: {alias}")


def _to_array(alias, info, proto):
    """Converts a tensor of a request, after it checks its dtype and shape.

    Python's session would cast another dtype silently, and reject another rank with its own error.
    """
    if proto.dtype != info.dtype:
        expected, got = tf.as_dtype(info.dtype).name, tf.as_dtype(proto.dtype).name
        raise RequestError(
            "INVALID_ARGUMENT", f"Expects arg[0] to be {expected} but {got} is provided ({alias})"
        )
    try:
        array = tf.make_ndarray(proto)
    except (TypeError, ValueError) as error:
        raise RequestError("INVALID_ARGUMENT", f"tensor parsing error: {alias}") from error
    shape = [dim.size for dim in info.tensor_shape.dim]
    if not info.tensor_shape.unknown_rank and (
        array.ndim != len(shape)
        or any(size not in (-1, got) for size, got in zip(shape, array.shape, strict=True))
    ):
        raise RequestError(
            "INVALID_ARGUMENT",
            f"Shape {list(array.shape)} of input {alias} does not fit {shape}.",
        )
    return array


class _Task:
    def __init__(self, feeds, size):
        self.feeds, self.size, self.result = feeds, size, futures.Future()


class _Queue:
    """Merges requests with the same inputs and outputs, as a BatchingSession does."""

    def __init__(self, loaded, fetches, batching):
        self._loaded, self._fetches, self._batching = loaded, fetches, batching
        self._tasks = queue.Queue()
        self._waiting_rows, self._lock = 0, threading.Lock()
        self._worker = threading.Thread(target=self._work, daemon=True)
        self._worker.start()

    def close(self) -> None:
        self._tasks.put(None)
        self._worker.join()

    def run(self, feeds):
        if any(array.ndim == 0 for array in feeds.values()):
            raise RequestError(
                "INVALID_ARGUMENT",
                "Batching session Run() input tensors must have at least one dimension",
            )
        sizes = {len(array) for array in feeds.values()}
        if len(sizes) > 1:
            raise RequestError(
                "INVALID_ARGUMENT",
                "Batching session Run() input tensors must have equal 0th-dimension size",
            )
        task, limit = _Task(feeds, sizes.pop()), self._batching.max_batch_size
        if task.size > limit:
            raise RequestError(
                "INVALID_ARGUMENT",
                f"Task size {task.size} is larger than maximum input batch size {limit}",
            )
        with self._lock:
            if self._waiting_rows + task.size > limit * self._batching.max_enqueued_batches:
                raise RequestError(
                    "UNAVAILABLE",
                    "The batch scheduling queue to which this task was submitted is full",
                )
            self._waiting_rows += task.size
        self._tasks.put(task)
        return task.result.result()

    def _work(self):
        following = self._tasks.get()
        while following is not None:
            batch, following = self._batch(following)
            with self._lock:
                self._waiting_rows -= sum(task.size for task in batch)
            try:
                results = self._run_merged(batch)
            except Exception as error:  # merged requests share one status
                for task in batch:
                    task.result.set_exception(error)
            else:
                for task, result in zip(batch, results, strict=True):
                    task.result.set_result(result)
            if following is _NO_TASK:
                following = self._tasks.get()

    def _batch(self, first):
        """Returns the tasks that fit into a batch and arrived in time, and the task after them."""
        batch, size = [first], first.size
        end = time.monotonic() + self._batching.timeout
        while size < self._batching.max_batch_size:
            try:
                task = self._tasks.get(timeout=max(end - time.monotonic(), 0))
            except queue.Empty:
                break
            if task is None or size + task.size > self._batching.max_batch_size:
                return batch, task
            batch.append(task)
            size += task.size
        return batch, _NO_TASK

    def _run_merged(self, batch):
        size = sum(task.size for task in batch)
        enough = [allowed for allowed in self._batching.allowed_batch_sizes if allowed >= size]
        spare = (enough[0] if enough else size) - size
        merged = {}
        for name in batch[0].feeds:
            arrays = self._padded(name, [task.feeds[name] for task in batch])
            rows = np.concatenate(arrays)
            merged[name] = np.concatenate([rows, *[rows[:1]] * spare])
        outputs = self._loaded.run(merged, self._fetches)
        for output in outputs:
            if np.ndim(output) == 0:
                raise RequestError("FAILED_PRECONDITION", "Batched output tensor has 0 dimensions")
            if len(output) != size + spare:
                raise RequestError(
                    "FAILED_PRECONDITION",
                    "Batched output tensor's 0th dimension does not equal the sum of the 0th "
                    "dimension sizes of the input tensors",
                )
        ends = np.cumsum([task.size for task in batch])
        return [
            [output[end - task.size : end] for output in outputs]
            for task, end in zip(batch, ends, strict=True)
        ]

    def _padded(self, name, arrays):
        """Pads arrays to one shape beyond the rows, each with its own first element."""
        shapes = {array.shape[1:] for array in arrays}
        if len(shapes) == 1:
            return arrays
        if not self._batching.pad_variable_length_inputs:
            raise RequestError(
                "FAILED_PRECONDITION",
                f"Tensors with name '{name}' from different tasks have different shapes and "
                "padding is turned off. Set pad_variable_length_inputs to true, or ensure that "
                "all tensors with the same name have equal dimensions starting with the first dim.",
            )
        if any(array.size == 0 for array in arrays):
            raise RequestError(
                "INVALID_ARGUMENT", "Got empty tensor in batch of non-empty tensors."
            )
        longest = np.max(list(shapes), axis=0)
        padded = []
        for array in arrays:
            larger = np.full((len(array), *longest), array.flat[0], array.dtype)
            larger[tuple(slice(size) for size in array.shape)] = array
            padded.append(larger)
        return padded


class FakeServer:
    """A fake model server, running inside `with`.

    Args:
        base: Folder of models, each a folder of versions.
        names: Models to serve; None for all.
        labels: By model, the version of each label.
        batching: Settings to merge requests; None to run each alone.
        warm_up: Whether the warm-up requests of a version are replayed while it loads.
        deadline: Time limit of a request over REST, in seconds.

    Attributes:
        delay: Seconds by which each prediction is delayed.
        loading: Models that are reported as still loading.
        failures: Codes with which the next predictions fail, one each.
        predictions: Number of predictions requested.
    """

    def __init__(
        self,
        base: Path,
        names: Sequence[str] | None = None,
        labels: Mapping[str, Mapping[str, int]] | None = None,
        batching: Batching | None = None,
        warm_up: bool = False,
        deadline: float = 30.0,
    ):
        self.delay, self.loading, self.failures, self.predictions = 0.0, set(), [], 0
        self._labels, self._deadline = labels or {}, deadline
        self._lock, self._closing = threading.Lock(), threading.Event()
        self._loaded: dict[str, dict[int, _Loaded | RequestError]] = {}
        for name in names or sorted(path.name for path in base.iterdir() if path.is_dir()):
            numbers = [p for p in (base / name).iterdir() if p.is_dir() and p.name.isdigit()]
            self._loaded[name] = {
                int(path.name): _load(path, warm_up, batching) for path in numbers
            }

    def __enter__(self) -> "FakeServer":
        self._rest = _RestServer(("127.0.0.1", 0), _handler(self))
        self._grpc = grpc.server(
            futures.ThreadPoolExecutor(32),
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
            ],
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            _Predictions(self), self._grpc
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(_Models(self), self._grpc)
        self.rest_port = self._rest.server_address[1]
        self.grpc_port = self._grpc.add_insecure_port("127.0.0.1:0")
        self._thread = threading.Thread(target=self._rest.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self._grpc.start()
        return self

    def __exit__(self, *_) -> None:
        self._closing.set()
        self._rest.shutdown()
        self._rest.server_close()
        self._grpc.stop(None).wait()
        for versions in self._loaded.values():
            for loaded in versions.values():
                if isinstance(loaded, _Loaded):
                    loaded.close()

    @property
    def runs(self) -> int:
        """Number of session runs."""
        versions = [loaded for model in self._loaded.values() for loaded in model.values()]
        return sum(loaded.runs for loaded in versions if isinstance(loaded, _Loaded))

    @property
    def rest(self) -> str:
        """URL of the REST interface."""
        return f"http://127.0.0.1:{self.rest_port}"

    @property
    def grpc(self) -> str:
        """URL of the gRPC interface."""
        return f"grpc://127.0.0.1:{self.grpc_port}"

    def predict(self, request: predict_pb2.PredictRequest, seconds: float | None):
        """Responds to a request within a time limit; raises RequestError."""
        with self._lock:
            self.predictions += 1
            failure = self.failures.pop(0) if self.failures else None
        if failure:
            raise RequestError(failure, "the fake server is set to fail")
        version, loaded = self.find(request.model_spec)
        if self.delay:
            late = seconds is not None and seconds < self.delay
            self._closing.wait(seconds if late else self.delay)
            if late:
                raise RequestError("DEADLINE_EXCEEDED", "Timed out waiting for notification")
        outputs = loaded.predict(request)
        response = predict_pb2.PredictResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = version
        response.model_spec.signature_name = request.model_spec.signature_name or DEFAULT
        for name, value in outputs.items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        return response

    def find(self, spec: model_pb2.ModelSpec) -> tuple[int, _Loaded]:
        """Returns the number of the version that a request names, and the version."""
        version = self._version_number(spec)
        versions = {} if spec.name in self.loading else self._loaded.get(spec.name, {})
        ready = {
            number: loaded for number, loaded in versions.items() if isinstance(loaded, _Loaded)
        }
        if version is None:
            version = max(ready, default=None)
        if version not in ready:
            named = spec.HasField("version") or spec.version_label
            servable = f"Specific({spec.name}, {version})" if named else f"Latest({spec.name})"
            raise RequestError("NOT_FOUND", f"Servable not found for request: {servable}")
        return version, ready[version]

    def status(self, spec: model_pb2.ModelSpec) -> get_model_status_pb2.GetModelStatusResponse:
        """Returns the states of the version that is named, or of all."""
        version, versions = self._version_number(spec), self._loaded.get(spec.name, {})
        if version is not None and version not in versions:
            message = f"Could not find version {version} of model {spec.name}"
            raise RequestError("NOT_FOUND", message)
        if not versions:
            raise RequestError("NOT_FOUND", f"Could not find any versions of model {spec.name}")
        response = get_model_status_pb2.GetModelStatusResponse()
        for number in sorted(versions, reverse=True) if version is None else [version]:
            loaded = versions[number]
            status = response.model_version_status.add(version=number)
            status.status.SetInParent()
            state = "AVAILABLE"
            if isinstance(loaded, RequestError):
                state = "END"
                status.status.error_code = grpc.StatusCode[loaded.code].value[0]
                status.status.error_message = loaded.message
            if spec.name in self.loading:
                state = "LOADING"
            status.state = status.State.Value(state)
        return response

    def metadata(self, request: get_model_metadata_pb2.GetModelMetadataRequest):
        """Returns all signatures of a version, including the one that initialises tables."""
        if not request.metadata_field:
            raise RequestError(
                "INVALID_ARGUMENT",
                "GetModelMetadataRequest must specify at least one metadata_field",
            )
        for field in request.metadata_field:
            if field != "signature_def":
                raise RequestError("INVALID_ARGUMENT", f"Metadata field {field} is not supported")
        version, loaded = self.find(request.model_spec)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in loaded.signatures.items():
            signatures.signature_def[name].CopyFrom(signature)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = version
        response.metadata["signature_def"].Pack(signatures)
        return response

    def rest_predict(self, spec: model_pb2.ModelSpec, body: bytes) -> bytes:
        """Responds to the body of a request to `:predict`; raises RequestError."""
        request, by_row = _request(spec, body, self.find(spec)[1].signatures)
        response = self.predict(request, self._deadline)
        outputs = {name: tf.make_ndarray(value) for name, value in response.outputs.items()}
        return _rows_to_json(outputs) if by_row else _columns_to_json(outputs)

    def _version_number(self, spec):
        """Returns the version that is named, directly or by a label; None if none is."""
        if spec.version_label:
            try:
                return self._labels.get(spec.name, {})[spec.version_label]
            except KeyError:
                message = f"Unrecognized servable version label: {spec.version_label}"
                raise RequestError("INVALID_ARGUMENT", message) from None
        return spec.version.value if spec.HasField("version") else None


def _load(folder, warm_up, batching):
    """Returns a version, or the error of its loading."""
    try:
        return _Loaded(folder, warm_up, batching)
    except RequestError as error:
        return RequestError(error.code, f"Error while warming up: {error.message}")
    except (OSError, tf.errors.OpError) as error:
        return RequestError("NOT_FOUND", str(error))


# --- gRPC ---------------------------------------------------------------------------------


def _respond(context, respond):
    """Returns the result of a function; its error becomes a gRPC status."""
    try:
        return respond()
    except RequestError as error:
        context.abort(grpc.StatusCode[error.code], error.message[:_MAX_MESSAGE])


class _Predictions(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, server):
        self._server = server

    def Predict(self, request, context):
        seconds = context.time_remaining()
        return _respond(context, lambda: self._server.predict(request, seconds))

    def GetModelMetadata(self, request, context):
        return _respond(context, lambda: self._server.metadata(request))


class _Models(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, server):
        self._server = server

    def GetModelStatus(self, request, context):
        return _respond(context, lambda: self._server.status(request.model_spec))


# --- REST ---------------------------------------------------------------------------------


class _RestServer(http.server.ThreadingHTTPServer):
    daemon_threads, block_on_close, request_queue_size = True, False, 128

    def __init__(self, *args):
        self._open, self._lock = set(), threading.Lock()
        super().__init__(*args)

    def process_request(self, request, client_address):
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self):
        super().server_close()
        with self._lock:  # connections that were kept alive
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request, client_address):
        """Ignores clients that closed their connection."""


def _handler(server):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_GET(self):
            self._respond(lambda: self._content(b""))

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._respond(lambda: self._content(body))

        def _respond(self, make_content):
            if not self.path.lower().startswith("/v1/"):
                status, content = 404, b""
            else:
                try:
                    status, content = 200, make_content()
                except RequestError as error:
                    status = _HTTP_STATUS.get(error.code, 500)
                    content = b'{"error": %s}' % _quoted(error.message.encode("utf-8", "replace"))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _content(self, body):
            pattern = _PREDICTION if self.command == "POST" else _STATE
            if not (match := pattern.fullmatch(self.path.split("?")[0])):
                message = f"Malformed request: {self.command} {self.path}"
                raise RequestError("INVALID_ARGUMENT", message)
            name, version, label, verb = match.groups()
            if not name:
                raise RequestError("INVALID_ARGUMENT", "Missing model name in request.")
            spec = model_pb2.ModelSpec(name=urllib.parse.unquote(name))
            if version:
                spec.version.value = int(version)
            if label:
                spec.version_label = urllib.parse.unquote(label)
            verb = (verb or "status").lower()
            if verb == "predict":
                return server.rest_predict(spec, body)
            if verb == "metadata":
                return _metadata_to_json(server, spec)
            if verb == "status":
                return _message_to_json(server.status(spec))
            raise RequestError("UNIMPLEMENTED", f"The fake server does not {verb}.")

        def log_message(self, *_):
            """Logs nothing."""

    return Handler


def _message_to_json(message) -> bytes:
    """Returns a message as JSON, with its field names and default values."""
    text = json_format.MessageToJson(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return text.encode()


def _metadata_to_json(server, spec):
    request = get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec=spec, metadata_field=["signature_def"]
    )
    response, signatures = server.metadata(request), get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    return b'{"model_spec": %s, "metadata": {"signature_def": %s}}' % (
        _message_to_json(response.model_spec),
        _message_to_json(signatures),
    )


def _request(spec, body, signatures):
    """Returns the request in a body, and whether it is given by rows."""
    try:
        # Invalid UTF-8 passes, because the server does not check it.
        content = json.loads(body.decode("utf-8", "surrogateescape"))
    except ValueError as error:
        raise RequestError("INVALID_ARGUMENT", f"JSON Parse error: {error}") from error
    if not isinstance(content, dict):
        raise RequestError("INVALID_ARGUMENT", f"JSON Value: {content} Is not object")
    name = content.get("signature_name", "")
    if not isinstance(name, str):
        raise RequestError(
            "INVALID_ARGUMENT",
            f"JSON Value: {content} not formatted correctly. "
            "'signature_name' key must be a string value.",
        )
    if (name or DEFAULT) not in signatures:
        message = f'Serving signature name: "{name or DEFAULT}" not found in signature def'
        raise RequestError("INVALID_ARGUMENT", message)
    inputs = signatures[name or DEFAULT].inputs
    request = predict_pb2.PredictRequest(model_spec=spec)
    request.model_spec.signature_name = name
    if "instances" in content and "inputs" in content:
        raise RequestError(
            "INVALID_ARGUMENT",
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist",
        )
    if "instances" in content:
        columns = _columns_of_instances(content["instances"], inputs)
    elif "inputs" in content:
        columns = _columns_of_inputs(content["inputs"], inputs)
    else:
        raise RequestError("INVALID_ARGUMENT", "Missing 'inputs' or 'instances' key")
    for name, value in columns.items():
        request.inputs[name].CopyFrom(_tensor(value, inputs[name].dtype))
    return request, "instances" in content


def _columns_of_instances(rows, inputs):
    """Returns the columns of a list of rows with all inputs and equal shapes."""
    if not isinstance(rows, list):
        raise RequestError("INVALID_ARGUMENT", "Excepting 'instances' to be an list/array")
    if not rows:
        raise RequestError("INVALID_ARGUMENT", "No values in 'instances' array")
    if not isinstance(rows[0], dict) and len(inputs) > 1:
        raise RequestError(
            "INVALID_ARGUMENT",
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map",
        )
    named = _is_object(rows[0])
    columns = {name: [] for name in inputs}
    for index, row in enumerate(rows):
        if _is_object(row) != named:
            expected, got = ("object", "list") if named else ("value/list", "object")
            raise RequestError(
                "INVALID_ARGUMENT",
                f"Expecting {expected} but got {got} at item {index} of input list",
            )
        row = row if named else {next(iter(inputs)): row}
        if row.keys() != set(inputs):
            raise RequestError(
                "INVALID_ARGUMENT",
                f"Failed to process element: {index} of 'instances' list. JSON object: {row} keys "
                f"must be equal to: {','.join(sorted(inputs))}",
            )
        for name, value in row.items():
            first = columns[name][0] if columns[name] else value
            shape, got = _shape(first), _shape(value)
            trouble = f"Failed to process element: {index} key: {name} of 'instances' list. Error: "
            if math.prod(shape) != math.prod(got):
                sizes = f"Expecting tensor size: {math.prod(shape)} but got: {math.prod(got)}"
                raise RequestError("INVALID_ARGUMENT", trouble + sizes)
            if shape != got:
                shapes = f"Expecting shape {shape} but got: {got}"
                raise RequestError("INVALID_ARGUMENT", trouble + shapes)
            columns[name].append(value)
    return columns


def _columns_of_inputs(content, inputs):
    """Returns the columns of an object, or the only column."""
    if not _is_object(content):
        if len(inputs) > 1:
            raise RequestError(
                "INVALID_ARGUMENT",
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                "required as per tensorinfo_map",
            )
        return {next(iter(inputs)): content}
    for name in inputs:
        if name not in content:
            message = f"Missing named input: {name} in 'inputs' object."
            raise RequestError("INVALID_ARGUMENT", message)
    return {name: content[name] for name in inputs}


def _is_object(value):
    """Returns whether a value is an object, other than bytes in base64."""
    return isinstance(value, dict) and not _is_base64(value)


def _is_base64(value):
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def _shape(value):
    """Returns the shape of nested lists, from their first elements."""
    if not isinstance(value, list):
        return []
    return [len(value), *(_shape(value[0]) if value else [])]


def _tensor(value, dtype):
    """Converts nested lists to a tensor; checks that they are rectangular and the types."""
    shape, flat = _shape(value), []

    def fill(value, level):
        if not isinstance(value, list):
            if level != len(shape):
                raise RequestError(
                    "INVALID_ARGUMENT",
                    f"JSON Value: {value} found at incorrect level: {level + 1} in the JSON DOM. "
                    f"Expected at level: {len(shape)}",
                )
            flat.append(_value(value, dtype))
            return
        if level >= len(shape):
            message = f"Encountered list at unexpected level: {level} expected < {len(shape)}"
            raise RequestError("INVALID_ARGUMENT", message)
        if len(value) != shape[level]:
            raise RequestError(
                "INVALID_ARGUMENT",
                f"Encountered list at unexpected size: {len(value)} at level: {level} "
                f"expected size: {shape[level]}",
            )
        for item in value:
            fill(item, level + 1)

    fill(value, 0)
    kind = tf.as_dtype(dtype)
    array = np.array(flat, object if kind == tf.string else kind.as_numpy_dtype)
    return tf.make_tensor_proto(array.reshape(shape), kind)


def _value(value, dtype):
    """Converts a JSON value to the type of the input; raises RequestError if it is another."""
    kind = tf.as_dtype(dtype)
    if kind == tf.string and isinstance(value, dict):
        if not _is_base64(value):
            message = f"JSON Value: {value} not formatted correctly for base64 data"
            raise RequestError("INVALID_ARGUMENT", message)
        try:
            return base64.b64decode(value["b64"], validate=True)
        except ValueError:
            raise RequestError("INVALID_ARGUMENT", "Unable to base64 decode") from None
    whole = isinstance(value, int) and not isinstance(value, bool)
    fits = {
        "string": isinstance(value, str),
        "bool": isinstance(value, bool),
        "float": whole or isinstance(value, float),
        "int": whole and (not kind.is_integer or kind.min <= value <= kind.max),
    }["float" if kind.is_floating else "int" if kind.is_integer else kind.name]
    if not fits:
        name = type(value).__name__.title()
        raise RequestError(
            "INVALID_ARGUMENT",
            f"JSON Value: {json.dumps(value)} Type: {name} is not of expected type: {kind.name}",
        )
    return value.encode("utf-8", "surrogateescape") if kind == tf.string else value


def _rows_to_json(outputs):
    """Returns `predictions`: a value or an object for each row."""
    size = None
    for name, array in outputs.items():
        if array.ndim == 0:
            message = f"Tensor name: {name} has no shape information "
            raise RequestError("INVALID_ARGUMENT", message)
        if size not in (None, len(array)):
            raise RequestError(
                "INVALID_ARGUMENT",
                f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {size}",
            )
        size = len(array)
    rows = [
        _named({name: _to_json(array[index], name) for name, array in outputs.items()})
        for index in range(size)
    ]
    return b'{"predictions": [%s]}' % b", ".join(rows)


def _columns_to_json(outputs):
    """Returns `outputs`: an array, or an object of arrays."""
    content = _named({name: _to_json(array, name) for name, array in outputs.items()})
    return b'{"outputs": %s}' % content


def _named(values):
    """Returns several values as an object; a single one without its name."""
    if len(values) == 1:
        return next(iter(values.values()))
    items = [b"%s: %s" % (_quoted(name.encode()), value) for name, value in values.items()]
    return b"{%s}" % b", ".join(items)


def _to_json(value, name):
    """Returns an array or a value of an output as JSON."""
    if isinstance(value, np.ndarray) and value.ndim:
        return b"[%s]" % b", ".join(_to_json(item, name) for item in value)
    value = value.item() if isinstance(value, np.ndarray) else value
    if isinstance(value, (bytes, str)):
        value = value.encode() if isinstance(value, str) else value
        if name.endswith("_bytes"):
            return b'{"b64": "%s"}' % base64.b64encode(value)
        return _quoted(value)
    if isinstance(value, (bool, np.bool_)):
        return b"true" if value else b"false"
    if isinstance(value, (int, np.integer)):
        return str(int(value)).encode()
    if not isinstance(value, (np.float32, np.float64, float)):
        raise RequestError(
            "INVALID_ARGUMENT", f"Failed to write JSON value for tensor type: {type(value)}"
        )
    return _decimal(value)


def _decimal(value):
    """Returns six digits if they are exact, else as many as are needed."""
    if not math.isfinite(value):
        return b"NaN" if math.isnan(value) else b"Infinity" if value > 0 else b"-Infinity"
    kind, digits = (np.float32, 9) if isinstance(value, np.float32) else (np.float64, 17)
    text = f"{value:.6g}"
    if kind(text) != value:
        text = f"{value:.{digits}g}"
    return (text if "." in text or "e" in text else text + ".0").encode()


def _quoted(value: bytes) -> bytes:
    """Returns a JSON string; bytes other than quotes and controls are copied."""
    escapes = {8: b"\\b", 9: b"\\t", 10: b"\\n", 12: b"\\f", 13: b"\\r", 34: b'\\"', 92: b"\\\\"}

    def escape(match):
        code = match[0][0]
        return escapes.get(code, b"\\u%04X" % code)

    escaped = re.sub(rb'[\x00-\x1f"\\]', escape, value)
    return b'"%s"' % escaped


# --- A proxy that breaks connections --------------------------------------------------------


class BreakingProxy:
    """A proxy, running inside `with`, that breaks its first connections.

    Args:
        port: Port of the server on this machine.
        after: Bytes of the responses after which a connection breaks.
        times: Number of connections to break.

    Attributes:
        broken: Number of connections broken so far.
    """

    def __init__(self, port: int, after: int, times: int = 1):
        self._target, self._after, self._remaining, self.broken = port, after, times, 0

    def __enter__(self) -> "BreakingProxy":
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # unblocks accept
        self._thread.join()
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            limit = self._after if self._remaining > 0 else math.inf
            self._remaining -= 1
            for pipe in ((client, server, math.inf), (server, client, limit)):
                threading.Thread(target=self._forward, args=pipe, daemon=True).start()

    def _forward(self, source, target, limit):
        with contextlib.suppress(OSError):
            while limit and (data := source.recv(min(limit, 65536))):
                target.sendall(data)
                limit -= len(data)
        if limit == 0:
            self.broken += 1
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
