"""Bulk prediction writes one response per request, however often it is interrupted."""

import gzip
import io
import itertools
import json
import random
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

import tasks
from app import cli, predict
from app.serving import bulk
from tasks.core import lines as lines_module
from tasks.core.errors import UserError

ROOT = Path(__file__).parents[3]
WORDS = ("the", "plot", "is", "far", "from", "dull", ",", "and", "a", "warm", "cast", "superb")
CONLLU = "# a comment\n1\tboats\t_\t_\t_\t_\t0\troot\t_\t_\n2\tsank\t_\t_\t_\t_\t1\tdep\t_\t_\n\n"

# Imports once, then predicts in child processes. The first counts the lines of `bulk.py` that it
# runs; all others but the last are killed, as by `kill -9`, within the first third of them.
KILLED = """
import os, pathlib, random, signal, sys
import app.serving.export, app.serving.session, tasks
from app import predict
from app.serving import bulk

tasks.find("sentiment")
folder, *argv = sys.argv[1:]
bulk.BLOCK_REQUESTS = 16
steps = pathlib.Path(folder, "steps")

def child(name, fatal_line):
    process = os.fork()
    if process:
        return os.waitpid(process, 0)[1]
    executed = 0

    def trace(frame, event, argument):
        nonlocal executed
        if frame.f_code.co_filename != bulk.__file__:
            return None
        executed += 1
        if executed == fatal_line:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    write = predict._write
    predict._write = lambda *args: (sys.settrace(trace), write(*args), sys.settrace(None))
    predict.main([*argv, "--to", str(pathlib.Path(folder, name))])
    steps.write_text(str(executed))
    os._exit(0)

assert child("complete.txt", 0) == 0
chance, part = random.Random(0), pathlib.Path(folder, "killed.txt.part")
third = int(steps.read_text()) // 3
kills = [child("killed.txt", line) for line in chance.sample(range(1, third), 5)]
with part.open("ab") as file:
    file.write(b"half a blo")
assert child("killed.txt", 0) == 0
print(kills.count(signal.SIGKILL))
"""


def texts(count, seed=0):
    """Lines of different numbers of words, each ending with its number."""
    source = random.Random(seed)
    return [
        " ".join([*source.choices(WORDS, k=source.randrange(30)), f"n{number}"])
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def version(tmp_path_factory, untrained_copy):
    """The folder of saved models with an untrained version of sentiment."""
    folder = tmp_path_factory.mktemp("untrained")
    untrained_copy("sentiment", folder)
    return folder


@pytest.fixture
def run_bulk(version, tmp_path, capsys):
    """Runs the command from a file of lines to `out.txt`; returns the file and its output."""
    source = tmp_path / "in.txt"

    def run(lines, *more, to="out.txt"):
        source.write_text(lines, encoding="utf-8")
        argv = ["sentiment", "--from", str(source), "--to", str(tmp_path / to), *more]
        predict.main([*argv, "--saved-models", str(version)])
        return tmp_path / to, capsys.readouterr()

    return run


@pytest.fixture
def interrupt(monkeypatch):
    """Interrupts runs, as Ctrl-C does, after some blocks; returns a function that ends this."""

    def interrupt_after(blocks):
        append, count = bulk.PartialOutput.append, itertools.count()

        def interrupted(self, *args):
            if next(count) == blocks:
                raise KeyboardInterrupt
            append(self, *args)

        monkeypatch.setattr(bulk.PartialOutput, "append", interrupted)
        return lambda: monkeypatch.setattr(bulk.PartialOutput, "append", append)

    monkeypatch.setattr(bulk, "BLOCK_REQUESTS", 8)
    return interrupt_after


def test_responses_are_those_of_the_plain_command_in_the_order_of_the_lines(
    run_bulk, version, monkeypatch, capsys
):
    monkeypatch.setattr(bulk, "BLOCK_REQUESTS", 32)
    lines = [*texts(100), "", " \t", "\ufeff好看的电影!", "dull\r"]
    output, captured = run_bulk("\n".join(lines) + "\nthe last has no end", "--json")
    assert captured.out == f"{len(lines) + 1} responses in {output}\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(lines).encode())))
    predict.main(["sentiment", "--json", "--saved-models", str(version)])
    plain = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    bulk_rows = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
    expected = [*(line.rstrip("\r") for line in lines), bulk_rows[-1]["text"]]
    assert [row["text"] for row in bulk_rows] == expected
    for row, other in zip(bulk_rows, plain, strict=False):
        assert row["text"] == other["text"] and row["label"] == other["label"]
        assert row["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)
    assert not list(output.parent.glob("*.part*"))


def test_compressed_files_are_those_of_any_case(version, tmp_path):
    source, target = tmp_path / "in.GZ", tmp_path / "out.gz"
    argv = ["sentiment", "--saved-models", str(version), "--from", str(source)]
    for lines in (["dull", "warm"], []):
        source.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))
        predict.main([*argv, "--to", str(target)])
        responses = gzip.decompress(target.read_bytes()).decode().splitlines()
        assert [response.split("\t")[-1] for response in responses] == lines
        assert target.read_bytes()[:2] == b"\x1f\x8b"
        target.unlink()


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_byte_order_mark_is_not_part_of_the_first_request(
    run_bulk, version, monkeypatch, capsys, more
):
    lines = "dull\r\nthe \ufeffplot\r\n"
    expected = run_bulk(lines, *more)[0].read_text("utf-8")
    output, _ = run_bulk(f"\ufeff{lines}", *more, to="marked.txt")
    assert output.read_text("utf-8") == expected
    assert "\ufeffplot" in expected.replace(r"\ufeff", "\ufeff")  # inside a line it is kept
    stdin = io.TextIOWrapper(io.BytesIO(f"\ufeff{lines}".encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    predict.main(["sentiment", *more, "--saved-models", str(version)])
    assert capsys.readouterr().out == expected


def test_a_run_that_is_killed_at_any_moment_ends_with_the_same_bytes(tmp_path, version):
    lines = texts(200)
    (tmp_path / "in.txt").write_text("\n".join(lines), encoding="utf-8")
    argv = [str(tmp_path), "sentiment", "--from", str(tmp_path / "in.txt")]
    process = subprocess.run(
        [sys.executable, "-c", KILLED, *argv, "--saved-models", str(version)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[-1] == "5"
    assert "resuming after" in process.stderr
    text = (tmp_path / "killed.txt").read_text(encoding="utf-8")
    assert text == (tmp_path / "complete.txt").read_text(encoding="utf-8")
    assert [line.split("\t")[2] for line in text.splitlines()] == lines
    assert not list(tmp_path.glob("*.part*"))


def test_a_run_resumes_without_repeating_requests(run_bulk, interrupt, monkeypatch, tmp_path):
    lines = "\n".join(texts(50))
    expected = run_bulk(lines, to="complete.txt")[0].read_bytes()
    end_interruptions = interrupt(3)
    with pytest.raises(KeyboardInterrupt):
        run_bulk(lines)
    end_interruptions()
    block_sizes, run = [], bulk.run
    monkeypatch.setattr(
        bulk,
        "run",
        lambda lines, output, requests, predict: run(
            lines, output, requests, lambda block: block_sizes.append(len(block)) or predict(block)
        ),
    )
    output, captured = run_bulk(lines)
    assert captured.err == "resuming after 24 responses\n" and sum(block_sizes) == 26
    assert output.read_bytes() == expected


def test_lines_after_the_checkpoint_may_change(run_bulk, interrupt):
    lines = texts(20)
    end_interruptions = interrupt(2)
    with pytest.raises(KeyboardInterrupt):
        run_bulk("\n".join(lines))
    end_interruptions()
    output, _ = run_bulk("\n".join([*lines[:18], "corrected", "more"]))
    texts_of_responses = [line.split("\t")[2] for line in output.read_text("utf-8").splitlines()]
    assert texts_of_responses == [*lines[:18], "corrected", "more"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: (["changed", *lines[1:]], []), "has changed: its first"),
        (lambda lines: (lines[:3], []), "has changed: its first"),
        (lambda lines: (lines, ["--json"]), "--json False, but this command has --json True"),
    ],
    ids=["another line", "fewer lines", "another flag"],
)
def test_a_run_does_not_resume_after_a_change(run_bulk, interrupt, change, message, tmp_path):
    end_interruptions = interrupt(2)
    with pytest.raises(KeyboardInterrupt):
        run_bulk("\n".join(texts(20)))
    end_interruptions()
    before = {path: path.read_bytes() for path in tmp_path.glob("out*")}
    lines, more = change(texts(20))
    with pytest.raises(UserError, match=message):
        run_bulk("\n".join(lines), *more)
    assert {path: path.read_bytes() for path in tmp_path.glob("out*")} == before


def partial_output(folder, fingerprint):
    """A partial output with one response, as a killed process leaves it."""
    output = bulk.PartialOutput(folder / "out.txt", fingerprint)
    output.append("a response\n", bulk.Checkpoint(1, bulk.Checkpoint().sha256, 1))
    return output


def test_a_run_does_not_resume_with_another_version(tmp_path):
    partial_output(tmp_path, {"--version": 1, "manifest": "a"})
    with pytest.raises(UserError, match="--version 1, but this command has --version 2"):
        bulk.PartialOutput(tmp_path / "out.txt", {"--version": 2, "manifest": "b"})


def test_two_processes_do_not_write_the_same_output(tmp_path):
    output = partial_output(tmp_path, {})
    with pytest.raises(UserError, match="another process is writing"):
        bulk.PartialOutput(tmp_path / "out.txt", {})
    assert output.checkpoint.responses == 1


@pytest.mark.parametrize("name", ["out.txt", "out.txt.part"])
def test_existing_files_are_not_overwritten(run_bulk, name, tmp_path):
    (tmp_path / name).write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="exists"):
        run_bulk("dull")
    assert (tmp_path / name).read_text(encoding="utf-8") == "mine"


def test_a_state_file_that_outlives_its_output_is_ignored(tmp_path, monkeypatch):
    def interrupted(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "unlink", interrupted)
        partial_output(tmp_path, {"--json": False}).publish()
    assert (tmp_path / "out.txt").read_text(encoding="utf-8") == "a response\n"
    (tmp_path / "out.txt").rename(tmp_path / "renamed.txt")
    assert (
        bulk.PartialOutput(tmp_path / "out.txt", {"--json": True}).checkpoint == bulk.Checkpoint()
    )


def test_a_run_that_was_killed_in_its_first_block_starts_over(tmp_path):
    output = bulk.PartialOutput(tmp_path / "out.txt", {})
    output._file.write(b"half a blo")
    output.close()
    assert bulk.PartialOutput(tmp_path / "out.txt", {}).checkpoint == bulk.Checkpoint()
    assert (tmp_path / "out.txt.part").read_bytes() == b""


def test_a_damaged_partial_output_is_reported(tmp_path):
    partial_output(tmp_path, {})
    (tmp_path / "out.txt.part").write_text("an", encoding="utf-8")
    with pytest.raises(UserError, match="shorter than"):
        bulk.PartialOutput(tmp_path / "out.txt", {})
    (tmp_path / "out.txt.part.json").write_text("[]", encoding="utf-8")
    with pytest.raises(UserError, match="does not record its progress"):
        bulk.PartialOutput(tmp_path / "out.txt", {})


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--from", "in.txt"], "must be given together"),
        (["--to", "out.txt"], "must be given together"),
        (["--from", "in.txt", "--to", "out.txt", "dull"], "got 'dull'"),
        (["--from", "missing.txt", "--to", "out.txt"], "must be a file"),
        (["--from", "in.txt", "--to", "no/out.txt"], "No such file"),
        (["--from", "torn.gz", "--to", "out.txt"], "not a valid gzip file"),
        (["--from", "in.txt", "--to", "out.txt", "--server", "http://localhost:1"], "--version"),
    ],
)
def test_invalid_flags_and_files_are_reported(
    argv, message, version, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Path("in.txt").write_text("dull\n", encoding="utf-8")
    Path("torn.gz").write_bytes(gzip.compress(b"dull\n" * 99)[:-9])
    with pytest.raises(SystemExit) as exit_info:
        saved_models = ["--saved-models", str(version)]
        cli.run(lambda: predict.main(["sentiment", *argv, *saved_models]))
    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err
    assert not Path("out.txt").exists()


def test_a_figure_is_for_a_single_request(tmp_path):
    argv = ["translation", "--from", "in.txt", "--to", "out.txt", "--align"]
    with pytest.raises(UserError, match="draws a figure"):
        predict.main([*argv, str(tmp_path / "new.png")])


def tag(source, to):
    """Tags every word of a CoNLL-U file as NOUN; returns the requests."""
    request_format = tasks.find("tagging").RequestFormat(input="conllu", format="conllu")
    requests = []

    def predict(block):
        requests.extend(block)
        for row, sentence in block:
            response = {**row, "tags": ["NOUN"] * row["lengths"]}
            yield request_format.show(sentence, response), False

    output = bulk.PartialOutput(to, {})
    try:
        bulk.run(bulk.Lines(source), output, request_format.requests, predict)
    finally:
        output.close()  # as the end of a process does
    return requests


@pytest.mark.parametrize("end", [".conllu", ".gz"])
def test_requests_of_several_lines_are_not_split(end, interrupt, tmp_path):
    source, to = tmp_path / f"in{end}", tmp_path / f"out{end}"
    (gzip.open if end == ".gz" else open)(source, "wb").write(CONLLU.encode() * 50)
    tag(source, tmp_path / f"complete{end}")
    end_interruptions = interrupt(3)
    with pytest.raises(KeyboardInterrupt):
        tag(source, to)
    end_interruptions()
    assert len(tag(source, to)) == 50 - 3 * bulk.BLOCK_REQUESTS
    assert to.read_bytes() == (tmp_path / f"complete{end}").read_bytes()
    with (gzip.open if end == ".gz" else open)(to, "rt", encoding="utf-8") as file:
        assert file.read() == CONLLU.replace("\t_\t_\t_\t_\t", "\t_\tNOUN\t_\t_\t") * 50


def test_an_invalid_line_is_located_from_where_the_run_resumed(interrupt, tmp_path):
    source, to = tmp_path / "in.conllu", tmp_path / "out.conllu"
    source.write_text(CONLLU * 16 + "# fine\nbroken\n", encoding="utf-8")
    for message in (
        "^line 66: expected the 10",
        "^after the first 64 lines: line 2: expected the 10",
    ):
        with pytest.raises(UserError, match=message):
            tag(source, to)
    source.write_text(CONLLU * 17, encoding="utf-8")
    assert len(tag(source, to)) == 1


@pytest.mark.parametrize(
    "task, settings, lines",
    [(task, {}, None) for task in tasks.names()]
    + [("tagging", {"input": "tokens"}, None)]
    + [("tagging", {"input": "conllu"}, (CONLLU * 3).splitlines())],
)
def test_requests_do_not_read_ahead(task, settings, lines, tmp_path):
    (tmp_path / "an image").write_bytes(b"none")
    lines = lines or [str(tmp_path / "an image")] * 4
    request_format, read = tasks.find(task).RequestFormat(**settings), 0

    def counted():
        nonlocal read
        for read, line in enumerate(lines, 1):  # noqa: B007
            yield line.encode()

    lines_per_request = 1 if request_format.by_line else CONLLU.count("\n")
    for count, _ in enumerate(request_format.requests(counted()), 1):
        assert read == count * lines_per_request
    assert read == len(lines)


@pytest.mark.parametrize("block, size", [(8, 2**20), (2048, 800)], ids=["requests", "bytes"])
def test_memory_holds_at_most_one_block_of_requests(block, size, tmp_path, monkeypatch):
    class Row(dict):
        """A row whose lifetime can be observed."""

        __hash__ = object.__hash__

    alive, most_alive = weakref.WeakSet(), 0

    def requests(lines):
        nonlocal most_alive
        for line in lines:
            row = Row(text=line)
            alive.add(row)
            most_alive = max(most_alive, len(alive))
            yield row, None

    monkeypatch.setattr(bulk, "BLOCK_REQUESTS", block)
    monkeypatch.setattr(bulk, "BLOCK_BYTES", size)
    (tmp_path / "in.txt").write_text("x" * 99 + "\n" + ("x" * 99 + "\n") * 999)
    bulk.run(
        bulk.Lines(tmp_path / "in.txt"),
        bulk.PartialOutput(tmp_path / "out.txt", {}),
        requests,
        lambda block: (("response", False) for _ in block),
    )
    assert (tmp_path / "out.txt").read_text() == "response\n" * 1000
    assert most_alive <= 2 * 9 + 1


@pytest.mark.parametrize("name", ["requests.txt", "requests.txt.gz"])
def test_the_length_of_a_line_is_bounded(tmp_path, monkeypatch, name):
    monkeypatch.setattr(lines_module, "MAX_LINE", 100)
    path = tmp_path / name
    opener = gzip.open if name.endswith(".gz") else open
    with opener(path, "wb") as file:
        file.write(b"a" * 99 + b"\n" + b"b" * 100 + b"\n")
    lines = iter(bulk.Lines(path))
    assert next(lines) == b"a" * 99
    with pytest.raises(UserError) as error:
        next(lines)
    assert str(error.value) == f"--from: {path}:2: the line has more than 100 bytes."


def test_the_length_of_a_line_of_standard_input_is_bounded(monkeypatch):
    monkeypatch.setattr(lines_module, "MAX_LINE", 100)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a\n" + b"b" * 101)))
    with pytest.raises(UserError, match="standard input:2: the line has more than 100 bytes"):
        list(predict._stdin_lines())
