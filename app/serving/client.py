"""A published model on a server: TensorFlow Serving, asked over REST or gRPC."""

import abc
import base64
import functools
import http.client
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar
from urllib.parse import SplitResult, quote, urlsplit

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

from app.serving import payloads, session, warmup
from tasks.core.errors import UserError

_FIRST_WAIT = 0.25  # seconds before the second try; each further one waits twice as long
_PASSES = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")  # what another try may find otherwise
_CODES = {  # of HTTP, as the server makes them of its own
    400: "INVALID_ARGUMENT",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_Answer = TypeVar("_Answer")


class RequestError(Exception):
    """A request that got no answer.

    Args:
        code: Why, in the words of gRPC's status codes.
        message: Why, in the server's words.
    """

    def __init__(self, code: str, message: str):
        super().__init__(f"{message} ({code})")
        self.code = code


class Client(abc.ABC):
    """A model on a server, asked as `app.serving.session.SavedModelSession` asks one that is here.

    Args:
        url: Where the server is.
        model: The name under which it serves the model.
        version: Which; the newest that it has if None.
        timeout: Seconds that a request may take, with all its tries.
        tries: How often a request is sent before a trouble that may pass is told.
    """

    def __init__(self, url: str, model: str, version: int | None, timeout: float, tries: int):
        self._url, self._model, self._version = url, model, version
        self._timeout, self._tries = timeout, tries

    @functools.cached_property
    def signatures(self) -> dict[str, SignatureDef]:
        """What the model can be asked, by name, as the server tells it.

        Raises:
            UserError: The server does not answer, or has no such model or version.
        """
        return self._patiently(self._metadata)

    def predict(self, asked: Sequence[Mapping], signature: str = "serving_default") -> list[dict]:
        """Answers requests of one row each, in one: of each its row of each output, by name.

        Raises:
            UserError: There is no answer, in words that say why.
        """
        if signature not in self.signatures:
            known = ", ".join(sorted(self.signatures))
            raise UserError(f"{self._told()} has no signature {signature!r}; it has: {known}.")
        told = self.signatures[signature]
        if lacking := sorted(set(told.inputs) - set(asked[0])):
            raise UserError(
                f"{signature} of {self._told()} takes {', '.join(lacking)} too, of which this "
                "task knows nothing; is it another model of that name?"
            )
        columns = payloads.columns(told, asked)
        answer = self._patiently(lambda seconds: self._predict(signature, columns, seconds))
        return payloads.by_row({name: answer[name] for name in told.outputs})

    @abc.abstractmethod
    def close(self) -> None:
        """Ends the connection."""

    @abc.abstractmethod
    def _metadata(self, seconds: float) -> dict[str, SignatureDef]:
        """Asks for the signatures. Like all that follow, it raises Refusal."""

    @abc.abstractmethod
    def _status(self, seconds: float) -> get_model_status_pb2.GetModelStatusResponse:
        """Asks for the states of all versions of the model."""

    @abc.abstractmethod
    def _predict(
        self, signature: str, columns: Mapping[str, np.ndarray], seconds: float
    ) -> dict[str, np.ndarray]:
        """Asks for the outputs, by name."""

    def _patiently(self, ask: Callable[[float], _Answer]) -> _Answer:
        """What `ask` gives within the time and the tries that there are.

        Args:
            ask: Takes the seconds that are left. It may be called again: an answer
                changes nothing on the server.
        """
        end, wait = time.monotonic() + self._timeout, _FIRST_WAIT
        for left in reversed(range(self._tries)):
            try:
                return ask(max(end - time.monotonic(), 1e-3))
            except RequestError as refusal:
                # Clients that were refused together shall not come back together.
                pause = wait * random.uniform(0.5, 1.5)
                in_time = time.monotonic() + pause < end
                if not (left and in_time and refusal.code in _PASSES):
                    raise UserError(self._why(refusal)) from refusal
            time.sleep(pause)
            wait *= 2
        raise AssertionError("a client tries at least once")

    def _why(self, refusal: RequestError) -> str:
        """What a user is told of a refusal."""
        if refusal.code == "NOT_FOUND":
            return self._why_not_found(refusal)
        if refusal.code == "DEADLINE_EXCEEDED":
            return (
                f"{self._url} did not answer in time: {refusal}; "
                f"--timeout is {self._timeout:g} seconds."
            )
        if refusal.code == "UNAVAILABLE":
            return (
                f"{self._url} cannot be asked: {refusal}. It was tried {self._tries} times at "
                "most (--tries); see that the server runs and that the port is of this protocol."
            )
        return f"{self._url} refuses what {self._model} was asked: {refusal}"

    def _why_not_found(self, refusal: RequestError) -> str:
        """What the server says of the states of the versions: absent, loading or failed."""
        try:
            told = self._status(self._timeout).model_version_status
        except RequestError as other:
            absent = f"has no model {self._model!r}"
            return f"{self._url} {absent if other.code == 'NOT_FOUND' else 'fails'}: {other}"
        name = get_model_status_pb2.ModelVersionStatus.State.Name
        states = ", ".join(
            f"{one.version} ({' '.join(filter(None, [name(one.state), one.status.error_message]))})"
            for one in told
        )
        wanted = [one for one in told if self._version in (None, one.version)]
        if any(name(one.state) in ("START", "LOADING") for one in wanted):
            return f"{self._told()} is still loading; its versions: {states}."
        return f"{self._told()} is not served: {refusal}; its versions: {states}."

    def _told(self) -> str:
        version = "" if self._version is None else f" version {self._version}"
        return f"{self._model}{version} at {self._url}"


class Rest(Client):
    """A model asked in JSON; `http://HOST:PORT`, `https://`, perhaps with a path before /v1."""

    def __init__(self, url: str, model: str, version: int | None, timeout: float, tries: int):
        super().__init__(url, model, version, timeout, tries)
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        self._connection = kind(parts.hostname, parts.port)
        self._path = f"{parts.path.rstrip('/')}/v1/models/{quote(model, safe='')}"

    def close(self) -> None:
        self._connection.close()

    @property
    def _of_version(self) -> str:
        return self._path + ("" if self._version is None else f"/versions/{self._version}")

    def _metadata(self, seconds):
        told = self._asked("GET", f"{self._of_version}/metadata", None, seconds)
        found = get_model_metadata_pb2.SignatureDefMap()
        return session.own(_parsed(lambda: told["metadata"]["signature_def"], found))

    def _status(self, seconds):
        told = self._asked("GET", self._path, None, seconds)
        return _parsed(lambda: told, get_model_status_pb2.GetModelStatusResponse())

    def _predict(self, signature, columns, seconds):
        inputs = {name: _json(array.tolist()) for name, array in columns.items()}
        body = json.dumps({"signature_name": signature, "inputs": inputs}).encode()
        told = self.signatures[signature].outputs
        outputs = self._asked("POST", f"{self._of_version}:predict", body, seconds).get("outputs")
        if len(told) == 1:  # then the server gives it without its name
            outputs = dict.fromkeys(told, outputs)
        if not isinstance(outputs, dict) or outputs.keys() != set(told):
            raise RequestError(
                "UNKNOWN", f"the answer has not the outputs {', '.join(sorted(told))}"
            )
        return {name: _array(info.dtype, outputs[name]) for name, info in told.items()}

    def _asked(self, method: str, path: str, body: bytes | None, seconds: float) -> dict:
        """The object that the server answers with."""
        self._connection.timeout = seconds
        if self._connection.sock:
            self._connection.sock.settimeout(seconds)
        try:
            self._connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = self._connection.getresponse()
            # One that broke within its headers looks as if it had no length.
            sized = answer.chunked or answer.length is not None
            status, content = answer.status, answer.read()
        except TimeoutError as error:
            self._connection.close()
            raise RequestError("DEADLINE_EXCEEDED", "no answer in time") from error
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()  # the next request opens another
            raise RequestError("UNAVAILABLE", str(error) or type(error).__name__) from error
        # Strings of an answer may be any bytes, and JSON is UTF-8.
        text = content.decode("utf-8", "replace")
        try:
            told = json.loads(text)
        except ValueError:
            told = None
        if status != 200:
            message = told["error"] if isinstance(told, dict) and "error" in told else text[:300]
            raise RequestError(_CODES.get(status, f"HTTP {status}"), str(message).strip())
        if not isinstance(told, dict):
            code = "UNKNOWN" if sized else "UNAVAILABLE"
            raise RequestError(code, f"the answer is no JSON object: {text[:300]!r}")
        return told


class Grpc(Client):
    """A model asked in protocol buffers; `grpc://HOST:PORT`."""

    def __init__(self, url: str, model: str, version: int | None, timeout: float, tries: int):
        import grpc
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

        super().__init__(url, model, version, timeout, tries)
        options = {
            "grpc.max_receive_message_length": -1,  # 4 MB if not told otherwise
            "grpc.max_send_message_length": -1,
            "grpc.enable_retries": 0,  # `tries` counts them
            "grpc.enable_http_proxy": 0,
            "grpc.initial_reconnect_backoff_ms": 100,  # shorter than what `_patiently` waits
        }
        self._error = grpc.RpcError
        self._channel = grpc.insecure_channel(urlsplit(url).netloc, list(options.items()))
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def close(self) -> None:
        self._channel.close()

    def _metadata(self, seconds):
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._name(request.model_spec)
        told = self._asked(self._predictions.GetModelMetadata, request, seconds)
        found = get_model_metadata_pb2.SignatureDefMap()
        told.metadata["signature_def"].Unpack(found)
        return session.own(found)

    def _status(self, seconds):
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = self._model
        return self._asked(self._models.GetModelStatus, request, seconds)

    def _predict(self, signature, columns, seconds):
        request = warmup.predict_request(self._model, signature, columns)
        self._name(request.model_spec)
        answer = self._asked(self._predictions.Predict, request, seconds)
        return {name: tf.make_ndarray(value) for name, value in answer.outputs.items()}

    def _name(self, spec) -> None:
        spec.name = self._model
        if self._version is not None:
            spec.version.value = self._version

    def _asked(self, method: Callable, request, seconds: float):
        try:
            return method(request, timeout=seconds)
        except self._error as error:
            raise RequestError(error.code().name, error.details()) from error


def connect(url: str, model: str, version: int | None, timeout: float, tries: int) -> Client:
    """Returns the model on the server; nothing is sent before it is asked.

    Raises:
        UserError: The URL is none of a server, or a number is out of its range.
    """
    parts = _split(url)
    if timeout <= 0:
        raise UserError(f"--timeout must be above 0, got {timeout:g}.")
    if tries < 1:
        raise UserError(f"--tries must be at least 1, got {tries}.")
    kind = Grpc if parts.scheme == "grpc" else Rest
    return kind(url.rstrip("/"), model, version, timeout, tries)


def _split(url: str) -> SplitResult:
    """The parts of a server's URL."""
    rule = "--server must be http://HOST:PORT, https://HOST:PORT or grpc://HOST:PORT"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UserError(f"{rule}, got {url!r}: {error}.") from error
    if parts.scheme not in ("http", "https", "grpc") or not parts.hostname:
        raise UserError(f"{rule}, got {url!r}.")
    if parts.scheme == "grpc" and (port is None or parts.path.strip("/")):
        raise UserError(f"{rule}; gRPC needs a port and takes no path, got {url!r}.")
    if parts.query or parts.fragment or parts.username is not None:
        raise UserError(f"{rule}, without a user, a query or a fragment, got {url!r}.")
    return parts


def _json(value):
    """Nested lists as the server reads them: strings in base64, that any bytes may travel."""
    if isinstance(value, list):
        return [_json(each) for each in value]
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode("ascii")}
    return value


def _array(dtype: int, value) -> np.ndarray:
    """Nested lists of an answer as an array of what the signature promised."""
    if tf.as_dtype(dtype) != tf.string:
        return np.array(value, tf.as_dtype(dtype).as_numpy_dtype)
    return np.array(_bytes(value), object)


def _bytes(value):
    """Strings of an answer as bytes: they come as text, those of names in `_bytes` in base64."""
    if isinstance(value, list):
        return [_bytes(each) for each in value]
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else value.encode()


def _parsed(told: Callable[[], dict], message):
    """A message made of the object that `told` finds in an answer."""
    try:
        return json_format.ParseDict(told(), message, ignore_unknown_fields=True)
    except (KeyError, TypeError, json_format.ParseError) as error:
        raise RequestError("UNKNOWN", f"the answer is not TensorFlow Serving's: {error}") from error
