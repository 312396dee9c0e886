"""Containers and encodings of the files of a corpus, for every task."""

import bz2
import codecs
import gzip
import io
import lzma
import random
import tarfile
import zipfile

import pytest
from PIL import Image

import tasks
from tasks.core.errors import UserError
from tasks.corpora import filesystem
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
    "language_model": ("all.txt", "la mère\nàéîõü 好\n"),
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
    "language_model": [{"text": "la mère"}, {"text": "àéîõü 好"}],
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


# --- Encodings -------------------------------------------------------------------

ENCODINGS = [
    "utf-8", "utf8", "U8", "utf-8-sig", "UTF-16", "utf16", "utf-16-le", "utf-16-be", "utf-32",
    "utf-32-le", "utf-32-be", "utf-7", "gb18030",
]  # fmt: skip
LONG = "àéîõü 好 " * 20_000 + "end"  # spans several chunks, with characters at their borders


def encoded(text, encoding):
    """Returns the bytes of a text without and with a byte order mark."""
    name = codecs.lookup(encoding).name
    name = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}.get(name, name)
    both = [text.encode(name), f"\ufeff{text}".encode(name)]
    if encoding.lower() in ("utf-16", "utf-32"):  # the mark decides
        both.append(f"\ufeff{text}".encode(f"{encoding}-be"))
    return both


@pytest.mark.parametrize("ends", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("task", tasks.names())
def test_every_encoding_is_read_with_and_without_a_byte_order_mark(tmp_path, task, encoding, ends):
    table, text = corpus_file(task)
    (tmp_path / "a.png").write_bytes(PICTURE)
    for raw in encoded(text.replace("\n", ends), encoding):
        (tmp_path / table).write_bytes(raw)
        assert read(task, tmp_path / table, encoding=encoding) == VALUES[task]
        packed = tmp_path / f"{table}.gz"
        packed.write_bytes(gzip.compress(raw))
        (tmp_path / table).unlink()
        assert read(task, packed, encoding=encoding) == VALUES[task]
        packed.unlink()


OTHER_FORMATS = {
    "a.csv": ("sentiment", 'text,label\n"a\nà",好\r\nb,c\n', [("a\nà", "好"), ("b", "c")]),
    "mac.csv": ("sentiment", "text,label\ra,好\rb,c\r", [("a", "好"), ("b", "c")]),
    "a.jsonl": ("sentiment", '{"text": "à", "label": "好"}\n', [("à", "好")]),
    "a.conllu": ("tagging", f"1\tà\t_\tX{6 * chr(9)}_\n", [(("à",), ("X",))]),
    "b.jsonl": ("tagging", '{"tokens": ["à"], "tags": ["好"]}\n', [(("à",), ("好",))]),
    "slashes.txt": ("tagging", "à/X 好/Y\n", [(("à", "好"), ("X", "Y"))]),
    "c.jsonl": ("translation", '{"text": "à", "translation": "好"}\n', [("à", "好")]),
}


@pytest.mark.parametrize("encoding", ["utf8", "utf-16", "utf-16-be", "utf-32", "utf-7"])
@pytest.mark.parametrize("name", OTHER_FORMATS)
def test_every_format_is_read_in_every_encoding(tmp_path, name, encoding):
    task, text, expected = OTHER_FORMATS[name]
    for raw in encoded(text, encoding):
        (tmp_path / name).write_bytes(raw)
        values = read(task, tmp_path / name, encoding=encoding)
        assert [tuple(each.values()) for each in values] == expected


@pytest.mark.parametrize("encoding", ["utf8", "utf-16", "utf-32"])
def test_formats_of_several_files_are_read_in_every_encoding(tmp_path, encoding):
    files = {
        "pair.de": "à\n好\n",
        "pair.en": "a\ngood\n",
        "texts/x/1.txt": "à\n好",
        "texts/y/1.txt": "b",
        "lines/a.pos": "à\n",
        "lines/a.neg": "好\n",
        "coco/captions.json": '{"images": [{"id": 1, "file_name": "a.png"}], "annotations": '
        '[{"image_id": 1, "caption": "à 好"}]}',
        "flickr/a.token.txt": "a.png#0\tà 好\n",
        "flickr/a.trainImages.txt": "a.png\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(encoded(text, encoding)[1])
    for folder in ("coco", "flickr"):
        (tmp_path / folder / "a.png").write_bytes(PICTURE)
    flags = {"encoding": encoding}
    pairs = read("translation", tmp_path / "pair", source="de", target="en", **flags)
    assert pairs == [{"text": "à", "translation": "a"}, {"text": "好", "translation": "good"}]
    texts = read("sentiment", tmp_path / "texts", **flags)
    assert texts == [{"text": "à 好", "label": "x"}, {"text": "b", "label": "y"}]
    lines = read("sentiment", tmp_path / "lines", **flags)
    assert lines == [{"text": "好", "label": "neg"}, {"text": "à", "label": "pos"}]
    for folder in ("coco", "flickr"):
        (image,) = (
            tasks.find("captioning").Corpus(data=str(tmp_path / folder), **flags).open().train
        )
        assert image.values["captions"] == ("à 好",)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_long_lines_are_decoded_across_chunks(tmp_path, encoding):
    (tmp_path / "a.tsv").write_bytes(f"{LONG}\tx\r\nb\ty".encode(encoding))
    values = read("sentiment", tmp_path / "a.tsv", encoding=encoding)
    assert values == [{"text": LONG, "label": "x"}, {"text": "b", "label": "y"}]


def test_ebcdic_is_read(tmp_path):
    (tmp_path / "a.tsv").write_bytes("a\tx\nb\ty\n".encode("cp500"))
    values = read("sentiment", tmp_path / "a.tsv", encoding="cp500")
    assert values == [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]


def test_marks_inside_a_file_that_was_concatenated_are_dropped(tmp_path):
    mark = "\ufeff".encode()
    (tmp_path / "a.tsv").write_bytes(mark + b"a\tx\n" + mark + b"b\ty\n")
    assert [each["text"] for each in read("sentiment", tmp_path / "a.tsv")] == ["a", "b"]


UNDECODABLE = {
    "utf-8": (b"a\tx\nb\ty\n\xe9t\xe9\tz\n", 3, "utf-8: invalid continuation byte (byte 0xe9)"),
    "after a chunk": (
        f"{LONG}\tx\nb\ty\n".encode() + b"\xff\tz",
        3,
        "utf-8: invalid start byte (byte 0xff)",
    ),
    "at the end": (b"a\tx\nb\ty\xe2\x82", 2, "utf-8: unexpected end of data (byte 0xe2)"),
    "half a character": ("a\tx\nb\ty".encode("utf-16") + b"\0", 2, "utf-16: truncated data"),
    "half a pair": (
        "a\tx\n\ny\ty\n".encode("utf-16") + b"\x3d\xd8",
        4,
        "utf-16: unexpected end of data",
    ),
    "not utf-16": (
        "b\ty\nabc\tz\n\udc00\n".encode("utf-16", "surrogatepass"),
        3,
        "utf-16: illegal",
    ),
    "not ascii": (b"a\tx\nb\ty\n\xe9\tz\n", 3, "ascii: ordinal not in range(128) (byte 0xe9)"),
    "not gb18030": (b"a\tx\nb\ty\n\xff\tz\n", 3, "gb18030: illegal multibyte sequence"),
    "not idna": (b"a\tx\n\xff\tz\n", 1, "idna: "),
}


@pytest.mark.parametrize("name", UNDECODABLE)
def test_a_byte_that_cannot_be_decoded_is_reported_after_the_lines_before_it(tmp_path, name):
    raw, line, message = UNDECODABLE[name]
    path = tmp_path / "a.tsv"
    path.write_bytes(raw)
    texts = []
    with pytest.raises(UserError) as error:
        for _, text in filesystem.lines(path, message.split(":")[0]):
            texts.append(text)
    assert str(error.value).startswith(f"{path}:{line}: not valid {message}")
    assert str(error.value).endswith("; choose another encoding with --encoding.")
    assert len(texts) == line - 1


def test_json_that_is_nested_too_deeply_is_reported(tmp_path):
    (tmp_path / "a.jsonl").write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"a\.jsonl:1: not valid JSON: it is nested too deeply"):
        read("sentiment", tmp_path / "a.jsonl")
    (tmp_path / "captions.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"captions\.json: not valid JSON: it is nested too deeply"):
        read("captioning", tmp_path / "captions.json")


# --- Files of other formats ------------------------------------------------------


def tar(**files):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, raw in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
    return file.getvalue()


def zip_of(*names):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "<xml/>")
    return file.getvalue()


UNPACK, CONVERT = "unpack it and give what it contains", "convert it to text, such as .csv or .tsv"
TEXT = b"a fine film\tgood\n" * 9
GZIP, TAR = gzip.compress(TEXT), tar(train=TEXT)
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(9)
PARQUET = b"PAR1\x15\x04\x15\x10" + bytes(30) + b"PAR1"
# The content of a file, what it is, and what to do.
CONTAINERS = {
    "a.tar.gz": (gzip.compress(TAR), "a tar archive compressed with gzip", UNPACK),
    "a.tgz": (gzip.compress(TAR), "a tar archive compressed with gzip", UNPACK),
    "a.tar": (TAR, "a tar archive", UNPACK),
    "a.tsv.bz2": (bz2.compress(TEXT), "a file compressed with bzip2", UNPACK),
    "a.tar.xz": (lzma.compress(TAR), "a file compressed with xz", UNPACK),
    "a.zst": (b"\x28\xb5\x2f\xfd\x04\x88" + bytes(9), "a file compressed with Zstandard", UNPACK),
    "a.tsv": (GZIP, "a file compressed with gzip", "let its name end in .gz"),
    "b.tsv.gz": (gzip.compress(GZIP), "a file compressed with gzip compressed with gzip", UNPACK),
    "a.7z": (b"7z\xbc\xaf\x27\x1c\x00\x04", "a 7z archive", UNPACK),
    "a.zip": (b"Rar!\x1a\x07\x01\x00", "a RAR archive", UNPACK),
    "a.xlsm": (zip_of("[Content_Types].xml", "xl/workbook.xml"), "an Excel workbook", CONVERT),
    "a.docx": (zip_of("[Content_Types].xml", "word/a.xml"), "a Word document", CONVERT),
    "a.ods": (zip_of("mimetype", "content.xml"), "an OpenDocument file", CONVERT),
    "a.xls": (OLE, "an old Office file (.xls, .doc)", CONVERT),
    "a.pq": (PARQUET, "a Parquet file", CONVERT),
    "c.tsv.gz": (gzip.compress(PARQUET), "a Parquet file compressed with gzip", CONVERT),
    "a.arrow": (b"ARROW1\0\0" + bytes(9), "an Arrow file", CONVERT),
    "a.avro": (b"Obj\x01\x04", "an Avro file", CONVERT),
    "a.db": (b"SQLite format 3\0" + bytes(9), "an SQLite database", CONVERT),
    "a.pdf": (b"%PDF-1.7\n%\xe2\xe3", "a PDF file", CONVERT),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("task", tasks.names())
def test_a_file_of_another_format_is_named_with_what_to_do(tmp_path, task, name):
    raw, kind, remedy = CONTAINERS[name]
    path = tmp_path / name
    path.write_bytes(raw)
    for encoding in ("utf-8", "latin-1"):
        with pytest.raises(UserError) as error:
            read(task, path, encoding=encoding)
        assert str(error.value) == f"{path}: this is {kind}; {remedy}."


@pytest.mark.parametrize("packed", ["folder", "zip"])
@pytest.mark.parametrize("task", tasks.names())
def test_a_folder_names_files_of_another_format(tmp_path, task, packed):
    files = {"train.pq": PARQUET, "a.tar.gz": gzip.compress(TAR), "b.xlsm": zip_of("xl/a")}
    files["image.png"] = PICTURE
    path = tmp_path / "c"
    if packed == "zip":
        path = zipped(tmp_path, files)
    else:
        path.mkdir()
        for name, raw in files.items():
            (path / name).write_bytes(raw)
    with pytest.raises(UserError) as error:
        read(task, path)
    assert f": no corpus found among {sorted(files)}. Expected " in str(error.value)
    assert str(error.value).endswith(
        f"{path}/a.tar.gz: this is a tar archive compressed with gzip; {UNPACK}. "
        f"{path}/b.xlsm: this is a zip archive; {UNPACK}. "
        f"{path}/train.pq: this is a Parquet file; {CONVERT}."
    )


def test_other_files_of_a_corpus_are_checked_too(tmp_path):
    files = {"a.de": TEXT, "a.en": GZIP, "texts/x/1.txt": b"a", "texts/y/1.txt": PARQUET}
    files |= {"lines/a.pos": b"a\n", "lines/a.neg": TAR, "captions.json": GZIP, "a.conllu": GZIP}
    for name, raw in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(raw)
    for task, corpus, name, flags in (
        ("translation", "a", "a.en", {"source": "de", "target": "en"}),
        ("sentiment", "texts", "texts/y/1.txt", {}),
        ("sentiment", "lines", "lines/a.neg", {}),
        ("captioning", "captions.json", "captions.json", {}),
        ("tagging", "a.conllu", "a.conllu", {}),
    ):
        with pytest.raises(UserError, match=f"{name}: this is a .*; (let|unpack|convert) it"):
            read(task, tmp_path / corpus, **flags)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16"])
@pytest.mark.parametrize("mark", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_a_byte_order_mark_of_another_encoding_is_named(tmp_path, mark, encoding):
    path, actual = tmp_path / "a.tsv", mark[:6]
    path.write_bytes("\ufeffa\tx\n".encode(mark))
    if encoding == actual:
        return
    with pytest.raises(UserError) as error:
        read("sentiment", path, encoding=encoding)
    assert str(error.value) == (
        f"{path}: not valid {encoding}: it begins with the byte order mark of {actual}; give "
        f"--encoding {actual}."
    )


def western(text):
    return text.replace("àéîõü", "été").replace("好", "“ok”")


def notes_of(task, path, **flags):
    return list(tasks.declaration(task).Corpus(train=str(path), **flags).part("train")[1])


@pytest.mark.parametrize("task", tasks.names())
def test_a_file_that_is_not_utf8_is_read_as_windows_1252_and_reported(tmp_path, task):
    name, text = corpus_file(task)
    path = tmp_path / name
    path.write_bytes(western(text).encode("cp1252"))
    (tmp_path / "a.png").write_bytes(PICTURE)
    assert str(read(task, path)) == western(str(VALUES[task]))
    assert notes_of(task, path)[0] == (
        f"{name}: not UTF-8, read as Windows-1252; give --encoding to choose another"
    )
    with pytest.raises(UserError, match=f"{name}:[12]: not valid utf-8"):
        read(task, path, encoding="utf-8")
    path.write_text(text, encoding="utf-8")
    assert read(task, path) == VALUES[task] and not notes_of(task, path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_a_byte_order_mark_decides_on_the_encoding(tmp_path, encoding):
    path = tmp_path / "all.tsv"
    path.write_text(corpus_file("sentiment")[1], encoding=encoding)
    assert read("sentiment", path) == VALUES["sentiment"]
    expected = [] if encoding == "utf-8-sig" else [encoding.upper()]
    assert [note.split(" read as ")[1].split(";")[0] for note in notes_of("sentiment", path)] == (
        expected
    )


@pytest.mark.parametrize("encoding", ["shift_jis", "gb18030", "euc-kr", "cp1251", "koi8-r"])
def test_other_encodings_are_not_mistaken_for_windows_1252(tmp_path, encoding):
    words = {"shift_jis": "とても良い映画", "gb18030": "很好看的电影", "euc-kr": "아주 좋은 영화"}
    text = words.get(encoding, "очень хороший фильм")
    path = tmp_path / "all.tsv"
    path.write_text(f"a\tb\n{text}\tgood\n", encoding=encoding)
    with pytest.raises(UserError, match=r"all.tsv:2: not valid utf-8: .*; choose another encoding"):
        read("sentiment", path)
    values = read("sentiment", path, encoding=encoding)
    assert values[1] == {"text": text, "label": "good"}
    assert not notes_of("sentiment", path, encoding=encoding)


def test_damaged_utf8_is_not_read_as_windows_1252(tmp_path):
    path = tmp_path / "all.tsv"
    path.write_bytes("été\tgood\n".encode() + b"\xe9t\tbad\n")
    with pytest.raises(UserError, match=r"all.tsv:2: not valid utf-8: .*byte 0xe9"):
        read("sentiment", path)


def test_a_byte_that_windows_1252_has_not_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(filesystem, "_CHUNK_BYTES", 8)
    path = tmp_path / "all.tsv"
    path.write_bytes(b"\xe9t\tgood\nb\tbad\na\x81b\tbad\n")
    with pytest.raises(UserError) as error:
        list(filesystem.lines(path, ""))
    assert str(error.value).startswith(f"{path}:3: not valid Windows-1252: ")


def test_windows_1252_is_read_alike_in_chunks_of_any_size(tmp_path, monkeypatch):
    draw = random.Random(0)
    for _ in range(40):
        lines = [
            " ".join(draw.choice(["a", "le", "été", "mère", "ü.", "naïve"]) for _ in range(4))
            for _ in range(6)
        ]
        path = tmp_path / "a.txt"
        path.write_bytes("\n".join(lines).encode("cp1252"))
        monkeypatch.setattr(filesystem, "_CHUNK_BYTES", draw.randint(1, 40))
        assert [line for _, line in filesystem.lines(path, "")] == lines
        is_ascii = "\n".join(lines).isascii()
        assert filesystem.encoding_of(path, "") == ("UTF-8" if is_ascii else "Windows-1252")


def test_one_note_names_the_files_of_class_folders_that_are_not_utf8(tmp_path):
    for label, text in (("good", "très bien"), ("bad", "pas très bon")):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.txt").write_text(text, encoding="cp1252")
        (tmp_path / label / "2.txt").write_text(text, encoding="utf-8")
    assert {example["text"] for example in read("sentiment", tmp_path)} == {
        "très bien",
        "pas très bon",
    }
    assert notes_of("sentiment", tmp_path) == [
        "1.txt and 1 more: not UTF-8, read as Windows-1252; give --encoding to choose another"
    ]


@pytest.mark.parametrize("start", ["BZh", "PAR1", "PK", "Obj", "Rar!", "SQLite format 3", "7z"])
def test_texts_may_begin_as_the_name_of_a_format(tmp_path, start):
    text = f"{start} est à la mode" + " x" * 300
    (tmp_path / "a.tsv").write_text(f"{text}\tx\n", encoding="utf-8")
    assert read("sentiment", tmp_path / "a.tsv") == [{"text": text, "label": "x"}]


@pytest.mark.parametrize("task", tasks.names())
def test_the_suffix_of_gzip_may_be_in_capitals(tmp_path, task):
    table, text = corpus_file(task)
    (tmp_path / "a.png").write_bytes(PICTURE)
    (tmp_path / f"{table}.GZ").write_bytes(gzip.compress(text.encode()))
    assert read(task, tmp_path / f"{table}.GZ") == VALUES[task]
    assert read(task, tmp_path) == VALUES[task]


# --- Bounds of decompression -----------------------------------------------------

REPETITIVE = (
    b"a fine film\tgood\na dull film\tbad\n" * 9_000
)  # 300 kB, 300 times the compressed size


@pytest.fixture
def strict(monkeypatch):
    """Applies the bound of expansion to small files too."""
    monkeypatch.setattr(filesystem, "_ALWAYS_EXPANDED", 2**12)


def expanding(path):
    size = path.stat().st_size
    return f"{path}: cannot be read: its {size:,} bytes expand to more than {200 * size:,}; if it"


@pytest.mark.parametrize("task", tasks.names())
def test_a_gzip_file_that_expands_without_bound_is_reported(tmp_path, task, strict):
    path = tmp_path / f"{corpus_file(task)[0]}.gz"
    path.write_bytes(gzip.compress(REPETITIVE))
    with pytest.raises(UserError) as error:
        read(task, path)
    assert str(error.value).startswith(expanding(path))


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("task", tasks.names())
def test_a_zip_that_expands_without_bound_is_reported(tmp_path, task, method, strict):
    table, text = corpus_file(task)
    path = zipped(tmp_path, {table: text, "a.png": PICTURE, "b.bin": bytes(2**19)}, method)
    with pytest.raises(UserError) as error:
        read(task, path)
    assert str(error.value).startswith(expanding(path))


def test_a_file_of_a_zip_that_expands_without_bound_is_reported_or_skipped(tmp_path, strict):
    noise = random.Random(0).randbytes(2**14)  # so that the archive as a whole is no bomb
    files = {"x/1.txt": b"a", "y/1.txt": REPETITIVE, "noise": noise}
    with pytest.raises(UserError, match=r"y/1\.txt: cannot be read: its [\d,]+ bytes expand to"):
        read("sentiment", zipped(tmp_path, files))
    table, text = corpus_file("captioning")
    files = {table: text + "b.png\tbad\n", "a.png": PICTURE, "b.png": REPETITIVE, "noise": noise}
    path = zipped(tmp_path, files)
    with pytest.raises(UserError, match=rf"{table}:3: .*b\.png: cannot be read: its [\d,]+ bytes"):
        read("captioning", path)
    assert read("captioning", path, skip_bad=True) == VALUES["captioning"]


def test_files_that_are_read_as_a_whole_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(filesystem, "_MAX_BYTES_IN_MEMORY", 2**17)
    for name in ("x/1.txt", "y/1.txt", "captions.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(REPETITIVE)
    for task, name in (("sentiment", "x/1.txt"), ("captioning", "captions.json")):
        corpus = tmp_path if task == "sentiment" else tmp_path / name
        with pytest.raises(UserError) as error:
            read(task, corpus)
        assert str(error.value) == (
            f"{tmp_path}/{name}: cannot be read: it has more than 131,072 bytes."
        )


@pytest.mark.parametrize("task", tasks.names())
def test_a_line_without_end_is_reported(tmp_path, task, monkeypatch):
    monkeypatch.setattr(filesystem.Access, "of", lambda corpus: filesystem.Access(max_line=2**17))
    table, text = corpus_file(task)
    (tmp_path / "a.png").write_bytes(PICTURE)
    path = tmp_path / f"{table}.gz"
    path.write_bytes(
        gzip.compress(text.encode() + random.Random(0).randbytes(2**17).hex().encode())
    )
    with pytest.raises(UserError) as error:
        read(task, path)
    line = text.count("\n") + 1
    assert str(error.value) == (
        f"{path}:{line}: the line has more than 131,072 characters; --max-line is the limit."
    )


def test_compressed_text_within_the_bounds_is_read(tmp_path, strict):
    words = random.Random(0).choices(["fine", "dull", "film", "plot", "cast"], k=20_000)
    lines = [f"{' '.join(words[n : n + 10])}\tgood" for n in range(0, len(words), 10)]
    raw = "\n".join(lines).encode()
    (tmp_path / "a.tsv.gz").write_bytes(gzip.compress(raw))
    assert len(read("sentiment", tmp_path / "a.tsv.gz")) == len(lines)
    assert len(read("sentiment", zipped(tmp_path, {"a.tsv": raw}))) == len(lines)
