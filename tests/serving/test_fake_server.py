"""The double obeys the rules of the server's interfaces, as its source and documents have them."""

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

from tests.support import toy_models, untrained
from tests.support.fake_server import Batching, Double, RequestError

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
    """Versions 1, 2 and 10, which multiply by them; the last has warm-up requests."""
    folder = tmp_path_factory.mktemp("toys")
    good = _request({"x": np.float32([1, 2])}, "single")
    toy_models.published(folder, 1, 1.0)
    shutil.copytree(folder / "toy" / "1", folder / "toy" / "draft-3")
    toy_models.published(folder, 2, 2.0)
    toy_models.published(folder, 10, 10.0, [good])
    return folder


@pytest.fixture(scope="module")
def double(base):
    labels = {"toy": {"stable": 2, "gone": 7}}
    with Double(base, labels=labels, warm_up=True) as double:
        yield double


class Wire:
    """Both interfaces of a double, in the plainest terms."""

    def __init__(self, double):
        self._double = double
        self._channel = grpc.insecure_channel(f"127.0.0.1:{double.grpc_port}")
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def close(self):
        self._channel.close()

    def rest(self, path, body=None):
        """The status and what the body is in JSON."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        try:
            with urllib.request.urlopen(self._double.rest + path, body, timeout=30) as answer:
                return answer.status, json.loads(answer.read().decode("utf-8", "surrogateescape"))
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or "null")

    def predict(self, inputs, signature="single", **more):
        """The outputs as arrays, over gRPC."""
        answer = self._predictions.Predict(_request(inputs, signature, **more), timeout=30)
        return {name: tf.make_ndarray(value) for name, value in answer.outputs.items()}

    def refused(self, *args, **more):
        """Code and message of what gRPC refuses."""
        with pytest.raises(grpc.RpcError) as refused:
            self.predict(*args, **more)
        return refused.value.code().name, refused.value.details()

    def metadata(self, fields=("signature_def",), name="toy"):
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
        request.model_spec.name = name
        return self._predictions.GetModelMetadata(request, timeout=30)

    def status(self, name="toy"):
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = name
        told = self._models.GetModelStatus(request, timeout=30).model_version_status
        return {one.version: (one.State.Name(one.state), one.status.error_message) for one in told}


@pytest.fixture(scope="module")
def wire(double):
    wire = Wire(double)
    yield wire
    wire.close()


def test_the_highest_number_answers_if_none_is_named(wire):
    assert wire.predict({"x": np.float32([3])})["product"] == 30
    assert wire.predict({"x": np.float32([3])}, version=2)["product"] == 6
    body = {"signature_name": "single", "inputs": [3]}
    assert wire.rest(PREDICT, body) == (200, {"outputs": [30.0]})
    assert wire.rest("/v1/models/toy/versions/1:predict", body) == (200, {"outputs": [3.0]})
    assert wire.rest("/v1/models/toy/labels/stable:predict", body) == (200, {"outputs": [6.0]})


def test_what_is_not_there_is_not_found(wire):
    code, message = wire.refused({"x": np.float32([3])}, version=7)
    assert code == "NOT_FOUND"
    assert message == "Servable not found for request: Specific(toy, 7)"
    assert wire.refused({}, name="other")[0] == "NOT_FOUND"
    status, told = wire.rest("/v1/models/other:predict", {"instances": ["a"]})
    assert (status, told["error"]) == (404, "Servable not found for request: Latest(other)")
    assert wire.rest("/v1/models/toy/versions/7:predict", {"instances": ["a"]})[0] == 404
    assert wire.rest("/v1/models/toy/labels/gone:predict", {"instances": ["a"]})[0] == 404
    status, told = wire.rest("/v1/models/toy/labels/none:predict", {"instances": ["a"]})
    assert (status, told["error"]) == (400, "Unrecognized servable version label: none")


def test_paths_are_read_in_any_case_and_others_are_refused(wire):
    assert wire.rest("/V1/Models/toy:PREDICT", {"instances": ["a"]})[0] == 200
    for path in ("/v1/models/toy:guess", "/v1/toy:predict", "/v1/models/toy/versions/x:predict"):
        status, told = wire.rest(path, {})
        assert status == 400 and told["error"] == f"Malformed request: POST {path}"
    assert wire.rest("/v1/models") == (400, {"error": "Missing model name in request."})
    assert wire.rest("/elsewhere") == (404, None)


def test_an_empty_signature_name_is_the_default_one(wire):
    assert wire.predict({"text": [b"a"]}, "")["same"].tolist() == [b"a"]
    code, message = wire.refused({"text": [b"a"]}, "other")
    assert (code, message) == ("FAILED_PRECONDITION", 'Serving signature key "other" not found.')
    status, told = wire.rest(PREDICT, {"signature_name": "other", "instances": ["a"]})
    assert status == 400
    assert told["error"] == 'Serving signature name: "other" not found in signature def'


def test_inputs_are_exactly_those_of_the_signature(wire):
    code, message = wire.refused({"x": np.float32([1]), "y": np.float32([1])})
    assert code == "INVALID_ARGUMENT"
    assert "len({x,y}) != len({x}). Sent extra: {y}. Missing but required: {}." in message
    assert "Missing but required: {flag,ids}." in wire.refused({"x": [1.0]}, "several")[1]


def test_types_and_ranks_are_those_of_the_signature(wire):
    assert wire.refused({"x": np.int32([1])}) == (
        "INVALID_ARGUMENT",
        "Expects arg[0] to be float32 but int32 is provided (x)",
    )
    for wrong in (1.0, [[1.0]]):
        code, message = wire.refused({"x": np.float32(wrong)})
        assert code == "INVALID_ARGUMENT" and "Shape" in message


def test_outputs_may_be_chosen(wire):
    assert set(wire.predict({"text": [b"a"]}, "", outputs=["same_bytes"])) == {"same_bytes"}
    code, message = wire.refused({"text": [b"a"]}, "", outputs=["other"])
    assert code == "INVALID_ARGUMENT" and "Outputs expected to be in the set {same,same_" in message
    assert "duplicate" in wire.refused({"text": [b"a"]}, "", outputs=["same", "same"])[1]


def test_what_the_graph_refuses_keeps_its_code_and_messages_are_cut_over_grpc(wire):
    code, message = wire.refused({"x": np.float32([-1])}, "positive")
    assert code == "INVALID_ARGUMENT" and "x is not above zero" in message and len(message) == 1024
    status, told = wire.rest(PREDICT, {"signature_name": "positive", "inputs": [-1.0]})
    assert status == 400 and len(told["error"]) > 1024


def test_states_are_told(wire, double):
    assert wire.status() == dict.fromkeys((1, 2, 10), ("AVAILABLE", ""))
    status, told = wire.rest("/v1/models/toy/versions/2")
    good = {"error_code": "OK", "error_message": ""}
    assert status == 200
    assert told["model_version_status"] == [{"version": "2", "state": "AVAILABLE", "status": good}]
    told = wire.rest("/v1/models/toy")[1]["model_version_status"]
    assert [one["version"] for one in told] == ["10", "2", "1"]
    status, told = wire.rest("/v1/models/toy/versions/7")
    assert (status, told["error"]) == (404, "Could not find version 7 of model toy")
    double.held.add("toy")
    try:
        assert {state for state, _ in wire.status().values()} == {"LOADING"}
        assert wire.rest(PREDICT, {"instances": ["a"]})[0] == 404
    finally:
        double.held.clear()


def test_metadata_are_the_signatures_that_of_initialisation_among_them(wire):
    known = get_model_metadata_pb2.SignatureDefMap()
    answer = wire.metadata()
    assert answer.model_spec.version.value == 10
    assert answer.metadata["signature_def"].Unpack(known)
    assert {"serving_default", "several", "__saved_model_init_op"} < set(known.signature_def)
    status, told = wire.rest("/v1/models/toy/metadata")
    assert status == 200 and told["model_spec"]["name"] == "toy"
    several = told["metadata"]["signature_def"]["signature_def"]["several"]
    assert several["inputs"]["ids"]["dtype"] == "DT_INT32"
    assert [dim["size"] for dim in several["inputs"]["ids"]["tensor_shape"]["dim"]] == ["-1", "-1"]
    for fields in ((), ("other",)):
        with pytest.raises(grpc.RpcError) as refused:
            wire.metadata(fields)
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_rows_and_columns(wire):
    status, told = wire.rest(PREDICT, {"instances": ["a", "b"]})
    assert status == 200
    assert told["predictions"] == [
        {"same": text, "same_bytes": {"b64": base64.b64encode(f"{text}!".encode()).decode()}}
        for text in "ab"
    ]
    rows = [{"x": 1, "ids": [1, 2], "flag": True}, {"x": 0.5, "ids": [3, 4], "flag": False}]
    given = wire.rest(PREDICT, {"signature_name": "several", "instances": rows})[1]["predictions"]
    assert given == [
        {"x": 10.0, "ids": [2, 4], "flag": False},
        {"x": 5.0, "ids": [6, 8], "flag": True},
    ]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    given = wire.rest(PREDICT, {"signature_name": "several", "inputs": columns})[1]["outputs"]
    assert given == {"x": [10.0, 5.0], "ids": [[2, 4], [6, 8]], "flag": [False, True]}
    given = wire.rest(PREDICT, {"signature_name": "single", "instances": [1, 2]})
    assert given == (200, {"predictions": [10.0, 20.0]})
    assert wire.rest(PREDICT, {"inputs": {"text": []}})[1]["outputs"]["same"] == []


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
def test_bodies_that_are_refused(wire, body, message):
    status, told = wire.rest(PREDICT, body)
    assert status == 400 and message in told["error"]


def test_columns_may_be_scalars_and_of_any_number_of_rows(wire):
    assert wire.rest(PREDICT, {"signature_name": "total", "inputs": [1, 2]})[1]["outputs"] == 3.0
    given = wire.rest(PREDICT, {"signature_name": "uneven", "inputs": [1]})[1]["outputs"]
    assert given == {"x": [2.0], "twice": [1.0, 1.0]}


def test_any_bytes_go_in_and_come_out(wire):
    sent = [bytes(range(256)), "好\u2028".encode()]
    body = {"inputs": [{"b64": base64.b64encode(each).decode()} for each in sent]}
    given = wire.rest(PREDICT, body)[1]["outputs"]
    plain = [base64.b64decode(each["b64"]) for each in given["same_bytes"]]
    assert plain == [each + b"!" for each in sent]
    # Outputs whose name says nothing else come as they are, UTF-8 or not.
    assert [text.encode("utf-8", "surrogateescape") for text in given["same"]] == sent
    raw = b'{"inputs": ["\xff"], "signature_name": ""}'
    given = wire.rest(PREDICT, raw)[1]["outputs"]["same_bytes"][0]
    assert base64.b64decode(given["b64"]) == b"\xff!"


def test_numbers_are_written_so_that_they_come_back(wire):
    draw = np.random.default_rng(0)
    values = np.concatenate([draw.normal(size=50), 10.0 ** np.arange(-30, 30, 7)]).astype("f4")
    body = {"signature_name": "single", "inputs": values.tolist()}
    given = wire.rest("/v1/models/toy/versions/1:predict", body)[1]["outputs"]
    np.testing.assert_array_equal(np.array(given, "f4"), values)
    odd = b'{"signature_name": "single", "inputs": [NaN, Infinity, -Infinity, 2]}'
    given = wire.rest(PREDICT, odd)[1]["outputs"]
    assert math.isnan(given[0]) and given[1:] == [math.inf, -math.inf, 20.0]


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
def test_codes_are_those_of_http(wire, double, code, status):
    double.failures = [code, code]
    assert wire.rest(PREDICT, {"instances": ["a"]})[0] == status
    assert wire.refused({"text": [b"a"]}, "")[0] == code


def test_a_deadline_passes(base):
    with Double(base, deadline=0.1) as double:
        wire, double.delay = Wire(double), 30
        assert wire.rest(PREDICT, {"instances": ["a"]})[0] == 504
        wire.close()


def test_a_version_that_fails_to_load_is_not_served(tmp_path):
    bad = _request({"x": np.float32([-1])}, "positive")
    toy_models.published(tmp_path, 1, 1.0)
    toy_models.published(tmp_path, 2, 2.0, [bad])
    shutil.copytree(tmp_path / "toy" / "1", tmp_path / "toy" / "3")
    (tmp_path / "toy" / "3" / "saved_model.pb").write_bytes(b"broken")
    with Double(tmp_path, warm_up=True) as double:
        wire = Wire(double)
        states = wire.status()
        found = {at: state for at, (state, _) in states.items()}
        assert found == {1: "AVAILABLE", 2: "END", 3: "END"}
        assert "x is not above zero" in states[2][1]
        assert wire.predict({"x": np.float32([3])})["product"] == 3
        assert wire.refused({"x": np.float32([3])}, version=2)[0] == "NOT_FOUND"
        wire.close()


def test_published_versions_load_with_their_warm_up_requests(tmp_path):
    version = untrained.version("sentiment", tmp_path)
    with Double(version.parent.parent, ["sentiment"], warm_up=True) as double:
        wire = Wire(double)
        assert wire.status("sentiment") == {1: ("AVAILABLE", "")}
        assert double.runs >= 9
        wire.close()


# --- batching -------------------------------------------------------------------------------


def _together(base, batching, requests):
    """Answers, or refusals, to requests that are sent at once, and how often the session ran."""
    with Double(base, batching=batching) as double, futures.ThreadPoolExecutor(16) as threads:
        at_once = threading.Barrier(len(requests))

        def ask(request):
            at_once.wait()
            try:
                answer = double.predict(request, None)
            except RequestError as refused:
                return refused.code, refused.message
            return {name: tf.make_ndarray(value) for name, value in answer.outputs.items()}

        return list(threads.map(ask, requests)), double.runs


def test_requests_are_merged_and_each_gets_its_own_rows(base):
    requests = [_request({"x": np.float32(range(size))}, "single") for size in (3, 1, 4)]
    answers, runs = _together(base, Batching(8, timeout=20), requests)
    assert runs == 1
    for answer, size in zip(answers, (3, 1, 4), strict=True):
        np.testing.assert_array_equal(answer["product"], np.arange(size) * 10)


def test_a_batch_is_filled_to_an_allowed_size_with_a_row_of_its_own(base):
    batching = Batching(8, timeout=0.2, allowed_batch_sizes=(4, 8))
    answers, _ = _together(base, batching, [_request({"x": np.float32([1, 2, 3])}, "single")])
    np.testing.assert_array_equal(answers[0]["product"], [10, 20, 30])
    answers, _ = _together(base, batching, [_request({"x": np.float32([1] * 3)}, "counted")])
    np.testing.assert_array_equal(answers[0]["rows"], [4, 4, 4])
    answers, runs = _together(base, batching, [_request({"x": np.float32([1])}, "total")])
    assert runs == 1 and answers[0] == (
        "FAILED_PRECONDITION",
        "Batched output tensor has 0 dimensions",
    )
    with pytest.raises(ValueError, match="must match max_batch_size"):
        Batching(8, allowed_batch_sizes=(4,))


def test_lengths_that_differ_fail_all_or_are_filled_with_the_first_of_each_request(base):
    requests = [_request({"ids": np.int32(ids)}, "padded") for ids in ([[5, 6, 7]], [[8], [9]])]
    answers, _ = _together(base, Batching(3, timeout=20), requests)
    assert {code for code, _ in answers} == {"FAILED_PRECONDITION"}
    assert "padding is turned off" in answers[0][1]
    padding = Batching(3, timeout=20, pad_variable_length_inputs=True)
    answers, runs = _together(base, padding, requests)
    assert runs == 1
    assert answers[0]["ids"].tolist() == [[5, 6, 7]]
    assert answers[1]["ids"].tolist() == [[8, 8, 8], [9, 8, 8]]
    requests.append(_request({"ids": np.zeros((1, 0), np.int32)}, "padded"))
    padding = Batching(4, timeout=20, pad_variable_length_inputs=True)
    answers, _ = _together(base, padding, requests)
    assert {code for code, _ in answers} == {"INVALID_ARGUMENT"}


def test_one_bad_row_fails_those_that_share_its_batch(base):
    requests = [_request({"x": np.float32([x])}, "positive") for x in (1, -1)]
    answers, _ = _together(base, Batching(2, timeout=20), requests)
    assert [code for code, _ in answers] == ["INVALID_ARGUMENT"] * 2


def test_what_can_never_be_merged_is_refused_alone(base):
    large = _request({"x": np.float32(range(9))}, "single")
    unequal = _request(
        {"x": np.float32([1]), "ids": np.int32([[1], [2]]), "flag": [True]}, "several"
    )
    uneven = _request({"x": np.float32([1])}, "uneven")
    answers, _ = _together(base, Batching(8), [large, unequal, uneven])
    assert answers[0] == (
        "INVALID_ARGUMENT",
        "Task size 9 is larger than maximum input batch size 8",
    )
    assert answers[1][0] == "INVALID_ARGUMENT" and "equal 0th-dimension size" in answers[1][1]
    assert answers[2][0] == "FAILED_PRECONDITION" and "does not equal the sum" in answers[2][1]


def test_a_queue_that_is_full_says_so(base):
    """As UNAVAILABLE: so says the source of the server's scheduler."""
    requests = [_request({"x": np.float32(range(5))}, "single") for _ in range(6)]
    answers, _ = _together(base, Batching(8, timeout=0.3, max_enqueued_batches=1), requests)
    refused = [answer for answer in answers if isinstance(answer, tuple)]
    assert refused and len(refused) < 6
    assert {code for code, _ in refused} == {"UNAVAILABLE"}


def test_it_listens_on_this_machine_alone_and_stops(base):
    with Double(base) as double:
        assert double.rest.startswith("http://127.0.0.1:")
        wire = Wire(double)
        assert wire.rest(PREDICT, {"instances": ["a"]})[0] == 200
    with pytest.raises(urllib.error.URLError):
        wire.rest(PREDICT, {"instances": ["a"]})
    wire.close()
