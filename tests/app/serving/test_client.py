"""Versions on a server, asked by `app.predict --server`, against the answers given here."""

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
from app.serving.session import SavedModelSession
from tasks.core.errors import UserError
from tests.support import toy_models, untrained
from tests.support.fake_server import Batching, Breaking, Double

PROTOCOLS = ("rest", "grpc")
ODD = [b"", b" \t ", b"\xff\xfe dull \xc3", '"好" \\ \x01\u2028'.encode()]
PICTURES = {"translation": "--align", "captioning": "--attend"}
WAYS = [(task, []) for task in tasks.names()] + [("tagging", ["--input", "tokens"])]


@pytest.fixture(scope="module")
def everything(untrained_versions):
    with Double(untrained_versions, tasks.names()) as double:
        yield double


@pytest.fixture
def double(everything):
    """The double of all versions, with its switches as they were."""
    everything.predictions = 0
    yield everything
    everything.delay, everything.failures = 0.0, []
    everything.held.clear()


@pytest.fixture(scope="module")
def served(untrained_versions, here):
    return here(untrained_versions / "sentiment" / "1")


def asked(task, folder):
    """Lines that ask a task for what its sample has, and for what is odd."""
    lines = []
    for at, example in enumerate(untrained.examples(task, 4)):
        values = example.values
        if "image_bytes" in values:
            (folder / f"{at}.png").write_bytes(values["image_bytes"])
            lines.append(os.fsencode(folder / f"{at}.png"))
        elif "tokens" in values:
            lines.append(" ".join(values["tokens"]).encode())
        else:
            lines.append(values["text"].encode())
    if task == "captioning":
        (folder / "broken.png").write_bytes(b"\x89PNG\xff\x00")
        return [*lines, os.fsencode(folder / "broken.png")]
    return [*lines, *ODD]


def told(capsys, argv):
    """What `app.predict` prints."""
    predict.main([*argv])
    return capsys.readouterr().out


def failed(capsys, argv):
    """What `app.predict` says when it ends as what a user can mend."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        cli.run(lambda: predict.main([*argv]))
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("error: ")
    return said.err


def typed(monkeypatch, lines):
    """Has standard input hold lines."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\n".join(lines))))


@pytest.mark.parametrize(("task", "way"), WAYS, ids=lambda way: "".join(way))
def test_a_server_is_answered_for_as_a_version_that_is_here(
    task, way, untrained_versions, here, double, tmp_path, capsys
):
    texts = list(map(os.fsdecode, asked(task, tmp_path)))
    near = ["--saved-models", str(untrained_versions)]
    there = ["--saved-models", str(tmp_path / "nothing")]
    for more in ([], ["--json"]):
        want = told(capsys, [task, *way, *more, *near, "--", *texts])
        assert len(want.splitlines()) >= len(texts)
        for protocol in PROTOCOLS:
            server = ["--server", getattr(double, protocol), "--version", "1", *there]
            assert told(capsys, [task, *way, *more, *server, "--", *texts]) == want


@pytest.mark.parametrize("task", PICTURES)
def test_pictures_are_those_that_are_drawn_here(task, untrained_versions, here, double, tmp_path):
    text = os.fsdecode(asked(task, tmp_path)[0])
    near = ["--saved-models", str(untrained_versions)]
    drawn = []
    for where in (near, ["--server", double.rest], ["--server", double.grpc]):
        file = tmp_path / f"drawn{len(drawn)}.png"
        predict.main([task, text, PICTURES[task], str(file), *where])
        drawn.append(file.read_bytes())
    assert drawn[0].startswith(b"\x89PNG")
    assert drawn[0] == drawn[1] == drawn[2]


def test_rows_are_those_of_a_version_that_is_here(double, untrained_versions, here):
    """Their types too."""
    rows = [{"text": text} for text in (b"dull", "superb \u00e9", b"\xff")]
    near = here(untrained_versions / "translation" / "1")
    for signature in near.signatures:
        want = near.predict(rows, signature)
        for url in (double.rest, double.grpc):
            found = client.connect(url, "translation", retries=0)
            assert set(found.signatures) == set(near.signatures)
            for answer, wanted in zip(found.predict(rows, signature), want, strict=True):
                assert set(answer) == set(wanted)
                for name, value in wanted.items():
                    assert type(answer[name]) is type(value)
                    assert np.asarray(answer[name]).dtype == np.asarray(value).dtype
                    np.testing.assert_array_equal(answer[name], value)
            found.close()


def test_values_of_every_type_come_back(tmp_path):
    """Outputs in base64, one alone and numbers that JSON has no word for among them."""
    here = SavedModelSession(toy_models.published(tmp_path, 1, 0.1))
    asked = {
        "serving_default": [{"text": bytes(range(256))}, {"text": "好"}],
        "several": [
            {"x": x, "ids": ids, "flag": flag}
            for x, ids, flag in [(np.nan, [1, 2], True), (-np.inf, [3], False), (1e-30, [], True)]
        ],
        "single": [{"x": x} for x in (0.1, 3.0, 2.0**24, 1e30)],
        "counted": [{"x": 1.0}] * 5,
    }
    with Double(tmp_path) as double:
        for url in (double.rest, double.grpc):
            found = client.connect(url, "toy", retries=0)
            for signature, rows in asked.items():
                want = here.predict(rows, signature)
                for answer, wanted in zip(found.predict(rows, signature), want, strict=True):
                    if signature == "serving_default" and url == double.rest:
                        # JSON is UTF-8, but for what is in base64.
                        wanted["same"] = wanted["same"].decode("utf-8", "replace").encode()
                    assert set(answer) == set(wanted)
                    for name, value in wanted.items():
                        assert np.asarray(answer[name]).dtype == np.asarray(value).dtype
                        np.testing.assert_array_equal(answer[name], value)
            found.close()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_many_lines_are_answered_in_their_order(protocol, double, served, capsys, monkeypatch):
    lines = [b"the plot is number %d \xff" % at for at in range(100)]
    typed(monkeypatch, lines)
    argv = ["sentiment", "--json", "--server", getattr(double, protocol)]
    given = [json.loads(line) for line in told(capsys, argv).splitlines()]
    assert [row["text"] for row in given] == [line.decode("utf-8", "replace") for line in lines]
    want = served.predict_columns({"text": lines})
    assert [row["label"].encode() for row in given] == list(want["label"])
    np.testing.assert_allclose(
        [row["probabilities"] for row in given], want["probabilities"], atol=1e-5
    )
    assert double.predictions == 4  # none takes more than the server may be set to merge


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_server_that_is_down_is_told(scheme, capsys):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"{scheme}://127.0.0.1:{port}"
    begun = time.monotonic()
    said = failed(capsys, ["sentiment", "dull", "--server", url, "--retries", "1"])
    assert url in said and "is unavailable" in said and "at most 1 (--retries)" in said
    assert 0.1 < time.monotonic() - begun < 10


def test_a_port_of_another_protocol_is_told(double, capsys):
    ports = (f"http://127.0.0.1:{double.grpc_port}", f"grpc://127.0.0.1:{double.rest_port}")
    for url in (*ports, f"https://127.0.0.1:{double.rest_port}"):
        argv = ["sentiment", "dull", "--server", url, "--retries", "0", "--timeout", "5"]
        said = failed(capsys, argv)
        assert url in said and "port is for this protocol" in said


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_not_served_is_told(protocol, double, capsys):
    url = getattr(double, protocol)
    said = failed(capsys, ["sentiment", "dull", "--server", url, "--version", "7"])
    assert f"sentiment version 7 at {url} is not served" in said and "1 (AVAILABLE)" in said
    with pytest.raises(UserError, match="has no model 'nothing': Could not find any versions"):
        client.connect(url, "nothing", retries=3).predict([{"text": "dull"}])
    with pytest.raises(UserError, match=r"has no signature 'align'; it has: serving_default\."):
        client.connect(url, "sentiment", retries=3).predict([{"text": "dull"}], "align")
    with pytest.raises(UserError, match="also requires text"):
        client.connect(url, "sentiment", retries=3).predict([{"image_bytes": b""}])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_model_that_is_loading_is_told_by_its_name(protocol, double, capsys):
    double.held.add("sentiment")
    url = getattr(double, protocol)
    said = failed(capsys, ["sentiment", "dull", "--server", url])
    assert f"sentiment at {url} is still loading; its versions: 1 (LOADING)." in said
    double.held.clear()
    assert told(capsys, ["sentiment", "dull", "--server", url])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_deadline_that_passes_is_told(protocol, double, capsys):
    double.delay = 20
    begun = time.monotonic()
    url = getattr(double, protocol)
    said = failed(capsys, ["sentiment", "dull", "--server", url, "--timeout", "1.5"])
    assert url in said and "--timeout is 1.5 seconds" in said
    assert time.monotonic() - begun < 10
    assert double.predictions == 1


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_server_that_says_nothing_is_told(scheme, capsys):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"
        said = failed(capsys, ["sentiment", "dull", "--server", url, "--timeout", "0.5"])
    assert url in said and "--timeout is 0.5 seconds" in said


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_the_server_refuses_is_told_in_its_words_and_not_tried_again(protocol, double, capsys):
    for code in ("INVALID_ARGUMENT", "INTERNAL"):
        double.predictions, double.failures = 0, [code]
        url = getattr(double, protocol)
        said = failed(capsys, ["sentiment", "dull", "--server", url])
        assert f"rejected the request to sentiment: the double was told to fail ({code})" in said
        assert double.predictions == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_passes_is_waited_for(protocol, double, capsys):
    url = getattr(double, protocol)
    want = told(capsys, ["sentiment", "dull", "--server", url])
    double.predictions, double.failures = 0, ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]
    assert told(capsys, ["sentiment", "dull", "--server", url]) == want
    assert double.predictions == 3
    double.predictions, double.failures = 0, ["UNAVAILABLE"] * 2
    said = failed(capsys, ["sentiment", "dull", "--server", url, "--retries", "1"])
    assert "told to fail (UNAVAILABLE)" in said and double.predictions == 2


def test_waiting_ends_with_the_time(double, monkeypatch):
    """And grows from try to try, differently for each client."""
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    found = client.connect(double.rest, "sentiment", retries=5)
    double.failures = ["UNAVAILABLE"] * 5
    assert found.predict([{"text": b"dull"}])
    assert len(waits) == 5 and len({wait / 2**at for at, wait in enumerate(waits)}) == 5
    for at, wait in enumerate(waits):
        assert 0.5 * 0.25 * 2**at <= wait <= 1.5 * 0.25 * 2**at
    double.failures = ["UNAVAILABLE"] * 5
    hasty = client.connect(double.rest, "sentiment", timeout=0.1, retries=5)
    with pytest.raises(UserError, match="told to fail"):
        hasty.predict([{"text": b"dull"}])
    assert len(waits) == 5


@pytest.mark.parametrize("after", [0, 100, 3000], ids=["at_once", "in_the_first", "in_the_second"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_connection_that_breaks_is_opened_again(protocol, after, double, served):
    rows = [{"text": b"the plot is number %d" % at} for at in range(100)]
    scheme, port = {"rest": ("http", double.rest_port), "grpc": ("grpc", double.grpc_port)}[
        protocol
    ]
    with Breaking(port, after) as relay:
        found = client.connect(f"{scheme}://127.0.0.1:{relay.port}", "sentiment", retries=3)
        given = found.predict(rows)
        found.close()
        assert relay.broken == 1
    want = served.predict(rows)
    assert [row["label"] for row in given] == [row["label"] for row in want]


def test_large_requests_and_answers_pass(double):
    """4 MB are the most that gRPC sends or takes if it is not told otherwise."""
    row = {"tokens": [b"a" * 5 * 2**20], "lengths": 1}
    for url in (double.rest, double.grpc):
        [answer] = client.connect(url, "tagging", retries=0).predict([row], "tokens")
        assert list(answer["tokens"]) == row["tokens"]


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
def test_a_url_of_no_server_is_told_before_anything_is_read(url, message, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", _Unread())
    assert message in failed(capsys, ["sentiment", "--server", url])


class _Unread:
    """A standard input that nobody may read."""

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
    ],
)
def test_numbers_out_of_range_are_told(flag, message, capsys):
    assert message in failed(capsys, ["sentiment", "x", "--server", "http://localhost:1", *flag])


def test_a_path_before_the_interface_is_kept(double):
    """As proxies have it; the double knows none, and says so."""
    found = client.connect(f"{double.rest}/models/", "sentiment", retries=0)
    with pytest.raises(UserError, match="/models has no model"):
        found.predict([{"text": b"dull"}])


def test_sixteen_clients_at_once_lose_nothing(untrained_versions, served):
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
        Double(untrained_versions, ["sentiment"], batching=batching) as double,
        futures.ThreadPoolExecutor(16) as threads,
    ):

        def ask(requests, url):
            own = client.connect(url, "sentiment", timeout=60)
            answers = [own.predict(rows) for rows in requests]
            own.close()
            return answers

        given = list(threads.map(ask, work, itertools.cycle((double.rest, double.grpc))))
        assert double.predictions == 160
        assert double.runs < 160  # so some were merged
    for rows, answers in zip(
        itertools.chain(*work), itertools.chain.from_iterable(given), strict=True
    ):
        for answer, want in zip(answers, served.predict(rows), strict=True):
            assert answer["label"] == want["label"]
            np.testing.assert_allclose(answer["probabilities"], want["probabilities"], atol=1e-5)


def test_a_bar_counts_lines_where_answers_do_not_show(double, capsys, monkeypatch):
    double.delay = 0.7
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    typed(monkeypatch, [b"dull"] * 70)
    predict.main(["sentiment", "--server", double.rest])
    said = capsys.readouterr()
    assert "70 requests" in said.err and len(said.out.splitlines()) == 70
    typed(monkeypatch, [b"dull"] * 70)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    predict.main(["sentiment", "--server", double.rest])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_it_is_a_command_that_needs_no_model_here(protocol, double, tmp_path):
    lines = b"\n".join([b"the plot is dull", b"", b"\xff\xfe"])
    command = [sys.executable, "-m", "app.predict", "sentiment", "--saved-models", str(tmp_path)]
    command += ["--server", getattr(double, protocol)]
    done = subprocess.run(command, input=lines, capture_output=True)
    assert done.returncode == 0 and done.stderr == b""
    assert len(done.stdout.splitlines()) == 3


def test_nothing_of_a_client_is_loaded_without_a_server(untrained_versions):
    script = (
        "import sys; from app import predict\n"
        f"predict.main(['sentiment', 'dull', '--saved-models', {str(untrained_versions)!r}])\n"
        "print([name for name in ('grpc', 'app.serving.client') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
