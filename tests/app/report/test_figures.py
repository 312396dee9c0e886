"""Figures of reports: any text as a label, and a page that survives a figure that fails."""

import base64
import csv
import importlib
import io
import os
import types

import numpy as np
import pytest
import tensorflow as tf
from matplotlib.text import Text
from PIL import Image

from app.core.images import thumbnail
from app.report import layout, pages, plots
from app.studies import experiments
from app.studies import report as study_report
from tasks.core.evaluation import Alignment, AttentionMaps, Confusion, Evaluation, Table
from tasks.core.examples import Example

HISTORY = [{"epoch": n, "loss": 1.0 / n, "val_loss": 1.1 / n} for n in (1, 2)]
# No formula, a formula, an escaped dollar, and a label that would leave no room for the matrix.
LABELS = ["$", "$$", "a$_$b", r"$\foo$", "$5-$10", r"\$", "^_{}", "word " * 500]


def image_bytes(width=12, height=8):
    file = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(file, "PNG")
    return file.getvalue()


def record(**changes):
    return {
        "task": "sentiment",
        "evaluated": {"signature": "serving_default", "part": "test", "examples": 2},
        "config": {"units": 8},
        "data": {"source": "d", "checksum": "0", "examples": {"train": 2}, "notes": []},
        "epochs": 2,
        "best_epoch": 1,
        "parameters": 10,
        "seconds": {"fit": 1.0},
        "versions": {"python": "3"},
        "commit": None,
        "device": "cpu",
        **changes,
    }


def texts(figure):
    """The texts of a drawn figure."""
    figure.draw_without_rendering()
    return {text.get_text() for text in figure.findobj(Text)}


def drawings(labels):
    """Every figure of a report that has labels."""
    count = len(labels)
    yield plots.confusion(Confusion("classes", labels, np.eye(count, dtype=int).tolist()))
    yield plots.attention(Alignment(labels, labels, np.eye(count).tolist()))
    yield plots.contributions(Alignment(labels, labels[:1], [[-0.5] * count]))
    maps = [[[0.0, 1.0]]] * count
    yield plots.attention(AttentionMaps(image_bytes(), labels, maps))
    score = {"scores": {"accuracy": 0.5}, "parameters": 1, "seconds": 1.0}
    groups = [study_report.Group(label, [score]) for label in labels]
    settings = (("data", labels[1]),)
    comparison = study_report.Comparison("adding", settings, groups, {})
    yield study_report.overview([comparison])
    yield study_report.curve(comparison, "length", ["accuracy"])


def test_any_text_is_a_label_and_none_is_mathematics():
    for figure in drawings(LABELS):
        plots.svg(figure)
        plots.png(figure)
        drawn = texts(figure)
        assert not [text for text in drawn if "$" in text.replace(r"\$", "")], drawn
        assert max(map(len, drawn)) < 100


@pytest.mark.parametrize("error", [ValueError("no such\nglyph"), MemoryError()])
def test_a_figure_that_fails_costs_the_figure_alone(monkeypatch, capsys, error):
    def fail(matrix):
        raise error

    monkeypatch.setattr(plots, "confusion", fail)
    evaluation = Evaluation(2, {"accuracy": 0.5}, confusions=[Confusion("Classes", ["a"], [[1]])])
    page = pages.page(record(), HISTORY, evaluation)
    assert page.count("<svg") == 1 and "Model card" in page
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    assert line.startswith("the figure 'Classes' is left out, because it cannot be drawn: ")
    assert type(error).__name__ in line and type(error).__name__ in page


def test_a_figure_that_fails_costs_no_study(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(study_report, "overview", lambda comparisons: 1 / 0)
    experiment = experiments.Experiment("adding", "lstm", "lstm", 0, ())
    run = {"scores": {"squared_error": 0.1}, "parameters": 1444, "seconds": 1.0}
    study = study_report.Preset("A study", {}, [], [])
    assert "1,444" in study_report.write(tmp_path, study, "command", {experiment: run})
    assert "ZeroDivisionError" in (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "is left out" in capsys.readouterr().out


def test_names_of_files_that_are_not_utf_8_are_shown_with_escapes(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    for figure in drawings([name, "$"]):
        plots.svg(figure)
        assert not [text for text in texts(figure) if "\udce9" in text]
    evaluation = Evaluation(1, {}, mistakes=Table("Mistakes", ["origin"], [[f"{name}.tsv:1"]]))
    data = {"source": f"{name}.tsv", "checksum": "0", "examples": {}, "notes": [name]}
    page = pages.page(record(data=data), HISTORY, evaluation)
    assert page.encode("utf-8").count(rb"caf\xe9") == 6
    experiment = experiments.Experiment("sentiment", "lstm", "lstm", 0, (("tfds_dir", name),))
    run = {"scores": {"accuracy": 0.5}, "parameters": 1, "seconds": 1.0}
    study_report.write(tmp_path, study_report.Preset(name, {}, [], []), name, {experiment: run})
    for file in ("results.csv", "index.html"):
        assert rb"caf\xe9" in (tmp_path / file).read_bytes()


def test_a_confusion_matrix_of_many_classes_is_bounded():
    count = 300
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 5, [count, count]) + 100 * np.diag(np.arange(count) % 7 == 0)
    matrix = Confusion("Classes", [f"class {n}" for n in range(count)], counts)
    shown = matrix.most_frequent(25)
    assert shown.title == "Classes, the 25 most frequent"
    frequent = [int(name.split()[1]) for name in shown.classes[:-1]]
    assert frequent == sorted(frequent) and len(frequent) == 25
    sums = counts.sum(axis=1)
    assert sums[frequent].min() >= np.delete(sums, frequent).max()
    assert shown.classes[-1] == "275 others"
    assert np.sum(shown.counts) == counts.sum()
    assert [sum(row) for row in shown.counts[:-1]] == sums[frequent].tolist()
    assert np.array_equal(np.array(shown.counts)[:-1, :-1], counts[np.ix_(frequent, frequent)])
    assert shown.most_frequent(25) == shown
    figure = plots.confusion(matrix)
    assert max(figure.get_size_inches()) < 15
    assert "275 others" in texts(figure)
    page = pages.page(record(), HISTORY, Evaluation(1, {}, confusions=[matrix]))
    assert ">Classes, the 25 most frequent</h2>" in page


@pytest.mark.parametrize("shape", ["classification", "sequence_labelling"])
def test_tasks_of_many_classes_report_the_most_frequent(shape):
    names = [f"c{n}" for n in range(40)]
    words = types.SimpleNamespace(words=names)
    task = types.SimpleNamespace(
        labels=words,
        tags=words,
        training_words=set(),
        scheme=types.SimpleNamespace(scheme_name=None, reported=names),
        annotations=(),
        edit_scripts=None,
    )
    evaluator = importlib.import_module(f"tasks.shapes.{shape}.evaluation").Evaluator(task)
    responses = []
    probability = {"classification": 0.5, "sequence_labelling": [0.5]}[shape]
    for n in range(39):
        name = names[n].encode()
        values = {"label": names[0], "text": "a", "tokens": ("a",), "tags": (names[0],)}
        response = {"label": name, "probability": probability, "tags": [name]}
        responses.append((Example(values, "a:1"), response))
    [confusion] = evaluator.evaluate(responses).confusions
    assert len(confusion.classes) == len(confusion.counts) == 26
    assert sum(confusion.counts[0]) == 39 and confusion.counts[0][-1] == 14


def test_a_matrix_of_few_classes_is_whole():
    for count in (2, 26):
        matrix = Confusion("Classes", [str(n) for n in range(count)], np.eye(count, dtype=int))
        assert matrix.most_frequent(25).title == "Classes"
        assert matrix.most_frequent(25).counts == np.eye(count, dtype=int).tolist()


@pytest.mark.parametrize("shape", [(6000, 4400), (20_000, 1), (1, 20_000)])
def test_an_attention_map_takes_no_more_memory_for_a_larger_image(shape):
    maps = AttentionMaps(image_bytes(*shape), ["word"] * 20, [[[0.0, 1.0]]] * 20)
    figure = plots.attention(maps)
    assert max(figure.get_size_inches()) < 60
    images = [image.get_array() for axes in figure.axes for image in axes.get_images()]
    assert len(images) == 21 and max(max(array.shape) for array in images) <= 480
    assert plots.png(figure)


def test_an_alignment_of_a_long_text_shows_its_beginning():
    source, target = [f"s{n}" for n in range(5000)], [f"t{n}" for n in range(30)]
    figure = plots.attention(Alignment(source, target, np.ones([30, 5000]).tolist()))
    assert max(figure.get_size_inches()) < 50
    assert {"source, the first 80 of 5000 tokens", "output", "s79", "t29"} <= texts(figure)


@pytest.mark.parametrize("value", [0, 257, 30000, 65535])
def test_an_image_of_16_bits_is_as_bright_as_the_model_reads_it(value):
    file = io.BytesIO()
    Image.fromarray(np.full([8, 9], value, np.uint16)).save(file, "PNG")
    shown = np.asarray(thumbnail(file.getvalue(), (9, 9)))
    read = np.asarray(tf.io.decode_png(file.getvalue(), dtype=tf.uint8))
    assert np.abs(shown.astype(int) - read.astype(int)).max() <= 1


def test_a_photograph_in_a_table_is_scaled_down():
    noise = np.random.default_rng(0).integers(0, 256, [1000, 1500, 3], dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "JPEG", quality=95)
    small = image_bytes()
    html = layout.rows(Table("", ["image"], [[file.getvalue()], [small], [b"\x89PNG" * 2**15]]))
    photograph, logo, damaged = [
        base64.b64decode(cell.split("base64,")[1].split('"')[0]) for cell in html.split("<img ")[1:]
    ]
    assert len(photograph) < len(file.getvalue()) / 10
    assert max(Image.open(io.BytesIO(photograph)).size) == 384
    assert (logo, damaged) == (small, b"\x89PNG" * 2**15)


def test_the_numbers_of_a_table_are_numbers_in_csv(tmp_path):
    experiment = experiments.Experiment("sentiment", "lstm", "lstm", 0, (("units", 1444),))
    run = {"scores": {"accuracy": 1444.5}, "parameters": 1_444_000, "seconds": 144_400.0}
    study = study_report.Preset("A study", {}, [], [])
    study_report.write(tmp_path, study, "command", {experiment: run})
    with (tmp_path / "results.csv").open(encoding="utf-8") as file:
        [row] = csv.DictReader(file)
    numbers = {name: float(row[name]) for name in row.keys() - {"subject", "cell", "score"}}
    assert numbers["parameters"] == 1_444_000 and numbers["seconds"] == 144_400
    assert numbers["value"] == numbers["values"] == 1444.5 and numbers["runs"] == 1
