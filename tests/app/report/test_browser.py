"""Pages in headless Chromium at three widths: nothing overflows, no word is broken, all is legible.

Without Playwright (requirements-browser.txt) or Chromium these tests are skipped. With
SCREENSHOTS=DIR they write pictures of the pages, light and dark.
"""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from app.report import data, pages
from app.studies import report as study_report
from app.studies.experiments import Experiment
from tasks.core import survey
from tasks.core.evaluation import Alignment, AttentionMaps, Confusion, Evaluation, Table
from tasks.core.examples import Example, Splits, Stream
from tests.app.report.test_figures import HISTORY, image_bytes, record

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed"),
]
WIDTHS = (360, 800, 1440)
MAX_SHRINKAGE = 0.83  # of a figure: its smallest text has 10.7 pixels, and here 8.9
# Words whose characters are not on one line, and how far figures are scaled down.
MEASURE = """() => {
  const result = {overflow: document.documentElement.scrollWidth - innerWidth, broken: [],
    scales: []};
  const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    for (const match of node.data.matchAll(/[^\\s-]+/g)) {
      const range = document.createRange();
      range.setStart(node, match.index);
      range.setEnd(node, match.index + match[0].length);
      const boxes = [...range.getClientRects()].filter((box) => box.width > 0);
      if (new Set(boxes.map((box) => Math.round(box.top))).size > 1) result.broken.push(match[0]);
    }
  }
  for (const svg of document.querySelectorAll("svg.figure")) {
    const natural = parseFloat(svg.style.getPropertyValue("--width"));
    result.scales.push(svg.getBoundingClientRect().width / natural);
  }
  const style = getComputedStyle(document.body);
  return {...result, back: style.backgroundColor, text: style.color};
}"""


def report_page():
    """A report with long texts, many classes and every figure."""
    rng = np.random.default_rng(0)
    names = [f"class {n}" for n in range(17)]
    columns = ["reference", "prediction", "probability", "text", "origin"]
    mistake = ["positive", "negative", 0.512, "a long text of several words " * 8, "sample:test:36"]
    evaluation = Evaluation(
        300,
        {"accuracy": 0.7692, "mean_absolute_error": 2.0456},
        tables=[Table("By class", ["class", "share", "count"], [["negative", 0.5, "1,444"]] * 9)],
        confusions=[Confusion("Confusion matrix", names, rng.integers(0, 9, [17, 17]))],
        mistakes=Table("Mistakes", columns, [mistake] * 3),
    )
    words = ["a", "circle", "above", "the", "square"]
    attention = [
        AttentionMaps(image_bytes(80, 60), words, rng.random([5, 4, 4])),
        Alignment([f"s{n}" for n in range(40)], ["t"], rng.random([1, 40])),
    ]
    changes = {"command": "python -m app.train sentiment --cell lstm --units 32 --epochs 2"}
    return pages.page(record(**changes), HISTORY, evaluation, ["A limit."], attention)


def study_page(folder):
    records = {
        Experiment("adding", cell, cell, seed, (("length", 200), ("steps", 1500))): {
            "scores": {"squared_error": 0.01 * (seed + 1)},
            "parameters": 1444,
            "seconds": 1.0,
        }
        for cell in ("lstm", "lstm_peephole")
        for seed in range(3)
    }
    study_report.write(folder, study_report.Preset("A study", {}, [], []), "command", records)
    return (folder / "index.html").read_text(encoding="utf-8")


def data_page():
    texts = [f"a film that nobody has seen number {n}" for n in range(30)]
    examples = [
        Example({"text": text, "label": ("positive", "negative")[n % 2]}, f"train.tsv:{n + 1}")
        for n, text in enumerate(texts)
    ]
    parts = (Stream(lambda: iter(examples)),) * 3
    surveyed = survey.survey(Splits(*parts), lambda e: e.values["text"])
    return data.page("sentiment: train.tsv", ["a remark"], surveyed, "python -m app.inspect_data")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    for name, page in (
        ("report", report_page()),
        ("study", study_page(folder / "study")),
        ("data", data_page()),
    ):
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def luminance(colour):
    values = np.array([float(part) for part in colour[4:-1].split(",")]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["report", "study", "data"])
def test_nothing_overflows_or_breaks_and_all_is_legible(name, width, scheme, folder, browser):
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True
    )
    page = context.new_page()
    page.goto((folder / f"{name}.html").as_uri())
    found = page.evaluate(MEASURE)
    if directory := os.environ.get("SCREENSHOTS"):
        path = Path(directory) / f"{name}_{width}_{scheme}.png"
        page.screenshot(path=str(path), full_page=True)
    context.close()
    assert found["overflow"] <= 0
    assert not found["broken"]
    assert found["scales"] and MAX_SHRINKAGE < min(found["scales"]) <= 1
    back, text = luminance(found["back"]), luminance(found["text"])
    assert (back < 0.05) == (scheme == "dark")
    assert (max(back, text) + 0.05) / (min(back, text) + 0.05) > 7
