"""Lines of requests, read without TensorFlow."""

import codecs


def strip_line(line: bytes, number: int) -> bytes:
    """Removes the end of a line of requests, and the byte order mark of the first line.

    Args:
        line: The line.
        number: Its number in the file, from 1.
    """
    line = line.rstrip(b"\r\n")
    return line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
