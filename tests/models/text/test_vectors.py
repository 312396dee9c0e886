"""Files of word vectors, written byte by byte here and read by the project."""

import gzip
import hashlib
import struct

import numpy as np
import pytest

from models.text import vectors
from models.text.vectors import VectorFileError

ROWS = [
    ("the", (0.5, -1.0, 0.25)),
    ("Paris", (1.0, 2.0, 3.0)),
    ("paris", (4.0, 5.0, 6.0)),
    ("né", (-0.5, 0.0, 7.0)),
    ("film", (0.125, 8.0, -9.0)),
]


def glove(rows):
    return "".join(f"{word} {' '.join(map(str, row))}\n" for word, row in rows).encode()


def text(rows):
    lines = "".join(f"{word} {' '.join(map(str, row))} \n" for word, row in rows)
    return f"{len(rows)} {len(rows[0][1])}\n{lines}".encode()


def binary(rows, newline=b"\n"):
    data = b"%d %d\n" % (len(rows), len(rows[0][1]))
    for word, row in rows:
        data += word.encode() + b" " + struct.pack(f"<{len(row)}f", *row) + newline
    return data


FORMATS = {
    "GloVe text": glove,
    "word2vec text": text,
    "word2vec binary": binary,
    "word2vec binary without newlines": lambda rows: binary(rows, b""),
    "GloVe text with CRLF": lambda rows: glove(rows).replace(b"\n", b"\r\n"),
    "GloVe text without a last newline": lambda rows: glove(rows)[:-1],
}


@pytest.fixture
def write(tmp_path):
    def written(data):
        path = tmp_path / "vectors.file"
        path.write_bytes(data)
        return path

    return written


@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_detected_and_read(name, gzipped, write):
    data = FORMATS[name](ROWS)
    path = write(gzip.compress(data) if gzipped else data)
    read = vectors.read(path, (), 10)
    assert name.startswith(read.format.kind)
    assert read.format.gzipped == gzipped and str(read.format).endswith(", gzipped") == gzipped
    assert dict(zip(read.words, map(tuple, read.table.tolist()), strict=True)) == dict(ROWS)
    assert read.table.dtype == np.float32
    assert (read.rows, read.malformed, read.examples) == (5, 0, ())
    assert read.checksum == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["GloVe text", "word2vec binary"])
def test_needed_rows_and_the_first_others_are_kept(name, write):
    path = write(FORMATS[name](ROWS))
    assert vectors.read(path, {"film", "absent"}, 0).words == ("film",)
    assert vectors.read(path, {"film"}, 2).words == ("the", "Paris", "film")
    others = vectors.read(path, {"film"}, 2, suits=lambda word: word != "Paris")
    assert others.words == ("the", "paris", "film")


def test_of_equal_keys_the_exact_word_wins_then_the_first(write):
    rows = [("PARIS", (7.0,)), ("Rome", (1.0,)), ("paris", (2.0,)), ("ROME", (3.0,))]
    rows += [("paris", (4.0,))]
    read = vectors.read(write(text(rows)), {"paris"}, 10, str.lower)
    assert dict(zip(read.words, read.table[:, 0].tolist(), strict=True)) == {
        "paris": 2.0,
        "rome": 1.0,
    }


def test_more_rows_than_are_allocated_together_keep_their_order(write, monkeypatch):
    monkeypatch.setattr(vectors, "_BLOCK", 4)
    monkeypatch.setattr(vectors, "_CHUNK", 7)
    rows = [(f"w{n}", (float(n), -float(n))) for n in range(11)]
    read = vectors.read(write(binary(rows)), (), 11)
    assert read.words == tuple(word for word, _ in rows)
    assert read.table.tolist() == [list(row) for _, row in rows]


def test_malformed_rows_are_skipped_and_described_by_line(write):
    lines = glove(ROWS).split(b"\n")
    lines[1:1] = [b"short 1 2", b"word 1 nan 2", b"caf\xe9 1 2 3", b"letters 1 x 2", b" 1 2 3"]
    path = write(b"\n".join(lines))
    read = vectors.read(path, (), 10)
    assert (read.rows, read.malformed) == (5, 5)
    assert read.words == tuple(word for word, _ in ROWS)
    assert read.examples == (
        f"{path}:2: expected a word and 3 numbers, got 2 numbers.",
        f"{path}:3: the values of 'word' are not finite numbers.",
        f"{path}:4: the word is not UTF-8.",
    )


def test_a_row_with_too_many_numbers_is_malformed(write):
    rows = glove([*ROWS, ("New York", (1, 2, 3))]) + b"long 0.25 1 2 3\n"
    path = write(rows)
    read = vectors.read(path, ("New York", "long 0.25"), 10)
    assert read.words == (*(word for word, _ in ROWS), "New York")
    assert read.examples == (f"{path}:7: expected a word and 3 numbers, got 4 numbers.",)


def test_words_with_blanks_are_not_kept_unless_needed(write):
    path = write(glove([*ROWS, (". . .", (1, 2, 3)), ("a\u00a0b", (4, 5, 6))]))
    assert vectors.read(path, (), 10).words == tuple(word for word, _ in ROWS)
    assert vectors.read(path, {"a\u00a0b"}, 0).table.tolist() == [[4, 5, 6]]


HTML = b"\n<!DOCTYPE html><html><title>Sign in</title></html>"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty; expected word vectors"),
        (b"\n \n", "is empty"),
        (gzip.compress(b"", mtime=0), "is empty"),
        (HTML, "is an HTML page, not word vectors"),
        (gzip.compress(HTML, mtime=0), "is an HTML page"),
        (b"PK\x03\x04...", "is a zip archive; unpack it"),
        (b"A text about vectors\n", ":1: expected a word and numbers .* got 'A text about"),
        (b"word\n", ":1: expected a word and numbers"),
        (b"3 4\n", "has a header, but no rows"),
        (b"3 0\nthe 1\n", ":1: expected from 1 to 16384 dimensions, got 0"),
        (b"3 4\nthe 1 2 3\n", ":2: expected a word and 4 numbers, as line 1 states, got 3"),
        (b"3 4\nneither of them\n", ":2: expected a word and 4 numbers, .* in text or in binary"),
        (binary(ROWS)[:-9], "is truncated: it ends in row 5 of 5"),
        (gzip.compress(glove(ROWS), mtime=0)[:-12], "is damaged or truncated"),
        (b"\x1f\x8bxxxxxxxxxxxxxxxxx", "is damaged or truncated"),
        (b"a 1 2\n" + b"b 1\n" * 200, ":2: expected a word and 2 numbers, got 1 numbers. 100 rows"),
    ],
)
def test_what_is_no_file_of_vectors_is_rejected(data, message, write):
    path = write(data)
    with pytest.raises(VectorFileError, match=message) as raised:
        vectors.read(path, (), 10)
    assert str(path) in str(raised.value)


def test_a_path_that_cannot_be_read_is_rejected(tmp_path):
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(VectorFileError, match=f"{path} cannot be read: "):
            vectors.detect(path)
