"""Containers and encodings of the files of a corpus, for every task."""

import io
import random
import zipfile

import pytest
from PIL import Image

import tasks
from tasks.core.errors import UserError
from tests.support import by_task


def image_file(kind="PNG", size=(9, 7)):
    file = io.BytesIO()
    Image.new("RGB", size, "red").save(file, kind)
    return file.getvalue()


PICTURE = image_file()
# A file that every task can read, and the values of its examples.
FILES = {
    "sentiment": ("all.tsv", "la mère\tgüt\nàéîõü 好\tschlecht\n"),
    "tagging": ("all.tsv", "la\tDET\nmère\tNOUN\n\nàéîõü\tX\n好\tX\n"),
    "translation": ("all.tsv", "la mère\tthe mother\nàéîõü 好\tgood\n"),
    "captioning": ("captions.tsv", "a.png\tla mère\na.png\tàéîõü 好\n"),
}
VALUES = {
    "sentiment": [
        {"text": "la mère", "label": "güt"},
        {"text": "àéîõü 好", "label": "schlecht"},
    ],
    "tagging": [
        {"tokens": ("la", "mère"), "tags": ("DET", "NOUN")},
        {"tokens": ("àéîõü", "好"), "tags": ("X", "X")},
    ],
    "translation": [
        {"text": "la mère", "translation": "the mother"},
        {"text": "àéîõü 好", "translation": "good"},
    ],
    "captioning": [{"image_bytes": PICTURE, "captions": ("la mère", "àéîõü 好")}],
}


def corpus_file(task):
    return by_task.lookup(FILES, task, "FILES of tests/tasks/corpora/test_filesystem.py")


def read(task, path, **flags):
    """Returns the values of the examples of a file, folder or zip that is one part."""
    stream, _ = tasks.find(task).Corpus(train=str(path), **flags).part("train")
    return [example.values for example in stream]


def zipped(folder, files, method=zipfile.ZIP_DEFLATED):
    path = folder / "corpus.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def with_header(path, name, *, flags=None, method=None):
    """Changes the two headers of a file in a zip archive."""
    raw = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        local = archive.getinfo(name).header_offset
    central = raw.rindex(name.encode()) - 46
    assert raw[local : local + 4] == b"PK\x03\x04" and raw[central : central + 4] == b"PK\x01\x02"
    for start in (local + 6, central + 8):
        if flags is not None:
            raw[start] |= flags
        if method is not None:
            raw[start + 2 : start + 4] = method.to_bytes(2, "little")
    path.write_bytes(raw)


UNSUPPORTED = {
    "encrypted": ({"flags": 1}, "it is encrypted"),
    "strongly encrypted": ({"flags": 0x41}, "it is encrypted"),
    "AES": ({"flags": 1, "method": 99}, "it is encrypted"),
    "Deflate64": (
        {"method": 9},
        "it is compressed with Deflate64, which Python cannot unpack",
    ),
    "another method": (
        {"method": 77},
        "it is compressed with method 77, which Python cannot unpack",
    ),
}


@pytest.mark.parametrize("task", tasks.names())
@pytest.mark.parametrize("name", UNSUPPORTED)
def test_a_zip_that_python_cannot_unpack_is_reported(tmp_path, task, name):
    header, reason = UNSUPPORTED[name]
    table, text = corpus_file(task)
    path = zipped(tmp_path, {table: text, "a.png": PICTURE})
    with_header(path, table, **header)
    with pytest.raises(UserError) as error:
        read(task, path)
    assert str(error.value) == (
        f"{path}/{table}: cannot be read: {reason}; unpack the archive and give the folder."
    )


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_an_image_that_python_cannot_unpack_is_reported_or_skipped(tmp_path, name):
    header, reason = UNSUPPORTED[name]
    table, text = corpus_file("captioning")
    path = zipped(tmp_path, {table: text + "b.png\tbad\n", "a.png": PICTURE, "b.png": PICTURE})
    with_header(path, "b.png", **header)
    problem = f"{path}/{table}:3: {path}/b.png: cannot be read: {reason}; unpack the archive and"
    with pytest.raises(UserError) as error:
        read("captioning", path)
    assert str(error.value).startswith(problem)
    assert read("captioning", path, skip_bad=True) == VALUES["captioning"]


def test_texts_in_class_folders_that_python_cannot_unpack_are_reported(tmp_path):
    path = zipped(tmp_path, {"good/1.txt": "a", "bad/1.txt": "b"})
    with_header(path, "bad/1.txt", flags=1)
    with pytest.raises(UserError, match=r"bad/1\.txt: cannot be read: it is encrypted"):
        read("sentiment", path)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_a_damaged_zip_is_an_error_without_a_traceback(tmp_path, method):
    table, text = corpus_file("sentiment")
    path = zipped(tmp_path, {f"c/{table}": text * 3, "c/sub/": ""}, method)
    raw, draw, reported = path.read_bytes(), random.Random(4), 0
    for _ in range(300):
        position = draw.randrange(len(raw))
        damaged = raw[:position] + bytes([draw.choice((0, 255, draw.randrange(256)))])
        path.write_bytes(draw.choice((damaged, damaged + raw[position + 1 :])))
        try:
            read("sentiment", path)
        except UserError:
            reported += 1
    assert reported > 100
