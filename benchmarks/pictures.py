"""The pictures of the README: the newest version of each task, looked at.

    for task in sentiment tagging captioning translation; do python -m app.train $task; done
    python -m benchmarks.pictures

Writes docs/images/<task>.png, of what the versions in saved_models/ learnt from the embedded
samples: how sentiment learnt, what tagging confused, what a caption looked at, and what a
translation did.
"""

import argparse
import csv
from pathlib import Path

import tasks
from app import cli
from app.report import plots
from app.serving import export
from app.serving.session import SavedModelSession
from tasks.core.evaluation import AttentionMaps

DOCS = Path("docs/images")


def learnt(version: Path, task, served: SavedModelSession):
    """The learning curves."""
    with (version / "assets.extra/history.csv").open(encoding="utf-8") as file:
        history = [
            {key: float(value) for key, value in row.items()} for row in csv.DictReader(file)
        ]
    best = min(history, key=lambda row: row["val_loss"])
    return plots.curves(history, int(best["epoch"]))


def confused(version: Path, task, served: SavedModelSession):
    """The first confusion matrix of the test part."""
    test = type(task).Corpus().open().test
    evaluation = task.Evaluator(task).evaluate(served.predict_examples(task, test))
    return plots.confusion(evaluation.confusions[0])


def looked(version: Path, task, served: SavedModelSession):
    """What the longest of the answers that a report shows looked at."""
    shown = task.Evaluator(task).illustrate(served, type(task).Corpus().open().test)
    words = [len(each.words if isinstance(each, AttentionMaps) else each.target) for each in shown]
    return plots.attention(shown[words.index(max(words))])


DRAWN = {"sentiment": learnt, "tagging": confused, "captioning": looked, "translation": looked}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--saved-models", type=Path, default=Path("saved_models"))
    parser.add_argument("--only", choices=DRAWN, nargs="+", default=list(DRAWN), help="tasks")
    args = parser.parse_args()
    DOCS.mkdir(parents=True, exist_ok=True)
    for name in args.only:
        version = export.find(args.saved_models, name)
        task = tasks.find(name).restore(version / "assets")
        figure = DRAWN[name](version, task, SavedModelSession(version))
        figure.savefig(DOCS / f"{name}.png", dpi=100)


if __name__ == "__main__":
    cli.run(main)
