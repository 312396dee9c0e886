"""The bound of a line of requests, in files and in Apache Beam."""

import io

import pytest

from tasks.core import lines
from tasks.core.errors import UserError


def test_a_line_that_is_too_long_is_reported_by_number(monkeypatch):
    monkeypatch.setattr(lines, "MAX_LINE", 8)
    reader = lines.read_lines(io.BytesIO(b"1234567\n12345678\n"), "a.txt")
    assert next(reader) == b"1234567\n"
    with pytest.raises(UserError, match=r"^a\.txt:2: the line has more than 8 bytes\.$"):
        next(reader)


def test_beam_has_the_same_bound(monkeypatch):
    handler = pytest.importorskip("app.serving.beam_handler", reason="needs apache-beam")
    monkeypatch.setattr(lines, "MAX_LINE", 8)
    with pytest.raises(UserError, match="begins with b'123456789': the line has more than 8 bytes"):
        handler._requests(b"123456789", None)
