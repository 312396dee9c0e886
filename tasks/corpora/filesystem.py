"""Folders, zip archives and lines of files, for corpora that are read from disk."""

import codecs
import contextlib
import csv
import dataclasses
import functools
import gzip
import itertools
import json
import lzma
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from tasks.core.corpus import Corpus
from tasks.core.errors import UserError
from tasks.core.examples import Example, Stream
from tasks.core.json_text import parse_json

PART_NAMES = {
    "train": ("train", "training"),
    "valid": ("valid", "validation", "dev", "val"),
    "test": ("test",),
}

_MAX_LISTED = 8  # files that a message lists
# Bounds that texts and images never reach, against files that are made to fill the memory.
_MAX_EXPANSION = 200  # times its stored size, for a compressed file or archive
_ALWAYS_EXPANDED = 2**28  # bytes, to which a file or archive of any size may expand
_MAX_EXPANDED = 2**40  # bytes
_ABOUT = re.compile("_?(about|readme|licen|changelog)", re.IGNORECASE)
_MAX_FIELD_CHARACTERS = 2**27  # of a .csv; Python's default of 131 072 is too small for texts
_MAX_BYTES_IN_MEMORY = 2**31  # of a file that is not read line by line
_CHUNK_BYTES = 2**15
_BYTE_ORDER_MARK = "\ufeff"
_AFTER_LONE_CR = re.compile(r"(?<=\r)(?!\n)")
_GZIP = ".gz"
_ESCAPE_CHARACTERS = 12  # of an escape sequence or literal of JSON, at most
_START_BYTES = 512  # of a file, which show its format
_UNPACK, _CONVERT = (
    "unpack it and give what it contains",
    "convert it to text, such as .csv or .tsv",
)
# What a file that is no text begins with, or has at an offset; its format, and what to do.
_FORMATS = (
    (0, b"\x1f\x8b", "a file compressed with gzip", "let its name end in .gz"),
    (4, b"1AY&SY", "a file compressed with bzip2", _UNPACK),  # after BZh and a digit
    (0, b"\xfd7zXZ\x00", "a file compressed with xz", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "a file compressed with Zstandard", _UNPACK),
    (0, b"\x04\x22\x4d\x18", "a file compressed with LZ4", _UNPACK),
    (257, b"ustar\x00", "a tar archive", _UNPACK),
    (257, b"ustar  \x00", "a tar archive", _UNPACK),
    (0, b"PK\x03\x04", "a zip archive", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (0, b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office file (.xls, .doc)", _CONVERT),
    (0, b"PAR1\x15", "a Parquet file", _CONVERT),
    (0, b"ARROW1\x00\x00", "an Arrow file", _CONVERT),
    (0, b"Obj\x01", "an Avro file", _CONVERT),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file", _CONVERT),
    (0, b"SQLite format 3\x00", "an SQLite database", _CONVERT),
    (0, b"\x93NUMPY", "a NumPy file", _CONVERT),
    (0, b"%PDF-", "a PDF file", _CONVERT),
)
# Folders that show the format of a file that is technically a zip archive.
_OFFICE = {"xl": "an Excel workbook", "word": "a Word document", "ppt": "a PowerPoint file"}
_WIDE_MARKS = {  # byte order marks; the one of UTF-32 begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# What a file is read as that is not UTF-8, if its bytes allow it.
_WESTERN, _WESTERN_NAME = "cp1252", "Windows-1252"
_RUN = re.compile(rb"[\x80-\xff]{2,}")
_ENCRYPTED = 1  # bit of the flags of a file in a zip archive
_ZIP_METHODS = {9: "Deflate64", 93: "Zstandard", 95: "XZ", 98: "PPMd"}
# What reading a damaged file can raise.
_READ_ERRORS = (
    OSError, EOFError, struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile,
)  # fmt: skip

AnyPath = Path | zipfile.Path
Matches = list[tuple[str, Stream]]  # candidates, each with the name shown in messages


@dataclasses.dataclass(frozen=True)
class Access:
    """What may be read of a corpus.

    Attributes:
        max_line: Most characters of a line.
        roots: Files and folders that links must not leave; links may lead anywhere if it is
            empty.
    """

    max_line: int = 2**26
    roots: tuple[Path, ...] = ()

    @classmethod
    def of(cls, corpus: Corpus) -> "Access":
        """Returns what the settings of a corpus allow."""
        return cls(corpus.max_line, () if corpus.follow_links else corpus.roots())

    def check(self, path: AnyPath) -> None:
        """Checks that a file is not reached through a link that leaves the corpus.

        Raises:
            UserError: It is; the message names the link.
        """
        if not self.roots or not isinstance(path, Path):
            return
        if _is_within(path.parent, self.roots) and not path.is_symlink():
            return
        if _is_within(path, self.roots):
            return
        ways = [*reversed(path.parents), path]
        links = [way for way in ways if way.is_symlink() and not _is_within(way, self.roots)]
        if not links:
            return
        link = links[-1]
        raise UserError(
            f"{link}: this link leads out of the corpus, to {link.resolve()}; --follow-links "
            "reads it."
        )


@functools.lru_cache(maxsize=1024)  # most files are in few folders
def _is_within(path: Path, roots: tuple[Path, ...]) -> bool:
    try:
        target = path.resolve()
        return any(target.is_relative_to(root.resolve()) for root in roots)
    except (OSError, RuntimeError):  # a loop of links, which opening reports
        return True


UNRESTRICTED = Access()


def check_encoding(encoding: str) -> None:
    """Checks that Python knows an encoding of text; "" detects that of each file.

    Raises:
        UserError: It does not.
    """
    if not encoding:
        return
    try:
        "".encode(encoding)
        codecs.getincrementaldecoder(encoding)().decode(b"", final=True)
    except (LookupError, ValueError):
        raise UserError(
            f"--encoding must be an encoding that Python knows, such as utf-8, got {encoding!r}."
        ) from None


def is_plain_file(path: AnyPath) -> bool:
    """Whether a path is a file that is neither a folder nor a zip archive."""
    if isinstance(path, zipfile.Path):  # archives inside archives are not opened
        return path.is_file()
    return path.is_file() and path.suffix.lower() != ".zip" and not zipfile.is_zipfile(path)


def corpus_root(path: Path) -> AnyPath:
    """Returns the top folder of a corpus in a folder or a zip archive.

    Folders that contain nothing but one folder are skipped.
    """
    folder = _open_folder(path)
    while True:
        children = entries(folder)
        if len(children) != 1 or not children[0].is_dir():
            return folder
        folder = children[0]


def _open_folder(path: Path) -> AnyPath:
    if path.is_dir():
        return path
    try:
        archive = zipfile.ZipFile(path)
    except (*_READ_ERRORS, NotImplementedError, ValueError) as error:
        check_is_text(path)
        raise UserError(f"{path}: not a valid zip archive: {error}.") from error
    stored = path.stat().st_size
    check_expansion(path, stored, sum(member.file_size for member in archive.infolist()))
    names = archive.namelist()
    if "[Content_Types].xml" in names:
        folders = {name.partition("/")[0] for name in names}
        kinds = [kind for folder, kind in _OFFICE.items() if folder in folders]
        raise UserError(f"{path}: this is {(kinds or ['an Office file'])[0]}; {_CONVERT}.")
    if {"mimetype", "content.xml"} <= set(names):
        raise UserError(f"{path}: this is an OpenDocument file; {_CONVERT}.")
    return zipfile.Path(archive)


def visible(folder: AnyPath) -> Iterator[AnyPath]:
    """Yields the entries of a folder except hidden files and macOS metadata (`._a.txt`)."""
    return (e for e in folder.iterdir() if not e.name.startswith((".", "__MACOSX")))


def entries(folder: AnyPath) -> list[AnyPath]:
    """Returns the visible entries of a folder by name."""
    return sorted(visible(folder), key=lambda entry: entry.name)


def stem_and_suffix(path: AnyPath) -> tuple[str, str]:
    """Splits a file name into stem and lower-case suffix, ignoring a final .gz."""
    name = path.name[: -len(_GZIP)] if _is_gzip(path) else path.name
    name, dot, suffix = name.rpartition(".")
    return (name, "." + suffix.lower()) if dot else (path.name, "")


def _is_gzip(path: AnyPath) -> bool:
    return path.name.lower().endswith(_GZIP)


def check_is_text(path: AnyPath, start: bytes | None = None) -> None:
    """Checks that a file is not of a known format that no corpus has.

    Args:
        path: The file.
        start: Its first bytes; by default they are read.

    Raises:
        UserError: It is of such a format; the message says what to do.
    """
    if start is None:
        with _open_bytes(path) as file:
            start = file.read(_START_BYTES)
    for offset, signature, name, remedy in _FORMATS:
        if not start.startswith(signature, offset):
            continue
        if _is_gzip(path):
            name += " compressed with gzip"
            remedy = _CONVERT if remedy == _CONVERT else _UNPACK
        elif _is_tar_gz(start):
            name, remedy = "a tar archive compressed with gzip", _UNPACK
        raise UserError(f"{path}: this is {name}; {remedy}.")


def _is_tar_gz(start: bytes) -> bool:
    """Whether the first bytes are those of a tar archive that is compressed with gzip."""
    try:
        return zlib.decompressobj(wbits=31).decompress(start, 512).startswith(b"ustar", 257)
    except zlib.error:
        return False


def find_parts(
    path: AnyPath,
    folder: AnyPath,
    find: Callable[[tuple[str, ...]], Matches],
    skip: Sequence[str] = (),
) -> dict[str, Stream]:
    """Returns the parts of a corpus below `folder`, or {} if it is not divided into parts.

    Args:
        path: Path from the user, for messages.
        folder: Its `corpus_root`.
        find: Returns the candidates for a part, given the names that the part may have.
        skip: Parts not to look for, because a flag names them.

    Raises:
        UserError: A part is ambiguous, or there are parts but no train part.
    """
    streams = {}
    for part, names in PART_NAMES.items():
        if part in skip:
            continue
        matches = find(names)
        if len(matches) > 1:
            raise UserError(
                f"{folder}: several candidates for the {part} part: "
                f"{', '.join(name for name, _ in matches)}; keep one, or name one with --{part}."
            )
        if matches:
            streams[part] = matches[0][1]
    if streams and "train" not in streams:
        raise UserError(
            f"{path}: there is a {' and a '.join(streams)} part but no train part "
            f"(named {' or '.join(PART_NAMES['train'])})."
        )
    return streams


def single_match(path: AnyPath, folder: AnyPath, matches: Matches, layouts: str) -> Stream:
    """Returns the only candidate below a `folder` that is not divided into parts.

    Args:
        path: Path from the user, for messages.
        folder: Its `corpus_root`.
        matches: The candidates.
        layouts: Description of the supported layouts, for messages.

    Raises:
        UserError: There is no candidate, or more than one.
    """
    if len(matches) == 1:
        return matches[0][1]
    if matches:
        names = [name for name, _ in matches]
        raise UserError(f"{path}: ambiguous: {names}. Name one of them, or provide {layouts}.")
    names = [entry.name for entry in entries(folder)]
    if len(names) > _MAX_LISTED:
        names = [*names[:_MAX_LISTED], "..."]
    message = f"{path}: no corpus found among {names}. Expected {layouts}."
    raise UserError(" ".join([message, *_other_formats(folder)]))


def _other_formats(folder: AnyPath) -> Iterator[str]:
    """Yields a sentence about each of the first files that is of another format."""
    for entry in entries(folder)[:_MAX_LISTED]:
        if entry.is_file():
            try:
                check_is_text(entry)
            except UserError as error:
                yield str(error)


@contextlib.contextmanager
def _open_bytes(path: AnyPath) -> Iterator[BinaryIO]:
    """Opens a file on disk or in a zip archive; .gz files are decompressed while reading.

    Raises:
        UserError: The file cannot be read, or is damaged.
    """
    try:
        file = path.open("rb")
    except RuntimeError as error:  # of zipfile: encrypted, or compressed by another method
        raise UserError(
            f"{path}: cannot be read: {_unsupported(path)}; unpack the archive and give the folder."
        ) from error
    except _READ_ERRORS as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read: {reason}.") from error
    with file:
        try:
            yield gzip.GzipFile(fileobj=file) if _is_gzip(path) else file
        except _READ_ERRORS as error:
            raise UserError(f"{path}: cannot be read: {error}.") from error


def _unsupported(path: zipfile.Path) -> str:
    """Returns why Python cannot unpack a file of a zip archive, for messages."""
    member = path.root.getinfo(path.at)
    if member.flag_bits & _ENCRYPTED:
        return "it is encrypted"
    method = _ZIP_METHODS.get(member.compress_type, f"method {member.compress_type}")
    return f"it is compressed with {method}, which Python cannot unpack"


def accompanies_data(name: str) -> bool:
    """Returns whether a file is about a corpus, such as its licence, given its name."""
    return bool(_ABOUT.match(name))


def lines(path: AnyPath, encoding: str, access: Access = UNRESTRICTED) -> Iterator[tuple[str, str]]:
    """Yields `(path:number, line)` for each line of a file, without line endings.

    Lines end with `\\n`, possibly after `\\r`. A byte order mark at the start of a line is
    dropped; a file that was concatenated from others can contain several.

    Raises:
        UserError: The file cannot be read.
    """
    for number, line in enumerate(_lines_with_ends(path, encoding, access), start=1):
        yield f"{path}:{number}", line.rstrip("\r\n")


def csv_lines(path: AnyPath, encoding: str, access: Access = UNRESTRICTED) -> Iterator[str]:
    """Yields the lines of a file with their endings, `\\n`, `\\r\\n` or `\\r`, for `csv.reader`.

    Raises:
        UserError: The file cannot be read.
    """
    csv.field_size_limit(_MAX_FIELD_CHARACTERS)
    for line in _lines_with_ends(path, encoding, access):
        yield from filter(None, _AFTER_LONE_CR.split(line))


def read_text(path: AnyPath, encoding: str, access: Access = UNRESTRICTED) -> str:
    """Returns the text of a file, without a byte order mark.

    Raises:
        UserError: The file cannot be read, or is too large.
    """
    access.check(path)
    pieces = _text_pieces(path, encoding, _MAX_BYTES_IN_MEMORY)
    return "".join(pieces).removeprefix(_BYTE_ORDER_MARK)


def _lines_with_ends(path: AnyPath, encoding: str, access: Access) -> Iterator[str]:
    access.check(path)
    pieces, length, number = [], 0, 1  # of the line whose end has not been read
    for text in _text_pieces(path, encoding):
        *ends, rest = text.split("\n")
        for end in ends:
            if length + len(end) > access.max_line:
                raise UserError(_too_long(path, number, access))
            yield "".join([*pieces, end, "\n"]).removeprefix(_BYTE_ORDER_MARK)
            pieces, length, number = [], 0, number + 1
        if rest:
            pieces.append(rest)
            length += len(rest)
        if length > access.max_line:
            raise UserError(_too_long(path, number, access))
    if pieces:
        yield "".join(pieces).removeprefix(_BYTE_ORDER_MARK)


def _too_long(path: AnyPath, number: int, access: Access) -> str:
    return (
        f"{path}:{number}: the line has more than {access.max_line:,} characters; --max-line is "
        "the limit."
    )


def _text_pieces(path: AnyPath, encoding: str, most: float = math.inf) -> Iterator[str]:
    """Yields the text of a file in pieces of any length.

    Decoding precedes splitting into lines, because the byte 0x0a is not always a line end in
    UTF-16, UTF-32 and EBCDIC.

    With the encoding "", a file with a byte order mark is read by it, and another is UTF-8. At
    the first byte that is not, the file is read as Windows-1252 if all text before is ASCII,
    which is the same in both, and what follows looks like a Western language.

    Raises:
        UserError: A byte is not valid in this encoding; raised after the text before it.
    """
    decoder, line_ends, name = None, 0, encoding or "utf-8"
    may_be_western = not encoding
    for chunk in itertools.chain(_chunks(path, most), [b""]):
        if decoder is None:
            check_is_text(path, chunk)
            codec = _codec(path, encoding, chunk)
            decoder = codecs.getincrementaldecoder(codec)()
            may_be_western = may_be_western and codec == "utf-8"
        state = decoder.getstate()
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeError as error:
            raw = state[0] + chunk
            if may_be_western and _is_western(raw, error.start):
                may_be_western, name = False, _WESTERN_NAME
                decoder, chunk = codecs.getincrementaldecoder(_WESTERN)(), raw
                state = decoder.getstate()
                error = _error_of(decoder, raw)
            decoder.setstate(state)
            text = _decode_before(error, decoder, chunk) if error else decoder.decode(chunk)
            if error:
                yield text
                number = line_ends + text.count("\n") + 1
                raise UserError(
                    f"{path}:{number}: not valid {name}: {_reason(error)}; choose another "
                    "encoding with --encoding."
                ) from error
        may_be_western = may_be_western and text.isascii()
        line_ends += text.count("\n")
        yield text


def _is_western(raw: bytes, start: int) -> bool:
    """Whether bytes look like Windows-1252: ASCII before `start`, few letters in a row after it.

    In Western languages, letters outside ASCII stand alone; in Russian or Chinese they do not.
    """
    if b"\0" in raw or not raw[:start].isascii():
        return False
    high = sum(byte > 0x7F for byte in raw)
    in_runs = sum(map(len, _RUN.findall(raw)))
    return in_runs <= high / 2


def _error_of(decoder: codecs.IncrementalDecoder, raw: bytes) -> UnicodeError | None:
    """Returns the error that decoding raises; None if there is none."""
    try:
        decoder.decode(raw)
    except UnicodeError as error:
        return error
    return None


def encoding_of(path: AnyPath, encoding: str, access: Access = UNRESTRICTED) -> str:
    """Returns the name of the encoding that a file is read in, for messages.

    Args:
        path: The file, of which all is read if the encoding is to be detected.
        encoding: The encoding; "" to detect it.
        access: What may be read.
    """
    if encoding:
        return encoding.upper()
    access.check(path)
    decoder = None
    for chunk in itertools.chain(_chunks(path), [b""]):
        if decoder is None:
            codec = _codec(path, encoding, chunk)
            if codec != "utf-8":
                return codec.upper().removesuffix("-LE").removesuffix("-BE")
            decoder = codecs.getincrementaldecoder(codec)()
        try:
            decoder.decode(chunk, final=not chunk)
        except UnicodeError:
            return _WESTERN_NAME
    return "UTF-8"


def encoding_notes(
    paths: Iterable[AnyPath], encoding: str, access: Access = UNRESTRICTED
) -> Iterator[str]:
    """Yields one note on the files whose detected encoding is not UTF-8, if there are some."""
    if encoding:
        return
    names = {}  # of files, by encoding
    for path in paths:
        name = encoding_of(path, encoding, access)
        if name != "UTF-8":
            names.setdefault(name, []).append(path.name)
    for name, files in names.items():
        shown = files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
        yield f"{shown}: not UTF-8, read as {name}; give --encoding to choose another"


def read_bytes(path: AnyPath, access: Access = UNRESTRICTED) -> bytes:
    """Returns the content of a file."""
    access.check(path)
    return b"".join(_chunks(path, _MAX_BYTES_IN_MEMORY))


def _chunks(path: AnyPath, most: float = math.inf) -> Iterator[bytes]:
    """Yields the content of a file in chunks.

    Raises:
        UserError: It has more bytes than `most`, or expands as no text or image does.
    """
    size = 0
    with _open_bytes(path) as file:
        stored, limit = _expansion_limit(path)
        while chunk := file.read(_CHUNK_BYTES):
            size += len(chunk)
            if size > limit:
                raise UserError(_expands(path, limit, stored))
            if size > most:
                raise UserError(f"{path}: cannot be read: it has more than {most:,} bytes.")
            yield chunk


def _expansion_limit(path: AnyPath) -> tuple[int, float]:
    """Returns the stored size of a file, and the most bytes that it may expand to."""
    if isinstance(path, zipfile.Path):
        member = path.root.getinfo(path.at)
        stored, is_packed = member.compress_size, member.compress_type != zipfile.ZIP_STORED
    else:
        stored, is_packed = path.stat().st_size, False
    if not (is_packed or _is_gzip(path)):
        return stored, math.inf
    return stored, _expanded_at_most(stored)


def _expanded_at_most(stored: int) -> int:
    """Returns the most bytes that a file or archive may expand to, given its stored size."""
    return min(max(_MAX_EXPANSION * stored, _ALWAYS_EXPANDED), _MAX_EXPANDED)


def check_expansion(path: AnyPath, stored: int, size: int) -> None:
    """Checks that a file does not expand as no text does.

    Args:
        path: The file.
        stored: Its size in bytes.
        size: The size of what it contains.

    Raises:
        UserError: It does.
    """
    limit = _expanded_at_most(stored)
    if size > limit:
        raise UserError(_expands(path, limit, stored))


def _expands(path: AnyPath, limit: float, stored: int) -> str:
    return (
        f"{path}: cannot be read: its {stored:,} bytes expand to more than {limit:,}; if it is not "
        "damaged, unpack it."
    )


def _codec(path: AnyPath, encoding: str, start: bytes) -> str:
    """Returns the name of a codec that decodes a file with this start to text.

    Python's utf-16 and utf-32 require a byte order mark; without one the order is that of
    Windows. The byte order mark itself remains.

    Raises:
        UserError: The file begins with the byte order mark of another encoding.
    """
    name = codecs.lookup(encoding or "utf-8").name
    marked = next((wide for mark, wide in _WIDE_MARKS.items() if start.startswith(mark)), name)
    if not encoding:
        name = marked
    if not name.startswith(marked):
        raise UserError(
            f"{path}: not valid {encoding}: it begins with the byte order mark of {marked}; "
            f"give --encoding {marked}."
        )
    if name == "utf-8-sig":
        return "utf-8"
    if name == "utf-16":
        return "utf-16-be" if start.startswith(codecs.BOM_UTF16_BE) else "utf-16-le"
    if name == "utf-32":
        return "utf-32-be" if start.startswith(codecs.BOM_UTF32_BE) else "utf-32-le"
    return name


def _decode_before(error: UnicodeError, decoder: codecs.IncrementalDecoder, chunk: bytes) -> str:
    """Returns the text of a chunk before the byte that cannot be decoded."""
    if not isinstance(error, UnicodeDecodeError):
        return ""
    valid = len(chunk) - (len(error.object) - error.start)  # `object` may begin before the chunk
    try:
        return decoder.decode(chunk[: max(valid, 0)])
    except UnicodeError:
        return ""


def _reason(error: UnicodeError) -> str:
    if not isinstance(error, UnicodeDecodeError):
        return str(error)
    return f"{error.reason} (byte {error.object[error.start]:#04x})"


def json_objects(
    path: AnyPath, encoding: str, flags: Mapping[str, str], access: Access = UNRESTRICTED
) -> Iterator[tuple[str, dict]]:
    """Yields `(path:number, object)` for each line of a JSON Lines file.

    Args:
        path: The file.
        encoding: Its encoding.
        flags: Required keys, each with the flag that selects another key.
        access: What may be read.

    Raises:
        UserError: A line is not a JSON object, or lacks a required key.
    """
    for origin, line in lines(path, encoding, access):
        if not line.strip():
            continue
        row = parse_json(line, origin)
        if not isinstance(row, dict):
            hint = " Rename a file that is one array to .json." if isinstance(row, list) else ""
            raise UserError(f"{origin}: expected a JSON object, got {shorten(line)}.{hint}")
        check_keys(row, flags, origin)
        yield origin, row


def json_array(
    path: AnyPath, encoding: str, flags: Mapping[str, str], access: Access = UNRESTRICTED
) -> Iterator[tuple[str, dict]]:
    """Yields `(path:number, object)` for each object of a JSON array, which is never held whole.

    Args:
        path: The file.
        encoding: Its encoding.
        flags: Required keys, each with the flag that selects another key.
        access: What may be read; an object has at most `max_line` characters.

    Raises:
        UserError: It is not an array of objects, or an object lacks a required key.
    """
    access.check(path)
    text = _JsonText(path, _text_pieces(path, encoding), access)
    if text.next_character() != "[":
        raise UserError(f"{text.origin}: expected a JSON array of objects, [{{...}}, ...].")
    text.skip()
    while text.next_character() != "]":
        origin = text.origin
        row = text.parse()
        if not isinstance(row, dict):
            raise UserError(f"{origin}: expected a JSON object, got {shorten(json.dumps(row))}.")
        check_keys(row, flags, origin)
        yield origin, row
        if text.next_character() == ",":
            text.skip()
            if text.next_character() != "]":
                continue
        if text.next_character() != "]":
            raise UserError(f"{text.origin}: not valid JSON: expected a comma or ].")
    text.skip()
    if text.next_character():
        raise UserError(f"{text.origin}: not valid JSON: there is text after the array.")


def first_character(path: AnyPath, encoding: str, access: Access = UNRESTRICTED) -> str:
    """Returns the first character of a file that is not blank; "" if there is none.

    Raises:
        UserError: The file cannot be read.
    """
    access.check(path)
    return _JsonText(path, _text_pieces(path, encoding), access).next_character()


class _JsonText:
    """Text of a JSON file, of which as much is held as one value needs."""

    def __init__(self, path: AnyPath, pieces: Iterator[str], access: Access):
        self._path, self._pieces, self._access = path, pieces, access
        self._buffer, self._start, self._line = "", 0, 1
        self._decoder = json.JSONDecoder()

    @property
    def origin(self) -> str:
        return f"{self._path}:{self._line}"

    def next_character(self) -> str:
        """Skips blanks and returns the character after them, or "" at the end of the file."""
        while True:
            while self._start < len(self._buffer):
                character = self._buffer[self._start]
                if character not in " \t\r\n\ufeff":
                    return character
                self.skip()
            if not self._read(1):
                return ""

    def skip(self) -> None:
        """Skips the next character."""
        self._line += self._buffer[self._start] == "\n"
        self._start += 1

    def parse(self) -> object:
        """Returns the value that begins here, and skips it."""
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._start)
            except json.JSONDecodeError as error:
                size = len(self._buffer) - self._start
                if size > self._access.max_line:
                    raise UserError(_too_long(self._path, self._line, self._access)) from error
                # The value may go on in the next piece; doubling keeps this linear.
                is_cut = error.msg.startswith("Unterminated")
                is_cut = is_cut or error.pos >= len(self._buffer) - _ESCAPE_CHARACTERS
                if is_cut and self._read(max(size, 1)):
                    continue
                line = self._line + self._buffer.count("\n", self._start, error.pos)
                raise UserError(f"{self._path}:{line}: not valid JSON: {error.msg}.") from error
            except RecursionError:
                raise UserError(
                    f"{self.origin}: not valid JSON: it is nested too deeply."
                ) from None
            self._line += self._buffer.count("\n", self._start, end)
            self._start = end
            return value

    def _read(self, size: int) -> bool:
        """Reads at least `size` more characters; returns whether there were any."""
        pieces, count = [self._buffer[self._start :]], 0
        for piece in self._pieces:
            pieces.append(piece)
            count += len(piece)
            if count >= size:
                break
        self._buffer, self._start = "".join(pieces), 0
        return count > 0


def check_keys(row: Mapping, flags: Mapping[str, str], origin: str) -> None:
    """Checks that a JSON object has all required keys.

    Args:
        row: The object.
        flags: Required keys, each with the flag that selects another key.
        origin: Source location, for messages.

    Raises:
        UserError: A key is missing.
    """
    for key, flag in flags.items():
        if key not in row:
            raise UserError(
                f"{origin}: missing key {key!r}; the keys are {sorted(row)}. Select one with "
                f"{flag}."
            )


def require_examples(path: AnyPath | str, examples: Iterator[Example]) -> Iterator[Example]:
    """Yields the examples of a file.

    Raises:
        UserError: There are none.
    """
    empty = True
    for example in examples:
        empty = False
        yield example
    if empty:
        raise UserError(f"{path}: the file contains no examples.")


def shorten(text: str, limit: int = 60) -> str:
    """Returns the `repr` of a text, shortened to `limit` characters, for messages."""
    return repr(text if len(text) <= limit else text[: limit - 3] + "...")


def columns(count: int) -> str:
    """Returns `1 column`, `2 columns`, ... for messages."""
    return "1 column" if count == 1 else f"{count} columns"
