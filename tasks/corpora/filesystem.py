"""Folders, zips and the lines of files, as every corpus that is read from disk needs them."""

import contextlib
import gzip
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from tasks.core.errors import UserError
from tasks.core.examples import Example, Stream

PART_NAMES = {
    "train": ("train", "training"),
    "valid": ("valid", "validation", "dev", "val"),
    "test": ("test",),
}

_GZIP = ".gz"

Found = list[tuple[str, Stream]]  # what could be meant, by the names to show


def check_encoding(encoding: str) -> None:
    """Raises a `UserError` if `--encoding` names none."""
    try:
        "".encode(encoding)
    except LookupError:
        raise UserError(f"--encoding names no encoding: {encoding!r}.") from None


def is_one_file(path: Path) -> bool:
    """Whether it is a file to be read as it is: neither a folder nor a zip."""
    if isinstance(path, zipfile.Path):  # what is in a zip is no other
        return path.is_file()
    return path.is_file() and path.suffix.lower() != ".zip" and not zipfile.is_zipfile(path)


def root(path: Path):
    """Where a corpus begins in a folder or a zip, which is walked like one.

    It is the first folder downwards that holds more than one folder and nothing else.
    """
    folder = _opened(path)
    while True:
        inside = entries(folder)
        if len(inside) != 1 or not inside[0].is_dir():
            return folder
        folder = inside[0]


def _opened(path):
    if path.is_dir():
        return path
    try:
        return zipfile.Path(zipfile.ZipFile(path))
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: cannot be read as a zip: {error}.") from error


def entries(folder) -> list:
    """What a folder holds, by name, without hidden files and what macOS leaves in a zip."""
    shown = (e for e in folder.iterdir() if not e.name.startswith((".", "__MACOSX")))
    return sorted(shown, key=lambda entry: entry.name)


def stem_and_suffix(path) -> tuple[str, str]:
    """The name of a file without its suffix, and the suffix in lower case.

    That a file is compressed, .gz, is no part of either.
    """
    name, dot, suffix = path.name.removesuffix(_GZIP).rpartition(".")
    return (name, "." + suffix.lower()) if dot else (path.name, "")


def parts(
    path, folder, find: Callable[[tuple[str, ...]], Found], named: Sequence[str] = ()
) -> dict[str, Stream]:
    """The parts of a corpus that are below `folder`; none at all if it knows no parts.

    Args:
        path: What the person named, for messages.
        folder: Its `root`.
        find: Finds all that goes by one of the names of a part.
        named: Parts that are not looked for, since a flag names them.
    """
    streams = {}
    for part, names in PART_NAMES.items():
        found = find(names) if part not in named else []
        if len(found) > 1:
            raise UserError(
                f"{folder}: {' and '.join(name for name, _ in found)} all claim to be the "
                f"{part} part; leave one, or name one with --{part}."
            )
        if found:
            streams[part] = found[0][1]
    if streams and "train" not in streams:
        raise UserError(
            f"{path}: there is a {' and a '.join(streams)} part and no train part "
            f"(named {' or '.join(PART_NAMES['train'])})."
        )
    return streams


def the_only(path, folder, found: Found, rule: str) -> Stream:
    """What is found below a `folder` that knows no parts, if it is one thing.

    Args:
        path: What the person named, for messages.
        rule: What would have been read.
    """
    if len(found) == 1:
        return found[0][1]
    if found:
        raise UserError(
            f"{path}: which of {[name for name, _ in found]} is meant? Give one; or {rule}."
        )
    names = [entry.name for entry in entries(folder)]
    some = names[:8] + ["..."] * (len(names) > 8)
    raise UserError(f"{path}: found no corpus among {some}. Expected {rule}.")


@contextlib.contextmanager
def open_bytes(path) -> Iterator[BinaryIO]:
    """Opens a file on disk or in a zip; one that ends in .gz is unpacked as it is read."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}.") from error
    with file:
        try:
            yield gzip.GzipFile(fileobj=file) if path.name.endswith(_GZIP) else file
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise UserError(f"{path}: cannot be read: {error}.") from error


def lines(path, encoding: str) -> Iterator[tuple[str, str]]:
    """The lines of a file without their ends, each with `path:number`."""
    with open_bytes(path) as file:
        for number, raw in enumerate(file, start=1):
            origin = f"{path}:{number}"
            yield origin, decode(raw, encoding, origin).rstrip("\r\n")


def objects(path, encoding: str, flags: Mapping[str, str]) -> Iterator[tuple[str, dict]]:
    """The objects of a .jsonl, one a line, each with `path:number`.

    Args:
        flags: The keys that each must have, and the flags that name others.
    """
    for origin, line in lines(path, encoding):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{origin}: not valid JSON: {error}.") from error
        if not isinstance(row, dict):
            raise UserError(f"{origin}: expected an object, got {shown(line)}.")
        check_keys(row, flags, origin)
        yield origin, row


def check_keys(row: Mapping, flags: Mapping[str, str], origin: str) -> None:
    """Raises a `UserError` if an object lacks one of the keys, which flags can name."""
    for key, flag in flags.items():
        if key not in row:
            raise UserError(
                f"{origin}: has no key {key!r}, only {sorted(row)}; name it with {flag}."
            )


def decode(raw: bytes, encoding: str, origin) -> str:
    """Bytes as text, or an error that says where they are none."""
    try:
        return raw.decode(decoder(encoding))
    except UnicodeDecodeError as error:
        raise UserError(
            f"{origin}: not {encoding}: {error.reason} (byte {raw[error.start]:#04x}); "
            "name another with --encoding."
        ) from error


def decoder(encoding: str) -> str:
    """The codec of an encoding: that of UTF-8 passes over a mark of byte order."""
    return "utf-8-sig" if encoding.lower().replace("_", "-") == "utf-8" else encoding


def told(path, examples: Iterator[Example]) -> Iterator[Example]:
    """The examples, or an error that names the file if there is none."""
    empty = True
    for example in examples:
        empty = False
        yield example
    if empty:
        raise UserError(f"{path}: the file holds no examples.")


def shown(text: str, longest: int = 60) -> str:
    """A text for a message, cut if it is long."""
    return repr(text if len(text) <= longest else text[: longest - 3] + "...")
