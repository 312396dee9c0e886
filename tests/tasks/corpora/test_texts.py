"""Corpora of plain texts: files and folders, documents per line or per file, tables."""

import zipfile
from itertools import chain

import pytest

from tasks.core.errors import UserError
from tasks.corpora.texts import Texts


def write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def texts(stream):
    return [example.values["text"] for example in stream]


def parts(folder, **flags):
    splits = Texts(data=str(folder), **flags).open()
    return {name: texts(getattr(splits, name)) for name in ("train", "valid", "test")}


LAYOUTS = {
    "files": {"train.txt": "a\n\n  b c \n", "dev.txt": "d", "test.txt": "e\n"},
    "components": {
        "wiki.train.tokens": "a\nb c",
        "wiki.valid.tokens": "d",
        "wiki.test.tokens": "e",
    },
    "folders": {"train/1.txt": "a", "train/2.txt": "b c", "valid/1.txt": "d", "test/1.txt": "e"},
    "tables": {"train.tsv": "a\nb c\n", "valid.jsonl": '{"text": "d"}\n', "test.txt": "e"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_parts_are_those_that_the_names_say(layout, tmp_path):
    folder = write(tmp_path / "corpus", LAYOUTS[layout])
    expected = {"train": ["a", "b c"], "valid": ["d"], "test": ["e"]}
    assert parts(folder) == expected
    with zipfile.ZipFile(tmp_path / "corpus.zip", "w") as archive:
        for name, text in LAYOUTS[layout].items():
            archive.writestr(name, text)
    assert parts(tmp_path / "corpus.zip") == expected


def test_a_file_may_be_one_document(tmp_path):
    folder = write(tmp_path, {"train/1.txt": "a\n\nb\n", "train/2.txt": "c", "test.txt": "d\ne"})
    assert parts(folder, documents="file")["test"] == ["d\ne"]
    stream, _ = Texts(data=str(folder), documents="file", valid=str(folder / "test.txt")).part(
        "train"
    )
    assert texts(stream) == ["a\n\nb", "c"]
    assert next(iter(stream)).origin.endswith("1.txt:1")


def test_a_folder_without_parts_is_one_text_that_is_split(tmp_path):
    files = {f"{n}.txt": "\n".join(f"text {n} {m}" for m in range(40)) for n in range(3)}
    read = parts(write(tmp_path, {**files, "README.txt": "about"}))
    assert sorted(chain(*read.values())) == sorted("\n".join(files.values()).split("\n"))
    assert all(read.values())


def test_a_column_is_chosen_by_number_or_name(tmp_path):
    path = write(tmp_path, {"a.tsv": "label\tbody\n1\tone\n2\ttwo\n"}) / "a.tsv"
    for key, expected in (("body", ["one", "two"]), ("2", ["body", "one", "two"])):
        stream, _ = Texts(train=str(path), text_key=key).part("train")
        assert texts(stream) == expected
    for key in ("3", "text"):
        with pytest.raises(UserError, match=r"a\.tsv:1: --text-key must be a column number from"):
            texts(Texts(train=str(path), text_key=key).part("train")[0])


def test_what_is_not_read_is_reported(tmp_path):
    folder = write(tmp_path, {"train.txt": "a", "notes.txt": "b", "x.csv": "c,d"})
    assert "not read: notes.txt; --valid and --test" in Texts(data=str(folder)).open().notes[0]
    with pytest.raises(UserError, match=r"x\.csv: a \.csv is not read as text"):
        texts(Texts(train=str(folder / "x.csv")).part("train")[0])
    write(tmp_path, {"x.json": '[{"text": "a"}]'})
    with pytest.raises(UserError, match=r"x\.json: a \.json is not read as text; convert it to"):
        texts(Texts(train=str(folder / "x.json")).part("train")[0])
    with pytest.raises(UserError, match="'text' must be a string, got '1'"):
        path = write(tmp_path, {"a.jsonl": '{"text": 1}\n'}) / "a.jsonl"
        texts(Texts(train=str(path)).part("train")[0])


def test_the_sample_is_the_same_each_time_and_its_parts_differ():
    splits = Texts().open()
    read = {name: texts(getattr(splits, name)) for name in ("train", "valid", "test")}
    assert read["valid"] == texts(splits.valid) and len(read["train"]) == 2400
    everything = list(chain(*read.values()))
    assert len(set(everything)) == len(everything)
