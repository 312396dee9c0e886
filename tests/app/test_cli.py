"""The command line that all commands share: help, groups, and former names of flags."""

import argparse
import dataclasses
import importlib
import os
import signal
import subprocess
import sys

import pytest

import tasks
from app import cli
from tasks.core.errors import UserError
from tasks.core.settings import EFFECTS, flag, setting

TASK_COMMANDS = ("train", "evaluate", "predict", "look", "beam")
COMMANDS = (*TASK_COMMANDS, "cache", "cells", "deploy", "study")


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
    for stage in EFFECTS:
        fields = [f for f in dataclasses.fields(config) if f.metadata["affects"] == stage]
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


def test_flags_are_not_abbreviated(capsys):
    with pytest.raises(SystemExit):
        parse("--see", "3")
    assert "unrecognized arguments" in capsys.readouterr().err


def test_help_without_a_task_imports_no_tensorflow():
    code = (
        "import sys\n"
        "from app import train\n"
        "try:\n    train.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_settings_of_one_stage_have_one_group():
    @dataclasses.dataclass(frozen=True)
    class Location:
        """Location of things."""

        path: str = setting("", "a path")

    parser = argparse.ArgumentParser()
    cli.add_settings(parser, Location)
    assert "Location of things:\n  --path TEXT" in parser.format_help()


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


def test_another_interruption_ends_a_command_at_once(monkeypatch, capsys):
    handlers = []
    monkeypatch.setattr(signal, "signal", lambda *handler: handlers.append(handler))

    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        cli.run(interrupted)
    assert ended.value.code == 130 and capsys.readouterr().err == "\ninterrupted\n"
    assert handlers == [(signal.SIGINT, signal.SIG_DFL)]
