"""Streams of a local version and of a server, in Python and by `app.predict --stream`."""

import contextlib
import functools
import io
import json
import random
import sys
import types

import numpy as np
import pytest

from app import cli, predict
from app.serving import client, warmup
from app.serving.streaming import PredictionStream, pieces_of_lines
from benchmarks import stream_clients
from tasks.core.errors import UserError
from tests.support import untrained
from tests.support.fake_server import Batching, FakeServer

TEXT = "Mr. X can't see the old man (好看), and the boats sank… 🙂 "
FORWARD = {"direction": "forward"}
SETTINGS = {
    "tagging": FORWARD | {"lookahead": 2, "crf": True, "lag": 1, "characters": 4, "layers": 1},
    "sentiment": FORWARD,
    "translation": {"stream": True},
}


@pytest.fixture(scope="module")
def publish(tmp_path_factory):
    """Publishes a version of a task at its first call, and returns the folder of saved models."""
    folder = tmp_path_factory.mktemp("versions")

    @functools.cache
    def publish_(task):
        untrained.version(task, folder, **SETTINGS[task])
        return folder

    return publish_


@pytest.fixture(scope="module")
def versions(publish):
    """The folder with the versions of all tasks."""
    for task in SETTINGS:
        folder = publish(task)
    return folder


@pytest.fixture(scope="module")
def serve(publish):
    """Returns the server of a task, started at its first call."""
    with contextlib.ExitStack() as stack:
        yield functools.cache(
            lambda task: stack.enter_context(FakeServer(publish(task), [task], Batching(8, 0.01)))
        )


@pytest.fixture(params=["local", "rest", "grpc"])
def open_model(request, publish, serve, here):
    """Returns the context of the model of a task."""

    def open_(task):
        if request.param == "local":
            return contextlib.nullcontext(here(publish(task) / task / "1"))
        return contextlib.closing(client.connect(getattr(serve(task), request.param), task))

    return open_


def cut(text, seed, longest=40):
    drawn, data, pieces = random.Random(seed), text.encode(), []
    while data:
        length = drawn.randint(1, longest)
        pieces.append(data[:length])
        data = data[length:]
    return pieces


def test_a_stream_of_tags_has_those_of_the_whole_text(open_model):
    with open_model("tagging") as model:
        [whole] = model.predict([{"text": TEXT * 3}])
        responses = []
        with model.stream() as stream:
            responses = [stream.feed(piece) for piece in cut(TEXT * 3, 0)]
            responses.append(stream.finish())
    assert set(responses[0]) == {"tokens", "tags", "probability", "lengths"}
    for name in ("tokens", "tags"):
        assert [v for each in responses for v in each[name]] == list(whole[name])
    assert len(responses[1]["tokens"]) > 0  # before the end


def test_a_stream_of_a_class_ends_with_that_of_the_whole_text(open_model):
    with open_model("sentiment") as model:
        [whole] = model.predict([{"text": TEXT}])
        with model.stream() as stream:
            for piece in cut(TEXT, 1):
                so_far = stream.feed(piece)
            final = stream.finish()
    assert set(so_far) == set(final) == set(whole)
    np.testing.assert_allclose(final["probabilities"], whole["probabilities"], atol=1e-5)


def test_a_stream_of_a_source_ends_with_the_translation_of_the_whole_text(open_model):
    with open_model("translation") as model:
        [whole] = model.predict([{"text": TEXT}])
        with model.stream() as stream:
            assert [stream.feed(piece) for piece in cut(TEXT, 2)][-1] == {}
            assert stream.finish() == pytest.approx(whole)


def test_concurrent_clients_whose_requests_are_merged_have_their_own_tags(serve):
    running = serve("tagging")
    texts = [TEXT * (number % 3 + 1) for number in range(16)]
    row = stream_clients.measure([running.rest, running.grpc], "tagging", None, texts)
    result = dict(zip(stream_clients.COLUMNS, row, strict=True))
    assert result["clients"] == 16 and result["other responses"] == 0


def test_a_client_notices_other_responses(serve):
    def cut_short(text, drawn):
        yield text[:-9]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_clients, "pieces", cut_short)
        assert not stream_clients.run(serve("tagging").grpc, "tagging", None, TEXT, 0).is_equal


def test_a_long_piece_is_read_in_several_requests(versions, here):
    model = here(versions / "tagging" / "1")
    text = "the old man " * 3000
    stream = model.stream()
    tokens = [*stream.feed(text)["tokens"], *stream.finish()["tokens"]]
    assert tokens == [word.encode() for word in text.split()]


def test_a_stream_continues_from_its_state(versions, here):
    model = here(versions / "tagging" / "1")
    stream = model.stream()
    first = stream.feed("the old man the bo")
    other = PredictionStream(model, stream.state)
    assert first["tokens"].tolist() + other.feed("ats sank ")["tokens"].tolist() == [
        *(b"the", b"old", b"man")
    ]
    with pytest.raises(UserError, match="the state of the stream is not valid"):
        PredictionStream(model, b"other").feed("text")


def test_a_version_that_reads_both_ways_has_no_streams(untrained_versions, here):
    with pytest.raises(UserError, match="this version cannot read streams, only whole texts"):
        here(untrained_versions / "tagging" / "1").stream()


@pytest.mark.parametrize("task", SETTINGS)
def test_the_warm_up_requests_have_valid_states(task, publish, here):
    version = publish(task) / task / "1"
    model = here(version)
    signatures = {request.model_spec.signature_name for request in warmup.read(version)}
    assert signatures == set(model.signatures)
    for request in warmup.read(version):
        name = request.model_spec.signature_name
        if name in ("feed", "finish"):
            columns = {key: list(value.string_val) for key, value in request.inputs.items()}
            assert model.predict_columns(columns, name)["valid"].all()


class Arriving(io.BytesIO):
    """A file whose bytes arrive in pieces."""

    def __init__(self, pieces):
        super().__init__()
        self._pieces = list(pieces)

    def read1(self, size=-1):
        return self._pieces.pop(0) if self._pieces else b""


@pytest.mark.parametrize(
    ("arriving", "expected"),
    [
        ([], []),
        ([b"a"], [(b"a", False), (b"", True)]),
        ([b"a\n"], [(b"a", True)]),
        ([b"a", b"\n"], [(b"a", False), (b"", True)]),
        (
            [b"\xef\xbb\xbfa\nb\n\nc"],
            [(b"a", True), (b"b", True), (b"", True), (b"c", False), (b"", True)],
        ),
        ([b"a", b"b", b"c\nd\n"], [(b"a", False), (b"b", False), (b"c", True), (b"d", True)]),
        ([b"a\r\nb\r\r\n"], [(b"a", True), (b"b", True)]),
        ([b"a\r", b"\n", b"\r\n"], [(b"a", False), (b"", True), (b"", True)]),
        ([b"a\r", b"b\r"], [(b"a", False), (b"\rb", False), (b"", True)]),
        ([b"\r"], [(b"", True)]),
    ],
)
def test_lines_are_read_while_they_arrive(arriving, expected):
    assert list(pieces_of_lines(Arriving(arriving))) == expected


def printed(monkeypatch, capsys, task, pieces, folder, *more):
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=Arriving(pieces)))
    predict.main([task, "--saved-models", str(folder), *more])
    return capsys.readouterr().out


@pytest.mark.parametrize("where", ["local", "rest"])
def test_predict_prints_the_lines_that_it_prints_for_whole_lines(
    where, versions, serve, monkeypatch, capsys
):
    more = [] if where == "local" else ["--server", serve("tagging").rest]
    lines = [TEXT, "", "the boats", TEXT + TEXT]
    text = "\n".join(lines).encode()
    whole = printed(monkeypatch, capsys, "tagging", [text], versions, "--stream", *more)
    for seed in range(2):
        pieces = cut(text.decode(), seed)
        assert printed(monkeypatch, capsys, "tagging", pieces, versions, "--stream", *more) == whole
    predict.main(["tagging", "--saved-models", str(versions), *more, *lines])
    assert capsys.readouterr().out == whole


def test_predict_prints_the_class_of_the_text_so_far(publish, monkeypatch, capsys):
    versions = publish("sentiment")
    out = printed(
        monkeypatch, capsys, "sentiment", [b"a dull ", b"film\n", b"good"], versions, "--stream"
    )
    rows = [line.split("\t") for line in out.splitlines()]
    assert [row[-1] for row in rows] == ["a dull ", "film", "good", ""]
    predict.main(["sentiment", "--saved-models", str(versions), "a dull film"])
    assert capsys.readouterr().out.split("\t")[:2] == rows[1][:2]
    out = printed(
        monkeypatch, capsys, "sentiment", [b"a dull film\n"], versions, "--stream", "--json"
    )
    assert '"text": "a dull film"' in out
    out = printed(
        monkeypatch, capsys, "sentiment", [b"a dull ", b"film\nno"], versions, "--stream", "--json"
    )
    rows = [json.loads(line)["text"] for line in out.splitlines()]
    assert rows == ["a dull ", "a dull film", "no", "no"]


def test_predict_prints_the_translation_of_a_line_when_it_ends(versions, monkeypatch, capsys):
    folder = ["--saved-models", str(versions)]
    predict.main(["translation", *folder, "the old man .", ""])
    whole = capsys.readouterr().out
    for more in ([], ["--json"]):
        pieces = [b"the ol", b"d man .", b"\n\n"]
        out = printed(monkeypatch, capsys, "translation", pieces, versions, "--stream", *more)
        if more:
            assert [json.loads(line)["text"] for line in out.splitlines()] == [
                "the old man .",
                "",
            ]
        lines = [json.loads(line)["translation"] for line in out.splitlines()] if more else out
        assert lines == (whole.splitlines() if more else whole)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["tagging", "--stream", "text"], "--stream reads standard input"),
        (["tagging", "--stream", "--input", "conllu"], "--stream reads text"),
        (["tagging", "--stream", "--format", "conllu"], "--stream reads text"),
        (["sentiment", "--stream", "--from", "a", "--to", "b"], "--stream reads standard input"),
    ],
)
def test_flags_that_a_stream_excludes_are_errors(argv, message, capsys):
    with pytest.raises(SystemExit):
        cli.run(lambda: predict.main(argv))
    assert message in capsys.readouterr().err
