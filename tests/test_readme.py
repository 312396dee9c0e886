"""The README's snippets run, and what it says of flags and files is so."""

import re
from pathlib import Path

import pytest

import tasks
from app import beam, cli, deploy, evaluate, look, predict, study, train
from app.studies.presets import PRESETS
from tasks import probes

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_the_snippets_for_reuse_run_one_after_another(published, monkeypatch, capsys):
    monkeypatch.chdir(published.parent)
    snippets = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(snippets) >= 4
    names = {}
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), names)
    assert names["stars"].output_shape == (None, 5)
    assert names["network"].output_shape == (None, 1)
    assert "classifier" in capsys.readouterr().out


def test_every_flag_it_names_exists(capsys):
    known = set()
    for verb in (train, predict, evaluate, look, beam):
        for task in tasks.names():
            with pytest.raises(SystemExit):
                cli.run(lambda v=verb, t=task: v.main([t, "--help"]))
            known |= set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    subjects = [[name] for name in (*PRESETS, *probes.names(), *tasks.names(), "evolve")]
    for verb, words in (
        (deploy, []),
        (look, ["gradients"]),
        *((study, words) for words in subjects),
    ):
        with pytest.raises(SystemExit):
            verb.main([*words, "--help"])
        known |= set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    others = {
        "--no-naive",
        "--no-index",
        "--find-links",
        "--demo",
        "--requests",
        "--wheel",
        "--only",
    }
    others |= {"--no-deps"}
    others |= {"--lines", "--runner", "--direct"}  # of benchmarks.bulk and of Apache Beam
    others |= {"--follow", "--nodes", "--task"}  # of kubectl, sbatch and benchmarks.growth
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)) <= known | others


def test_every_file_it_names_exists():
    root = Path(__file__).parent.parent
    for name in re.findall(r"`((?:app|tasks|models|tests|benchmarks)/[\w/.]+)`", README):
        assert (root / name).exists(), name
