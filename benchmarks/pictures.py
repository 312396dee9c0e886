"""The pictures of the README: each task trained on its embedded sample, and looked at.

    python -m benchmarks.pictures

Trains the four tasks with their defaults, and writes docs/<task>.png anew: how sentiment
learnt, what tagging confused, what a caption looked at, and what a translation did.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
from pathlib import Path

import tasks
from app.report import pictures
from app.served import Served
from tasks.shapes.judgement import Gaze

DOCS = Path("docs")


def learnt(version: Path, task, served: Served):
    """The learning curves."""
    with (version / "assets.extra/history.csv").open(encoding="utf-8") as file:
        history = [
            {key: float(value) for key, value in row.items()} for row in csv.DictReader(file)
        ]
    best = min(history, key=lambda row: row["val_loss"])
    return pictures.curves(history, int(best["epoch"]))


def confused(version: Path, task, served: Served):
    """The first confusion matrix of the test part."""
    judgement = task.judge(served.answers(task, type(task).Corpus().open().test))
    return pictures.confusion(judgement.confusions[0])


def looked(version: Path, task, served: Served):
    """What the longest of the answers that a report shows looked at."""
    shown = task.illustrate(served.ask_rows, type(task).Corpus().open().test)
    words = [len(each.words if isinstance(each, Gaze) else each.target) for each in shown]
    return pictures.attention(shown[words.index(max(words))])


DRAWN = {"sentiment": learnt, "tagging": confused, "captioning": looked, "translation": looked}


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False).parse_args()
    DOCS.mkdir(exist_ok=True)
    for name in tasks.names():
        with tempfile.TemporaryDirectory() as work:
            argv = [sys.executable, "-m", "app.train", name]
            argv += ["--saved-models", work, "--runs", f"{work}/runs"]
            subprocess.run(argv, check=True)
            version = Path(work) / name / "1"
            task = tasks.find(name).restore(version / "assets")
            figure = DRAWN[name](version, task, Served(version))
            figure.savefig(DOCS / f"{name}.png", dpi=100)


if __name__ == "__main__":
    main()
