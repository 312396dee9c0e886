"""The snippets of the documentation run, and the flags, files and links that it names exist."""

import re
import sys
from pathlib import Path

import pytest

import models
import tasks
from app import beam, cells, cli, deploy, evaluate, look, predict, study, train
from app.studies.presets import PRESETS
from tasks import probes

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
every_page = pytest.mark.parametrize("page", PAGES, ids=NAMES)
# Commands of other programs, whose flags are not ours.
FOREIGN = ("docker", "kubectl", "sbatch", "pip", ".venv/bin/python", "DATA_DIR=", "curl")
FOREIGN_INLINE = re.compile(
    r"`(?:pip|docker|kubectl|sbatch|make|\.venv/bin/python -m pytest) [^`]*`"
)


def python_of(page):
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if python_of(page)], ids=lambda page: page.name
)
def test_the_python_of_a_page_runs_in_order(page, published, monkeypatch, capsys):
    monkeypatch.chdir(published.parent)
    monkeypatch.setitem(sys.modules, "gated_rnn", models)  # as if it were installed
    names = {}
    for snippet in python_of(page):
        exec(compile(snippet, str(page), "exec"), names)


def own_commands(text):
    """The commands of this project in a page, and the flags in its prose."""
    lines = []
    for line in text.splitlines():
        command = line.strip()
        if line.startswith("    ") and command.startswith(FOREIGN):
            continue
        own, _, _ = line.partition(" -- ")  # what follows is passed on to Apache Beam
        lines.append(FOREIGN_INLINE.sub("", own))
    return "\n".join(lines)


@pytest.fixture(scope="module")
def flags():
    """Every flag of every command."""
    known = {"--runner"}  # of Apache Beam, which app.beam passes on
    for path in (ROOT / "benchmarks").glob("*.py"):
        known |= set(re.findall(r'"(--[a-z-]+)"', path.read_text(encoding="utf-8")))
    texts = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", Text(texts))
        for command in (train, predict, evaluate, look, beam):
            for task in tasks.names():
                with pytest.raises(SystemExit):
                    cli.run(lambda c=command, t=task: c.main([t, "--help"]))
        subjects = [[name] for name in (*PRESETS, *probes.names(), *tasks.names(), "evolve")]
        others = [(deploy, []), (cells, []), (look, ["gradients"])]
        for command, words in (*others, *((study, words) for words in subjects)):
            with pytest.raises(SystemExit):
                command.main([*words, "--help"])
    return known | set(re.findall(r"--[a-z-]+", "".join(texts)))


class Text:
    """A stream that appends to a list."""

    def __init__(self, texts):
        self.write, self.flush = texts.append, lambda: None


@every_page
def test_every_flag_that_a_page_names_exists(page, flags):
    text = own_commands(page.read_text(encoding="utf-8"))
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) <= flags


@every_page
def test_every_file_that_a_page_names_exists(page):
    text = page.read_text(encoding="utf-8")
    pattern = r"`((?:app|tasks|models|tests|benchmarks|cluster|docs)/[\w/.-]+)`"
    for name in re.findall(pattern, text):
        assert (ROOT / name).exists(), name


@every_page
def test_every_link_of_a_page_resolves(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"https?:", target):
            assert (page.parent / target.partition("#")[0]).exists(), target


def test_the_readme_is_one_page():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
