"""Predictions with Apache Beam on its local runner, against those of `app.predict`."""

import json
import random
import sys

import pytest

from app import beam, cli, predict
from tasks.core.errors import UserError
from tests.support import untrained

WORDS = ("the", "plot", "is", "far", "from", "dull", ",", "and", "a", "warm", "cast", "superb")
LINES = 200


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with an untrained version of sentiment and some lines in two files."""
    folder, source = tmp_path_factory.mktemp("beam"), random.Random(0)
    untrained.version("sentiment", folder / "saved_models")
    lines = [" ".join(source.choices(WORDS, k=source.randrange(40))) for _ in range(LINES)]
    text = "\n".join([*lines, "", "好看的电影!", "dull\r"])
    (folder / "lines-1.txt").write_text(text[: len(text) // 2], encoding="utf-8")
    (folder / "lines-2.txt").write_text(text[len(text) // 2 :], encoding="utf-8")
    return folder


def run(command, folder, source, to, *more):
    """Runs a command from some files of the folder to others."""
    argv = ["sentiment", "--from", str(folder / source), "--to", str(folder / to), *more]
    end = argv.index("--") if "--" in argv else len(argv)
    command.main([*argv[:end], "--saved-models", str(folder / "saved_models"), *argv[end:]])


def test_the_local_runner_predicts_each_line_as_the_plain_command_does(folder, capsys):
    pytest.importorskip("apache_beam", reason="requirements-beam.txt is not installed")
    run(beam, folder, "lines-*.txt", "beam", "--", "--direct_num_workers", "1")
    for number in (1, 2):
        run(predict, folder, f"lines-{number}.txt", f"plain-{number}", "--json")
    beam_rows, plain_rows = (
        sorted(
            (json.loads(line) for file in folder.glob(pattern) for line in file.open("rb")),
            key=lambda row: row["text"],
        )
        for pattern in ("beam-*.jsonl", "plain-*")
    )
    assert len(beam_rows) == LINES + 4  # one line is split between the files
    for row, other in zip(beam_rows, plain_rows, strict=True):
        assert (row["text"], row["label"]) == (other["text"], other["label"])
        assert row["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)
    with pytest.raises(UserError, match="already exists"):
        run(beam, folder, "lines-*.txt", "beam")
    with pytest.raises(UserError, match="no file matches"):
        run(beam, folder, "none-*.txt", "other")


def test_a_prefix_must_not_be_a_pattern(folder):
    with pytest.raises(UserError, match=r"--to must not contain \*, .*out\[1\]'"):
        run(beam, folder, "lines-*.txt", "out[1]")


def test_apache_beam_is_optional_and_its_absence_is_reported(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(UserError, match=r"pip install -r requirements-beam\.txt"):
        run(beam, folder, "lines-*.txt", "other")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["tagging", "--input", "conllu"], "reads one request per line"),
        (["translation", "--align", "new.png"], "draws a figure"),
        (["sentiment", "--runner", "FlinkRunner"], "unrecognized arguments: --runner"),
    ],
)
def test_invalid_flags_are_reported(argv, message, capsys):
    with pytest.raises(SystemExit) as exit_info:
        cli.run(lambda: beam.main([*argv, "--from", "a", "--to", "b"]))
    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err
