"""Client of a published model on TensorFlow Serving, over REST or gRPC."""

import abc
import base64
import functools
import http.client
import json
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar
from urllib.parse import SplitResult, quote, urlsplit

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from google.protobuf.message import Message
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2

from app.serving import payloads, session, warmup
from tasks.core.errors import UserError

MAX_TIMEOUT = 86_400  # seconds; the system accepts only some years
MAX_VERSION = 2**63 - 1  # the server's type of versions is int64
_FIRST_WAIT = 0.25  # seconds before the first retry; each further wait is twice as long
_RETRIABLE = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")  # codes of failures that may pass
_HTTP_CODES = {  # gRPC status codes by the HTTP status that the server maps them to
    400: "INVALID_ARGUMENT",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_Response = TypeVar("_Response")
_Message = TypeVar("_Message", bound=Message)


class RequestError(Exception):
    """A request that failed.

    Args:
        code: Name of the gRPC status code.
        message: Message of the server.
    """

    def __init__(self, code: str, message: str):
        super().__init__(f"{message} ({code})")
        self.code = code


class Client(abc.ABC):
    """Model on a server.

    A `tasks.core.predictor.Predictor`. Use `connect` to create one.

    Args:
        url: URL of the server.
        model: Name under which the server has the model.
        version: Version of the model; None for the latest on the server.
        timeout: Time limit of a request in seconds, retries included.
        retries: Additional attempts of a request after a failure that may pass.
    """

    def __init__(self, url: str, model: str, version: int | None, timeout: float, retries: int):
        self._url, self._model, self._version = url, model, version
        self._timeout, self._retries = timeout, retries

    @functools.cached_property
    def signatures(self) -> dict[str, SignatureDef]:
        """The signatures of the model by name, as the server reports them.

        Raises:
            UserError: The server does not respond, or does not have the model or the version.
        """
        return self._with_retries(self._metadata)

    def predict(self, rows: Sequence[Mapping], signature: str = "serving_default") -> list[dict]:
        """Predicts rows in one request; see `tasks.core.predictor.Predictor.predict`.

        Raises:
            UserError: The request failed; the message says why.
        """
        if signature not in self.signatures:
            names = ", ".join(sorted(self.signatures))
            raise UserError(f"{self._name()} has no signature {signature!r}; it has: {names}.")
        definition = self.signatures[signature]
        if missing := sorted(set(definition.inputs) - set(rows[0])):
            raise UserError(
                f"signature {signature} of {self._name()} also requires {', '.join(missing)}, "
                "which this task does not provide; is it another model of the same name?"
            )
        columns = payloads.columns(definition, rows)
        outputs = self._with_retries(lambda seconds: self._predict(signature, columns, seconds))
        return payloads.rows({name: outputs[name] for name in definition.outputs})

    @abc.abstractmethod
    def close(self) -> None:
        """Closes the connection."""

    @abc.abstractmethod
    def _metadata(self, seconds: float) -> dict[str, SignatureDef]:
        """Requests the signatures; like the methods below, raises RequestError."""

    @abc.abstractmethod
    def _status(self, seconds: float) -> get_model_status_pb2.GetModelStatusResponse:
        """Requests the states of all versions of the model."""

    @abc.abstractmethod
    def _predict(
        self, signature: str, columns: Mapping[str, np.ndarray], seconds: float
    ) -> dict[str, np.ndarray]:
        """Requests a prediction; returns the outputs by name."""

    def _with_retries(self, send: Callable[[float], _Response]) -> _Response:
        """Returns the response of the first attempt that succeeds.

        Args:
            send: Sends the request, given the seconds that remain. Repeating it is safe,
                because no request changes anything on the server.
        """
        deadline, wait = time.monotonic() + self._timeout, _FIRST_WAIT
        for attempt in range(self._retries + 1):
            try:
                return send(max(deadline - time.monotonic(), 1e-3))
            except RequestError as error:
                # Jitter, so that rejected clients do not retry in lockstep.
                pause = wait * random.uniform(0.5, 1.5)
                in_time = time.monotonic() + pause < deadline
                last = attempt == self._retries
                if last or not in_time or error.code not in _RETRIABLE:
                    raise UserError(self._explain(error)) from error
            time.sleep(pause)
            wait *= 2
        raise AssertionError("--retries is at least 0")

    def _explain(self, error: RequestError) -> str:
        """Returns the message to the user about a failed request."""
        if error.code == "NOT_FOUND":
            return self._explain_not_found(error)
        if error.code == "DEADLINE_EXCEEDED":
            return (
                f"{self._url} did not respond in time: {error}; "
                f"--timeout is {self._timeout:g} seconds."
            )
        if error.code == "UNAVAILABLE":
            return (
                f"{self._url} is unavailable: {error}. Retries: at most {self._retries} "
                "(--retries). Check that the server is running and that the port is for this "
                "protocol."
            )
        return f"{self._url} rejected the request to {self._model}: {error}"

    def _explain_not_found(self, error: RequestError) -> str:
        """Returns a message that says whether the version is absent, loading or failed."""
        try:
            statuses = self._status(self._timeout).model_version_status
        except RequestError as status_error:
            if status_error.code == "NOT_FOUND":
                return f"{self._url} has no model {self._model!r}: {status_error}"
            return f"{self._url} failed to report the status of {self._model!r}: {status_error}"
        state_name = get_model_status_pb2.ModelVersionStatus.State.Name
        descriptions = []
        loading = False
        for status in statuses:
            state = state_name(status.state)
            details = f"{state} {status.status.error_message}".rstrip()
            descriptions.append(f"{status.version} ({details})")
            if self._version in (None, status.version) and state in ("START", "LOADING"):
                loading = True
        states = ", ".join(descriptions)
        if loading:
            return f"{self._name()} is still loading; its versions: {states}."
        return f"{self._name()} is not served: {error}; its versions: {states}."

    def _name(self) -> str:
        version = "" if self._version is None else f" version {self._version}"
        return f"{self._model}{version} at {self._url}"


class Rest(Client):
    """Client over REST: `http://HOST:PORT` or `https://HOST:PORT`, with an optional path prefix."""

    def __init__(self, url: str, model: str, version: int | None, timeout: float, retries: int):
        super().__init__(url, model, version, timeout, retries)
        parts = urlsplit(url)
        if parts.scheme == "https":
            self._connection = http.client.HTTPSConnection(parts.hostname, parts.port)
        else:
            self._connection = http.client.HTTPConnection(parts.hostname, parts.port)
        self._model_path = f"{parts.path.rstrip('/')}/v1/models/{quote(model, safe='')}"

    def close(self) -> None:
        self._connection.close()

    @property
    def _version_path(self) -> str:
        if self._version is None:
            return self._model_path
        return f"{self._model_path}/versions/{self._version}"

    def _metadata(self, seconds: float) -> dict[str, SignatureDef]:
        content = self._send("GET", f"{self._version_path}/metadata", None, seconds)
        try:
            definitions = content["metadata"]["signature_def"]
        except (KeyError, TypeError) as error:
            raise _unexpected(error) from error
        message = _parse_message(definitions, get_model_metadata_pb2.SignatureDefMap())
        return session.public_signatures(message)

    def _status(self, seconds: float) -> get_model_status_pb2.GetModelStatusResponse:
        content = self._send("GET", self._model_path, None, seconds)
        return _parse_message(content, get_model_status_pb2.GetModelStatusResponse())

    def _predict(
        self, signature: str, columns: Mapping[str, np.ndarray], seconds: float
    ) -> dict[str, np.ndarray]:
        inputs = {name: _to_json(array.tolist()) for name, array in columns.items()}
        body = json.dumps({"signature_name": signature, "inputs": inputs}).encode()
        content = self._send("POST", f"{self._version_path}:predict", body, seconds)
        outputs, infos = content.get("outputs"), self.signatures[signature].outputs
        if len(infos) == 1:  # the server omits the name of a single output
            outputs = dict.fromkeys(infos, outputs)
        if not isinstance(outputs, dict) or outputs.keys() != set(infos):
            names = ", ".join(sorted(infos))
            raise RequestError("UNKNOWN", f"the response does not have the outputs {names}")
        return {name: _to_array(info.dtype, outputs[name]) for name, info in infos.items()}

    def _send(self, method: str, path: str, body: bytes | None, seconds: float) -> dict:
        """Sends a request; returns the JSON object of the response."""
        self._connection.timeout = seconds
        if self._connection.sock:
            self._connection.sock.settimeout(seconds)
        try:
            self._connection.request(method, path, body, {"Content-Type": "application/json"})
            response = self._connection.getresponse()
            # If the connection broke within the headers, the response seems to have no length.
            complete = response.chunked or response.length is not None
            status, data = response.status, response.read()
        except TimeoutError as error:
            self._connection.close()
            raise RequestError("DEADLINE_EXCEEDED", "no response in time") from error
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()  # the next request opens another
            raise RequestError("UNAVAILABLE", str(error) or type(error).__name__) from error
        # The strings of a response may be any bytes, but JSON is UTF-8.
        text = data.decode("utf-8", "replace")
        try:
            content = json.loads(text)
        except ValueError:
            content = None
        if status != 200:
            message = text[:300]
            if isinstance(content, dict) and "error" in content:
                message = str(content["error"])
            raise RequestError(_HTTP_CODES.get(status, f"HTTP {status}"), message.strip())
        if not isinstance(content, dict):
            code = "UNKNOWN" if complete else "UNAVAILABLE"
            raise RequestError(code, f"the response is not a JSON object: {text[:300]!r}")
        return content


class Grpc(Client):
    """Client over gRPC: `grpc://HOST:PORT`."""

    def __init__(self, url: str, model: str, version: int | None, timeout: float, retries: int):
        import grpc
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

        super().__init__(url, model, version, timeout, retries)
        options = {
            "grpc.max_receive_message_length": -1,  # the default is 4 MB
            "grpc.max_send_message_length": -1,
            "grpc.enable_retries": 0,  # `_with_retries` counts them
            "grpc.enable_http_proxy": 0,
            "grpc.initial_reconnect_backoff_ms": 100,  # shorter than the waits between retries
        }
        self._error = grpc.RpcError
        self._channel = grpc.insecure_channel(urlsplit(url).netloc, list(options.items()))
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def close(self) -> None:
        self._channel.close()

    def _metadata(self, seconds: float) -> dict[str, SignatureDef]:
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._fill_spec(request.model_spec)
        response = self._send(self._predictions.GetModelMetadata, request, seconds)
        message = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(message)
        return session.public_signatures(message)

    def _status(self, seconds: float) -> get_model_status_pb2.GetModelStatusResponse:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = self._model
        return self._send(self._models.GetModelStatus, request, seconds)

    def _predict(
        self, signature: str, columns: Mapping[str, np.ndarray], seconds: float
    ) -> dict[str, np.ndarray]:
        request = warmup.predict_request(self._model, signature, columns)
        self._fill_spec(request.model_spec)
        response = self._send(self._predictions.Predict, request, seconds)
        return {name: tf.make_ndarray(value) for name, value in response.outputs.items()}

    def _fill_spec(self, spec: model_pb2.ModelSpec) -> None:
        spec.name = self._model
        if self._version is not None:
            spec.version.value = self._version

    def _send(
        self, method: Callable[..., _Response], request: Message, seconds: float
    ) -> _Response:
        try:
            return method(request, timeout=seconds)
        except self._error as error:
            raise RequestError(error.code().name, error.details()) from error


def connect(
    url: str, model: str, version: int | None = None, timeout: float = 30.0, retries: int = 3
) -> Client:
    """Returns a client of a model on a server; nothing is sent before the first request.

    Args:
        url: `http://HOST:PORT` or `https://HOST:PORT` for REST, `grpc://HOST:PORT` for gRPC.
        model: Name under which the server has the model.
        version: Version of the model; None for the latest on the server.
        timeout: Time limit of a request in seconds, retries included.
        retries: Additional attempts of a request after a failure that may pass.

    Raises:
        UserError: The URL is invalid, or a number is out of range.

    Example::

        client = connect("http://localhost:8501", "sentiment")
        [row] = client.predict([{"text": "a dull film"}])
        row["label"]    # b"negative"
    """
    parts = _parse_url(url)
    if not 0 < timeout <= MAX_TIMEOUT:  # false for nan
        raise UserError(
            f"--timeout must be above 0 and at most {MAX_TIMEOUT} seconds, got {timeout:g}."
        )
    if version is not None and not 0 <= version <= MAX_VERSION:
        raise UserError(f"--version must be at least 0 and fit into 63 bits, got {version}.")
    if retries < 0:
        raise UserError(f"--retries must be at least 0, got {retries}.")
    client_class = Grpc if parts.scheme == "grpc" else Rest
    return client_class(url.rstrip("/"), model, version, timeout, retries)


def _parse_url(url: str) -> SplitResult:
    rule = "--server must be http://HOST:PORT, https://HOST:PORT or grpc://HOST:PORT"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UserError(f"{rule}, got {url!r}: {error}.") from error
    if parts.scheme not in ("http", "https", "grpc") or not parts.hostname:
        raise UserError(f"{rule}, got {url!r}.")
    if not _is_host(parts.hostname) or not re.fullmatch(r"[!-~]*", parts.path):
        raise UserError(f"{rule}; its host must be a domain name, its path ASCII, got {url!r}.")
    if parts.scheme == "grpc" and (port is None or parts.path.strip("/")):
        raise UserError(f"{rule}; gRPC requires a port and has no path, got {url!r}.")
    if parts.query or parts.fragment or parts.username is not None:
        raise UserError(f"{rule}, without a user, a query or a fragment, got {url!r}.")
    return parts


def _is_host(name: str) -> bool:
    """Returns whether a name can be looked up as a domain name or an address."""
    try:
        ascii_name = name.encode("idna").decode("ascii")
    except UnicodeError:
        return False
    return re.fullmatch(r"[!-~]+", ascii_name) is not None


def _to_json(value: object) -> object:
    """Converts nested lists to JSON; strings become base64, because they may be any bytes."""
    if isinstance(value, list):
        return [_to_json(item) for item in value]
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode("ascii")}
    return value


def _to_array(dtype: int, value: object) -> np.ndarray:
    """Converts nested lists of a response to an array of the signature's dtype."""
    if tf.as_dtype(dtype) != tf.string:
        return np.array(value, tf.as_dtype(dtype).as_numpy_dtype)
    return np.array(_to_bytes(value), object)


def _to_bytes(value: list | dict | str) -> list | bytes:
    """Converts strings of a response: base64 if the output's name ends in `_bytes`, else text."""
    if isinstance(value, list):
        return [_to_bytes(item) for item in value]
    if isinstance(value, dict):
        return base64.b64decode(value["b64"])
    return value.encode()


def _parse_message(content: dict, message: _Message) -> _Message:
    try:
        return json_format.ParseDict(content, message, ignore_unknown_fields=True)
    except (TypeError, json_format.ParseError) as error:
        raise _unexpected(error) from error


def _unexpected(error: Exception) -> RequestError:
    return RequestError("UNKNOWN", f"the response is not from TensorFlow Serving: {error}")
