"""The command that inspects a corpus."""

import collections

import pytest

import tasks
from app import inspect_data
from app.report import data
from tests.conftest import labelled


def test_remarks_are_printed_and_a_page_is_written(tmp_path, capsys):
    corpus = labelled(tmp_path / "corpus")
    with (corpus / "train.tsv").open("a", encoding="utf-8") as file:
        file.write("<b>twice</b>\tgood\n<b>twice</b>\tbad\n\u200b odd\tGood\n")
    files = {path: path.read_bytes() for path in corpus.iterdir()}
    argv = ["sentiment", "--data", str(corpus), "--out", str(tmp_path / "page")]
    folder = inspect_data.main(argv)
    lines = capsys.readouterr().out.splitlines()
    assert "examples: train 43, valid 10, test 10" in lines
    assert "1 input of the train part has different labels or tags" in lines
    assert "labels that differ only in case or whitespace: 'Good', 'good'" in lines
    assert lines[-1] == f"page {folder / 'index.html'}"
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert str(tmp_path) not in page and "sentiment: corpus</h1>" in page
    assert "&lt;b&gt;twice" in page and "<b>twice" not in page
    assert page.count("<svg") == 2
    assert "train.tsv:42" in page and "labels that differ only in case" in page
    assert {path: path.read_bytes() for path in corpus.iterdir()} == files


@pytest.mark.parametrize("name", [name for name in tasks.names() if name != "captioning"])
def test_the_sample_of_a_task_has_a_page(name, tmp_path, capsys):
    folder = inspect_data.main([name, "--out", str(tmp_path / "page")])
    assert "examples: train " in capsys.readouterr().out
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "Frequent words" in page or "Words of the train part" in page


def test_the_words_of_trees_are_those_of_their_leaves(tmp_path, capsys):
    rows = ["(3 (2 a) (4 film))", "(1 (1 a) (2 film))", "(2 (2 dull) (2 film))"]
    for part in ("train", "valid", "test"):
        (tmp_path / f"{part}.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    argv = ["sentiment", "--trees", "--data", str(tmp_path), "--out", str(tmp_path / "page")]
    page = (inspect_data.main(argv) / "index.html").read_text(encoding="utf-8")
    assert "the same text has different labels" in page
    assert ">dull film<" in page and "(2 dull)" not in page


def test_a_corpus_of_single_parts_is_named_by_its_train_part(tmp_path):
    corpus = labelled(tmp_path / "corpus")
    argv = ["--train", str(corpus / "train.tsv"), "--test", str(corpus / "test.tsv")]
    folder = inspect_data.main(["sentiment", *argv, "--out", str(tmp_path / "page")])
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "sentiment: train.tsv</h1>" in page


def test_many_classes_fit_on_a_page(tmp_path, capsys):
    path = tmp_path / "train.tsv"
    path.write_text("".join(f"text {n}\tclass {n % 300}\n" for n in range(3000)))
    folder = inspect_data.main(["sentiment", "--data", str(path), "--out", str(tmp_path / "page")])
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "250 others" in page and len(page) < 500_000


def test_long_names_of_classes_leave_room_for_bars():
    names = [f"{n} an unusually long name of a class here" for n in range(5)]
    counts = {part: collections.Counter(names) for part in ("train", "valid", "test")}
    figure = data._class_counts(counts)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert axes.get_window_extent().width > 2.5 * figure.dpi


def test_a_single_class_is_not_summed_up_as_others(tmp_path):
    labels = [f"class {n}" for n in range(51)]
    for part in ("train", "valid", "test"):
        lines = [f"{part} text {n}\t{label}\n" for n, label in enumerate(labels)]
        (tmp_path / f"{part}.tsv").write_text("".join(lines), encoding="utf-8")
    argv = ["sentiment", "--data", str(tmp_path), "--out", str(tmp_path / "page")]
    page = (inspect_data.main(argv) / "index.html").read_text(encoding="utf-8")
    assert all(label in page for label in labels) and "others" not in page


def test_labels_that_are_measured_numbers_are_one_remark(tmp_path, capsys):
    rows = "".join(f"text {number}\t{number / 7:.3f}\n" for number in range(60))
    (tmp_path / "ratings.tsv").write_text(rows, encoding="utf-8")
    argv = ["sentiment", "--data", str(tmp_path / "ratings.tsv"), "--out", str(tmp_path / "page")]
    inspect_data.main(argv)
    output = capsys.readouterr().out
    message = "60 different numbers, such as 0.000 and 8.429; give --target number to predict"
    assert message in output
    assert "the valid part has no" not in output
    inspect_data.main([*argv[:-1], str(tmp_path / "numbers"), "--target", "number"])
    assert "--target number" not in capsys.readouterr().out
