"""The fake server follows the rules in the source and documentation of TensorFlow Serving."""

import base64
import json
import math
import shutil
import threading
import urllib.error
import urllib.request
from concurrent import futures

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests.support import toy_models
from tests.support.fake_server import Batching, FakeServer, RequestError

PREDICT = "/v1/models/toy:predict"


def _request(inputs, signature="", version=None, outputs=(), name="toy"):
    request = predict_pb2.PredictRequest(output_filter=outputs)
    request.model_spec.name, request.model_spec.signature_name = name, signature
    if version is not None:
        request.model_spec.version.value = version
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    return request


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Versions 1, 2 and 10, which multiply by 1, 2 and 10; the last has warm-up requests."""
    folder = tmp_path_factory.mktemp("toys")
    good = _request({"x": np.float32([1, 2])}, "single")
    toy_models.published(folder, 1, 1.0)
    shutil.copytree(folder / "toy" / "1", folder / "toy" / "draft-3")
    toy_models.published(folder, 2, 2.0)
    toy_models.published(folder, 10, 10.0, [good])
    return folder


@pytest.fixture(scope="module")
def server(base):
    labels = {"toy": {"stable": 2, "gone": 7}}
    with FakeServer(base, labels=labels, warm_up=True) as server:
        yield server


class Connection:
    """A plain client of both interfaces of a server."""

    def __init__(self, server):
        self._server = server
        self._channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}")
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def close(self):
        self._channel.close()

    def rest(self, path, body=None):
        """Returns the status and the parsed body."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        try:
            with urllib.request.urlopen(self._server.rest + path, body, timeout=30) as response:
                return response.status, json.loads(
                    response.read().decode("utf-8", "surrogateescape")
                )
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or "null")

    def predict(self, inputs, signature="single", **more):
        """Returns the outputs as arrays, over gRPC."""
        response = self._predictions.Predict(_request(inputs, signature, **more), timeout=30)
        return {name: tf.make_ndarray(value) for name, value in response.outputs.items()}

    def error(self, *args, **more):
        """Returns code and message of a request that fails over gRPC."""
        with pytest.raises(grpc.RpcError) as error:
            self.predict(*args, **more)
        return error.value.code().name, error.value.details()

    def metadata(self, fields=("signature_def",), name="toy"):
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
        request.model_spec.name = name
        return self._predictions.GetModelMetadata(request, timeout=30)

    def status(self, name="toy"):
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = name
        statuses = self._models.GetModelStatus(request, timeout=30).model_version_status
        return {
            status.version: (status.State.Name(status.state), status.status.error_message)
            for status in statuses
        }


@pytest.fixture(scope="module")
def connection(server):
    connection = Connection(server)
    yield connection
    connection.close()


def test_the_latest_version_is_the_default(connection):
    assert connection.predict({"x": np.float32([3])})["product"] == 30
    assert connection.predict({"x": np.float32([3])}, version=2)["product"] == 6
    body = {"signature_name": "single", "inputs": [3]}
    assert connection.rest(PREDICT, body) == (200, {"outputs": [30.0]})
    assert connection.rest("/v1/models/toy/versions/1:predict", body) == (200, {"outputs": [3.0]})
    assert connection.rest("/v1/models/toy/labels/stable:predict", body) == (
        200,
        {"outputs": [6.0]},
    )


def test_a_missing_version_model_or_label_is_reported(connection):
    code, message = connection.error({"x": np.float32([3])}, version=7)
    assert code == "NOT_FOUND"
    assert message == "Servable not found for request: Specific(toy, 7)"
    assert connection.error({}, name="other")[0] == "NOT_FOUND"
    status, content = connection.rest("/v1/models/other:predict", {"instances": ["a"]})
    assert (status, content["error"]) == (404, "Servable not found for request: Latest(other)")
    assert connection.rest("/v1/models/toy/versions/7:predict", {"instances": ["a"]})[0] == 404
    assert connection.rest("/v1/models/toy/labels/gone:predict", {"instances": ["a"]})[0] == 404
    status, content = connection.rest("/v1/models/toy/labels/none:predict", {"instances": ["a"]})
    assert (status, content["error"]) == (400, "Unrecognized servable version label: none")


def test_paths_are_case_insensitive_and_unknown_paths_are_rejected(connection):
    assert connection.rest("/V1/Models/toy:PREDICT", {"instances": ["a"]})[0] == 200
    for path in ("/v1/models/toy:guess", "/v1/toy:predict", "/v1/models/toy/versions/x:predict"):
        status, content = connection.rest(path, {})
        assert status == 400 and content["error"] == f"Malformed request: POST {path}"
    assert connection.rest("/v1/models") == (400, {"error": "Missing model name in request."})
    assert connection.rest("/elsewhere") == (404, None)


def test_an_empty_signature_name_means_the_default(connection):
    assert connection.predict({"text": [b"a"]}, "")["same"].tolist() == [b"a"]
    code, message = connection.error({"text": [b"a"]}, "other")
    assert (code, message) == ("FAILED_PRECONDITION", 'Serving signature key "other" not found.')
    status, content = connection.rest(PREDICT, {"signature_name": "other", "instances": ["a"]})
    assert status == 400
    assert content["error"] == 'Serving signature name: "other" not found in signature def'


def test_inputs_must_be_those_of_the_signature(connection):
    code, message = connection.error({"x": np.float32([1]), "y": np.float32([1])})
    assert code == "INVALID_ARGUMENT"
    assert "len({x,y}) != len({x}). Sent extra: {y}. Missing but required: {}." in message
    assert "Missing but required: {flag,ids}." in connection.error({"x": [1.0]}, "several")[1]


def test_dtypes_and_ranks_must_be_those_of_the_signature(connection):
    assert connection.error({"x": np.int32([1])}) == (
        "INVALID_ARGUMENT",
        "Expects arg[0] to be float32 but int32 is provided (x)",
    )
    for wrong in (1.0, [[1.0]]):
        code, message = connection.error({"x": np.float32(wrong)})
        assert code == "INVALID_ARGUMENT" and "Shape" in message


def test_outputs_can_be_filtered(connection):
    assert set(connection.predict({"text": [b"a"]}, "", outputs=["same_bytes"])) == {"same_bytes"}
    code, message = connection.error({"text": [b"a"]}, "", outputs=["other"])
    assert code == "INVALID_ARGUMENT" and "Outputs expected to be in the set {same,same_" in message
    assert "duplicate" in connection.error({"text": [b"a"]}, "", outputs=["same", "same"])[1]


def test_an_error_in_the_graph_keeps_its_code_and_messages_are_truncated_over_grpc(connection):
    code, message = connection.error({"x": np.float32([-1])}, "positive")
    assert code == "INVALID_ARGUMENT" and "x is not above zero" in message and len(message) == 1024
    status, content = connection.rest(PREDICT, {"signature_name": "positive", "inputs": [-1.0]})
    assert status == 400 and len(content["error"]) > 1024


def test_states_of_versions_are_reported(connection, server):
    assert connection.status() == dict.fromkeys((1, 2, 10), ("AVAILABLE", ""))
    status, content = connection.rest("/v1/models/toy/versions/2")
    good = {"error_code": "OK", "error_message": ""}
    assert status == 200
    assert content["model_version_status"] == [
        {"version": "2", "state": "AVAILABLE", "status": good}
    ]
    content = connection.rest("/v1/models/toy")[1]["model_version_status"]
    assert [status["version"] for status in content] == ["10", "2", "1"]
    status, content = connection.rest("/v1/models/toy/versions/7")
    assert (status, content["error"]) == (404, "Could not find version 7 of model toy")
    server.loading.add("toy")
    try:
        assert {state for state, _ in connection.status().values()} == {"LOADING"}
        assert connection.rest(PREDICT, {"instances": ["a"]})[0] == 404
    finally:
        server.loading.clear()


def test_metadata_has_all_signatures_including_the_initialization(connection):
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response = connection.metadata()
    assert response.model_spec.version.value == 10
    assert response.metadata["signature_def"].Unpack(signatures)
    assert {"serving_default", "several", "__saved_model_init_op"} < set(signatures.signature_def)
    status, content = connection.rest("/v1/models/toy/metadata")
    assert status == 200 and content["model_spec"]["name"] == "toy"
    several = content["metadata"]["signature_def"]["signature_def"]["several"]
    assert several["inputs"]["ids"]["dtype"] == "DT_INT32"
    assert [dim["size"] for dim in several["inputs"]["ids"]["tensor_shape"]["dim"]] == ["-1", "-1"]
    for fields in ((), ("other",)):
        with pytest.raises(grpc.RpcError) as error:
            connection.metadata(fields)
        assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_rows_and_columns(connection):
    status, content = connection.rest(PREDICT, {"instances": ["a", "b"]})
    assert status == 200
    assert content["predictions"] == [
        {"same": text, "same_bytes": {"b64": base64.b64encode(f"{text}!".encode()).decode()}}
        for text in "ab"
    ]
    rows = [{"x": 1, "ids": [1, 2], "flag": True}, {"x": 0.5, "ids": [3, 4], "flag": False}]
    result = connection.rest(PREDICT, {"signature_name": "several", "instances": rows})[1][
        "predictions"
    ]
    assert result == [
        {"x": 10.0, "ids": [2, 4], "flag": False},
        {"x": 5.0, "ids": [6, 8], "flag": True},
    ]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    result = connection.rest(PREDICT, {"signature_name": "several", "inputs": columns})[1][
        "outputs"
    ]
    assert result == {"x": [10.0, 5.0], "ids": [[2, 4], [6, 8]], "flag": [False, True]}
    result = connection.rest(PREDICT, {"signature_name": "single", "instances": [1, 2]})
    assert result == (200, {"predictions": [10.0, 20.0]})
    assert connection.rest(PREDICT, {"inputs": {"text": []}})[1]["outputs"]["same"] == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "JSON Parse error"),
        (b"{", "JSON Parse error"),
        ([], "Is not object"),
        ({}, "Missing 'inputs' or 'instances' key"),
        ({"inputs": ["a"], "instances": ["a"]}, "only one of 'inputs' or 'instances'"),
        ({"instances": "a"}, "to be an list/array"),
        ({"instances": []}, "No values in 'instances' array"),
        ({"instances": ["a", {"text": "b"}]}, "Expecting value/list but got object at item 1"),
        ({"instances": [{"text": "b"}, "a"]}, "Expecting object but got list at item 1"),
        ({"instances": [{"other": "b"}]}, "keys must be equal to: text"),
        ({"instances": [1]}, "is not of expected type: string"),
        ({"instances": [{"b64": "?"}]}, "Unable to base64 decode"),
        ({"inputs": {"other": ["a"]}}, "Missing named input: text in 'inputs' object."),
        ({"signature_name": 1, "inputs": ["a"]}, "'signature_name' key must be a string"),
        ({"signature_name": "several", "instances": [1]}, "expecting list of objects"),
        ({"signature_name": "several", "inputs": [1]}, "expecting an object as multiple"),
        ({"signature_name": "padded", "instances": [[1], [1, 2]]}, "Expecting tensor size: 1 but"),
        ({"signature_name": "padded", "inputs": [[1], [1, 2]]}, "list at unexpected size: 2"),
        ({"signature_name": "padded", "inputs": [[1.0]]}, "is not of expected type: int32"),
        ({"signature_name": "padded", "inputs": [[2**31]]}, "is not of expected type: int32"),
        ({"signature_name": "single", "inputs": [[1], 2]}, "at incorrect level"),
        ({"signature_name": "total", "instances": [1.0]}, "has no shape information"),
        ({"signature_name": "uneven", "instances": [1.0]}, "has inconsistent batch size"),
    ],
)
def test_malformed_bodies_are_rejected(connection, body, message):
    status, content = connection.rest(PREDICT, body)
    assert status == 400 and message in content["error"]


def test_columns_may_be_scalars_and_differ_in_rows(connection):
    assert (
        connection.rest(PREDICT, {"signature_name": "total", "inputs": [1, 2]})[1]["outputs"] == 3.0
    )
    result = connection.rest(PREDICT, {"signature_name": "uneven", "inputs": [1]})[1]["outputs"]
    assert result == {"x": [2.0], "twice": [1.0, 1.0]}


def test_strings_may_be_any_bytes(connection):
    sent = [bytes(range(256)), "好\u2028".encode()]
    body = {"inputs": [{"b64": base64.b64encode(data).decode()} for data in sent]}
    result = connection.rest(PREDICT, body)[1]["outputs"]
    plain = [base64.b64decode(item["b64"]) for item in result["same_bytes"]]
    assert plain == [data + b"!" for data in sent]
    # Outputs whose name does not end in _bytes are copied, valid UTF-8 or not.
    assert [text.encode("utf-8", "surrogateescape") for text in result["same"]] == sent
    raw = b'{"inputs": ["\xff"], "signature_name": ""}'
    result = connection.rest(PREDICT, raw)[1]["outputs"]["same_bytes"][0]
    assert base64.b64decode(result["b64"]) == b"\xff!"


def test_numbers_survive_a_round_trip(connection):
    draw = np.random.default_rng(0)
    values = np.concatenate([draw.normal(size=50), 10.0 ** np.arange(-30, 30, 7)]).astype("f4")
    body = {"signature_name": "single", "inputs": values.tolist()}
    result = connection.rest("/v1/models/toy/versions/1:predict", body)[1]["outputs"]
    np.testing.assert_array_equal(np.array(result, "f4"), values)
    odd = b'{"signature_name": "single", "inputs": [NaN, Infinity, -Infinity, 2]}'
    result = connection.rest(PREDICT, odd)[1]["outputs"]
    assert math.isnan(result[0]) and result[1:] == [math.inf, -math.inf, 20.0]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("RESOURCE_EXHAUSTED", 429),
        ("UNAVAILABLE", 503),
        ("DEADLINE_EXCEEDED", 504),
        ("FAILED_PRECONDITION", 400),
        ("UNIMPLEMENTED", 501),
        ("INTERNAL", 500),
    ],
)
def test_status_codes_map_to_http(connection, server, code, status):
    server.failures = [code, code]
    assert connection.rest(PREDICT, {"instances": ["a"]})[0] == status
    assert connection.error({"text": [b"a"]}, "")[0] == code


def test_a_request_beyond_the_deadline_fails(base):
    with FakeServer(base, deadline=0.1) as server:
        connection, server.delay = Connection(server), 30
        assert connection.rest(PREDICT, {"instances": ["a"]})[0] == 504
        connection.close()


def test_a_version_that_fails_to_load_is_not_served(tmp_path):
    bad = _request({"x": np.float32([-1])}, "positive")
    toy_models.published(tmp_path, 1, 1.0)
    toy_models.published(tmp_path, 2, 2.0, [bad])
    shutil.copytree(tmp_path / "toy" / "1", tmp_path / "toy" / "3")
    (tmp_path / "toy" / "3" / "saved_model.pb").write_bytes(b"broken")
    with FakeServer(tmp_path, warm_up=True) as server:
        connection = Connection(server)
        states = connection.status()
        names = {version: state for version, (state, _) in states.items()}
        assert names == {1: "AVAILABLE", 2: "END", 3: "END"}
        assert "x is not above zero" in states[2][1]
        assert connection.predict({"x": np.float32([3])})["product"] == 3
        assert connection.error({"x": np.float32([3])}, version=2)[0] == "NOT_FOUND"
        connection.close()


def test_published_versions_load_with_their_warm_up_requests(tmp_path, untrained_copy):
    version = untrained_copy("sentiment", tmp_path)
    with FakeServer(version.parent.parent, ["sentiment"], warm_up=True) as server:
        connection = Connection(server)
        assert connection.status("sentiment") == {1: ("AVAILABLE", "")}
        assert server.runs >= 9
        connection.close()


# --- batching -------------------------------------------------------------------------------


def _run_concurrently(base, batching, requests):
    """Responses or errors of concurrent requests, and the number of session runs."""
    with FakeServer(base, batching=batching) as server, futures.ThreadPoolExecutor(16) as threads:
        barrier = threading.Barrier(len(requests))

        def predict(request):
            barrier.wait()
            try:
                response = server.predict(request, None)
            except RequestError as error:
                return error.code, error.message
            return {name: tf.make_ndarray(value) for name, value in response.outputs.items()}

        return list(threads.map(predict, requests)), server.runs


def test_merged_requests_get_their_own_rows(base):
    requests = [_request({"x": np.float32(range(size))}, "single") for size in (3, 1, 4)]
    responses, runs = _run_concurrently(base, Batching(8, timeout=20), requests)
    assert runs == 1
    for response, size in zip(responses, (3, 1, 4), strict=True):
        np.testing.assert_array_equal(response["product"], np.arange(size) * 10)


def test_a_batch_is_padded_to_an_allowed_size_with_its_first_row(base):
    batching = Batching(8, timeout=0.2, allowed_batch_sizes=(4, 8))
    responses, _ = _run_concurrently(
        base, batching, [_request({"x": np.float32([1, 2, 3])}, "single")]
    )
    np.testing.assert_array_equal(responses[0]["product"], [10, 20, 30])
    responses, _ = _run_concurrently(
        base, batching, [_request({"x": np.float32([1] * 3)}, "counted")]
    )
    np.testing.assert_array_equal(responses[0]["rows"], [4, 4, 4])
    responses, runs = _run_concurrently(base, batching, [_request({"x": np.float32([1])}, "total")])
    assert runs == 1 and responses[0] == (
        "FAILED_PRECONDITION",
        "Batched output tensor has 0 dimensions",
    )
    with pytest.raises(ValueError, match="must match max_batch_size"):
        Batching(8, allowed_batch_sizes=(4,))


def test_different_lengths_fail_or_are_padded_with_the_first_element_of_each_request(base):
    requests = [_request({"ids": np.int32(ids)}, "padded") for ids in ([[5, 6, 7]], [[8], [9]])]
    responses, _ = _run_concurrently(base, Batching(3, timeout=20), requests)
    assert {code for code, _ in responses} == {"FAILED_PRECONDITION"}
    assert "padding is turned off" in responses[0][1]
    padding = Batching(3, timeout=20, pad_variable_length_inputs=True)
    responses, runs = _run_concurrently(base, padding, requests)
    assert runs == 1
    assert responses[0]["ids"].tolist() == [[5, 6, 7]]
    assert responses[1]["ids"].tolist() == [[8, 8, 8], [9, 8, 8]]
    requests.append(_request({"ids": np.zeros((1, 0), np.int32)}, "padded"))
    padding = Batching(4, timeout=20, pad_variable_length_inputs=True)
    responses, _ = _run_concurrently(base, padding, requests)
    assert {code for code, _ in responses} == {"INVALID_ARGUMENT"}


def test_an_invalid_row_fails_the_requests_in_its_batch(base):
    requests = [_request({"x": np.float32([x])}, "positive") for x in (1, -1)]
    responses, _ = _run_concurrently(base, Batching(2, timeout=20), requests)
    assert [code for code, _ in responses] == ["INVALID_ARGUMENT"] * 2


def test_a_request_that_cannot_be_merged_is_rejected_alone(base):
    large = _request({"x": np.float32(range(9))}, "single")
    unequal = _request(
        {"x": np.float32([1]), "ids": np.int32([[1], [2]]), "flag": [True]}, "several"
    )
    uneven = _request({"x": np.float32([1])}, "uneven")
    responses, _ = _run_concurrently(base, Batching(8), [large, unequal, uneven])
    assert responses[0] == (
        "INVALID_ARGUMENT",
        "Task size 9 is larger than maximum input batch size 8",
    )
    assert responses[1][0] == "INVALID_ARGUMENT" and "equal 0th-dimension size" in responses[1][1]
    assert responses[2][0] == "FAILED_PRECONDITION" and "does not equal the sum" in responses[2][1]


def test_a_full_queue_is_unavailable(base):
    """The code is that in the source of the server's scheduler."""
    requests = [_request({"x": np.float32(range(5))}, "single") for _ in range(6)]
    responses, _ = _run_concurrently(
        base, Batching(8, timeout=0.3, max_enqueued_batches=1), requests
    )
    errors = [response for response in responses if isinstance(response, tuple)]
    assert errors and len(errors) < 6
    assert {code for code, _ in errors} == {"UNAVAILABLE"}


def test_it_listens_on_the_loopback_interface_and_stops(base):
    with FakeServer(base) as server:
        assert server.rest.startswith("http://127.0.0.1:")
        connection = Connection(server)
        assert connection.rest(PREDICT, {"instances": ["a"]})[0] == 200
    with pytest.raises(urllib.error.URLError):
        connection.rest(PREDICT, {"instances": ["a"]})
    connection.close()
