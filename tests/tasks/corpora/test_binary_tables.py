"""Labelled texts in Excel workbooks and Parquet files."""

import shutil
import sys

import pytest

import tasks
from tasks.core.errors import UserError
from tasks.corpora.labelled_text import LabelledTexts

ROWS = [(f"this is text number {n}", "good" if n % 2 else "bad") for n in range(12)]


def workbook(path, rows, *more_sheets):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.title = "Reviews"
    for row in rows:
        book.active.append(row)
    for name in more_sheets:
        book.create_sheet(name)
    book.save(path)
    return path


def parquet(path, columns):
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(
        pyarrow.table(columns), path, row_group_size=5
    )
    return path


def read(path, **settings):
    parts, notes = LabelledTexts(data=str(path), **settings)._existing_parts()
    examples = list(parts["train"])
    assert examples[0].origin.startswith(str(path))
    return [(e.values["text"], e.values["label"]) for e in examples], [
        *notes, *parts["train"].notes()
    ]  # fmt: skip


def test_the_first_sheet_of_a_workbook_is_read(tmp_path):
    path = workbook(tmp_path / "a.xlsx", [("text", "label"), *ROWS])
    assert read(path) == (ROWS, [])
    path = workbook(tmp_path / "b.xlsx", [("id", "Label", "Review"), (1, 5, "x"), (), (2, True, 3)])
    examples, notes = read(path)
    assert examples == [("x", "5"), ("3", "true")]
    assert notes == ["b.xlsx: header id, Label, Review, the text is Review and the label Label"]
    assert read(path, text_key="id", label_key="Review")[0] == [("1", "x"), ("2", "3")]
    path = workbook(tmp_path / "c.xlsx", [row[::-1] for row in ROWS], "Notes")
    assert read(path, header=False) == (
        ROWS,
        [
            "c.xlsx: 2 sheets, of which 'Reviews' is read",
            "c.xlsx: no header, the text is column 2 and the label column 1",
        ],
    )


def test_a_parquet_file_is_read(tmp_path):
    texts, labels = zip(*ROWS, strict=True)
    path = parquet(tmp_path / "a.parquet", {"text": texts, "label": labels})
    assert read(path) == (ROWS, [])
    path = parquet(tmp_path / "b.parquet", {"id": [1, 2], "sentence": ["a", "b"], "label": [0, 1]})
    assert read(path) == (
        [("a", "0"), ("b", "1")],
        ["b.parquet: header id, sentence, label, the text is sentence and the label label"],
    )
    path = parquet(tmp_path / "e.parquet", {" text": ["a"], "label ": ["b"]})
    assert read(path)[0] == [("a", "b")]
    path = parquet(tmp_path / "d.parquet", {"remark": ["a"], "label": ["b"]})
    with pytest.raises(UserError, match=r"missing column 'text'; .* Select one with --text-key\.$"):
        read(path)
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(UserError, match=r"d.parquet: not a valid Parquet file: .*[^.]\.$"):
        read(path)
    path = parquet(tmp_path / "c.parquet", {"text": ["a"], "label": [0.5]})
    with pytest.raises(UserError, match=r"c.parquet:1: 'label' must be a string, an integer"):
        read(path)


@pytest.mark.parametrize("packed", ["folder", "zip"])
def test_parts_may_be_parquet_files_or_workbooks(tmp_path, packed):
    folder = tmp_path / "corpus"
    folder.mkdir()
    parquet(folder / "train.parquet", {"text": ["a", "b"], "label": ["x", "y"]})
    workbook(folder / "test.xlsx", [("text", "label"), ("c", "x")])
    path = folder
    if packed == "zip":
        path = shutil.make_archive(str(folder), "zip", tmp_path, "corpus")
    splits = LabelledTexts(data=str(path)).open()
    assert [e.values["text"] for e in splits.test] == ["c"]
    assert sorted(e.values["text"] for p in (splits.train, splits.valid) for e in p) == ["a", "b"]


def test_text_files_precede_workbooks(tmp_path):
    (tmp_path / "reviews.csv").write_text("text,label\na,x\n")
    (tmp_path / "reviews.xlsx").write_bytes(b"PK")
    parts, _ = LabelledTexts(data=str(tmp_path))._existing_parts()
    assert [e.values["text"] for e in parts["train"]] == ["a"]


@pytest.mark.parametrize(
    ("name", "library", "kind"),
    [("a.xlsx", "openpyxl", "an Excel workbook"), ("a.parquet", "pyarrow", "a Parquet file")],
)
def test_damage_and_a_missing_library_are_reported(tmp_path, monkeypatch, name, library, kind):
    (tmp_path / name).write_bytes(b"PK\x03\x04 or PAR1")
    if library == "pyarrow" or pytest.importorskip(library):
        with pytest.raises(UserError, match=rf"{name}: not a valid {kind.split(' ', 1)[1]}: "):
            read(tmp_path / name)
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setitem(sys.modules, f"{library}.parquet", None)
    with pytest.raises(UserError) as error:
        read(tmp_path / name)
    assert str(error.value) == (
        f"{tmp_path / name}: this is {kind}; convert it to text, such as .csv or .tsv, or install "
        f"{library}: pip install -r requirements-tables.txt."
    )


@pytest.mark.parametrize("task", ["tagging", "translation"])
def test_other_tasks_name_the_format(tmp_path, task):
    path = parquet(tmp_path / "a.parquet", {"text": ["a"], "label": ["b"]})
    with pytest.raises(UserError, match=r"this is a Parquet file; convert it to text"):
        list(tasks.find(task).Corpus(data=str(path)).open().train)
