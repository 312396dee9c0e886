"""Every flag of every command with values that nobody should give.

A value is either accepted, or ends the command with exit code 2 and one to three lines. Work
that takes long is replaced: the command has accepted its flags once it gets there.
"""

import contextlib
import functools
import importlib
import io
import re
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies

import app.models
import models
import tasks
from app import cli, export, report
from app.serving import session
from app.serving.demo import http_server
from app.studies import evolution, experiments, gradients
from app.training import pipeline

FIXTURE = Path(__file__).parents[1] / "fixtures" / "published"
SETTINGS = hypothesis.settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
SAVED = f"--saved-models={FIXTURE}"
# Each command with arguments that are accepted; any flag may be added to them.
COMMANDS = {
    **{f"train {name}": ["train", name] for name in tasks.names()},
    "evaluate": ["evaluate", "sentiment", SAVED, "--test=test.tsv"],
    "predict": ["predict", "sentiment", "a dull film", SAVED],
    "predict --from": ["predict", "sentiment", SAVED, "--from=test.tsv", "--to=responses"],
    "predict --server": [
        *("predict", "sentiment", "a dull film"),
        *("--server=http://localhost:1", "--retries=0", "--timeout=0.5"),
    ],
    "predict grpc": [
        *("predict", "sentiment", "a dull film"),
        *("--server=grpc://localhost:1", "--retries=0", "--timeout=0.5"),
    ],
    "look": ["look", "sentiment", "a dull film", SAVED],
    "look gradients": ["look", "gradients"],
    "beam": ["beam", "sentiment", SAVED, "--from=test.tsv", "--to=responses"],
    "cache": ["cache"],
    "cells": ["cells"],
    "deploy": ["deploy", SAVED],
    "demo": ["demo", SAVED],
    "export": ["export", "sentiment", SAVED, "--format=keras"],
    "models": ["models", "sentiment", SAVED],
    "study adding": ["study", "adding"],
    "study sentiment": ["study", "sentiment"],
    "study preset": ["study", "memory"],
    "study evolve": ["study", "evolve"],
}
WITHOUT_TASK = ("cache", "cells", "demo", "deploy", "models")  # with flags of their own
HOSTILE = [
    *("", " ", "-", "--", "-1", "0", "1", "nan", "inf", "-inf", "1e308", "1e-400", "1e400", "yes"),
    *(str(2**31 - 1), str(2**31), str(2**63), "1" + "0" * 30, "9" * 5000, "\u0663", "1_0", "0x10"),
    *("nan/1/1", "1e308/1e308/1e308", "1/1/1e400", "5e-324/1e308/1", "1/2", "0/1/1", "-1/1/1"),
    *("{", "[" * 100_000, '{"equation":' * 50_000, '{"equation": "lstm", "bias": {"f": 1e999}}'),
    *("*", "[", "**", "a**b", "[!", "~", "~nosuchuser/x", "%", "%s", "%(default)s", "$HOME", "$$"),
    *("tfds:", "tfds:no_such_set", "tfds:\udce9", "tfds:a/b/c:1", "test.tsv", "folder", "lost"),
    *("utf-8", "utf8", "latin-1", "utf-7", "base64", "rot13", "mbcs"),
    *("\udce9", "caf\u00e9", "\u202e", "\U0001f600", "a\nb", "a\tb", "x" * 300, "x" * 5000),
    *("http://", "http://[", "http://\udce9:1", "http://a:99999", "http://a b:1", "ftp://a"),
    *("http://localhost:1/\u00e9", "http://\u00e9\u2024:1", "grpc://localhost", "grpc://:1"),
    *("sentiment=1", "sentiment=9", "sentiment=", "=", "jsb=lost", "jsb=", "lstm", "lstm.json"),
]
FAILED_BEFORE = ["nan", "inf", "1e308/1e308/1e308", "[" * 100_000, "~nosuchuser", "1" + "0" * 30]


class Reached(Exception):
    """The command has accepted its flags."""


def reached(*args, **kwargs):
    raise Reached


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An own folder, with a file and an empty folder, and without the work that takes long."""
    here = tmp_path / "a" / "b"
    (here / "folder").mkdir(parents=True)
    (here / "test.tsv").write_text("a dull film\tnegative\na superb film\tpositive\n")
    monkeypatch.chdir(here)
    monkeypatch.setattr(session, "SavedModelSession", functools.cache(session.SavedModelSession))
    monkeypatch.setattr(models, "load", functools.cache(models.load))
    monkeypatch.setattr(pipeline, "_learn", reached)
    monkeypatch.setattr(report, "inspection_files", reached)
    monkeypatch.setattr(experiments.Runner, "run", reached)
    monkeypatch.setattr(evolution, "evolve", reached)
    monkeypatch.setattr(gradients, "measure", reached)
    monkeypatch.setattr(http_server.DemoServer, "serve_forever", reached)
    monkeypatch.setattr(export, "_export", reached)
    monkeypatch.setattr(app.models, "_remove", reached)
    return here


def flags_of(command):
    """The flags of a command as its help lists them, those with a value and the others."""
    words = command[: 1 + (command[0] not in WITHOUT_TASK)]
    output = io.StringIO()
    with contextlib.redirect_stdout(output), pytest.raises(SystemExit):
        main_of(command)([*words[1:], "--help"])
    lines = re.findall(r"^  (--[a-z-]+)(.*)", output.getvalue(), re.MULTILINE)
    assert len(lines) > 1
    return {name: bool(re.match(" [A-Z{\\[]", rest)) for name, rest in lines}


def main_of(command):
    return importlib.import_module(f"app.{command[0]}").main


def check(command, *flags):
    """Runs a command with more flags; fails unless it ends as a command may."""
    errors = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
        try:
            cli.run(lambda: main_of(command)([*command[1:], *flags]))
        except Reached:
            return
        except SystemExit as ended:
            lines = errors.getvalue().splitlines()
            assert ended.code == cli.FAILED, (flags, lines[:3])
            assert 1 <= len(lines) <= 3, (flags, lines[:5])
            assert lines[0].startswith("error: "), (flags, lines)


VALUES = (
    strategies.sampled_from(HOSTILE)
    | strategies.floats().map(repr)
    | strategies.integers().map(str)
    | strategies.text(strategies.characters(exclude_characters="\0", exclude_categories=["Cs"]))
)


@pytest.mark.parametrize("examples", [25, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", COMMANDS)
def test_no_value_of_a_flag_ends_in_a_traceback(folder, name, examples):
    command = COMMANDS[name]
    flags = flags_of(command)
    with_value = [flag for flag, has_value in flags.items() if has_value]

    @hypothesis.settings(SETTINGS, max_examples=examples)
    @hypothesis.given(strategies.sampled_from(with_value), VALUES)
    def run(flag, value):
        for path in ("responses", "out"):
            Path(path).unlink(missing_ok=True)
        check(command, f"{flag}={value}")

    run()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_flag_rejects_or_accepts_what_has_failed_before(folder, name):
    command = COMMANDS[name]
    for flag, has_value in flags_of(command).items():
        for value in (
            "nan",
            "inf",
            "1e308/1e308/1e308",
            "[" * 100_000,
            "~nosuchuser",
            "1" + "0" * 30,
        ):
            if has_value:
                check(command, f"{flag}={value}")
