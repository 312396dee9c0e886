"""The command line that all commands share: help, groups, and former names of flags."""

import argparse
import dataclasses
import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies

import tasks
from app import cli, look, train
from app.__main__ import commands
from app.training import distribution
from models.layers import decoder
from models.networks import captioner
from tasks.core.errors import UserError
from tasks.core.settings import EFFECTS, flag, setting
from tasks.shapes.image_to_text import settings as captioning_settings
from tasks.shapes.sequence_to_sequence import settings as translation_settings

ROOT = Path(__file__).parents[2]

COMMANDS = tuple(commands())
TASK_COMMANDS = tuple({*COMMANDS} - {"cache", "cells", "demo", "deploy", "models", "study"})


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings for this test."""

    seed: int = setting(0, "a seed", affects="training", old_name="number")
    fold: bool = setting(True, "a switch")
    beam_size: int = setting(4, "beams", affects="serving")


def parse(*argv):
    parser = cli.Parser("prog", examples=["prog --seed 1"])
    cli.add_settings(parser, Settings)
    return cli.settings(Settings, parser.parse_args(argv))


def help_of(capsys, command, *argv):
    module = importlib.import_module(f"app.{command}")
    with pytest.raises(SystemExit) as ended:
        module.main([*argv, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_ends_with_an_example(command, capsys):
    topic = [tasks.names()[0]] if command in TASK_COMMANDS else []
    topic = ["adding"] if command == "study" else topic
    text = help_of(capsys, command, *topic)
    title, *lines = text[text.rindex("\nexample") :].strip().splitlines()
    assert title in ("example:", "examples:")
    assert lines and all(line.startswith(f"  python -m app.{command}") for line in lines)


@pytest.mark.parametrize("name", tasks.names())
def test_settings_are_grouped_by_the_stage_that_they_affect(name, capsys):
    text = help_of(capsys, "train", name)
    config = tasks.find(name).Config
    shared = {field.name for field in dataclasses.fields(tasks.find(name).Corpus)}
    for stage in EFFECTS:
        fields = [f for f in dataclasses.fields(config) if f.metadata["affects"] == stage]
        fields = [field for field in fields if field.name not in shared]
        if not fields:
            continue
        group = text.split(f"\n{cli._GROUPS[stage]}:\n")[1].split("\n\n")[0]
        flags = [line.split()[0].rstrip(",") for line in group.splitlines() if line[:4] == "  --"]
        assert flags == [flag(field.name) for field in fields]


@pytest.mark.parametrize(
    "argv",
    [
        ["--seed", "1", "--number", "2"],
        ["--number=2", "--seed=1"],
    ],
)
def test_the_former_and_the_current_name_of_a_flag_exclude_each_other(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(*argv)
    assert ended.value.code == cli.FAILED
    message = "error: --number is the former name of --seed; give only --seed.\n"
    assert capsys.readouterr().err.startswith(message)


def test_a_former_name_is_accepted_alone(capsys):
    assert parse("--number", "3") == Settings(seed=3)
    assert "--number is now called --seed" in capsys.readouterr().err


def test_a_misspelt_flag_has_a_suggestion(capsys):
    with pytest.raises(SystemExit):
        parse("--beam-siz", "3")
    assert "did you mean --beam-size?" in capsys.readouterr().err


@pytest.mark.parametrize("name", tasks.names())
def test_the_names_of_other_tools_are_accepted(name, capsys):
    parser, config = cli.Parser("prog"), tasks.declaration(name).Config
    cli.add_settings(parser, config)
    argv = ["--lr=0.5", "--hidden-size=3", "--embed-dim=5", "--num-layers=2", "--num-epochs=7"]
    values = cli.settings(config, parser.parse_args([*argv, "--vocab-size=999"]))
    expected = config(learning_rate=0.5, units=3, embedding=5, layers=2, epochs=7, vocabulary=999)
    assert values == expected and not capsys.readouterr().err
    assert "--units INT" in parser.format_help() and "also --hidden-size, --hidden" in " ".join(
        parser.format_help().split()
    )


@pytest.mark.parametrize(
    "argv, message",
    [
        ("--lr 1 --learning-rate 2", "--lr is another name of --learning-rate; give only one"),
        ("--hidden 1 --hidden-size 2", "--hidden-size is another name of --units; give only one"),
        ("--lr 1 --rate 2", "--lr is another name of --learning-rate; give only one"),
        (
            "--batch-size 32",
            "measured in tokens, including padding; give --batch-tokens",
        ),
    ],
)
def test_names_of_other_tools_that_are_errors(argv, message, capsys):
    parser = cli.Parser("prog")
    cli.add_settings(parser, tasks.declaration("sentiment").Config)
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(argv.split())
    assert ended.value.code == cli.FAILED
    assert message in capsys.readouterr().err.splitlines()[0]


FLAGS = ["--train", "--units", "--to", "--seed", "--beam-size", "--learning-rate", "--vocabulary"]


@pytest.mark.parametrize(
    "name, near",
    [
        ("--unit", "--units"),
        ("--beam-siz", "--beam-size"),
        ("--vocab", "--vocabulary"),
        ("--larning-rat", "--learning-rate"),
        ("--esed", "--seed"),
        ("--metric", ""),
        ("--monitor", ""),
        ("--un", ""),
    ],
)
def test_only_a_near_flag_is_suggested(name, near):
    assert cli.nearest_flag(name, FLAGS) == near


@hypothesis.settings(derandomize=True, deadline=None, max_examples=200, database=None)
@hypothesis.given(data=strategies.data())
def test_a_typing_error_has_the_suggestion_of_a_flag_at_that_distance(data):
    letters = strategies.sampled_from("abcdefghijklmnopqrstuvwxyz-")
    flag_name = data.draw(strategies.sampled_from(FLAGS))
    word = flag_name[2:]
    place = data.draw(strategies.integers(0, len(word)))
    kind = data.draw(strategies.sampled_from(["insert", "delete", "replace", "swap"]))
    head, rest = word[:place], word[place:]
    letter = data.draw(letters)
    edits = {
        "insert": head + letter + rest,
        "delete": head + rest[1:],
        "replace": head + letter + rest[1:] if rest else word,
        "swap": head + rest[1:2] + rest[:1] + rest[2:],
    }
    typed = edits[kind]
    assert cli.edit_distance(typed, word) <= 1
    assert cli.edit_distance(word, typed) == cli.edit_distance(typed, word)
    near = cli.nearest_flag(f"--{typed}", FLAGS)
    assert near and cli.edit_distance(typed, near[2:]) <= 1


@hypothesis.settings(derandomize=True, deadline=None, max_examples=200, database=None)
@hypothesis.given(typed=strategies.text("abcdefghijklmnopqrstuvwxyz-", max_size=16))
def test_a_suggestion_is_near_or_begins_with_what_was_typed(typed):
    if near := cli.nearest_flag(f"--{typed}", FLAGS):
        assert near[2:].startswith(typed) or cli.edit_distance(typed, near[2:]) <= 2


def test_flags_are_not_abbreviated(capsys):
    with pytest.raises(SystemExit):
        parse("--see", "3")
    assert "unrecognized arguments" in capsys.readouterr().err


# Command lines that end with a usage error, each with a part of its message.
USAGE_ERRORS = {
    "train": {
        "sentiment --unitz 3": "did you mean --units?",
        "sentment": "did you mean 'sentiment'?",
        "tagging --units 0": "--units must be at least 1",
        "translation --attention sharp": "--attention must be one of",
        "captioning --encoder VGG16": "--encoder and --encoder-weights go together",
        "sentiment --cell nope": "--cell: cell must be one of",
        "sentiment --data /nonexistent": "--data: no such file",
        "captioning --train /nonexistent/*.tsv": "--train: no files match",
        "sentiment --test /tmp": "--test requires --train or --data",
        "sentiment --train table.csv --text-key body": "table.csv:1: missing column 'body'",
        "sentiment --train table.csv --target number": "table.csv:2: the label must be a number",
        "tagging --data table.csv": "table.csv:1: expected a word and its tag",
        "translation --data sides --source de --target en": "sides: no corpus found",
        "captioning --train table.csv": "table.csv: not a table of captions",
        "sentiment --strategy both": "invalid choice",
    },
    "evaluate": {
        "sentiment --saved-models /nonexistent": "holds no version",
        "sentiment --test /nonexistent": "--test: no such file",
    },
    "predict": {
        "captioning --saved-models /nonexistent": "holds no version",
        "sentiment --server ftp://host": "--server must be http",
        "sentiment --server http://host --timeout 0": "--timeout must be above 0",
    },
    "look": {
        "tagging word --saved-models /nonexistent": "holds no version",
        "gradients --cells nope": "--cells: cell must be one of",
        "gradients --lengths 3": "did you mean --length?",
    },
    "beam": {
        "sentiment --from a --to b --versio 1": "did you mean --version?",
        "sentiment": "the following arguments are required: --from, --to\n",
    },
    "cache": {"--unused-days -1": "--unused-days must be at least 0"},
    "cells": {"nope": "CELL: cell must be one of"},
    "demo": {
        "--saved-models /nonexistent": "holds no published model",
        "--port -1": "must be from",
    },
    "deploy": {"--saved-models /nonexistent": "holds no published model"},
    "study": {
        "sentiment --units 0": "--units must be at least 1",
        "adding --length 0": "--length must be",
        "evolve --minutes 0": "--minutes must be above 0",
    },
}


def test_help_and_usage_errors_import_neither_tensorflow_nor_keras(tmp_path):
    """These take seconds to import, and an error of a command line must not."""
    runs = [(command, "--help", "usage:") for command in COMMANDS]
    for name in tasks.names():
        for command in TASK_COMMANDS:
            runs += [(command, f"{name} --help", "usage:"), (command, f"{name} --qqqq", "error: ")]
        runs += [("study", f"{name} --help", "usage:"), ("study", f"{name} --qqqq", "error: ")]
    runs += [("study", f"{name} --help", "usage:") for name in ("adding", "greff", "evolve")]
    runs += [("look", "gradients --help", "usage:")]
    for command, lines in USAGE_ERRORS.items():
        runs += [(command, line, message) for line, message in lines.items()]
    script = """
import contextlib, importlib, io, json, shlex, sys
from app import cli
from app.__main__ import commands
for command, line, message in json.load(sys.stdin):
    module = importlib.import_module("app." + command)
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            cli.run(lambda: module.main(shlex.split(line)))
        except SystemExit:
            pass
    assert message in output.getvalue(), (command, line, output.getvalue()[-300:])
    assert not {"tensorflow", "keras"} & sys.modules.keys(), (command, line)
"""
    (tmp_path / "table.csv").write_text("text,label\na film,good\n", encoding="utf-8")
    (tmp_path / "sides").mkdir()
    for part in ("train", "valid", "test"):
        (tmp_path / "sides" / f"{part}.de").write_text("", encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(runs),
        text=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr[-1000:]


def test_choices_are_those_of_what_is_imported_later():
    assert train.STRATEGIES == distribution.STRATEGIES
    assert translation_settings.ATTENTIONS == decoder.KINDS
    assert captioning_settings.ATTENTIONS == captioner.ATTENTIONS


@pytest.mark.parametrize("name", tasks.names())
def test_a_task_has_all_that_it_declares(name):
    declared, complete = tasks.declaration(name), tasks.find(name)
    assert issubclass(complete, declared) and tasks.find(name) is complete
    for attribute in ("Config", "Corpus", "RequestFormat", "__doc__", "__module__"):
        assert getattr(complete, attribute) == getattr(declared, attribute)
    assert complete.Evaluator.__module__.startswith("tasks.")
    assert not getattr(complete, "__abstractmethods__", None)


def test_settings_of_one_stage_have_one_group():
    @dataclasses.dataclass(frozen=True)
    class Location:
        """Location of things."""

        path: str = setting("", "a path")

    parser = argparse.ArgumentParser()
    cli.add_settings(parser, Location)
    assert "Location of things:\n  --path TEXT" in parser.format_help()


def test_values_do_not_break_the_lines_of_an_error(capsys):
    def command():
        raise UserError("one\r\x1b[2J\u2028two\nthree")

    with pytest.raises(SystemExit):
        cli.run(command)
    assert capsys.readouterr().err == "error: one\\r\\x1b[2J\\u2028two\nthree\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--saved-models=a\r"], "--saved-models must not contain control characters, got 'a\\r'."),
        (["--name=\r\r"], "--name must be the name of a model, got '\\r\\r'."),
        (["--name=a\nb"], "--name must be the name of a model, got 'a\\nb'."),
        (["--name=../sentiment"], "--name must be the name of a model, got '../sentiment'."),
        (["--name="], "--name must be the name of a model, got ''."),
    ],
)
def test_names_and_paths_with_control_characters_are_rejected(argv, message, capsys):
    with pytest.raises(SystemExit):
        cli.run(lambda: look.main(["sentiment", "a dull film", *argv]))
    assert capsys.readouterr().err.splitlines()[0] == f"error: {message}"


def test_a_lack_of_memory_is_reported(capsys):
    def exhausted():
        raise MemoryError("Unable to allocate 1 TiB")

    with pytest.raises(SystemExit) as ended:
        cli.run(exhausted)
    assert ended.value.code == cli.FAILED
    assert capsys.readouterr().err == "error: out of memory: Unable to allocate 1 TiB.\n"


@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
def test_a_setting_must_be_a_finite_number(value):
    with pytest.raises(UserError, match="--dropout must be"):
        tasks.find("sentiment").Config(dropout=float(value))
    with pytest.raises(UserError, match="--word-dropout must be"):
        tasks.find("tagging").Config(word_dropout=float(value))


def test_a_setting_fits_into_32_bits():
    assert tasks.find("sentiment").Config(seed=2**31 - 1).seed == 2**31 - 1
    with pytest.raises(UserError, match="--seed must be at most 2147483647, got 2147483648"):
        tasks.find("sentiment").Config(seed=2**31)


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_closed_stream_is_no_error(name, monkeypatch):
    monkeypatch.setattr(sys, name, None)  # as Python has it after `>&-`
    cli.run(lambda: print("text", file=getattr(sys, name)))
    assert getattr(sys, name).name == os.devnull


def test_a_closed_input_is_empty(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    read = []
    cli.run(lambda: read.append(sys.stdin.read()))
    assert read == [""] and not sys.stdin.isatty()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_output_that_is_full_is_reported():
    program = "from app import cli; cli.run(lambda: print('text'))"
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-c", program]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert result.stderr == "error: standard output: No space left on device.\n"
    assert result.returncode == 2


def test_tensorflow_does_not_follow_the_locale(monkeypatch):
    monkeypatch.setenv("LC_ALL", "tr_TR.UTF-8")
    with cli.quiet():
        assert os.environ["LC_ALL"] == "C.UTF-8"


def test_another_interruption_ends_a_command_at_once(monkeypatch, capsys):
    handlers = []
    monkeypatch.setattr(signal, "signal", lambda *handler: handlers.append(handler))

    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        cli.run(interrupted)
    assert ended.value.code == 130 and capsys.readouterr().err == "\ninterrupted\n"
    assert handlers == [(signal.SIGINT, signal.SIG_DFL)]


def test_an_interruption_in_a_destructor_is_not_lost():
    program = (
        "import signal, time\n"
        "from app import cli\n"
        # A process in the background of a shell ignores the signal otherwise.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "class Interrupted:\n"
        "    def __del__(self):\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "def main():\n"
        "    Interrupted()\n"
        "    print('goes on', flush=True)\n"
        "    time.sleep(60)\n"
        "cli.run(main)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "goes on\n", "\ninterrupted\n")


def test_other_errors_in_a_destructor_are_reported(monkeypatch):
    reports = []
    monkeypatch.setattr(
        sys, "unraisablehook", lambda unraisable: reports.append(unraisable.exc_type)
    )

    class Failing:
        def __del__(self):
            raise ValueError

    cli.run(Failing)
    cli.run(lambda: None)
    Failing()
    assert reports == [ValueError, ValueError]


def test_tensorflow_is_imported_without_what_keras_imports_for_galleries():
    program = (
        "import sys\n"
        "from app import cli\n"
        "with cli.with_tensorflow():\n"
        "    assert 'keras' in sys.modules\n"
        "    assert not {'sklearn', 'matplotlib'} & set(sys.modules)\n"
        "    import matplotlib.figure, sklearn.base\n"
        "print(len({'sklearn.base', 'matplotlib.figure'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr
