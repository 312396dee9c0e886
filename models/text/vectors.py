"""Files of word vectors: GloVe text, word2vec and fastText text, and word2vec binary.

The format is detected by content, also within gzip:

    GloVe text          word 0.1 -0.2 ...       a row per line, no header
    word2vec, fastText  400000 300              the same after a line of rows and dimensions
    word2vec binary     400000 300              then each word, a blank and float32 values

Rows are in the order of the file, which is that of frequency in all common files. This module
needs NumPy alone.

Shapes: N rows, D dimensions.
"""

import contextlib
import dataclasses
import gzip
import hashlib
import io
import itertools
import re
import zlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

_HEAD = 2**16  # bytes by which a format is detected
_MAX_LINE = 2**20  # bytes of a row of text
_MAX_WORD = 2**12  # bytes of a word in binary files
_CHUNK = 2**20  # bytes of a binary file that are read at once
_MAX_DIMENSIONS = 2**14
_MAX_MALFORMED = 100  # malformed rows, from which they must not outnumber the others
_BLOCK = 2**12  # rows that are allocated together
_SHOWN = 3  # malformed rows that are described
_HTML = (b"<!doctype", b"<html", b"<head", b"<?xml")


class VectorFileError(ValueError):
    """A file is not a file of word vectors; the message names it."""


@dataclasses.dataclass(frozen=True)
class VectorFormat:
    """Format of a file of word vectors.

    Attributes:
        kind: "GloVe text", "word2vec text" or "word2vec binary".
        gzipped: Whether the file is compressed.
        dimensions: D.
        rows: Number of rows that the header states; None without a header.
    """

    kind: str
    gzipped: bool
    dimensions: int
    rows: int | None = None

    def __str__(self) -> str:
        return f"{self.kind}, gzipped" if self.gzipped else self.kind


@dataclasses.dataclass(frozen=True)
class WordVectors:
    """Rows of a file that were kept.

    Attributes:
        words: Keys of the rows, in the order of the file, (N,).
        table: Their vectors, (N, D) float32.
        format: Format of the file.
        checksum: SHA-256 of the file as it is, in hexadecimal.
        rows: Number of rows of the file, without malformed ones.
        malformed: Number of malformed rows, which are skipped.
        examples: Descriptions of the first malformed rows, with file and line.
    """

    words: tuple[str, ...]
    table: np.ndarray
    format: VectorFormat
    checksum: str
    rows: int
    malformed: int
    examples: tuple[str, ...]


def detect(path: Path) -> VectorFormat:
    """Returns the format of a file by its first bytes.

    Raises:
        VectorFileError: The file cannot be read, or is not a file of word vectors.
    """
    with _readable(path), path.open("rb") as raw:
        gzipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        head = _decompressed(raw, gzipped).read(_HEAD)
    if not head.strip():
        raise VectorFileError(f"{path} is empty; expected word vectors.")
    if head.lstrip().lower().startswith(_HTML):
        raise VectorFileError(
            f"{path} is an HTML page, not word vectors: a link leads to a page about the file; "
            "download the file itself."
        )
    if head.startswith(b"PK\x03\x04"):
        raise VectorFileError(f"{path} is a zip archive; unpack it, and give one of its files.")
    first, rest = _first_line(head)
    fields = first.split()
    if len(fields) == 2 and all(field.isdigit() for field in fields):
        rows, dimensions = map(int, fields)
        kind = _kind_after_header(path, rest, dimensions)
        return VectorFormat(kind, gzipped, dimensions, rows)
    dimensions = len(fields) - 1
    if dimensions < 1 or dimensions > _MAX_DIMENSIONS or _numbers(fields[1:]) is None:
        raise VectorFileError(
            f"{path}:1: expected a word and numbers separated by spaces (GloVe), or the numbers of "
            f"rows and dimensions (word2vec, fastText), got {_shown(first)}."
        )
    return VectorFormat("GloVe text", gzipped, dimensions)


def read(
    path: Path,
    needed: Collection[str],
    top: int,
    key: Callable[[str], str] = str,
    suits: Callable[[str], bool] = lambda word: True,
) -> WordVectors:
    """Reads a file in one pass, and keeps the rows that are needed and some others.

    Memory is bounded by the rows that are kept. Of rows with equal keys the first is kept, unless
    a later one has the key as its word. Malformed rows are skipped and counted: with another
    number of values, values that are not finite numbers, or bytes that are not UTF-8.

    Args:
        path: The file.
        needed: Keys of rows that are kept wherever they are.
        top: Number of other rows that are kept, the first of the file.
        key: Returns the key of a word, such as its lower case.
        suits: Whether a row that is not needed may be kept, by its key.

    Raises:
        VectorFileError: The file cannot be read, is not a file of word vectors or is truncated, or
            most of its rows are malformed.
    """
    layout = detect(path)
    rows = _Rows(path, layout.dimensions, frozenset(needed), top, key, suits)
    with _readable(path), path.open("rb") as raw:
        hashed = _HashedFile(raw)
        stream = _decompressed(io.BufferedReader(hashed, _CHUNK), layout.gzipped)
        if layout.kind == "word2vec binary":
            _read_binary(path, stream, layout, rows)
        else:
            _read_text(path, stream, layout, rows)
        while stream.read(_CHUNK) or hashed.read(_CHUNK):  # the checksum is that of all bytes
            pass
    rows.check(final=True)
    return WordVectors(
        tuple(rows.index),
        rows.table(),
        layout,
        hashed.checksum.hexdigest(),
        rows.count,
        rows.malformed,
        tuple(rows.examples),
    )


class _Rows:
    """Rows that are kept, and the number of all."""

    def __init__(self, path, dimensions, needed, top, key, suits):
        self._path, self._dimensions, self._needed = path, dimensions, needed
        self._remaining, self._key, self._suits = top, key, suits
        self.index: dict[str, int] = {}
        self._folded: set[str] = set()  # keys whose row has another word
        self._blocks: list[np.ndarray] = []
        self.count = self.malformed = 0
        self.examples: list[str] = []

    def wants(self, word: str) -> bool:
        """Counts a row, and returns whether its vector is to be added."""
        self.count += 1
        key = self._key(word)
        if key in self.index:
            return key == word and key in self._folded
        if key in self._needed:
            return True
        return self._remaining > 0 and key.split() == [key] and self._suits(key)

    def add(self, word: str, vector: np.ndarray) -> None:
        """Keeps a row that is wanted."""
        key = self._key(word)
        if key in self.index:
            self._row(self.index[key])[:] = vector
            self._folded.discard(key)
            return
        self._remaining -= key not in self._needed
        if key != word:
            self._folded.add(key)
        number = self.index[key] = len(self.index)
        if number % _BLOCK == 0:
            self._blocks.append(np.zeros([_BLOCK, self._dimensions], np.float32))
        self._row(number)[:] = vector

    def _row(self, number: int) -> np.ndarray:
        return self._blocks[number // _BLOCK][number % _BLOCK]

    def skip(self, line: int, reason: str, unit: str = "") -> None:
        """Counts a malformed row, which `wants` may have counted before."""
        self.malformed += 1
        if len(self.examples) < _SHOWN:
            self.examples.append(f"{self._path}:{unit}{line}: {reason}")
        if self.malformed >= _MAX_MALFORMED:
            self.check()

    def check(self, final: bool = False) -> None:
        """Rejects a file most of whose rows are malformed, or that has none.

        Raises:
            VectorFileError: The file is rejected.
        """
        if self.malformed > self.count or (final and not self.count):
            reason = self.examples[0] if self.examples else f"{self._path} has no rows."
            raise VectorFileError(
                f"{reason} {self.malformed} rows are malformed, and {self.count} are not."
            )

    def table(self) -> np.ndarray:
        """Returns the vectors that were kept, (N, D)."""
        blocks = self._blocks or [np.zeros([0, self._dimensions], np.float32)]
        return np.concatenate(blocks)[: len(self.index)]


def _read_text(path: Path, stream: BinaryIO, layout: VectorFormat, rows: _Rows) -> None:
    dimensions = layout.dimensions
    for number in itertools.count(1):
        line = stream.readline(_MAX_LINE)
        if not line:
            return
        if len(line) == _MAX_LINE:
            raise VectorFileError(f"{path}:{number}: the row has more than {_MAX_LINE} bytes.")
        if number == 1 and layout.rows is not None:
            continue
        line = line.strip(b" \r\n\t") if line[:1] not in b" \t" else line.rstrip(b" \r\n\t")
        if not line.strip():
            continue
        word, *values = line.replace(b"\t", b" ").rsplit(b" ", dimensions)
        if len(values) != dimensions or not word or _ends_with_a_decimal(word):
            got = len(line.split()) - 1
            rows.skip(number, f"expected a word and {dimensions} numbers, got {got} numbers.")
            continue
        try:
            word = word.decode("utf-8")
        except UnicodeDecodeError:
            rows.skip(number, "the word is not UTF-8.")
            continue
        if not rows.wants(word):
            continue
        vector = _numbers(values)
        if vector is None:
            rows.count -= 1
            rows.skip(number, f"the values of {word!r} are not finite numbers.")
            continue
        rows.add(word, vector)


def _ends_with_a_decimal(word: bytes) -> bool:
    """Whether the part of a row before its last numbers ends with one more number.

    Words may contain blanks, but hardly end with a number that has decimals.
    """
    return re.search(rb"\s[-+]?\d+\.\d+([eE][-+]?\d+)?$", word) is not None


def _read_binary(path: Path, stream: BinaryIO, layout: VectorFormat, rows: _Rows) -> None:
    stream.readline(_MAX_LINE)
    size = 4 * layout.dimensions
    data, position = b"", 0
    for number in range(1, layout.rows + 1):
        end = data.find(b" ", position)
        while end < 0 or len(data) < end + 1 + size:
            if end < 0 and len(data) - position > _MAX_WORD:
                raise VectorFileError(f"{path}: row {number}: no blank ends the word.")
            chunk = stream.read(_CHUNK)
            if not chunk:
                raise VectorFileError(
                    f"{path} is truncated: it ends in row {number} of {layout.rows}; download it "
                    "again."
                )
            data, position = data[position:] + chunk, 0
            end = data.find(b" ")
        word = data[position:end].lstrip(b"\r\n")
        values = data[end + 1 : end + 1 + size]
        position = end + 1 + size
        try:
            word = word.decode("utf-8")
        except UnicodeDecodeError:
            rows.skip(number, "the word is not UTF-8.", "row ")
            continue
        if not rows.wants(word):
            continue
        vector = np.frombuffer(values, "<f4")
        if not np.isfinite(vector).all():
            rows.count -= 1
            rows.skip(number, f"the values of {word!r} are not finite numbers.", "row ")
            continue
        rows.add(word, vector)


def _kind_after_header(path: Path, rest: bytes, dimensions: int) -> str:
    """Returns whether the rows after a header are text or binary."""
    if not 1 <= dimensions <= _MAX_DIMENSIONS:
        raise VectorFileError(
            f"{path}:1: expected from 1 to {_MAX_DIMENSIONS} dimensions, got {dimensions}."
        )
    if not rest:
        raise VectorFileError(f"{path} has a header, but no rows.")
    line, _ = _first_line(rest)
    fields = line.split()
    if len(fields) > 1 and _numbers(fields[1:]) is not None:
        if len(fields) - 1 != dimensions:
            raise VectorFileError(
                f"{path}:2: expected a word and {dimensions} numbers, as line 1 states, got "
                f"{len(fields) - 1} numbers."
            )
        return "word2vec text"
    end = rest.find(b" ", 0, _MAX_WORD)
    values = rest[end + 1 : end + 1 + 4 * dimensions]
    values = np.frombuffer(values[: len(values) // 4 * 4], "<f4")
    if end < 0 or not len(values) or not (np.abs(values) < 1e6).all():
        raise VectorFileError(
            f"{path}:2: expected a word and {dimensions} numbers, as line 1 states, in text or in "
            f"binary, got {_shown(line)}."
        )
    return "word2vec binary"


def _first_line(data: bytes) -> tuple[bytes, bytes]:
    line, _, rest = data.partition(b"\n")
    return line.removeprefix(b"\xef\xbb\xbf"), rest


def _numbers(fields: list[bytes]) -> np.ndarray | None:
    """Returns finite numbers as float32; None if a field is something else."""
    try:
        values = np.array(fields, "S").astype(np.float32)
    except ValueError:
        return None
    return values if np.isfinite(values).all() else None


def _shown(line: bytes) -> str:
    return repr(line[:60].decode("utf-8", "replace"))


def _decompressed(raw: BinaryIO, gzipped: bool) -> BinaryIO:
    return gzip.GzipFile(fileobj=raw, mode="rb") if gzipped else raw


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Reports what prevents reading as a `VectorFileError`."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise VectorFileError(
            f"{path} is damaged or truncated ({error}); download it again."
        ) from error
    except (OSError, ValueError) as error:
        if isinstance(error, VectorFileError):
            raise
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise VectorFileError(f"{path} cannot be read: {reason}.") from error


class _HashedFile(io.RawIOBase):
    """A file whose bytes are hashed as they are read."""

    def __init__(self, file: BinaryIO):
        self._file, self.checksum = file, hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:
        count = self._file.readinto(buffer)
        self.checksum.update(memoryview(buffer)[:count])
        return count
