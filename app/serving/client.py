"""Client of a published model on TensorFlow Serving, over REST or gRPC.

The server is not trusted: time and bytes of a response are limited, its values are validated
(`app.serving.decoding`), and its strings are escaped in messages.
"""

import abc
import base64
import http.client
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar
from urllib.parse import quote, urlsplit

import numpy as np
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
)

from app.core.console import printable
from app.serving import decoding, payloads, server_url, session, warmup
from app.serving.bounded_http import Connection, TooLargeError
from app.serving.streaming import PredictionStream
from tasks.core.errors import UserError

MAX_RESPONSE = 64  # MiB of a response, by default
_MAX_TEXT = 500  # characters of a server's message that are printed
_MAX_LISTED = 10  # versions that a message lists
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
_PREDICTION_SERVICE = "/tensorflow.serving.PredictionService"
_MODEL_SERVICE = "/tensorflow.serving.ModelService"
_Response = TypeVar("_Response")
_Message = TypeVar("_Message", bound=Message)


class RequestError(Exception):
    """A request that failed.

    Args:
        code: Name of the gRPC status code.
        message: Message of the server, which is escaped and cut.
    """

    def __init__(self, code: str, message: str):
        super().__init__(f"{printable(message.strip(), _MAX_TEXT)} ({code})")
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
        max_response: Size limit of a response in MiB.
    """

    def __init__(
        self,
        url: str,
        model: str,
        version: int | None,
        timeout: float,
        retries: int,
        max_response: int,
    ):
        self._url, self._model, self._version = url, model, version
        self._timeout, self._retries, self._max_response = timeout, retries, max_response
        self._signatures: dict[str, SignatureDef] | None = None

    @property
    def signatures(self) -> dict[str, SignatureDef]:
        """The signatures of the model by name, as the server reports them.

        Raises:
            UserError: The server does not respond, or does not have the model or the version.
        """
        return self._signatures_by(self._deadline())

    def _signatures_by(self, deadline: float) -> dict[str, SignatureDef]:
        if self._signatures is None:
            self._signatures = self._with_retries(self._metadata, deadline)
        return self._signatures

    def _deadline(self) -> float:
        """Returns the time at which a request that begins now has to be complete."""
        return time.monotonic() + self._timeout

    def predict(self, rows: Sequence[Mapping], signature: str = "serving_default") -> list[dict]:
        """Predicts rows in one request; see `tasks.core.predictor.Predictor.predict`.

        Raises:
            UserError: The request failed; the message says why.
        """
        deadline = self._deadline()  # the first request also needs the signatures
        signatures = self._signatures_by(deadline)
        if signature not in signatures:
            names = printable(", ".join(sorted(signatures)), _MAX_TEXT)
            raise UserError(f"{self._name()} has no signature {signature!r}; it has: {names}.")
        definition = signatures[signature]
        if missing := sorted(set(definition.inputs) - set(rows[0])):
            names = printable(", ".join(missing), _MAX_TEXT)
            raise UserError(
                f"signature {signature} of {self._name()} also requires {names}, "
                "which this task does not provide; is it another model of the same name?"
            )
        try:
            columns = _columns(definition, rows)
        except (OverflowError, TypeError, ValueError) as error:
            raise UserError(
                f"signature {signature} of {self._name()} has inputs of other types or shapes "
                "than this task provides; is it another model of the same name?"
            ) from error

        def send(seconds: float) -> dict[str, np.ndarray]:
            return self._predict(signature, definition, columns, len(rows), seconds)

        return payloads.rows(self._with_retries(send, deadline))

    def stream(self) -> PredictionStream:
        """Starts a text that is read in pieces; the version on the server must read forward.

        Give a version to `connect` for streams that outlast a deployment: a state belongs to one
        version.

        Raises:
            UserError: The version has no streams, or the request failed.
        """
        return PredictionStream(self)

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
        self,
        signature: str,
        definition: SignatureDef,
        columns: Mapping[str, np.ndarray],
        rows: int,
        seconds: float,
    ) -> dict[str, np.ndarray]:
        """Requests a prediction of a number of rows; returns the validated outputs by name."""

    def _with_retries(self, send: Callable[[float], _Response], deadline: float) -> _Response:
        """Returns the response of the first attempt that succeeds.

        Args:
            send: Sends the request, given the seconds that remain. Repeating it is safe,
                because no request changes anything on the server.
            deadline: Time at which the last attempt has to be complete.
        """
        wait = _FIRST_WAIT
        for attempt in range(self._retries + 1):
            try:
                return send(max(deadline - time.monotonic(), 1e-3))
            except RequestError as error:
                # Jitter, so that rejected clients do not retry in lockstep.
                pause = wait * random.uniform(0.5, 1.5)
                in_time = time.monotonic() + pause < deadline
                last = attempt == self._retries
                if last or not in_time or error.code not in _RETRIABLE:
                    raise UserError(self._explain(error, deadline)) from error
            except decoding.InvalidResponseError as error:
                reason = printable(str(error), _MAX_TEXT)
                raise UserError(f"{self._name()} sent an invalid response: {reason}.") from error
            except TooLargeError as error:
                raise UserError(
                    f"{self._name()} sent more than {self._max_response} MiB; --max-response is "
                    "the limit."
                ) from error
            time.sleep(pause)
            wait *= 2
        raise AssertionError("--retries is at least 0")

    def _explain(self, error: RequestError, deadline: float) -> str:
        """Returns the message to the user about a failed request."""
        if error.code == "NOT_FOUND":
            return self._explain_not_found(error, deadline)
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

    def _explain_not_found(self, error: RequestError, deadline: float) -> str:
        """Returns a message that says whether the version is absent, loading or failed."""
        try:
            seconds = max(deadline - time.monotonic(), 1e-3)
            statuses = self._status(seconds).model_version_status
        except (RequestError, decoding.InvalidResponseError, TooLargeError) as status_error:
            if isinstance(status_error, RequestError) and status_error.code == "NOT_FOUND":
                return f"{self._url} has no model {self._model!r}: {status_error}"
            reason = printable(str(status_error), _MAX_TEXT) or "the response is too large"
            return f"{self._url} failed to report the status of {self._model!r}: {reason}"
        states_by_number = get_model_status_pb2.ModelVersionStatus.State
        descriptions = []
        loading = False
        for status in statuses:
            is_named = status.state in states_by_number.values()
            state = states_by_number.Name(status.state) if is_named else "UNKNOWN"
            if len(descriptions) < _MAX_LISTED:
                details = f"{state} {status.status.error_message}".rstrip()
                descriptions.append(f"{status.version} ({printable(details, _MAX_TEXT)})")
            if self._version in (None, status.version) and state in ("START", "LOADING"):
                loading = True
        states = ", ".join(descriptions) + (", ..." if len(statuses) > _MAX_LISTED else "")
        if loading:
            return f"{self._name()} is still loading; its versions: {states}."
        return f"{self._name()} is not served: {error}; its versions: {states}."

    def _name(self) -> str:
        version = "" if self._version is None else f" version {self._version}"
        return f"{self._model}{version} at {self._url}"


class Rest(Client):
    """Client over REST: `http://HOST:PORT` or `https://HOST:PORT`, with an optional path prefix."""

    def __init__(
        self,
        url: str,
        model: str,
        version: int | None,
        timeout: float,
        retries: int,
        max_response: int,
    ):
        super().__init__(url, model, version, timeout, retries, max_response)
        parts = urlsplit(url)
        self._connection = Connection(
            parts.hostname, parts.port, parts.scheme == "https", max_response * 2**20
        )
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
        self,
        signature: str,
        definition: SignatureDef,
        columns: Mapping[str, np.ndarray],
        rows: int,
        seconds: float,
    ) -> dict[str, np.ndarray]:
        inputs = {name: _to_json(array.tolist()) for name, array in columns.items()}
        body = json.dumps({"signature_name": signature, "inputs": inputs}).encode()
        content = self._send("POST", f"{self._version_path}:predict", body, seconds)
        if "outputs" not in content:
            raise decoding.InvalidResponseError("it has no key 'outputs'")
        return decoding.from_json(definition, content["outputs"], rows)

    def _send(self, method: str, path: str, body: bytes | None, seconds: float) -> dict:
        """Sends a request; returns the JSON object of the response."""
        try:
            status, data, complete = self._connection.exchange(method, path, body, seconds)
        except TimeoutError as error:
            raise RequestError("DEADLINE_EXCEEDED", "no response in time") from error
        except (OSError, http.client.HTTPException) as error:
            raise RequestError("UNAVAILABLE", str(error) or type(error).__name__) from error
        # The strings of a response may be any bytes, but JSON is UTF-8.
        text = data.decode("utf-8", "replace")
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            content = None
        if status != 200:
            message = text[: 2 * _MAX_TEXT]
            if isinstance(content, dict) and isinstance(content.get("error"), str):
                message = content["error"]
            raise RequestError(_HTTP_CODES.get(status, f"HTTP {status}"), message)
        if not isinstance(content, dict):
            code = "UNKNOWN" if complete else "UNAVAILABLE"
            raise RequestError(code, f"the response is not a JSON object: {text[:300]!r}")
        return content


class Grpc(Client):
    """Client over gRPC: `grpc://HOST:PORT`."""

    def __init__(
        self,
        url: str,
        model: str,
        version: int | None,
        timeout: float,
        retries: int,
        max_response: int,
    ):
        import grpc

        super().__init__(url, model, version, timeout, retries, max_response)
        options = {
            "grpc.max_receive_message_length": max_response * 2**20,  # the default is 4 MB
            "grpc.max_send_message_length": -1,
            # A compressed response of any size could expand beyond the limit.
            "grpc.compression_enabled_algorithms_bitset": 1,  # no compression
            "grpc.per_message_decompression": 0,
            "grpc.enable_retries": 0,  # `_with_retries` counts them
            "grpc.enable_http_proxy": 0,
            "grpc.initial_reconnect_backoff_ms": 100,  # shorter than the waits between retries
        }
        self._error = grpc.RpcError
        self._channel = grpc.insecure_channel(urlsplit(url).netloc, list(options.items()))

    def close(self) -> None:
        self._channel.close()

    def _metadata(self, seconds: float) -> dict[str, SignatureDef]:
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._fill_spec(request.model_spec)
        response = self._send(
            f"{_PREDICTION_SERVICE}/GetModelMetadata",
            request,
            get_model_metadata_pb2.GetModelMetadataResponse(),
            seconds,
        )
        message = get_model_metadata_pb2.SignatureDefMap()
        try:
            is_map = response.metadata["signature_def"].Unpack(message)
        except DecodeError as error:
            raise _unexpected(error) from error
        if not is_map:
            raise decoding.InvalidResponseError("it has no signatures")
        return session.public_signatures(message)

    def _status(self, seconds: float) -> get_model_status_pb2.GetModelStatusResponse:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = self._model
        return self._send(
            f"{_MODEL_SERVICE}/GetModelStatus",
            request,
            get_model_status_pb2.GetModelStatusResponse(),
            seconds,
        )

    def _predict(
        self,
        signature: str,
        definition: SignatureDef,
        columns: Mapping[str, np.ndarray],
        rows: int,
        seconds: float,
    ) -> dict[str, np.ndarray]:
        request = warmup.predict_request(self._model, signature, columns)
        self._fill_spec(request.model_spec)
        response = self._send(
            f"{_PREDICTION_SERVICE}/Predict", request, predict_pb2.PredictResponse(), seconds
        )
        return decoding.from_protos(definition, response.outputs, rows)

    def _fill_spec(self, spec: model_pb2.ModelSpec) -> None:
        spec.name = self._model
        if self._version is not None:
            spec.version.value = self._version

    def _send(self, method: str, request: Message, response: _Message, seconds: float) -> _Message:
        """Sends a request; returns the response, filled.

        The response is parsed here, because gRPC logs a traceback where parsing fails.
        """
        call = self._channel.unary_unary(method, request_serializer=type(request).SerializeToString)
        try:
            data = call(request, timeout=seconds)
        except self._error as error:
            details = error.details() or "no details"
            if "larger than max" in details:  # of gRPC itself
                raise TooLargeError from error
            raise RequestError(error.code().name, details) from error
        try:
            response.ParseFromString(data)
        except DecodeError as error:
            raise _unexpected(error) from error
        return response


def connect(
    url: str,
    model: str,
    version: int | None = None,
    timeout: float = 30.0,
    retries: int = 3,
    max_response: int = MAX_RESPONSE,
) -> Client:
    """Returns a client of a model on a server; nothing is sent before the first request.

    Args:
        url: `http://HOST:PORT` or `https://HOST:PORT` for REST, `grpc://HOST:PORT` for gRPC.
        model: Name under which the server has the model.
        version: Version of the model; None for the latest on the server.
        timeout: Time limit of a request in seconds, retries included.
        retries: Additional attempts of a request after a failure that may pass.
        max_response: Size limit of a response in MiB; with JSON, reading a response takes
            several times as much memory.

    Raises:
        UserError: The URL is invalid, or a number is out of range.

    Example::

        client = connect("http://localhost:8501", "sentiment")
        [row] = client.predict([{"text": "a dull film"}])
        row["label"]    # b"negative"
    """
    parts = server_url.check(url, version, timeout, retries, max_response)
    client_class = Grpc if parts.scheme == "grpc" else Rest
    return client_class(url.rstrip("/"), model, version, timeout, retries, max_response)


def _columns(definition: SignatureDef, rows: Sequence[Mapping]) -> dict[str, np.ndarray]:
    """Converts rows to arrays, by input.

    Raises:
        OverflowError, TypeError, ValueError: They do not fit the signature.
    """
    for name, info in definition.inputs.items():
        is_text = isinstance(rows[0][name], str | bytes)
        if len(info.tensor_shape.dim) not in ((1,) if is_text else (1, 2)):
            raise ValueError(f"input {name!r} has another rank")
    return payloads.columns(definition, rows)


def _to_json(value: object) -> object:
    """Converts nested lists to JSON; strings become base64, because they may be any bytes."""
    if isinstance(value, list):
        return [_to_json(item) for item in value]
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode("ascii")}
    return value


def _parse_message(content: dict, message: _Message) -> _Message:
    try:
        return json_format.ParseDict(content, message, ignore_unknown_fields=True)
    except (
        AttributeError,
        RecursionError,
        TypeError,
        ValueError,
        json_format.ParseError,
    ) as error:
        raise _unexpected(error) from error


def _unexpected(error: Exception) -> decoding.InvalidResponseError:
    return decoding.InvalidResponseError(f"it is not from TensorFlow Serving: {error}")
