"""`app.predict --server` against the responses of a local session."""

import io
import itertools
import json
import os
import random
import socket
import subprocess
import sys
import time
from concurrent import futures

import numpy as np
import pytest

import tasks
from app import cli, predict
from app.serving import client
from app.serving.bounded_http import Connection
from app.serving.session import SavedModelSession
from tasks.core.errors import UserError
from tests.support import toy_models, untrained
from tests.support.cells import slow_except
from tests.support.fake_server import Batching, BreakingProxy, FakeServer

PROTOCOLS = ("rest", "grpc")
ODD = [b"", b" \t ", b"\xff\xfe dull \xc3", '"好" \\ \x01\u2028'.encode()]
FIGURES = {"translation": "--align", "captioning": "--attend"}
INPUTS = [(task, []) for task in tasks.names()] + [("tagging", ["--input", "tokens"])]


@pytest.fixture(scope="module")
def running(untrained_versions):
    with FakeServer(untrained_versions, tasks.names()) as server:
        yield server


@pytest.fixture
def server(running):
    """A server with every task, whose faults are reset after each test."""
    running.predictions = 0
    yield running
    running.delay, running.failures = 0.0, []
    running.loading.clear()


@pytest.fixture(scope="module")
def served(untrained_versions, here):
    return here(untrained_versions / "sentiment" / "1")


def request_lines(task, folder):
    """Requests of a task: examples of its sample, and unusual input."""
    lines = []
    for number, example in enumerate(untrained.examples(task, 4)):
        values = example.values
        if "image_bytes" in values:
            (folder / f"{number}.png").write_bytes(values["image_bytes"])
            lines.append(os.fsencode(folder / f"{number}.png"))
        elif "tokens" in values:
            lines.append(" ".join(values["tokens"]).encode())
        else:
            lines.append(values["text"].encode())
    if task == "captioning":
        (folder / "broken.png").write_bytes(b"\x89PNG\xff\x00")
        return [*lines, os.fsencode(folder / "broken.png")]
    return [*lines, *ODD]


def output_of(capsys, argv):
    """The output of `app.predict`, and what it says of requests that it cannot answer."""
    unanswered = ""
    try:
        predict.main([*argv])
    except UserError as error:
        unanswered = f"{error}\n"
        assert "requests failed" in unanswered
    return capsys.readouterr().out + unanswered


def error_of(capsys, argv):
    """The error message of `app.predict`, which must end with exit code 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_info:
        cli.run(lambda: predict.main([*argv]))
    assert exit_info.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ")
    return captured.err


def set_stdin(monkeypatch, lines):
    """Replaces standard input by lines."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\n".join(lines))))


@pytest.mark.parametrize(("task", "flags"), INPUTS, ids=lambda part: "".join(part))
def test_a_server_gives_the_responses_of_a_local_version(
    task, flags, untrained_versions, here, server, tmp_path, capsys
):
    texts = list(map(os.fsdecode, request_lines(task, tmp_path)))
    local = ["--saved-models", str(untrained_versions)]
    missing = ["--saved-models", str(tmp_path / "nothing")]
    for more in ([], ["--json"]):
        expected = output_of(capsys, [task, *flags, *more, *local, "--", *texts])
        assert len(expected.splitlines()) >= len(texts)
        for protocol in PROTOCOLS:
            remote = ["--server", getattr(server, protocol), "--version", "1", *missing]
            argv = [task, *flags, *more, *remote, "--", *texts]
            assert output_of(capsys, argv) == expected


@pytest.mark.parametrize("task", FIGURES)
def test_a_figure_is_the_same_as_with_a_local_version(
    task, untrained_versions, here, server, tmp_path
):
    text = os.fsdecode(request_lines(task, tmp_path)[0])
    local = ["--saved-models", str(untrained_versions)]
    drawn = []
    for where in (local, ["--server", server.rest], ["--server", server.grpc]):
        file = tmp_path / f"drawn{len(drawn)}.png"
        predict.main([task, text, FIGURES[task], str(file), *where])
        drawn.append(file.read_bytes())
    assert drawn[0].startswith(b"\x89PNG")
    assert drawn[0] == drawn[1] == drawn[2]


@pytest.mark.parametrize(
    "more", slow_except([["--json"]], [[], ["--json"], ["--format", "brat"]]), ids="".join
)
def test_a_server_gives_the_entities_of_a_local_version(more, tmp_path, untrained_copy, capsys):
    untrained_copy("tagging", tmp_path, data="sample:entities")
    texts = ["In Velmouth Anna met\r\nBo \U0001f468\u200d\U0001f469 e\u0301!", "", "a"]
    argv = ["tagging", "--entities", *more]
    expected = output_of(capsys, [*argv, "--saved-models", str(tmp_path), "--", *texts])
    assert len(expected.splitlines()) >= len(texts)
    with FakeServer(tmp_path, ["tagging"]) as server:
        for protocol in PROTOCOLS:
            remote = ["--server", getattr(server, protocol), "--"]
            assert output_of(capsys, [*argv, *remote, *texts]) == expected


def test_rows_have_the_values_and_types_of_a_local_version(server, untrained_versions, here):
    rows = [{"text": text} for text in (b"dull", "superb \u00e9", b"\xff")]
    local = here(untrained_versions / "translation" / "1")
    for signature in local.signatures:
        expected = local.predict(rows, signature)
        for url in (server.rest, server.grpc):
            remote = client.connect(url, "translation", retries=0)
            assert set(remote.signatures) == set(local.signatures)
            for row, expected_row in zip(remote.predict(rows, signature), expected, strict=True):
                assert set(row) == set(expected_row)
                for name, value in expected_row.items():
                    assert type(row[name]) is type(value)
                    assert np.asarray(row[name]).dtype == np.asarray(value).dtype
                    np.testing.assert_array_equal(row[name], value)
            remote.close()


def test_values_of_every_type_come_back(tmp_path):
    """Among them: base64, a single output, and numbers that JSON cannot express."""
    local = SavedModelSession(toy_models.published(tmp_path, 1, 0.1))
    requests = {
        "serving_default": [{"text": bytes(range(256))}, {"text": "好"}],
        "several": [
            {"x": x, "ids": ids, "flag": flag}
            for x, ids, flag in [(np.nan, [1, 2], True), (-np.inf, [3], False), (1e-30, [], True)]
        ],
        "single": [{"x": x} for x in (0.1, 3.0, 2.0**24, 1e30)],
        "counted": [{"x": 1.0}] * 5,
    }
    with FakeServer(tmp_path) as server:
        for url in (server.rest, server.grpc):
            remote = client.connect(url, "toy", retries=0)
            for signature, rows in requests.items():
                expected = local.predict(rows, signature)
                for row, expected_row in zip(
                    remote.predict(rows, signature), expected, strict=True
                ):
                    if signature == "serving_default" and url == server.rest:
                        # JSON is UTF-8, except for base64.
                        expected_row["same"] = (
                            expected_row["same"].decode("utf-8", "replace").encode()
                        )
                    assert set(row) == set(expected_row)
                    for name, value in expected_row.items():
                        assert np.asarray(row[name]).dtype == np.asarray(value).dtype
                        np.testing.assert_array_equal(row[name], value)
            remote.close()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_many_lines_get_responses_in_order(protocol, server, served, capsys, monkeypatch):
    lines = [b"the plot is number %d \xff" % number for number in range(100)]
    set_stdin(monkeypatch, lines)
    argv = ["sentiment", "--json", "--server", getattr(server, protocol)]
    rows = [json.loads(line) for line in output_of(capsys, argv).splitlines()]
    assert [row["text"] for row in rows] == [line.decode("utf-8", "replace") for line in lines]
    expected = served.predict_columns({"text": lines})
    assert [row["label"].encode() for row in rows] == list(expected["label"])
    labels = [label.decode() for label in expected["labels"][0]]
    assert all(list(row["probabilities"]) == labels for row in rows)
    np.testing.assert_allclose(
        [list(row["probabilities"].values()) for row in rows], expected["probabilities"], atol=1e-5
    )
    assert server.predictions == 4  # no request exceeds the largest batch that a server merges


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_server_that_is_down_is_reported(scheme, capsys):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"{scheme}://127.0.0.1:{port}"
    start = time.monotonic()
    error = error_of(capsys, ["sentiment", "dull", "--server", url, "--retries", "1"])
    assert url in error and "is unavailable" in error and "at most 1 (--retries)" in error
    assert 0.1 < time.monotonic() - start < 10


def test_a_port_of_another_protocol_is_reported(server, capsys):
    ports = (f"http://127.0.0.1:{server.grpc_port}", f"grpc://127.0.0.1:{server.rest_port}")
    for url in (*ports, f"https://127.0.0.1:{server.rest_port}"):
        argv = ["sentiment", "dull", "--server", url, "--retries", "0", "--timeout", "5"]
        error = error_of(capsys, argv)
        assert url in error and "port is for this protocol" in error


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_missing_version_model_signature_or_input_is_reported(protocol, server, capsys):
    url = getattr(server, protocol)
    error = error_of(capsys, ["sentiment", "dull", "--server", url, "--version", "7"])
    assert f"sentiment version 7 at {url} is not served" in error and "1 (AVAILABLE)" in error
    with pytest.raises(UserError, match="has no model 'nothing': Could not find any versions"):
        client.connect(url, "nothing", retries=3).predict([{"text": "dull"}])
    with pytest.raises(UserError, match=r"has no signature 'align'; it has: serving_default\."):
        client.connect(url, "sentiment", retries=3).predict([{"text": "dull"}], "align")
    with pytest.raises(UserError, match="also requires text"):
        client.connect(url, "sentiment", retries=3).predict([{"image_bytes": b""}])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_model_that_is_loading_is_reported(protocol, server, capsys):
    server.loading.add("sentiment")
    url = getattr(server, protocol)
    error = error_of(capsys, ["sentiment", "dull", "--server", url])
    assert f"sentiment at {url} is still loading; its versions: 1 (LOADING)." in error
    server.loading.clear()
    assert output_of(capsys, ["sentiment", "dull", "--server", url])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_timeout_is_reported(protocol, server, capsys):
    server.delay = 20
    start = time.monotonic()
    url = getattr(server, protocol)
    error = error_of(capsys, ["sentiment", "dull", "--server", url, "--timeout", "1.5"])
    assert url in error and "--timeout is 1.5 seconds" in error
    assert time.monotonic() - start < 10
    assert server.predictions == 1


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_silent_server_is_reported(scheme, capsys):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"
        error = error_of(capsys, ["sentiment", "dull", "--server", url, "--timeout", "0.5"])
    assert url in error and "--timeout is 0.5 seconds" in error


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_rejected_request_is_reported_with_the_message_of_the_server_and_not_retried(
    protocol, server, capsys
):
    for code in ("INVALID_ARGUMENT", "INTERNAL"):
        server.predictions, server.failures = 0, [code]
        url = getattr(server, protocol)
        error = error_of(capsys, ["sentiment", "dull", "--server", url])
        assert (
            f"rejected the request to sentiment: the fake server is set to fail ({code})" in error
        )
        assert server.predictions == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_temporary_failure_is_retried(protocol, server, capsys):
    url = getattr(server, protocol)
    expected = output_of(capsys, ["sentiment", "dull", "--server", url])
    server.predictions, server.failures = 0, ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]
    assert output_of(capsys, ["sentiment", "dull", "--server", url]) == expected
    assert server.predictions == 3
    server.predictions, server.failures = 0, ["UNAVAILABLE"] * 2
    error = error_of(capsys, ["sentiment", "dull", "--server", url, "--retries", "1"])
    assert "set to fail (UNAVAILABLE)" in error and server.predictions == 2


def test_waits_grow_with_jitter_and_end_with_the_timeout(server, monkeypatch):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    remote = client.connect(server.rest, "sentiment", retries=5)
    server.failures = ["UNAVAILABLE"] * 5
    assert remote.predict([{"text": b"dull"}])
    assert len(waits) == 5 and len({wait / 2**retry for retry, wait in enumerate(waits)}) == 5
    for retry, wait in enumerate(waits):
        assert 0.5 * 0.25 * 2**retry <= wait <= 1.5 * 0.25 * 2**retry
    short = client.connect(server.rest, "sentiment", timeout=0.1, retries=5)
    assert short.signatures
    server.failures = ["UNAVAILABLE"] * 5
    with pytest.raises(UserError, match="set to fail"):
        short.predict([{"text": b"dull"}])
    assert len(waits) == 5


@pytest.mark.parametrize("after", [0, 100, 3000], ids=["at_once", "in_the_first", "in_the_second"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_broken_connection_is_reopened(protocol, after, server, served):
    rows = [{"text": b"the plot is number %d" % number} for number in range(100)]
    scheme, port = {"rest": ("http", server.rest_port), "grpc": ("grpc", server.grpc_port)}[
        protocol
    ]
    with BreakingProxy(port, after) as proxy:
        remote = client.connect(f"{scheme}://127.0.0.1:{proxy.port}", "sentiment", retries=3)
        responses = remote.predict(rows)
        remote.close()
        assert proxy.broken == 1
    expected = served.predict(rows)
    assert [row["label"] for row in responses] == [row["label"] for row in expected]


def test_large_requests_and_responses_pass(server):
    """The default limit of gRPC is 4 MB."""
    row = {"tokens": [b"a" * 5 * 2**20], "lengths": 1}
    for url in (server.rest, server.grpc):
        [response] = client.connect(url, "tagging", retries=0).predict([row], "tokens")
        assert list(response["tokens"]) == row["tokens"]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost:8501", "must be http://HOST:PORT"),
        ("ftp://localhost:8501", "must be http://HOST:PORT"),
        ("http://", "must be http://HOST:PORT"),
        ("http://localhost:port", "must be http://HOST:PORT"),
        ("http://localhost:99999", "out of range"),
        ("grpc://localhost", "gRPC requires a port"),
        ("grpc://localhost:8500/v1", "has no path"),
        ("http://me:secret@localhost:8501", "without a user"),
        ("http://localhost:8501?x=1", "a query"),
    ],
)
def test_an_invalid_url_is_reported_before_any_input_is_read(url, message, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", _UnreadableStdin())
    assert message in error_of(capsys, ["sentiment", "--server", url])


class _UnreadableStdin:
    """A standard input that must not be read."""

    def isatty(self):
        return False

    @property
    def buffer(self):
        raise AssertionError("standard input was read")


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        (["--timeout", "0"], "--timeout must be above 0"),
        (["--retries", "-1"], "--retries must be at least 0, got -1"),
        (["--max-response", "0"], "--max-response must be at least 1 and at most 1024 MiB, got 0"),
    ],
)
def test_numbers_out_of_range_are_rejected(flag, message, capsys):
    assert message in error_of(capsys, ["sentiment", "x", "--server", "http://localhost:1", *flag])


def test_a_path_prefix_is_kept(server):
    """Proxies use prefixes; the fake server has none, so it reports the path."""
    remote = client.connect(f"{server.rest}/models/", "sentiment", retries=0)
    with pytest.raises(UserError, match="/models has no model"):
        remote.predict([{"text": b"dull"}])


def test_sixteen_concurrent_clients_get_their_own_responses(untrained_versions, served):
    draw = random.Random(5)
    words = ["the", "plot", "is", "far", "from", "dull", ",", "superb", "and", "not", "cold"]
    work = [
        [
            [{"text": " ".join(draw.choices(words, k=draw.randint(0, 9)))} for _ in range(size)]
            for size in draw.choices(range(1, 6), k=10)
        ]
        for _ in range(16)
    ]
    batching = Batching(max_batch_size=16, timeout=0.005, allowed_batch_sizes=(4, 8, 16))
    with (
        FakeServer(untrained_versions, ["sentiment"], batching=batching) as server,
        futures.ThreadPoolExecutor(16) as threads,
    ):

        def predict_all(requests, url):
            remote = client.connect(url, "sentiment", timeout=60)
            responses = [remote.predict(rows) for rows in requests]
            remote.close()
            return responses

        predicted = list(
            threads.map(predict_all, work, itertools.cycle((server.rest, server.grpc)))
        )
        assert server.predictions == 160
        assert server.runs < 160  # some requests were merged
    for rows, responses in zip(
        itertools.chain(*work), itertools.chain.from_iterable(predicted), strict=True
    ):
        for response, expected in zip(responses, served.predict(rows), strict=True):
            assert response["label"] == expected["label"]
            np.testing.assert_allclose(
                response["probabilities"], expected["probabilities"], atol=1e-5
            )


def test_a_progress_bar_is_shown_if_the_output_is_redirected(server, capsys, monkeypatch):
    server.delay = 0.7
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    set_stdin(monkeypatch, [b"dull"] * 70)
    predict.main(["sentiment", "--server", server.rest])
    captured = capsys.readouterr()
    assert "70 requests" in captured.err and len(captured.out.splitlines()) == 70
    set_stdin(monkeypatch, [b"dull"] * 70)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    predict.main(["sentiment", "--server", server.rest])
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_what_may_be_typed(server, capsys, monkeypatch):
    set_stdin(monkeypatch, [b"dull", b"warm"])
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    predict.main(["sentiment", "--server", server.rest])
    captured = capsys.readouterr()
    assert captured.err.startswith("A text per line; the response is its label")
    assert captured.err.endswith("ends.\n") and len(captured.out.splitlines()) == 2


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_command_needs_no_local_model(protocol, server, tmp_path):
    lines = b"\n".join([b"the plot is dull", b"", b"\xff\xfe"])
    command = [sys.executable, "-m", "app.predict", "sentiment", "--saved-models", str(tmp_path)]
    command += ["--server", getattr(server, protocol)]
    process = subprocess.run(command, input=lines, capture_output=True)
    assert process.returncode == 0 and process.stderr == b""
    assert len(process.stdout.splitlines()) == 3


def test_the_client_is_not_imported_without_a_server(untrained_versions):
    script = (
        "import sys; from app import predict\n"
        f"predict.main(['sentiment', 'dull', '--saved-models', {str(untrained_versions)!r}])\n"
        "print([name for name in ('grpc', 'app.serving.client') if name in sys.modules])"
    )
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert process.stdout.splitlines()[-1] == "[]", process.stderr


def test_the_former_flag_for_retries_still_works(server, capsys):
    server.failures = ["UNAVAILABLE"] * 2
    with pytest.raises(SystemExit):
        cli.run(lambda: predict.main(["sentiment", "x", "--server", server.rest, "--tries", "2"]))
    error = capsys.readouterr().err
    assert "use --retries 1" in error and "at most 1 (--retries)" in error
    assert server.predictions == 2


@pytest.mark.parametrize(
    ("host", "port", "tls", "expected"),
    [
        ("::1", None, False, ("::1", 80)),
        ("2001:db8::5", None, True, ("2001:db8::5", 443)),
        ("fd00::12ab", 8501, True, ("fd00::12ab", 8501)),
        ("localhost", None, False, ("localhost", 80)),
    ],
)
def test_the_end_of_an_address_is_not_taken_for_a_port(host, port, tls, expected):
    connection = Connection(host, port, tls, max_bytes=1)
    assert (connection.host, connection.port) == expected
