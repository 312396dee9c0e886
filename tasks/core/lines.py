"""Lines of requests, read without TensorFlow."""

import codecs
from collections.abc import Iterator
from typing import BinaryIO

from tasks.core.errors import UserError

MAX_LINE = 64 * 2**20  # bytes of a line of requests, its end included


def read_lines(file: BinaryIO, name: object) -> Iterator[bytes]:
    """Yields the lines of a file of requests with their ends, and never reads ahead.

    Args:
        file: The file.
        name: Its name, for the message.

    Raises:
        UserError: A line is longer than `MAX_LINE`.
    """
    number = 1
    while line := file.readline(MAX_LINE + 1):
        check_length(line, f"{name}:{number}")
        yield line
        number += 1


def check_length(line: bytes, origin: str) -> None:
    """Checks that a line of requests is not longer than `MAX_LINE`.

    Raises:
        UserError: It is; the message begins with `origin`.
    """
    if len(line) > MAX_LINE:
        raise UserError(f"{origin}: the line has more than {MAX_LINE:,} bytes.")


def strip_line(line: bytes, number: int) -> bytes:
    """Removes the end of a line of requests, and the byte order mark of the first line.

    Args:
        line: The line.
        number: Its number in the file, from 1.
    """
    line = line.rstrip(b"\r\n")
    return line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
