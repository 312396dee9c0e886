"""The page's server: its routes, its bounds, and hostile input."""

import base64
import http.client
import json
import math
import re
import shlex
import shutil
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from app import demo
from app.serving.demo import api, catalogue, curl, http_server
from app.serving.session import SavedModelSession
from tasks.core.errors import UserError
from tests.support.fake_server import FakeServer

PAGE = Path(http_server.__file__).parent / "page"
SECRET = "xyzzy-7391"
TEXT = f"a dull film {SECRET}"


@pytest.fixture(scope="module")
def saved_models(tmp_path_factory, untrained_copy):
    folder = tmp_path_factory.mktemp("demo")
    for task in ("sentiment", "tagging"):
        untrained_copy(task, folder)
    return folder


@pytest.fixture(scope="module")
def models(saved_models):
    return catalogue.local(saved_models, [])


class Running:
    """A server of the page in a thread, and what a browser sends to it."""

    def __init__(self, models, **options):
        self.server = http_server.DemoServer(models, **options)
        self.port = self.server.server_address[1]
        self._thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def send(self, method, path, body=None, headers=None):
        """Returns the status, the headers and the body of the response."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response.status, response.headers, content

    def post(self, path, request, **headers):
        body = request if isinstance(request, bytes) else json.dumps(request).encode()
        headers = {"Content-Type": "application/json"} | headers
        status, _, content = self.send("POST", path, body, headers)
        return status, json.loads(content)

    def raw(self, data):
        """Returns what the server sends after bytes that may not be HTTP."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            pieces = []
            while piece := connection.recv(2**16):
                pieces.append(piece)
        return b"".join(pieces)


@pytest.fixture(scope="module")
def running(models):
    rate = http_server.RateLimit(10_000, 1000)
    with Running(models, rate=rate) as running:
        yield running


def request(**changes):
    return {
        "model": "sentiment",
        "signature": "serving_default",
        "rows": [{"text": TEXT}],
    } | changes


# --- The page ----------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(http_server._files()))
def test_every_file_of_the_page_is_sent_with_a_strict_policy(path, running):
    status, headers, content = running.send("GET", f"/{path}")
    assert status == 200 and content == (PAGE / path).read_bytes()
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"


def test_the_page_needs_no_other_server_and_makes_no_html_of_texts():
    files = http_server._files()
    assert {"index.html", "page.css", "page.js"} <= files.keys()
    for name, content in files.items():
        text = content.decode("utf-8")
        assert not re.search(r"https?://", text), name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", text), (
            name
        )
    assert not re.search(rb"<style| style=", files["index.html"])


def test_the_first_path_is_the_page(running):
    assert running.send("GET", "/")[2] == (PAGE / "index.html").read_bytes()
    assert running.send("GET", "/?utm=1")[0] == 200


@pytest.mark.parametrize(
    "path", ["/api.py", "/../api.py", "/%2e%2e/api.py", "/views/", "//etc/passwd", "/api/predict"]
)
def test_nothing_else_is_sent(path, running):
    assert running.send("GET", path)[0] == 404


def test_the_description_names_models_signatures_cells_and_views(running, saved_models):
    status, _, content = running.send("GET", "/api/models")
    described = json.loads(content)
    assert status == 200
    by_name = {model["name"]: model for model in described["models"]}
    assert list(by_name) == ["sentiment", "tagging"]
    sentiment = by_name["sentiment"]
    assert sentiment["version"] == 1 and sentiment["mayInspect"]
    assert sentiment["cell"]["equations"][-1] == "h' = output * tanh(c')"
    assert sentiment["signatures"]["serving_default"]["inputs"]["text"]["dtype"] == "string"
    assert all(isinstance(example["text"], str) for example in sentiment["examples"])
    assert set(by_name["tagging"]["signatures"]) >= {"serving_default", "tokens"}
    views = [path.relative_to(PAGE).as_posix() for path in PAGE.glob("views/*.js")]
    assert sorted(described["views"]) == sorted(views)


# --- Requests ----------------------------------------------------------------


def test_a_prediction_is_that_of_the_version(running, saved_models):
    status, answer = running.post("/api/predict", request(rows=[{"text": TEXT}, {"text": ""}]))
    assert status == 200 and answer["version"] == 1 and answer["milliseconds"] >= 0
    session = SavedModelSession(saved_models / "sentiment" / "1")
    expected = session.predict([{"text": TEXT}, {"text": ""}])
    for row, one in zip(answer["rows"], expected, strict=True):
        assert row["label"] == one["label"].decode()
        assert row["probabilities"] == pytest.approx(one["probabilities"].tolist(), abs=1e-6)


def test_lists_and_numbers_are_sent_to_signatures_that_take_them(running):
    row = {"tokens": ["the", "old", "man"], "lengths": 2}
    answer = running.post("/api/predict", request(model="tagging", signature="tokens", rows=[row]))
    assert answer[0] == 200 and answer[1]["rows"][0]["tokens"] == ["the", "old"]


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_curl_line_is_the_same_request(running, saved_models, tmp_path):
    texts = ['it\'s "dull" $(exit 3) `x` \\ !', "@/etc/passwd", "straße 東京 \n"]
    with FakeServer(saved_models, ["sentiment"]) as server:
        for text in texts:
            _, answer = running.post("/api/predict", request(rows=[{"text": text}]))
            line = answer["curl"].replace(":8501", f":{server.rest_port}")
            done = subprocess.run(
                ["bash", "-c", f"{line} -s --noproxy '*'"], capture_output=True, timeout=60
            )
            (row,) = json.loads(done.stdout)["predictions"]
            assert row["probability"] == pytest.approx(answer["rows"][0]["probability"], abs=1e-5)


@pytest.mark.skipif(not shutil.which("base64"), reason="base64 is not installed")
def test_the_curl_line_of_an_image_reads_a_file(tmp_path):
    line = curl.line(curl.DEFAULT_URL, "captioning", 3, "attend", {"image_bytes": b"\x00image"})
    (tmp_path / "photo.jpg").write_bytes(b"\xffphoto")
    script = f"curl() {{ cat; }}; {line}"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, check=True)
    body = json.loads(done.stdout)
    assert body["signature_name"] == "attend"
    (row,) = body["instances"]
    assert base64.b64decode(row["image_bytes"]["b64"]) == b"\xffphoto"
    assert shlex.split(line)[3].endswith("/v1/models/captioning/versions/3:predict")


def test_an_inspection_has_gates_over_the_words(running):
    status, found = running.post("/api/inspect", {"model": "sentiment", "row": {"text": TEXT}})
    assert status == 200
    (reading, *_) = found["readings"]
    assert reading["steps"][:3] == ["a", "dull", "film"]
    titles = {content["title"]: content for content in reading["maps"]}
    assert {"forget gate", "candidate", "cell state c", "output h"} <= titles.keys()
    forget = titles["forget gate"]
    assert forget["isGate"] and not titles["candidate"]["isGate"]
    assert len(forget["values"]) == len(reading["steps"]) == len(forget["mean"])
    assert len(forget["values"][0]) == len(forget["units"]) == forget["of"] == 8
    assert all(0 <= value <= 1 for step in forget["values"] for value in step)
    saliency = found["saliency"]
    assert saliency["source"] == reading["steps"]
    assert saliency["quantity"] == "log-probability"
    assert max(abs(weight) for weight in saliency["weights"][0]) == pytest.approx(1)


def test_what_cannot_be_inspected_is_reported(running):
    status, answer = running.post("/api/inspect", {"model": "sentiment", "row": {"text": " "}})
    assert (status, answer["error"]) == (400, "nothing to inspect: the text contains no words.")


# --- Hostile input -----------------------------------------------------------

INVALID = {
    "not JSON": b"{",
    "not UTF-8": b"\xff\xfe{",
    "deep JSON": b"[" * 100_000,
    "a list": [],
    "no model": {},
    "another model": request(model="../tagging"),
    "a model that is a list": request(model=["sentiment"]),
    "another signature": request(signature="__saved_model_init_op"),
    "no rows": request(rows=[]),
    "rows that are no list": request(rows={"text": TEXT}),
    "too many rows": request(rows=[{"text": "a"}] * (api.MAX_ROWS + 1)),
    "a row without an input": request(rows=[{}]),
    "a row with another input": request(rows=[{"text": "a", "tags": "b"}]),
    "a number for a text": request(rows=[{"text": 3}]),
    "nothing for a text": request(rows=[{"text": None}]),
    "invalid base64": request(rows=[{"text": {"b64": "%"}}]),
    "a text for a list": request(
        model="tagging", signature="tokens", rows=[{"tokens": "a", "lengths": 1}]
    ),
    "a list that is too long": request(
        model="tagging", signature="tokens", rows=[{"tokens": ["a"] * 5000, "lengths": 1}]
    ),
    "a fraction for an integer": request(
        model="tagging", signature="tokens", rows=[{"tokens": ["a"], "lengths": 1.5}]
    ),
    "an integer out of range": request(
        model="tagging", signature="tokens", rows=[{"tokens": ["a"], "lengths": 2**40}]
    ),
    "true for a number": request(
        model="tagging", signature="tokens", rows=[{"tokens": ["a"], "lengths": True}]
    ),
}


@pytest.mark.parametrize("body", INVALID.values(), ids=INVALID)
def test_an_invalid_request_is_rejected_in_one_sentence(body, running):
    status, answer = running.post("/api/predict", body)
    assert status == 400 and answer.keys() == {"error"}
    assert answer["error"].endswith(".") and len(answer["error"]) < 400


def test_texts_of_any_characters_have_a_response(running):
    texts = ["", "\0", "\ud800", "<script>alert(1)</script>", "\u202e", "a" * 100_000]
    status, answer = running.post("/api/predict", request(rows=[{"text": t} for t in texts]))
    assert status == 200 and len(answer["rows"]) == len(texts)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "[::1"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_requests_of_other_pages_are_rejected(headers, status, running):
    assert running.post("/api/predict", request(), **headers)[0] == status


def test_a_request_of_the_page_itself_is_accepted(running):
    host = f"localhost:{running.port}"
    headers = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    assert running.post("/api/predict", request(), **headers)[0] == 200


def test_a_page_of_another_host_name_is_not_sent(running):
    for path in ("/", "/api/models"):
        assert running.send("GET", path, headers={"Host": "evil.example"})[0] == 403


def test_a_request_that_is_too_large_is_rejected(running):
    body = b" " * (http_server.MAX_BODY + 1)
    status, answer = running.post("/api/predict", body)
    assert status == 413 and "MiB" in answer["error"]


HEAD = b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"garbage\r\n\r\n", b" 400 "),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", b" 400 "),
        (b"GET / HTTP/9.9\r\n\r\n", b" 505 "),
        (b"BREW / HTTP/1.1\r\nHost: localhost\r\n\r\n", b" 501 "),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", b" 414 "),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", b" 431 "),
        (HEAD + b"\r\n{}", b" 411 "),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", b" 411 "),
        (HEAD + b"Content-Length: -1\r\n\r\n", b" 411 "),
        (HEAD + b"Content-Length: 99999999999999999999\r\n\r\n", b" 413 "),
        (HEAD + b"Content-Length: 10\r\n\r\n{}", b" 400 "),
    ],
)
def test_what_is_not_a_request_has_an_error(data, status, running):
    first = running.raw(data).split(b"\r\n")[0]
    assert status in first + b" "


def test_a_client_that_sends_nothing_delays_nobody(running):
    with socket.create_connection(("127.0.0.1", running.port)):
        assert running.send("GET", "/")[0] == 200


def test_connections_and_slow_requests_are_limited(models, monkeypatch):
    monkeypatch.setattr(http_server, "_MAX_CONNECTIONS", 2)
    monkeypatch.setattr(http_server, "_SECONDS", 0.5)
    with Running(models) as running:
        slow = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(2)]
        for connection in slow:
            connection.sendall(b"GET / HTTP/1.1\r\n")
        with pytest.raises((OSError, http.client.HTTPException)):
            running.send("GET", "/")  # a third one
        for connection in slow:
            connection.settimeout(30)
            assert connection.recv(1) == b""  # the deadline has passed
            connection.close()
        assert running.send("GET", "/")[0] == 200


def test_the_rate_of_an_address_is_limited():
    now = [0.0]
    limit = http_server.RateLimit(burst=2, per_second=0.5, clock=lambda: now[0])
    assert [limit.wait("a"), limit.wait("a")] == [0, 0]
    assert limit.wait("a") == pytest.approx(2.0)
    assert limit.wait("b") == 0
    now[0] = 1.0
    assert limit.wait("a") == pytest.approx(1.0)
    now[0] = 2.1
    assert limit.wait("a") == 0
    for number in range(3000):
        limit.wait(str(number))
    assert len(limit._buckets) <= 1024


def test_too_many_requests_are_told_when_to_come_again(models):
    with Running(models, rate=http_server.RateLimit(1, 0.1)) as running:
        assert running.post("/api/predict", request())[0] == 200
        body, headers = json.dumps(request()), {"Content-Type": "application/json"}
        status, headers, _ = running.send("POST", "/api/predict", body, headers)
        assert status == 429 and 1 <= int(headers["Retry-After"]) <= 11
        assert running.send("GET", "/")[0] == 200  # the page itself is always there


def test_nothing_typed_is_printed_even_if_a_model_fails(saved_models, monkeypatch, capfd):
    models = catalogue.local(saved_models, ["sentiment"])
    with Running(models) as running:
        assert running.post("/api/predict", request())[0] == 200

        def fail(rows, signature):
            raise RuntimeError(str(rows))

        monkeypatch.setattr(models[0], "predict", fail)
        status, answer = running.post("/api/predict", request())
        assert (status, answer["error"]) == (500, "The model failed.")
        running.raw(SECRET.encode() + b"\r\n\r\n")
    out, err = capfd.readouterr()
    assert SECRET not in out + err
    assert "error in a request: RuntimeError" in err


def test_numbers_that_json_lacks_become_null():
    assert api._finite({"a": [math.nan, 1.0], "b": (math.inf,)}) == {"a": [None, 1.0], "b": [None]}


def test_a_busy_model_asks_to_try_again(saved_models, monkeypatch):
    monkeypatch.setattr(catalogue, "_PATIENCE", 0.05)
    models = catalogue.local(saved_models, ["sentiment"])
    with Running(models) as running, models[0]._lock:
        status, answer = running.post("/api/predict", request())
    assert status == 503 and "busy" in answer["error"]


# --- Models on a server, and other models ------------------------------------


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_models_on_a_server_are_shown_without_their_gates(scheme, running, saved_models):
    with FakeServer(saved_models, ["sentiment"]) as server:
        port = server.rest_port if scheme == "http" else server.grpc_port
        models = catalogue.served(f"{scheme}://localhost:{port}", [], 30.0)
        assert [model.name for model in models] == ["sentiment"]
        with Running(models) as remote:
            (described,) = json.loads(remote.send("GET", "/api/models")[2])["models"]
            assert not described["mayInspect"] and described["cell"] is None
            status, answer = remote.post("/api/predict", request())
            _, local = running.post("/api/predict", request())
            assert status == 200 and answer["version"] is None
            assert answer["rows"][0]["label"] == local["rows"][0]["label"]
            assert "/v1/models/sentiment:predict" in answer["curl"]
            inspected = remote.post("/api/inspect", {"model": "sentiment", "row": {"text": "a"}})
            assert inspected[0] == 400
    with pytest.raises(UserError):
        catalogue.served(f"{scheme}://localhost:{port}", ["sentiment"], 2.0)


def test_a_server_that_is_gone_is_reported(saved_models):
    with FakeServer(saved_models, ["sentiment"]) as server:
        models = catalogue.served(f"http://localhost:{server.rest_port}", ["sentiment"], 5.0)
    with Running(models) as remote:
        status, answer = remote.post("/api/predict", request())
    assert status == 502 and "unavailable" in answer["error"]


def test_a_model_that_is_no_task_is_shown(saved_models, tmp_path):
    shutil.copytree(saved_models / "sentiment", tmp_path / "reviews")
    (model,) = catalogue.local(tmp_path, [])
    assert model.name == "reviews" and not model.may_inspect
    assert model.cell.equations and catalogue.examples(model) == []
    with Running([model]) as running:
        assert running.post("/api/predict", request(model="reviews"))[0] == 200


def test_examples_are_requests_to_the_model(running):
    described = json.loads(running.send("GET", "/api/models")[2])["models"]
    for model in described:
        body = request(model=model["name"], rows=model["examples"])
        status, _ = running.post("/api/predict", body)
        assert status == 200 and len(model["examples"]) == 3


# --- The command -------------------------------------------------------------


@pytest.fixture
def served(monkeypatch):
    """Has the command return instead of serving."""
    monkeypatch.setattr(http_server.DemoServer, "serve_forever", lambda self: None)


def test_the_command_prints_where_the_page_is(served, saved_models, capsys):
    demo.main(["tagging", "--saved-models", str(saved_models)])
    out, err = capsys.readouterr()
    assert "models: tagging\n" in out
    assert re.search(r"page: http://127\.0\.0\.1:\d+/", out) and "warning" not in err


def test_another_host_is_warned_about(served, saved_models, capsys):
    demo.main(["sentiment", "--saved-models", str(saved_models), "--host", "0.0.0.0"])
    assert "without a password" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["poetry"], "poetry holds no version"),
        (["--port", "70000"], "--port must be from 0 to 65535, got 70000."),
        (["--host", "192.0.2.1"], "--host and --port must be an address that is free"),
        (["--server", "ftp://a"], "--server must be http"),
    ],
)
def test_flags_are_checked(flags, message, served, saved_models):
    with pytest.raises(UserError, match=re.escape(message)):
        demo.main(["--saved-models", str(saved_models), *flags])


def test_a_port_that_is_taken_is_reported(served, saved_models):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with pytest.raises(UserError, match="must be an address that is free"):
            demo.main(["--saved-models", str(saved_models), "--port", port])
