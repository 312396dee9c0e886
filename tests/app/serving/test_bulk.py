"""The requests of a file are answered in another, once each, whatever happens meanwhile."""

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
from tasks.core.errors import UserError
from tests.support import untrained

ROOT = Path(__file__).parents[3]
WORDS = ("the", "plot", "is", "far", "from", "dull", ",", "and", "a", "warm", "cast", "superb")
CONLLU = "# a comment\n1\tboats\t_\t_\t_\t_\t0\troot\t_\t_\n2\tsank\t_\t_\t_\t_\t1\tdep\t_\t_\n\n"

# Imports once, then answers in children. The first counts the lines of `bulk.py` that it
# runs; each other one but the last is killed, as by `kill -9`, after a third of as many at most.
KILLED = """
import os, pathlib, random, signal, sys
import app.serving.export, app.serving.session, tasks
from app import predict
from app.serving import bulk

tasks.find("sentiment")
folder, *argv = sys.argv[1:]
bulk.BLOCK_REQUESTS = 16
steps = pathlib.Path(folder, "steps")

def child(name, at):
    process = os.fork()
    if process:
        return os.waitpid(process, 0)[1]
    taken = 0

    def trace(frame, event, told):
        nonlocal taken
        if frame.f_code.co_filename != bulk.__file__:
            return None
        taken += 1
        if taken == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    write = predict._write
    predict._write = lambda *told: (sys.settrace(trace), write(*told), sys.settrace(None))
    predict.main([*argv, "--to", str(pathlib.Path(folder, name))])
    steps.write_text(str(taken))
    os._exit(0)

assert child("whole.txt", 0) == 0
chance, part = random.Random(0), pathlib.Path(folder, "killed.txt.part")
third = int(steps.read_text()) // 3
kills = [child("killed.txt", at) for at in chance.sample(range(1, third), 5)]
with part.open("ab") as file:
    file.write(b"half a blo")
assert child("killed.txt", 0) == 0
print(kills.count(signal.SIGKILL))
"""


def texts(count, seed=0):
    """Lines of words of many lengths, each with its number."""
    source = random.Random(seed)
    return [
        " ".join([*source.choices(WORDS, k=source.randrange(30)), f"n{at}"]) for at in range(count)
    ]


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    """The folder of saved models with an untrained version of sentiment."""
    folder = tmp_path_factory.mktemp("untrained")
    untrained.version("sentiment", folder)
    return folder


@pytest.fixture
def ask(version, tmp_path, capsys):
    """Runs the command from a file of lines to `out.txt`, and gives the file and what it said."""
    source = tmp_path / "in.txt"

    def run(lines, *more, to="out.txt"):
        source.write_text(lines, encoding="utf-8")
        argv = ["sentiment", "--from", str(source), "--to", str(tmp_path / to), *more]
        predict.main([*argv, "--saved-models", str(version)])
        return tmp_path / to, capsys.readouterr()

    return run


@pytest.fixture
def dies(monkeypatch):
    """Has the next run end, as by Ctrl-C, once it has answered some blocks."""

    def after(blocks):
        add, count = bulk.PartialOutput.append, itertools.count()

        def dying(self, *args):
            if next(count) == blocks:
                raise KeyboardInterrupt
            add(self, *args)

        monkeypatch.setattr(bulk.PartialOutput, "append", dying)
        return lambda: monkeypatch.setattr(bulk.PartialOutput, "append", add)

    monkeypatch.setattr(bulk, "BLOCK_REQUESTS", 8)
    return after


def test_answers_are_those_of_the_plain_command_in_the_order_of_the_lines(
    ask, version, monkeypatch, capsys
):
    monkeypatch.setattr(bulk, "BLOCK_REQUESTS", 32)
    lines = [*texts(100), "", " \t", "\ufeff好看的电影!", "dull\r"]
    told, said = ask("\n".join(lines) + "\nthe last has no end", "--json")
    assert said.out == f"{len(lines) + 1} responses in {told}\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(lines).encode())))
    predict.main(["sentiment", "--json", "--saved-models", str(version)])
    plain = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    ours = [json.loads(line) for line in told.read_text("utf-8").splitlines()]
    assert [each["text"] for each in ours] == [*(x.rstrip("\r") for x in lines), ours[-1]["text"]]
    for mine, other in zip(ours, plain, strict=False):
        assert mine["text"] == other["text"] and mine["label"] == other["label"]
        assert mine["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)
    assert not list(told.parent.glob("*.part*"))


def test_a_run_that_is_killed_at_any_moment_comes_to_the_same_bytes(tmp_path, version):
    lines = texts(200)
    (tmp_path / "in.txt").write_text("\n".join(lines), encoding="utf-8")
    argv = [str(tmp_path), "sentiment", "--from", str(tmp_path / "in.txt")]
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, *argv, "--saved-models", str(version)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "5"
    assert "resuming after" in ended.stderr
    told = (tmp_path / "killed.txt").read_text(encoding="utf-8")
    assert told == (tmp_path / "whole.txt").read_text(encoding="utf-8")
    assert [line.split("\t")[2] for line in told.splitlines()] == lines
    assert not list(tmp_path.glob("*.part*"))


def test_a_run_goes_on_without_asking_again_and_ends_the_same(ask, dies, monkeypatch, tmp_path):
    lines = "\n".join(texts(50))
    whole = ask(lines, to="whole.txt")[0].read_bytes()
    lives = dies(3)
    with pytest.raises(KeyboardInterrupt):
        ask(lines)
    lives()
    blocks, run = [], bulk.run
    monkeypatch.setattr(
        bulk,
        "run",
        lambda lines, part, requests, answers: run(
            lines, part, requests, lambda block: blocks.append(len(block)) or answers(block)
        ),
    )
    out, said = ask(lines)
    assert said.err == "resuming after 24 responses\n" and sum(blocks) == 26
    assert out.read_bytes() == whole


def test_lines_that_were_added_or_mended_beyond_what_is_answered_are_asked(ask, dies):
    lines = texts(20)
    lives = dies(2)
    with pytest.raises(KeyboardInterrupt):
        ask("\n".join(lines))
    lives()
    out, _ = ask("\n".join([*lines[:18], "mended", "more"]))
    given = [line.split("\t")[2] for line in out.read_text("utf-8").splitlines()]
    assert given == [*lines[:18], "mended", "more"]


@pytest.mark.parametrize(
    "change, told",
    [
        (lambda lines: (["changed", *lines[1:]], []), "has changed: its first"),
        (lambda lines: (lines[:3], []), "has changed: its first"),
        (lambda lines: (lines, ["--json"]), "--json False, but this command has --json True"),
    ],
    ids=["another line", "fewer lines", "another flag"],
)
def test_it_does_not_go_on_with_answers_to_something_else(ask, dies, change, told, tmp_path):
    lives = dies(2)
    with pytest.raises(KeyboardInterrupt):
        ask("\n".join(texts(20)))
    lives()
    before = {path: path.read_bytes() for path in tmp_path.glob("out*")}
    lines, more = change(texts(20))
    with pytest.raises(UserError, match=told):
        ask("\n".join(lines), *more)
    assert {path: path.read_bytes() for path in tmp_path.glob("out*")} == before


def part_of(folder, made):
    """A part with an answer in it, as a process leaves that is killed."""
    part = bulk.PartialOutput(folder / "out.txt", made)
    part.append("an answer\n", bulk.Checkpoint(1, bulk.Checkpoint().sha256, 1))
    return part


def test_it_does_not_go_on_with_another_version(tmp_path):
    part_of(tmp_path, {"--version": 1, "manifest": "a"})
    with pytest.raises(UserError, match="--version 1, but this command has --version 2"):
        bulk.PartialOutput(tmp_path / "out.txt", {"--version": 2, "manifest": "b"})


def test_two_processes_do_not_write_the_same(tmp_path):
    kept = part_of(tmp_path, {})
    with pytest.raises(UserError, match="another process is writing"):
        bulk.PartialOutput(tmp_path / "out.txt", {})
    assert kept.checkpoint.responses == 1


@pytest.mark.parametrize("there", ["out.txt", "out.txt.part"])
def test_nothing_that_is_there_is_overwritten(ask, there, tmp_path):
    (tmp_path / there).write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="exists"):
        ask("dull")
    assert (tmp_path / there).read_text(encoding="utf-8") == "mine"


def test_what_a_process_leaves_that_dies_as_it_publishes_is_in_nobodys_way(tmp_path, monkeypatch):
    def dies(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "unlink", dies)
        part_of(tmp_path, {"--json": False}).publish()
    assert (tmp_path / "out.txt").read_text(encoding="utf-8") == "an answer\n"
    (tmp_path / "out.txt").rename(tmp_path / "kept.txt")
    assert (
        bulk.PartialOutput(tmp_path / "out.txt", {"--json": True}).checkpoint == bulk.Checkpoint()
    )


def test_what_was_killed_in_its_first_block_begins_anew(tmp_path):
    begun = bulk.PartialOutput(tmp_path / "out.txt", {})
    begun._file.write(b"half a blo")
    begun.close()
    assert bulk.PartialOutput(tmp_path / "out.txt", {}).checkpoint == bulk.Checkpoint()
    assert (tmp_path / "out.txt.part").read_bytes() == b""


def test_a_part_that_lost_something_is_told(tmp_path):
    part_of(tmp_path, {})
    (tmp_path / "out.txt.part").write_text("an", encoding="utf-8")
    with pytest.raises(UserError, match="shorter than"):
        bulk.PartialOutput(tmp_path / "out.txt", {})
    (tmp_path / "out.txt.part.json").write_text("[]", encoding="utf-8")
    with pytest.raises(UserError, match="does not record its progress"):
        bulk.PartialOutput(tmp_path / "out.txt", {})


@pytest.mark.parametrize(
    "argv, told",
    [
        (["--from", "in.txt"], "must be given together"),
        (["--to", "out.txt"], "must be given together"),
        (["--from", "in.txt", "--to", "out.txt", "dull"], "got 'dull'"),
        (["--from", "no.txt", "--to", "out.txt"], "must be a file"),
        (["--from", "in.txt", "--to", "no/out.txt"], "No such file"),
        (["--from", "torn.gz", "--to", "out.txt"], "not a valid gzip file"),
        (["--from", "in.txt", "--to", "out.txt", "--server", "http://localhost:1"], "--version"),
    ],
)
def test_what_cannot_be_is_told_in_plain_words(argv, told, version, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("in.txt").write_text("dull\n", encoding="utf-8")
    Path("torn.gz").write_bytes(gzip.compress(b"dull\n" * 99)[:-9])
    with pytest.raises(SystemExit) as stopped:
        saved_models = ["--saved-models", str(version)]
        cli.run(lambda: predict.main(["sentiment", *argv, *saved_models]))
    assert stopped.value.code == 2
    assert told in capsys.readouterr().err
    assert not Path("out.txt").exists()


def test_a_picture_can_be_of_one(tmp_path):
    argv = ["translation", "--from", "in.txt", "--to", "out.txt", "--align"]
    with pytest.raises(UserError, match="draws a figure"):
        predict.main([*argv, str(tmp_path / "new.png")])


def tag(source, to):
    """Tags the CoNLL-U of a file, every word a NOUN; gives what was asked."""
    exchange, asked = tasks.find("tagging").RequestFormat(input="conllu", format="conllu"), []

    def answers(block):
        asked.extend(block)
        for row, sentence in block:
            yield exchange.show(sentence, {**row, "tags": ["NOUN"] * row["lengths"]})

    part = bulk.PartialOutput(to, {})
    try:
        bulk.run(bulk.Lines(source), part, exchange.requests, answers)
    finally:
        part.close()  # as the end of a process does
    return asked


@pytest.mark.parametrize("end", [".conllu", ".gz"])
def test_sentences_of_many_lines_stay_whole(end, dies, tmp_path):
    source, to = tmp_path / f"in{end}", tmp_path / f"out{end}"
    (gzip.open if end == ".gz" else open)(source, "wb").write(CONLLU.encode() * 50)
    tag(source, tmp_path / f"whole{end}")
    lives = dies(3)
    with pytest.raises(KeyboardInterrupt):
        tag(source, to)
    lives()
    assert len(tag(source, to)) == 50 - 3 * bulk.BLOCK_REQUESTS
    assert to.read_bytes() == (tmp_path / f"whole{end}").read_bytes()
    with (gzip.open if end == ".gz" else open)(to, "rt", encoding="utf-8") as file:
        assert file.read() == CONLLU.replace("\t_\t_\t_\t_\t", "\t_\tNOUN\t_\t_\t") * 50


def test_a_broken_line_is_counted_from_where_it_goes_on(dies, tmp_path):
    source, to = tmp_path / "in.conllu", tmp_path / "out.conllu"
    source.write_text(CONLLU * 16 + "# fine\nbroken\n", encoding="utf-8")
    for told in ("^line 66: expected the 10", "^after the first 64 lines: line 2: expected the 10"):
        with pytest.raises(UserError, match=told):
            tag(source, to)
    source.write_text(CONLLU * 17, encoding="utf-8")
    assert len(tag(source, to)) == 1


@pytest.mark.parametrize(
    "task, settings, lines",
    [(task, {}, None) for task in tasks.names()]
    + [("tagging", {"input": "tokens"}, None)]
    + [("tagging", {"input": "conllu"}, (CONLLU * 3).splitlines())],
)
def test_no_line_is_read_beyond_a_request(task, settings, lines, tmp_path):
    (tmp_path / "an image").write_bytes(b"none")
    lines = lines or [str(tmp_path / "an image")] * 4
    exchange, read = tasks.find(task).RequestFormat(**settings), 0

    def counted():
        nonlocal read
        for read, line in enumerate(lines, 1):  # noqa: B007
            yield line.encode()

    each = 1 if exchange.by_line else CONLLU.count("\n")
    for count, _ in enumerate(exchange.requests(counted()), 1):
        assert read == count * each
    assert read == len(lines)


@pytest.mark.parametrize("block, size", [(8, 2**20), (2048, 800)], ids=["requests", "bytes"])
def test_memory_holds_a_block_of_requests_and_no_more(block, size, tmp_path, monkeypatch):
    class Row(dict):
        """A row that one can tell to be there."""

        __hash__ = object.__hash__

    alive, most = weakref.WeakSet(), 0

    def requests(lines):
        nonlocal most
        for line in lines:
            row = Row(text=line)
            alive.add(row)
            most = max(most, len(alive))
            yield row, None

    monkeypatch.setattr(bulk, "BLOCK_REQUESTS", block)
    monkeypatch.setattr(bulk, "BLOCK_BYTES", size)
    (tmp_path / "in.txt").write_text("x" * 99 + "\n" + ("x" * 99 + "\n") * 999)
    bulk.run(
        bulk.Lines(tmp_path / "in.txt"),
        bulk.PartialOutput(tmp_path / "out.txt", {}),
        requests,
        lambda block: ("answer" for _ in block),
    )
    assert (tmp_path / "out.txt").read_text() == "answer\n" * 1000
    assert most <= 2 * 9 + 1
