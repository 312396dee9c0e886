"""A server may answer anything: the client ends in time, within memory, with a short message."""

import contextlib
import json
import socket
import struct
import time
import tracemalloc

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

from app import cli, predict
from app.core import console
from app.serving import client
from tasks.core.errors import UserError
from tests.support import hostile_server
from tests.support.hostile_server import http_response, metadata_response, signature

ROWS = [{"text": "a"}, {"text": "b"}]
OUTPUTS = {
    "label": ["negative", "positive"],
    "valid": [True, False],
    "ids": [[1, 2, 3], [4, 5, 6]],
    "probabilities": [[0.25, 0.75], [0.5, 0.5]],
}
DEFINITION = signature(
    label=("string",), valid=("bool",), ids=("int32", -1), probabilities=("float", 2)
)
TIMEOUT = 0.3
EMOJI = "plain \u00e9 \u597d \U0001f469\u200d\U0001f4bb"
HOSTILE_TEXT = "\x1b[2J\x1b]0;owned\x07\nok\r\u202etxt\u2066\x9b31m\u2028"


def checked(error):
    """The message of an error that may be printed to a terminal."""
    message = str(error.value)
    assert message.count("\n") <= 2 and len(message) < 2000
    assert console.printable(message.replace("\n", " ")) == message.replace("\n", " ")
    return message


@contextlib.contextmanager
def connected(url, **kwargs):
    settings = {"timeout": TIMEOUT, "retries": 0, "max_response": 1, **kwargs}
    with contextlib.closing(client.connect(url, "toy", **settings)) as connection:
        yield connection


def rest_error(respond, metadata=None, **kwargs):
    """The message after a response over REST, which must come in time and without much memory."""
    metadata = metadata_response(DEFINITION) if metadata is None else metadata
    with hostile_server.rest_server(metadata, respond) as url, connected(url, **kwargs) as remote:
        start = time.monotonic()
        tracemalloc.start()
        try:
            with pytest.raises(UserError) as error:
                remote.predict(ROWS)
            assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
        finally:
            tracemalloc.stop()
        assert time.monotonic() - start < TIMEOUT + 3  # the machine may be busy
    message = checked(error)
    assert url in message
    return message


def outputs(**changes):
    """A response with other outputs; an output that is None is left out."""
    content = {name: value for name, value in {**OUTPUTS, **changes}.items() if value != "ABSENT"}
    return http_response(json.dumps({"outputs": content}).encode())


def text_response(text):
    return http_response(text.encode())


def test_the_outputs_that_the_cases_below_change_are_valid():
    with (
        hostile_server.rest_server(metadata_response(DEFINITION), outputs()) as url,
        connected(url, timeout=30) as remote,
    ):
        rows = remote.predict(ROWS)
    assert [row["label"] for row in rows] == [b"negative", b"positive"]
    assert rows[1]["ids"].tolist() == [4, 5, 6] and rows[1]["ids"].dtype == np.int32


WRONG_VALUES = {
    "ragged": ({"probabilities": [[0.25, 0.75], [0.5]]}, "lists of different lengths"),
    "ragged depth": ({"probabilities": [[0.25, 0.75], 0.5]}, "lists of different lengths"),
    "ragged inside": ({"ids": [[1, [2]], [3, 4]]}, "must hold int32 values, got [2]"),
    "text for number": ({"probabilities": [["x", 0.1], [0, 0]]}, "float32 values, got 'x'"),
    "null for number": ({"probabilities": [[None, 0.1], [0, 0]]}, "float32 values, got null"),
    "bool for number": ({"ids": [[True], [False]]}, "int32 values, got true"),
    "float for int": ({"ids": [[1.5], [2]]}, "int32 values, got 1.5"),
    "nan for int": ({"ids": [[float("nan")], [2]]}, "int32 values, got NaN"),
    "int too large": ({"ids": [[2**31], [2]]}, "int32 values, got 2147483648"),
    "int for bool": ({"valid": [1, 0]}, "bool values, got 1"),
    "null label": ({"label": [None, "x"]}, "string values, got null"),
    "number label": ({"label": [1, 2]}, "string values, got 1"),
    "no b64": ({"label": [{"x": 1}, "x"]}, "got an object with the keys ['x']"),
    "number b64": ({"label": [{"b64": 1}, "x"]}, "string values"),
    "more than b64": ({"label": [{"b64": "", "x": 1}, "x"]}, "string values"),
    "broken b64": ({"label": [{"b64": "a=b!"}, "x"]}, "invalid base64"),
    "truncated b64": ({"label": [{"b64": "YQ"}, "x"]}, "invalid base64"),
    "b64 beyond ASCII": ({"label": [{"b64": "\u00e9"}, "x"]}, "invalid base64"),
    "row missing": ({"label": ["x"]}, "must have 2 rows, like the request, got 1 rows"),
    "rows missing everywhere": (
        {"label": ["x"], "valid": [True], "ids": [[1]], "probabilities": [[0, 1]]},
        "must have 2 rows",
    ),
    "too many rows": ({"label": ["x"] * 3}, "must have 2 rows, like the request, got 3 rows"),
    "no rows": ({"label": []}, "must have 2 rows"),
    "scalar": ({"label": "x"}, "must have the shape (None), got ()"),
    "rank 3": ({"probabilities": [[[0.1], [0.2]]] * 2}, "(None, 2), got (2, 2, 1)"),
    "rank 1": ({"ids": [1, 2]}, "must have the shape (None, None), got (2)"),
    "rank 70": ({"ids": json.loads("[" * 70 + "1" + "]" * 70)}, "output 'ids'"),
    "width": ({"probabilities": [[0.1] * 3] * 2}, "must have the shape (None, 2), got (2, 3)"),
    "output missing": ({"label": "ABSENT"}, "the outputs must be ["),
    "output too many": ({"other": [1, 2]}, "the outputs must be ["),
    "hostile names": ({HOSTILE_TEXT: [1, 2]}, "\\x1b[2J"),
    "hostile value": ({"ids": [[HOSTILE_TEXT], [1]]}, "int32 values, got '\\x1b[2J"),
    "long value": ({"ids": [["x" * 10**5], [1]]}, "int32 values, got 'xxx"),
}


@pytest.mark.parametrize("case", WRONG_VALUES)
def test_outputs_that_do_not_match_the_signature_are_reported(case):
    changes, expected = WRONG_VALUES[case]
    message = rest_error(outputs(**changes))
    assert "sent an invalid response" in message and expected in message


def test_a_number_that_is_not_finite_is_a_number():
    """The network itself may compute NaN, and the server writes it as a word."""
    response = outputs(probabilities=[[float("nan"), 1e300], [float("-inf"), 1]])
    with (
        hostile_server.rest_server(metadata_response(DEFINITION), response) as url,
        connected(url, timeout=30) as remote,
    ):
        values = [row["probabilities"].tolist() for row in remote.predict(ROWS)]
    np.testing.assert_array_equal(values, [[np.nan, np.inf], [-np.inf, 1]])


WRONG_BODIES = {
    "empty": (text_response(""), "is not a JSON object"),
    "text": (text_response("hello"), "is not a JSON object"),
    "array": (text_response("[1]"), "is not a JSON object"),
    "null": (text_response("null"), "is not a JSON object"),
    "not UTF-8": (http_response(b"\xff\xfe"), "is not a JSON object"),
    "truncated JSON": (text_response('{"outputs": {"label": ["x"'), "is not a JSON object"),
    "nested deeply": (text_response('{"outputs":' * 50_000), "is not a JSON object"),
    "nested arrays": (text_response('{"outputs": ' + "[" * 100_000), "is not a JSON object"),
    "nested and closed": (
        text_response('{"outputs": {"label": ' + "[" * 800 + "]" * 800 + "}}"),
        "the outputs must be [",
    ),
    "number of 5000 digits": (text_response('{"outputs": %s}' % ("9" * 5000)), "not a JSON object"),
    "no outputs": (text_response('{"predictions": []}'), "no key 'outputs'"),
    "empty object": (text_response("{}"), "no key 'outputs'"),
    "outputs null": (text_response('{"outputs": null}'), "must be a JSON object, got null"),
    "outputs a list": (text_response('{"outputs": [1, 2]}'), "must be a JSON object, got [1, 2]"),
    "outputs a text": (text_response('{"outputs": "x"}'), "must be a JSON object, got 'x'"),
    "HTML": (text_response("<html><b>hello</b>"), "is not a JSON object"),
    "hostile text": (text_response(HOSTILE_TEXT), "is not a JSON object"),
    "error": (
        http_response(json.dumps({"error": HOSTILE_TEXT}).encode(), status="400 Bad Request"),
        "\\x1b[2J",
    ),
    "error not a text": (
        http_response(b'{"error": {"x": 1}}', status="400 No"),
        '{"error": {"x": 1}}',
    ),
    "long error": (
        http_response(json.dumps({"error": "x" * 10**6}).encode(), status="500 Long"),
        "x...",
    ),
    "redirect": (
        http_response(b"", "Location: file:///etc/passwd", status="302 Found"),
        "HTTP 302",
    ),
    "status 999": (http_response(b"", status="999 What"), "HTTP 999"),
    "length too long": (
        http_response(b"{}").replace(b"Length: 2", b"Length: 9"),
        "is unavailable: IncompleteRead",
    ),
    "length too short": (outputs().replace(b"Length: 1", b"Length: 0"), "is not a JSON object"),
    "length negative": (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "is not a JSON object"),
    "length of 1 GiB": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n{",
        "sent more than 1 MiB; --max-response",
    ),
    "length of 10**30": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 1%s\r\n\r\n{" % (b"0" * 30),
        "sent more than 1 MiB",
    ),
    "chunk of 10**15": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFF\r\n{",
        "is unavailable",
    ),
    "negative chunk": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n{}",
        "is unavailable",
    ),
    "chunk size a word": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n{}",
        "is unavailable",
    ),
    "no last chunk": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        "is unavailable",
    ),
    "compressed": (http_response(b"\x1f\x8b\x08", "Content-Encoding: gzip"), "not a JSON object"),
    "closed at once": (lambda connection: None, "is unavailable"),
    "HTTP/0.9": (b"hello\r\n", "is unavailable: hello"),
    "hostile status line": (f"{HOSTILE_TEXT}\r\n".encode(), "is unavailable: \\x1b"),
    "long status line": (b"HTTP/1.1 200 " + b"x" * 70_000 + b"\r\n\r\n", "is unavailable"),
    "long header": (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", "is unavailable"),
    "many headers": (b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 200 + b"\r\n", "is unavailable"),
}


@pytest.mark.parametrize("case", WRONG_BODIES)
def test_a_malformed_response_is_reported(case):
    respond, expected = WRONG_BODIES[case]
    assert expected in rest_error(respond, timeout=30)


def endless(start, piece, pause=0.0):
    """Sends a piece again and again, until the client has closed the connection."""

    def respond(connection):
        connection.sendall(start)
        connection.settimeout(pause or None)
        while True:
            connection.sendall(piece)
            if pause:
                with contextlib.suppress(TimeoutError):
                    if not connection.recv(1):
                        return

    return respond


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
TOO_LARGE = {
    "body": endless(OK + b"\r\n", b" " * 2**16),
    "body of a length": endless(OK + b"Content-Length: 1048576\r\n\r\n", b" " * 2**16),
    "chunks": endless(CHUNKED, b"8000\r\n" + b" " * 2**15 + b"\r\n"),
    "one chunk": endless(CHUNKED + b"7FFFFFFF\r\n", b" " * 2**16),
    "trailers": endless(CHUNKED + b"0\r\n", b"X: x\r\n" * 10_000),
    "continue": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
}
DRIPS = {
    "nothing": endless(b"", b"", 0.02),
    "status line": endless(b"", b"H", 0.02),
    "header": endless(OK + b"X: ", b"x", 0.02),
    "headers": endless(OK, b"X: x\r\n", 0.02),
    "body": endless(OK + b"\r\n", b" ", 0.02),
    "body of a length": endless(OK + b"Content-Length: 100000\r\n\r\n", b" ", 0.02),
    "chunks": endless(CHUNKED, b"1\r\n \r\n", 0.02),
    "chunk size": endless(CHUNKED, b"0", 0.02),
}


@pytest.mark.parametrize("case", TOO_LARGE)
def test_an_endless_response_ends_at_the_limit_of_bytes(case):
    message = rest_error(TOO_LARGE[case], timeout=30)
    assert "sent more than 1 MiB; --max-response" in message


@pytest.mark.parametrize("case", DRIPS)
def test_a_slow_response_ends_at_the_deadline(case):
    message = rest_error(DRIPS[case], retries=3)
    assert "no response in time" in message and "--timeout is 0.3 seconds" in message


def test_a_request_that_nobody_reads_ends_at_the_deadline():
    rows = [{"text": b"x" * 2**24}]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with connected(url) as remote:
            remote._signatures = {"serving_default": DEFINITION}
            with pytest.raises(UserError, match="no response in time"):
                remote.predict(rows)


def definition_as(change):
    changed = signature()
    changed.CopyFrom(DEFINITION)
    change(changed)
    return metadata_response(changed)


WRONG_METADATA = {
    "empty object": (text_response("{}"), "is not from TensorFlow Serving"),
    "metadata null": (text_response('{"metadata": null}'), "is not from TensorFlow Serving"),
    "a number": (text_response('{"metadata": {"signature_def": 5}}'), "not from TensorFlow"),
    "a list": (text_response('{"metadata": {"signature_def": [[]]}}'), "not from TensorFlow"),
    "wrong types": (
        text_response('{"metadata": {"signature_def": {"signature_def": {"x": 5}}}}'),
        "not from TensorFlow",
    ),
    "nested": (
        text_response(
            '{"metadata": {"signature_def": {"signatureDef": ' + '{"x":' * 300 + "{}" + "}" * 303
        ),
        "it has: x.",
    ),
    "no signature": (text_response('{"metadata": {"signature_def": {}}}'), "it has: ."),
    "hostile names": (
        text_response(
            json.dumps({"metadata": {"signature_def": {"signatureDef": {HOSTILE_TEXT: {}}}}})
        ),
        "it has: \\x1b[2J",
    ),
    "another input": (definition_as(lambda d: d.inputs["\x1b"].SetInParent()), "requires \\x1b"),
    "input a number": (
        definition_as(lambda d: setattr(d.inputs["text"], "dtype", 1)),
        "another model of the same name",
    ),
    "input of rank 3": (
        definition_as(lambda d: [d.inputs["text"].tensor_shape.dim.add(size=-1) for _ in "ab"]),
        "another model of the same name",
    ),
    "input of no dtype": (
        definition_as(lambda d: setattr(d.inputs["text"], "dtype", 99)),
        "another model of the same name",
    ),
    "output of no dtype": (
        definition_as(lambda d: setattr(d.outputs["label"], "dtype", 99)),
        "has the dtype number 99, which no client can read",
    ),
    "output a resource": (
        definition_as(lambda d: setattr(d.outputs["label"], "dtype", 20)),
        "has the dtype DT_RESOURCE",
    ),
    "output of huge dimensions": (
        definition_as(
            lambda d: [d.outputs["label"].tensor_shape.dim.add(size=2**62) for _ in "abc"]
        ),
        "output 'label' must have the shape",
    ),
}


@pytest.mark.parametrize("case", WRONG_METADATA)
def test_malformed_signatures_are_reported(case):
    metadata, expected = WRONG_METADATA[case]
    assert expected in rest_error(outputs(), metadata, timeout=30)


def test_a_malformed_status_is_reported():
    not_found = http_response(b'{"error": "not found"}', status="404 Not Found")
    message = rest_error(b"", not_found, timeout=30)
    assert "has no model 'toy': not found" in message


# gRPC


def tensor(dtype, shape, **values):
    """A TensorProto, whose content need not have its shape."""
    proto = tf.make_tensor_proto(0.0)
    proto.Clear()
    proto.dtype = hostile_server.DTYPES.get(dtype, dtype)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    for field, value in values.items():
        if field == "tensor_content":
            proto.tensor_content = value
        else:
            getattr(proto, field).extend(value)
    return proto


def prediction(**changes):
    """A response with other outputs; an output that is None is left out."""
    response = predict_pb2.PredictResponse()
    arrays = {
        "label": np.array(OUTPUTS["label"], object),
        "valid": np.array(OUTPUTS["valid"]),
        "ids": np.array(OUTPUTS["ids"], np.int32),
        "probabilities": np.array(OUTPUTS["probabilities"], np.float32),
    }
    for name, value in {**arrays, **changes}.items():
        if value is not None:
            proto = tf.make_tensor_proto(value) if isinstance(value, np.ndarray) else value
            response.outputs[name].CopyFrom(proto)
    return response.SerializeToString()


def metadata_message(definition=DEFINITION):
    definitions = get_model_metadata_pb2.SignatureDefMap()
    definitions.signature_def["serving_default"].CopyFrom(definition)
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.metadata["signature_def"].Pack(definitions)
    return response.SerializeToString()


@contextlib.contextmanager
def grpc_connected(respond, metadata=None, **kwargs):
    metadata = metadata_message() if metadata is None else metadata
    send = respond if callable(respond) else lambda context: respond
    with hostile_server.grpc_server(metadata, send) as url, connected(url, **kwargs) as remote:
        yield remote


def grpc_error(respond, metadata=None, capfd=None, **kwargs):
    with grpc_connected(respond, metadata, **{"timeout": 30, **kwargs}) as remote:
        tracemalloc.start()
        try:
            with pytest.raises(UserError) as error:
                remote.predict(ROWS)
            assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
        finally:
            tracemalloc.stop()
    return checked(error)


def test_the_messages_that_the_cases_below_change_are_valid():
    with grpc_connected(prediction(), timeout=30) as remote:
        rows = remote.predict(ROWS)
    assert [row["label"] for row in rows] == [b"negative", b"positive"]


WRONG_TENSORS = {
    "output missing": ({"label": None}, "the outputs must be ["),
    "output too many": ({"other": np.zeros(2)}, "the outputs must be ["),
    "another dtype": ({"ids": np.zeros((2, 3), np.float32)}, "dtype int32, got DT_FLOAT"),
    "unknown dtype": ({"ids": tensor(99, [2, 1])}, "dtype int32, got number 99"),
    "numbers for text": ({"label": np.zeros(2, np.float32)}, "dtype string, got DT_FLOAT"),
    "text for numbers": ({"ids": np.array([["a"], ["b"]], object)}, "int32, got DT_STRING"),
    "negative dimension": ({"ids": tensor("int32", [2, -1], int_val=[1])}, "invalid shape"),
    "row missing": ({"valid": np.array([True])}, "must have 2 rows, like the request, got 1"),
    "too many rows": ({"valid": np.array([True] * 3)}, "must have 2 rows"),
    "scalar": ({"valid": np.array(True)}, "must have the shape (None), got ()"),
    "rank 3": ({"ids": np.zeros((2, 1, 1), np.int32)}, "(None, None), got (2, 1, 1)"),
    "width": ({"probabilities": np.zeros((2, 5), np.float32)}, "(None, 2), got (2, 5)"),
    "content too short": (
        {"ids": tensor("int32", [2, 3], tensor_content=b"\0" * 23)},
        "of shape (2, 3) must have 24 bytes, got 23",
    ),
    "content too long": (
        {"ids": tensor("int32", [2, 3], tensor_content=b"\0" * 28)},
        "must have 24 bytes, got 28",
    ),
    "content of text": (
        {"label": tensor("string", [2], tensor_content=b"ab")},
        "must have 2 values, got 0",
    ),
    "huge shape, one number": (
        {"ids": tensor("int32", [2, 2**30], int_val=[1])},
        "must have 2147483648 values, got 1",
    ),
    "huge shape, one text": (
        {"label": tensor("string", [5 * 10**7], string_val=[b"x"])},
        "must have 50000000 values, got 1",
    ),
    "huge shape, nothing": ({"ids": tensor("int32", [2, 2**31])}, "invalid shape"),
    "huge dimension of nothing": ({"ids": tensor("int32", [0, 2**62])}, "invalid shape"),
    "values missing": ({"ids": tensor("int32", [2, 2], int_val=[1, 2, 3])}, "4 values, got 3"),
    "values in another field": ({"ids": tensor("int32", [2, 1], float_val=[1, 2])}, "got 0"),
}


@pytest.mark.parametrize("case", WRONG_TENSORS)
def test_tensors_that_do_not_match_the_signature_are_reported(case):
    changes, expected = WRONG_TENSORS[case]
    message = grpc_error(prediction(**changes))
    assert "sent an invalid response" in message and expected in message


def abort(code, details):
    return lambda context: context.abort(code, details)


def slow(context):
    time.sleep(0.6)
    return prediction()


WRONG_MESSAGES = {
    "empty": (b"", None, "the outputs must be ["),
    "not a message": (b"\xff" * 9, None, "is not from TensorFlow Serving"),
    "too large": (prediction(label=np.array(["x" * 2**20] * 2, object)), None, "more than 1 MiB"),
    "nested deeply": (struct.pack("<B", 0x1B) * 10_000, None, "is not from TensorFlow Serving"),
    "hostile error": (abort(grpc.StatusCode.INTERNAL, HOSTILE_TEXT), None, "\\x1b[2J"),
    "long error": (abort(grpc.StatusCode.INTERNAL, "x" * 5000), None, "x..."),
    "error without details": (abort(grpc.StatusCode.INTERNAL, ""), None, "(INTERNAL)"),
    "metadata empty": (b"", b"", "it has no signatures"),
    "metadata no message": (b"", b"\xff" * 9, "is not from TensorFlow Serving"),
    "metadata of another type": (
        b"",
        get_model_status_pb2.GetModelStatusResponse(
            model_version_status=[{"version": 1}]
        ).SerializeToString(),
        "",
    ),
}


@pytest.mark.parametrize("case", WRONG_MESSAGES)
def test_a_malformed_message_is_reported(case, capfd):
    respond, metadata, expected = WRONG_MESSAGES[case]
    assert expected in grpc_error(respond, metadata)
    assert "Traceback" not in capfd.readouterr().err  # of gRPC's own log


def test_a_slow_grpc_response_ends_at_the_deadline():
    message = grpc_error(slow, timeout=TIMEOUT)
    assert "--timeout is 0.3 seconds" in message


# Printing


def printed(argv, capsys):
    with pytest.raises(SystemExit) as exit_info:
        cli.run(lambda: predict.main(argv))
    assert exit_info.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") <= 3
    return captured.err


def test_strings_of_a_server_are_escaped_before_they_are_printed(capsys):
    definition = signature(label=("string",), probability=("float",))
    response = http_response(
        json.dumps({"outputs": {"label": [HOSTILE_TEXT], "probability": [0.5]}}).encode()
    )
    with hostile_server.rest_server(metadata_response(definition), response) as url:
        predict.main(["sentiment", "dull", "--server", url])
        line = capsys.readouterr().out
    assert line.count("\n") == 1 and line.endswith("\t0.500\tdull\n")
    assert line.startswith("\\x1b[2J\\x1b]0;owned\\x07\\nok\\r\\u202etxt\\u2066\\x9b31m\\u2028")


@pytest.mark.parametrize(
    ("definition", "content"),
    [
        (signature(other=("string",), score=("float",)), {"other": ["x"], "score": [1]}),
        (
            signature(label=("float",), probability=("string",)),
            {"label": [1], "probability": ["x"]},
        ),
        (
            signature(label=("string", -1), probability=("float", 2)),
            {"label": [["x"]], "probability": [[1, 2]]},
        ),
    ],
    ids=["names", "dtypes", "ranks"],
)
def test_a_model_with_other_outputs_than_the_task_is_reported(definition, content, capsys):
    response = http_response(json.dumps({"outputs": content}).encode())
    with hostile_server.rest_server(metadata_response(definition), response) as url:
        error = printed(["sentiment", "dull", "--server", url], capsys)
    assert "has other outputs than this task" in error


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (EMOJI, EMOJI),
        ("a\tb\nc\x00\x7f", "a\\tb\\nc\\x00\\x7f"),
        ("\x1b[31m\x9b", "\\x1b[31m\\x9b"),
        ("\u202a\u202e\u2066\u2069\u2028\u2029", "\\u202a\\u202e\\u2066\\u2069\\u2028\\u2029"),
        ("\udcff", "\\udcff"),
    ],
)
def test_control_characters_are_escaped(text, expected):
    assert console.printable(text) == expected


def test_a_long_text_is_cut():
    assert console.printable("abcdef", 3) == "abc..." and console.printable("abc", 3) == "abc"
