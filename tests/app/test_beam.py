"""The version that `app.predict` asks, asked by Apache Beam on its local runner."""

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
def asked(tmp_path_factory):
    """A folder with an untrained version of sentiment and some lines in two files."""
    folder, source = tmp_path_factory.mktemp("asked"), random.Random(0)
    untrained.version("sentiment", folder / "saved_models")
    lines = [" ".join(source.choices(WORDS, k=source.randrange(40))) for _ in range(LINES)]
    text = "\n".join([*lines, "", "好看的电影!", "dull\r"])
    (folder / "lines-1.txt").write_text(text[: len(text) // 2], encoding="utf-8")
    (folder / "lines-2.txt").write_text(text[len(text) // 2 :], encoding="utf-8")
    return folder


def run(verb, folder, source, to, *more):
    """Runs a verb from files of the folder to others of it."""
    argv = ["sentiment", "--from", str(folder / source), "--to", str(folder / to), *more]
    at = argv.index("--") if "--" in argv else len(argv)
    verb.main([*argv[:at], "--saved-models", str(folder / "saved_models"), *argv[at:]])


def test_the_local_runner_answers_each_line_as_the_plain_command(asked, capsys):
    pytest.importorskip("apache_beam", reason="requirements-beam.txt is not installed")
    run(beam, asked, "lines-*.txt", "beam", "--", "--direct_num_workers", "1")
    for number in (1, 2):
        run(predict, asked, f"lines-{number}.txt", f"plain-{number}", "--json")
    given, wanted = (
        sorted(
            (json.loads(line) for file in asked.glob(names) for line in file.open("rb")),
            key=lambda each: each["text"],
        )
        for names in ("beam-*.jsonl", "plain-*")
    )
    assert len(given) == LINES + 4  # the cut between the files makes one more
    for ours, other in zip(given, wanted, strict=True):
        assert (ours["text"], ours["label"]) == (other["text"], other["label"])
        assert ours["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)
    with pytest.raises(UserError, match="already exists"):
        run(beam, asked, "lines-*.txt", "beam")
    with pytest.raises(UserError, match="no file matches"):
        run(beam, asked, "none-*.txt", "other")


def test_the_engine_is_optional_and_its_absence_is_told(asked, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(UserError, match=r"pip install -r requirements-beam\.txt"):
        run(beam, asked, "lines-*.txt", "other")


@pytest.mark.parametrize(
    "argv, told",
    [
        (["tagging", "--input", "conllu"], "reads one request per line"),
        (["translation", "--align", "new.png"], "draws a figure"),
        (["sentiment", "--runner", "FlinkRunner"], "unrecognized arguments: --runner"),
    ],
)
def test_what_cannot_be_is_told_in_plain_words(argv, told, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.run(lambda: beam.main([*argv, "--from", "a", "--to", "b"]))
    assert stopped.value.code == 2
    assert told in capsys.readouterr().err
