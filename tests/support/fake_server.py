"""A double of TensorFlow Serving: its REST and gRPC interfaces over a graph session.

It proves clients and documents, never the server: what the server does was read in its source
and documentation and written down here again. It listens on 127.0.0.1 alone, on free ports.
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
_STATUS = {  # of HTTP, by code
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
_OF_NUMBER = {code.value[0]: code for code in grpc.StatusCode}
_LONGEST_MESSAGE = 1024  # characters of a message over gRPC
_OF_MODEL = r"(?i)/v1/models/([^/:]+)(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?"
_PREDICTION = re.compile(_OF_MODEL + r":(classify|regress|predict)")
_STATE = re.compile(
    r"(?i)/v1/models(?:/([^/:]+))?(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?(?:/(metadata))?"
)
_NOTHING = object()


class RequestError(Exception):
    """A status other than OK: a code by its name, and a message."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code, self.message = code, message


@dataclasses.dataclass(frozen=True)
class Batching:
    """What a file of BatchingParameters says; times in seconds."""

    max_batch_size: int = 32
    timeout: float = 0.002
    max_enqueued_batches: int = 64
    allowed_batch_sizes: Sequence[int] = ()
    pad_variable_length_inputs: bool = False

    def __post_init__(self):
        if self.allowed_batch_sizes and self.allowed_batch_sizes[-1] != self.max_batch_size:
            raise ValueError("Last entry in allowed_batch_sizes must match max_batch_size")


class _Loaded:
    """A version in a session, with or without a queue that merges requests."""

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
        for each in self._queues.values():
            each.close()
        self._session.close()

    def predict(self, request: predict_pb2.PredictRequest) -> dict[str, np.ndarray]:
        """The outputs, by name."""
        name = request.model_spec.signature_name or DEFAULT
        if name not in self.signatures:
            raise RequestError("FAILED_PRECONDITION", f'Serving signature key "{name}" not found.')
        signature = self.signatures[name]
        _check_names(signature, request)
        feeds = {
            told.name: _fed(alias, told, request.inputs[alias])
            for alias, told in signature.inputs.items()
        }
        wanted = list(request.output_filter) or list(signature.outputs)
        fetches = [signature.outputs[alias].name for alias in wanted]
        if not self._batching:
            return dict(zip(wanted, self.run(feeds, fetches), strict=True))
        return dict(zip(wanted, self._queue(feeds, fetches).ask(feeds), strict=True))

    def run(self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str]) -> list[np.ndarray]:
        """What the session gives, its errors as statuses."""
        with self._lock:
            self.runs += 1
        try:
            return self._session.run(list(fetches), dict(feeds))
        except tf.errors.OpError as error:
            code = _OF_NUMBER.get(error.error_code, grpc.StatusCode.UNKNOWN).name
            raise RequestError(code, error.message) from error

    def _queue(self, feeds, fetches):
        key = (tuple(sorted(feeds)), tuple(fetches))
        with self._lock:
            if key not in self._queues:
                self._queues[key] = _Queue(self, fetches, self._batching)
            return self._queues[key]


def _check_names(signature, request):
    """Exactly the inputs of the signature, and outputs that it has."""
    sent, known = set(request.inputs), set(signature.inputs)
    if sent != known:
        told = [",".join(sorted(s)) for s in (sent, known, sent - known, known - sent)]
        raise RequestError(
            "INVALID_ARGUMENT",
            f"input size does not match signature: {len(sent)}!={len(known)} len({{{told[0]}}}) != "
            f"len({{{told[1]}}}). Sent extra: {{{told[2]}}}. Missing but required: {{{told[3]}}}.",
        )
    for at, alias in enumerate(request.output_filter):
        if alias not in signature.outputs:
            outputs = ",".join(sorted(signature.outputs))
            raise RequestError(
                "INVALID_ARGUMENT",
                f"output tensor alias not found in signature: {alias} "
                f"Outputs expected to be in the set {{{outputs}}}.",
            )
        if alias in request.output_filter[:at]:
            raise RequestError("INVALID_ARGUMENT", f"duplicate output tensor alias: {alias}")


def _fed(alias, told, proto):
    """A tensor of a request as an array, once it has the type and the rank that are told.

    The session of Python would cast the one without a word, and refuse the other before it runs.
    """
    if proto.dtype != told.dtype:
        wanted, got = tf.as_dtype(told.dtype).name, tf.as_dtype(proto.dtype).name
        raise RequestError(
            "INVALID_ARGUMENT", f"Expects arg[0] to be {wanted} but {got} is provided ({alias})"
        )
    try:
        array = tf.make_ndarray(proto)
    except (TypeError, ValueError) as error:
        raise RequestError("INVALID_ARGUMENT", f"tensor parsing error: {alias}") from error
    shape = [dim.size for dim in told.tensor_shape.dim]
    if not told.tensor_shape.unknown_rank and (
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
        self.feeds, self.size, self.answer = feeds, size, futures.Future()


class _Queue:
    """Merges the requests of one set of inputs and outputs, as a BatchingSession does."""

    def __init__(self, loaded, fetches, batching):
        self._loaded, self._fetches, self._batching = loaded, fetches, batching
        self._tasks = queue.Queue()
        self._rows, self._lock = 0, threading.Lock()  # that wait
        self._worker = threading.Thread(target=self._work, daemon=True)
        self._worker.start()

    def close(self) -> None:
        self._tasks.put(None)
        self._worker.join()

    def ask(self, feeds):
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
        task, most = _Task(feeds, sizes.pop()), self._batching.max_batch_size
        if task.size > most:
            raise RequestError(
                "INVALID_ARGUMENT",
                f"Task size {task.size} is larger than maximum input batch size {most}",
            )
        with self._lock:
            if self._rows + task.size > most * self._batching.max_enqueued_batches:
                raise RequestError(
                    "UNAVAILABLE",
                    "The batch scheduling queue to which this task was submitted is full",
                )
            self._rows += task.size
        self._tasks.put(task)
        return task.answer.result()

    def _work(self):
        ahead = self._tasks.get()
        while ahead is not None:
            batch, ahead = self._batch(ahead)
            with self._lock:
                self._rows -= sum(task.size for task in batch)
            try:
                answers = self._together(batch)
            except Exception as error:  # one status for all whose rows were merged
                for task in batch:
                    task.answer.set_exception(error)
            else:
                for task, answer in zip(batch, answers, strict=True):
                    task.answer.set_result(answer)
            if ahead is _NOTHING:
                ahead = self._tasks.get()

    def _batch(self, first):
        """Tasks that fit into a batch and came in time, and what came after them."""
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
        return batch, _NOTHING

    def _together(self, batch):
        size = sum(task.size for task in batch)
        enough = [allowed for allowed in self._batching.allowed_batch_sizes if allowed >= size]
        spare = (enough[0] if enough else size) - size
        merged = {}
        for name in batch[0].feeds:
            arrays = self._padded(name, [task.feeds[name] for task in batch])
            whole = np.concatenate(arrays)
            merged[name] = np.concatenate([whole, *[whole[:1]] * spare])
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
        """Arrays of one shape beyond the rows: what is too short is filled with its own first."""
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
            whole = np.full((len(array), *longest), array.flat[0], array.dtype)
            whole[tuple(slice(size) for size in array.shape)] = array
            padded.append(whole)
        return padded


class Double:
    """A stand-in for a model server, running inside `with`.

    Args:
        base: The folder of models; of each its folder of versions.
        names: The models to serve; all that are there if not given.
        labels: Of each model, versions by label.
        batching: How requests are merged; None: not at all.
        warm_up: Whether a version's warm-up requests are replayed while it loads.
        deadline: Seconds after which a request over REST is given up.

    Attributes:
        delay: Seconds that each prediction is held back.
        held: Models that are said to be loading still.
        failures: Codes with which the next predictions fail, one each.
        predictions: How many were asked for.
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
        self.delay, self.held, self.failures, self.predictions = 0.0, set(), [], 0
        self._labels, self._deadline = labels or {}, deadline
        self._lock, self._ends = threading.Lock(), threading.Event()
        self._loaded: dict[str, dict[int, _Loaded | RequestError]] = {}
        for name in names or sorted(path.name for path in base.iterdir() if path.is_dir()):
            numbers = [p for p in (base / name).iterdir() if p.is_dir() and p.name.isdigit()]
            self._loaded[name] = {
                int(path.name): _load(path, warm_up, batching) for path in numbers
            }

    def __enter__(self) -> "Double":
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
        self._ends.set()
        self._rest.shutdown()
        self._rest.server_close()
        self._grpc.stop(None).wait()
        for versions in self._loaded.values():
            for loaded in versions.values():
                if isinstance(loaded, _Loaded):
                    loaded.close()

    @property
    def runs(self) -> int:
        """How often its sessions ran."""
        versions = [loaded for known in self._loaded.values() for loaded in known.values()]
        return sum(loaded.runs for loaded in versions if isinstance(loaded, _Loaded))

    @property
    def rest(self) -> str:
        """The URL of its REST interface."""
        return f"http://127.0.0.1:{self.rest_port}"

    @property
    def grpc(self) -> str:
        """The URL of its gRPC interface."""
        return f"grpc://127.0.0.1:{self.grpc_port}"

    def predict(self, request: predict_pb2.PredictRequest, seconds: float | None):
        """Answers a request within some seconds; raises RequestError."""
        with self._lock:
            self.predictions += 1
            failure = self.failures.pop(0) if self.failures else None
        if failure:
            raise RequestError(failure, "the double was told to fail")
        version, loaded = self.find(request.model_spec)
        if self.delay:
            late = seconds is not None and seconds < self.delay
            self._ends.wait(seconds if late else self.delay)
            if late:
                raise RequestError("DEADLINE_EXCEEDED", "Timed out waiting for notification")
        outputs = loaded.predict(request)
        answer = predict_pb2.PredictResponse()
        answer.model_spec.name = request.model_spec.name
        answer.model_spec.version.value = version
        answer.model_spec.signature_name = request.model_spec.signature_name or DEFAULT
        for name, value in outputs.items():
            answer.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        return answer

    def find(self, spec: model_pb2.ModelSpec) -> tuple[int, _Loaded]:
        """The version that a request names, and its number."""
        version = self._numbered(spec)
        known = {} if spec.name in self.held else self._loaded.get(spec.name, {})
        ready = {at: loaded for at, loaded in known.items() if isinstance(loaded, _Loaded)}
        if version is None:
            version = max(ready, default=None)
        if version not in ready:
            named = spec.HasField("version") or spec.version_label
            told = f"Specific({spec.name}, {version})" if named else f"Latest({spec.name})"
            raise RequestError("NOT_FOUND", f"Servable not found for request: {told}")
        return version, ready[version]

    def status(self, spec: model_pb2.ModelSpec) -> get_model_status_pb2.GetModelStatusResponse:
        """The states of the version that is named, or of all."""
        version, known = self._numbered(spec), self._loaded.get(spec.name, {})
        if version is not None and version not in known:
            message = f"Could not find version {version} of model {spec.name}"
            raise RequestError("NOT_FOUND", message)
        if not known:
            raise RequestError("NOT_FOUND", f"Could not find any versions of model {spec.name}")
        answer = get_model_status_pb2.GetModelStatusResponse()
        for at in sorted(known, reverse=True) if version is None else [version]:
            told = answer.model_version_status.add(version=at)
            failed = isinstance(known[at], RequestError)
            state = "LOADING" if spec.name in self.held else "END" if failed else "AVAILABLE"
            told.state = told.State.Value(state)
            told.status.SetInParent()
            if failed:
                told.status.error_code = grpc.StatusCode[known[at].code].value[0]
                told.status.error_message = known[at].message
        return answer

    def metadata(self, request: get_model_metadata_pb2.GetModelMetadataRequest):
        """All signatures of a version, the one that initialises tables among them."""
        if not request.metadata_field:
            raise RequestError(
                "INVALID_ARGUMENT",
                "GetModelMetadataRequest must specify at least one metadata_field",
            )
        for field in request.metadata_field:
            if field != "signature_def":
                raise RequestError("INVALID_ARGUMENT", f"Metadata field {field} is not supported")
        version, loaded = self.find(request.model_spec)
        known = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in loaded.signatures.items():
            known.signature_def[name].CopyFrom(signature)
        answer = get_model_metadata_pb2.GetModelMetadataResponse()
        answer.model_spec.name = request.model_spec.name
        answer.model_spec.version.value = version
        answer.metadata["signature_def"].Pack(known)
        return answer

    def rest_predict(self, spec: model_pb2.ModelSpec, body: bytes) -> bytes:
        """Answers what was sent to `:predict`; raises RequestError."""
        request, by_row = _request(spec, body, self.find(spec)[1].signatures)
        answer = self.predict(request, self._deadline)
        outputs = {name: tf.make_ndarray(value) for name, value in answer.outputs.items()}
        return _rows_written(outputs) if by_row else _columns_written(outputs)

    def _numbered(self, spec):
        """The number of the version that is named, by itself or by a label; None if none is."""
        if spec.version_label:
            try:
                return self._labels.get(spec.name, {})[spec.version_label]
            except KeyError:
                message = f"Unrecognized servable version label: {spec.version_label}"
                raise RequestError("INVALID_ARGUMENT", message) from None
        return spec.version.value if spec.HasField("version") else None


def _load(folder, warm_up, batching):
    """A version, or why it could not be loaded."""
    try:
        return _Loaded(folder, warm_up, batching)
    except RequestError as refused:
        return RequestError(refused.code, f"Error while warming up: {refused.message}")
    except (OSError, tf.errors.OpError) as error:
        return RequestError("NOT_FOUND", str(error))


# --- gRPC ---------------------------------------------------------------------------------


def _answered(context, answer):
    """What a function gives, its refusal as a status of gRPC."""
    try:
        return answer()
    except RequestError as refused:
        context.abort(grpc.StatusCode[refused.code], refused.message[:_LONGEST_MESSAGE])


class _Predictions(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, double):
        self._double = double

    def Predict(self, request, context):
        seconds = context.time_remaining()
        return _answered(context, lambda: self._double.predict(request, seconds))

    def GetModelMetadata(self, request, context):
        return _answered(context, lambda: self._double.metadata(request))


class _Models(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, double):
        self._double = double

    def GetModelStatus(self, request, context):
        return _answered(context, lambda: self._double.status(request.model_spec))


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
        with self._lock:  # those that were kept alive
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request, client_address):
        """A client that went away is no error of the server."""


def _handler(double):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_GET(self):
            self._answer(lambda: self._told(b""))

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._answer(lambda: self._told(body))

        def _answer(self, told):
            if not self.path.lower().startswith("/v1/"):
                status, content = 404, b""
            else:
                try:
                    status, content = 200, told()
                except RequestError as refused:
                    status = _STATUS.get(refused.code, 500)
                    content = b'{"error": %s}' % _quoted(refused.message.encode("utf-8", "replace"))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _told(self, body):
            pattern = _PREDICTION if self.command == "POST" else _STATE
            if not (found := pattern.fullmatch(self.path.split("?")[0])):
                message = f"Malformed request: {self.command} {self.path}"
                raise RequestError("INVALID_ARGUMENT", message)
            name, version, label, what = found.groups()
            if not name:
                raise RequestError("INVALID_ARGUMENT", "Missing model name in request.")
            spec = model_pb2.ModelSpec(name=urllib.parse.unquote(name))
            if version:
                spec.version.value = int(version)
            if label:
                spec.version_label = urllib.parse.unquote(label)
            what = (what or "status").lower()
            if what == "predict":
                return double.rest_predict(spec, body)
            if what == "metadata":
                return _metadata_written(double, spec)
            if what == "status":
                return _printed(double.status(spec))
            raise RequestError("UNIMPLEMENTED", f"The double does not {what}.")

        def log_message(self, *_):
            """Says nothing."""

    return Handler


def _printed(message) -> bytes:
    """A message in JSON, with the names of its fields and those that have their default."""
    text = json_format.MessageToJson(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return text.encode()


def _metadata_written(double, spec):
    request = get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec=spec, metadata_field=["signature_def"]
    )
    answer, known = double.metadata(request), get_model_metadata_pb2.SignatureDefMap()
    answer.metadata["signature_def"].Unpack(known)
    return b'{"model_spec": %s, "metadata": {"signature_def": %s}}' % (
        _printed(answer.model_spec),
        _printed(known),
    )


def _request(spec, body, signatures):
    """The request that a body says, and whether it says it row by row."""
    try:
        # Bytes that are no UTF-8 pass, as the server does not look.
        told = json.loads(body.decode("utf-8", "surrogateescape"))
    except ValueError as error:
        raise RequestError("INVALID_ARGUMENT", f"JSON Parse error: {error}") from error
    if not isinstance(told, dict):
        raise RequestError("INVALID_ARGUMENT", f"JSON Value: {told} Is not object")
    name = told.get("signature_name", "")
    if not isinstance(name, str):
        raise RequestError(
            "INVALID_ARGUMENT",
            f"JSON Value: {told} not formatted correctly. "
            "'signature_name' key must be a string value.",
        )
    if (name or DEFAULT) not in signatures:
        message = f'Serving signature name: "{name or DEFAULT}" not found in signature def'
        raise RequestError("INVALID_ARGUMENT", message)
    inputs = signatures[name or DEFAULT].inputs
    request = predict_pb2.PredictRequest(model_spec=spec)
    request.model_spec.signature_name = name
    if "instances" in told and "inputs" in told:
        raise RequestError(
            "INVALID_ARGUMENT",
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist",
        )
    if "instances" in told:
        columns = _of_instances(told["instances"], inputs)
    elif "inputs" in told:
        columns = _of_inputs(told["inputs"], inputs)
    else:
        raise RequestError("INVALID_ARGUMENT", "Missing 'inputs' or 'instances' key")
    for name, value in columns.items():
        request.inputs[name].CopyFrom(_tensor(value, inputs[name].dtype))
    return request, "instances" in told


def _of_instances(rows, inputs):
    """Columns of a list of rows, each of which has all inputs and one shape."""
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
    for at, row in enumerate(rows):
        if _is_object(row) != named:
            wanted, got = ("object", "list") if named else ("value/list", "object")
            raise RequestError(
                "INVALID_ARGUMENT", f"Expecting {wanted} but got {got} at item {at} of input list"
            )
        row = row if named else {next(iter(inputs)): row}
        if row.keys() != set(inputs):
            raise RequestError(
                "INVALID_ARGUMENT",
                f"Failed to process element: {at} of 'instances' list. JSON object: {row} keys "
                f"must be equal to: {','.join(sorted(inputs))}",
            )
        for name, value in row.items():
            first = columns[name][0] if columns[name] else value
            shape, got = _shape(first), _shape(value)
            trouble = f"Failed to process element: {at} key: {name} of 'instances' list. Error: "
            if math.prod(shape) != math.prod(got):
                sizes = f"Expecting tensor size: {math.prod(shape)} but got: {math.prod(got)}"
                raise RequestError("INVALID_ARGUMENT", trouble + sizes)
            if shape != got:
                shapes = f"Expecting shape {shape} but got: {got}"
                raise RequestError("INVALID_ARGUMENT", trouble + shapes)
            columns[name].append(value)
    return columns


def _of_inputs(told, inputs):
    """Columns of an object of them, or of the only one."""
    if not _is_object(told):
        if len(inputs) > 1:
            raise RequestError(
                "INVALID_ARGUMENT",
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                "required as per tensorinfo_map",
            )
        return {next(iter(inputs)): told}
    for name in inputs:
        if name not in told:
            message = f"Missing named input: {name} in 'inputs' object."
            raise RequestError("INVALID_ARGUMENT", message)
    return {name: told[name] for name in inputs}


def _is_object(value):
    """Whether it is an object of names, and not bytes in base64."""
    return isinstance(value, dict) and not _is_base64(value)


def _is_base64(value):
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def _shape(value):
    """That of nested lists, as their first elements tell it."""
    if not isinstance(value, list):
        return []
    return [len(value), *(_shape(value[0]) if value else [])]


def _tensor(value, dtype):
    """Nested lists as a tensor: rectangular, and each value of the type."""
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
        for each in value:
            fill(each, level + 1)

    fill(value, 0)
    kind = tf.as_dtype(dtype)
    array = np.array(flat, object if kind == tf.string else kind.as_numpy_dtype)
    return tf.make_tensor_proto(array.reshape(shape), kind)


def _value(value, dtype):
    """A value that has the type of the input, as the server asks it of JSON."""
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


def _rows_written(outputs):
    """`predictions`: a value or an object for each row."""
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
        _named({name: _written(array[at], name) for name, array in outputs.items()})
        for at in range(size)
    ]
    return b'{"predictions": [%s]}' % b", ".join(rows)


def _columns_written(outputs):
    """`outputs`: an array, or an object of them."""
    told = _named({name: _written(array, name) for name, array in outputs.items()})
    return b'{"outputs": %s}' % told


def _named(written):
    """The only one as it is, several by name."""
    if len(written) == 1:
        return next(iter(written.values()))
    told = [b"%s: %s" % (_quoted(name.encode()), value) for name, value in written.items()]
    return b"{%s}" % b", ".join(told)


def _written(value, name):
    """An array, a row or a value of an output in JSON."""
    if isinstance(value, np.ndarray) and value.ndim:
        return b"[%s]" % b", ".join(_written(each, name) for each in value)
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
    """Six digits if they say it all, else as many as it takes."""
    if not math.isfinite(value):
        return b"NaN" if math.isnan(value) else b"Infinity" if value > 0 else b"-Infinity"
    kind, digits = (np.float32, 9) if isinstance(value, np.float32) else (np.float64, 17)
    text = f"{value:.6g}"
    if kind(text) != value:
        text = f"{value:.{digits}g}"
    return (text if "." in text or "e" in text else text + ".0").encode()


def _quoted(value: bytes) -> bytes:
    """A string in JSON, whose bytes are none of its business beyond quotes and controls."""
    named = {8: b"\\b", 9: b"\\t", 10: b"\\n", 12: b"\\f", 13: b"\\r", 34: b'\\"', 92: b"\\\\"}
    escaped = re.sub(rb'[\x00-\x1f"\\]', lambda m: named.get(m[0][0], b"\\u%04X" % m[0][0]), value)
    return b'"%s"' % escaped


# --- a connection that breaks ----------------------------------------------------------------


class Breaking:
    """A port, inside `with`, that hands bytes on to another and breaks its first connections.

    Args:
        port: Where the server listens, on this machine.
        after: Bytes of answers after which a connection breaks.
        times: How many connections break.

    Attributes:
        broken: How many have.
    """

    def __init__(self, port: int, after: int, times: int = 1):
        self._target, self._after, self._left, self.broken = port, after, times, 0

    def __enter__(self) -> "Breaking":
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes it
        self._thread.join()
        self._listener.close()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            most = self._after if self._left > 0 else math.inf
            self._left -= 1
            for way in ((near, far, math.inf), (far, near, most)):
                threading.Thread(target=self._hand_on, args=way, daemon=True).start()

    def _hand_on(self, source, target, most):
        with contextlib.suppress(OSError):
            while most and (some := source.recv(min(most, 65536))):
                target.sendall(some)
                most -= len(some)
        self.broken += most == 0
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
