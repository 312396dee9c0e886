"""One training on data whose names are hard to draw, to print, to encode and to open.

What runs only after training must accept whatever training accepts: an error there would be
repeated by every retry.
"""

import io
import json
import os
from pathlib import Path

import pytest

import tasks
from app.serving.session import SavedModelSession
from app.training import pipeline

CLASSES = ("$", "$$")  # no formulas
FILE = os.fsdecode(b"na\xefve")  # in Latin-1
COUNTS = {"train": 12, "valid": 4, "test": 4}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The version, and what was printed to an output that takes ASCII alone."""
    folder = tmp_path_factory.mktemp("hostile")
    for part, count in COUNTS.items():
        for index, label in enumerate(CLASSES):
            texts = folder / FILE / part / label
            try:
                texts.mkdir(parents=True)
            except OSError:
                pytest.skip("this file system has only names in UTF-8")
            for number in range(count):
                word = CLASSES[index if part == "train" else number % 2]  # half are mistakes
                text = f"film {number} of {part} {word} good"
                (texts / f"{FILE}_{number}.txt").write_text(text, encoding="utf-8")
    task = tasks.find("sentiment")
    output = io.BytesIO()
    options = pipeline.TrainOptions(
        folder / "out[1]",
        folder / "runs[1]",
        output=io.TextIOWrapper(output, "ascii", write_through=True),
    )
    config = task.Config(units=8, embedding=8, epochs=1)
    corpus = task.Corpus(data=str(folder / FILE))
    version = pipeline.train("sentiment", config, corpus, options)
    return version, output.getvalue().decode("ascii")


def test_the_version_is_published_complete(trained):
    version, printed = trained
    assert version.parts[-3:] == ("out[1]", "sentiment", "1")
    assert [path.name for path in version.parent.iterdir()] == ["1"]  # no draft is left
    assert f"published {version}" in printed and "left out" not in printed
    [row] = SavedModelSession(version).predict([{"text": "film 1"}])
    assert row["label"].decode() in CLASSES


def test_the_report_shows_classes_and_files(trained):
    version, _ = trained
    page = (version / "assets.extra" / "report.html").read_text(encoding="utf-8")
    curves = page.count('role=img aria-label="learning curve of')
    assert curves == 2 and page.count("<svg") == curves + 2
    assert "<td class=short>$$</td>" in page and r"na\xefve_" in page


def test_the_record_is_json_that_every_program_reads(trained):
    version, _ = trained
    record = (version / "assets.extra" / "run.json").read_bytes()
    assert Path(json.loads(record)["data"]["source"]).name == r"na\xefve"
    json.dumps(json.loads(record), ensure_ascii=False).encode("utf-8")
