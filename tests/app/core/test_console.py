"""Text that the output cannot encode, such as names of files in another encoding."""

import contextlib
import io
import os
from pathlib import Path

import pytest

from app import cli, evaluate
from app.core import console
from app.training.callbacks import BatchLog
from tests.app.test_train import fails

FIXTURE = Path(__file__).parents[2] / "fixtures" / "published"
NAME = os.fsdecode(b"caf\xe9.tsv")  # in Latin-1


@contextlib.contextmanager
def printed(encoding, errors="strict"):
    """Replaces the standard output by one of an encoding; yields the bytes printed to it."""
    output = io.BytesIO()
    stream = io.TextIOWrapper(output, encoding, errors)
    with contextlib.redirect_stdout(stream):
        yield output
        stream.detach()


@pytest.mark.parametrize(
    ("text", "encoding", "expected"),
    [
        (NAME, "utf-8", r"caf\xe9.tsv"),
        ("caf\u00e9 \u4e2d", "utf-8", "caf\u00e9 \u4e2d"),
        ("caf\u00e9 \u4e2d \U0001f600", "ascii", r"caf\xe9 \u4e2d \U0001f600"),
        ("\ud800", "utf-8", r"\ud800"),
        ("", "ascii", ""),
    ],
)
def test_characters_that_an_encoding_lacks_are_escaped(text, encoding, expected):
    assert console.encodable(text, encoding) == expected
    with printed(encoding) as output:
        console.say(text, "next")
    assert output.getvalue().decode(encoding) == f"{expected}\nnext\n"


@pytest.mark.parametrize(
    ("encoding", "errors"), [("ascii", "strict"), ("ascii", "surrogateescape"), ("utf-8", "strict")]
)
def test_a_command_prints_any_name_to_any_output(tmp_path, encoding, errors):
    data = tmp_path / NAME
    with contextlib.suppress(OSError):
        data.write_text("a dull film\tnegative\nx \u4e2d\tpositive\n", encoding="utf-8")
    if not data.exists():
        pytest.skip("this file system has only names in UTF-8")
    argv = ["sentiment", "--test", str(data), "--saved-models", str(FIXTURE)]
    with printed(encoding, errors) as output:
        cli.run(lambda: evaluate.main(argv))
    assert rb"caf\xe9.tsv: 2 examples" in output.getvalue()


def test_an_error_handler_that_never_fails_is_kept(capsys):
    with printed("ascii", "replace") as output:
        cli.run(lambda: print("caf\u00e9"))
    assert output.getvalue() == b"caf?\n"


@pytest.mark.parametrize(
    "argv",
    [
        ["train", "sentiment", "--units", "0", "--saved-models"],
        ["train", "sentiment", "--units", "0", "--runs"],
        ["predict", "sentiment", "text", "--saved-models"],
        ["deploy", "--saved-models"],
        ["study", "adding", "--jobs", "0", "--runs"],
        ["cache", "--runs"],
    ],
    ids=" ".join,
)
def test_a_folder_that_tensorflow_cannot_open_is_an_error(argv, capsys):
    import importlib

    command = importlib.import_module(f"app.{argv[0]}")
    argv = [*argv[1:], os.fsdecode(b"caf\xe9")]
    message = fails(capsys, command.main, argv)
    assert f"{argv[-2]}: must be a path in UTF-8, got 'caf\\udce9'" in message


@pytest.fixture
def clock(monkeypatch):
    """A clock that each item moves by 25 seconds."""
    times = iter(range(0, 10_000, 25))
    monkeypatch.setattr("app.core.console.time.monotonic", lambda: next(times))


def test_a_log_has_a_line_each_minute(clock, capsys):
    assert list(console.show_progress("abcdefg", "reading test", 7)) == [*"abcdefg"]
    assert capsys.readouterr().out.splitlines() == [
        "reading test: 3 of 7 examples after 1 min",
        "reading test: 6 of 7 examples after 2 min",
    ]


def test_a_short_activity_adds_nothing_to_a_log(capsys):
    assert list(console.with_progress([1, 2], "reading train")) == [1, 2]
    assert capsys.readouterr() == ("", "")


def test_an_epoch_has_lines_in_a_log(clock, capsys):
    log = BatchLog(epochs=3, steps=4)
    log.on_epoch_begin(1)
    for batch in range(4):
        log.on_train_batch_end(batch)
    assert capsys.readouterr().out == "epoch 2 of 3: 3 of 4 steps after 1 min\n"


def test_a_terminal_has_a_bar(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr("app.core.console._DELAY", 0)
    assert list(console.show_progress([1, 2], "evaluating test", 2)) == [1, 2]
    output = capsys.readouterr()
    assert "evaluating test" in output.err and not output.out
