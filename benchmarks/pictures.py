"""Figures of the documentation, from the latest version of each task.

    for task in sentiment captioning translation; do python -m app.train $task; done
    python -m app.train tagging --epochs 2
    python -m benchmarks.pictures

Writes docs/images/<task>.png: the learning curves of sentiment, the confusion matrix of tagging,
and the attention of captioning and of translation. The versions in saved_models/ must have been
trained on the embedded samples; tagging for two epochs, after which there are errors to be seen.

    pip install -r requirements-browser.txt
    python -m benchmarks.pictures --only demo_sentiment demo_tagging

writes docs/images/demo_<task>.png: the page of app.demo in headless Chromium.
"""

import argparse
import csv
import shutil
import threading
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

import tasks
from app import cli
from app.report import plots
from app.serving import versions
from app.serving.demo import catalogue, http_server
from app.serving.session import SavedModelSession
from tasks.core.errors import UserError
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


class DemoPicture(NamedTuple):
    """Picture of the page of app.demo.

    Attributes:
        task: The task whose latest version responds.
        text: The request.
        size: Width and height in pixels.
        scheme: "light" or "dark".
    """

    task: str
    text: str
    size: tuple[int, int]
    scheme: str


DEMO = {
    "demo_sentiment": DemoPicture(
        "sentiment",
        "the plot , which the critics called dull , is far from dull",
        (1200, 1300),
        "light",
    ),
    "demo_tagging": DemoPicture("tagging", "the old man the boats", (390, 1250), "dark"),
}


def demo(saved_models: Path, picture: DemoPicture) -> bytes:
    """Returns a picture of the page with the response to a text, as the bytes of a PNG file.

    Raises:
        UserError: Chromium is not installed, or the task has no version.
    """
    from playwright.sync_api import sync_playwright

    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if not browser:
        raise UserError("chromium is not installed.")
    models = catalogue.local(saved_models, [picture.task])
    width, height = picture.size
    with http_server.DemoServer(models) as server, sync_playwright() as running:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        chromium = running.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_page(
            viewport={"width": width, "height": height}, color_scheme=picture.scheme
        )
        for _ in range(2):  # the first response takes longer, as the model is loaded for it
            page.goto(server.url)
            page.get_by_label("text", exact=True).fill(picture.text)
            page.get_by_role("button", name="Send", exact=True).click()
            page.wait_for_selector("#gates canvas")
        content = page.screenshot()
        chromium.close()
        server.shutdown()
    return content


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--saved-models", type=Path, default=Path("saved_models"))
    parser.add_argument(
        "--only",
        choices=[*FIGURES, *DEMO],
        nargs="+",
        default=list(FIGURES),
        help="pictures to write; those of app.demo need Chromium (default: the others)",
    )
    args = parser.parse_args()
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name in args.only:
        if name in DEMO:
            (IMAGES / f"{name}.png").write_bytes(demo(args.saved_models, DEMO[name]))
            continue
        version = versions.find(args.saved_models, name)
        task = tasks.find(name).restore(version / "assets")
        figure = FIGURES[name](version, task, SavedModelSession(version))
        (IMAGES / f"{name}.png").write_bytes(plots.png(figure, dpi=100))


if __name__ == "__main__":
    cli.run(main)
