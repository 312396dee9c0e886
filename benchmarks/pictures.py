"""Figures of the documentation, from the latest version of each task.

    for task in sentiment tagging captioning translation; do python -m app.train $task; done
    python -m benchmarks.pictures

Writes docs/images/<task>.png: the learning curves of sentiment, the confusion matrix of tagging,
and the attention of captioning and of translation. The versions in saved_models/ must have been
trained on the embedded samples.
"""

import argparse
import csv
from pathlib import Path

from matplotlib.figure import Figure

import tasks
from app import cli
from app.report import plots
from app.serving import versions
from app.serving.session import SavedModelSession
from tasks.core.evaluation import Alignment, AttentionMaps

IMAGES = Path("docs/images")


def learning_curves(version: Path, task, session: SavedModelSession) -> Figure:
    """Plots the learning curves."""
    with (version / "assets.extra/history.csv").open(encoding="utf-8") as file:
        history = [
            {key: float(value) for key, value in row.items()} for row in csv.DictReader(file)
        ]
    best = min(history, key=lambda row: row["val_loss"])
    return plots.curves(history, int(best["epoch"]))


def confusion(version: Path, task, session: SavedModelSession) -> Figure:
    """Plots the first confusion matrix of the test part."""
    test = type(task).Corpus().open().test
    evaluation = task.Evaluator(task).evaluate(session.predict_examples(task, test))
    return plots.confusion(evaluation.confusions[0])


def attention(version: Path, task, session: SavedModelSession) -> Figure:
    """Plots the attention of the longest output among the illustrations of a report."""
    test = type(task).Corpus().open().test
    illustrations = task.Evaluator(task).illustrate(session, test)
    return plots.attention(max(illustrations, key=_length))


def _length(weights: Alignment | AttentionMaps) -> int:
    return len(weights.words if isinstance(weights, AttentionMaps) else weights.target)


FIGURES = {
    "sentiment": learning_curves,
    "tagging": confusion,
    "captioning": attention,
    "translation": attention,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--saved-models", type=Path, default=Path("saved_models"))
    parser.add_argument("--only", choices=FIGURES, nargs="+", default=list(FIGURES), help="tasks")
    args = parser.parse_args()
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name in args.only:
        version = versions.find(args.saved_models, name)
        task = tasks.find(name).restore(version / "assets")
        figure = FIGURES[name](version, task, SavedModelSession(version))
        (IMAGES / f"{name}.png").write_bytes(plots.png(figure, dpi=100))


if __name__ == "__main__":
    cli.run(main)
