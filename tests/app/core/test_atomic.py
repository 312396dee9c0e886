"""Atomic writes and console output."""

import io

import pytest

from app.core.atomic import atomic_open, atomic_write
from app.core.console import output_to, say


@pytest.mark.parametrize("fsync", [False, True])
def test_atomic_write_replaces_the_file_and_leaves_no_draft(tmp_path, fsync):
    path = tmp_path / "state.json"
    for data, expected in (("h\u00e9\n", "h\u00e9\n".encode()), (b"\0\1", b"\0\1")):
        atomic_write(path, data, fsync=fsync)
        assert path.read_bytes() == expected
        assert list(tmp_path.iterdir()) == [path]


def test_failed_write_keeps_the_old_file_and_removes_the_draft(tmp_path):
    path = tmp_path / "state.json"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="disk full"), atomic_open(path) as file:
        file.write(b"half")
        raise OSError("disk full")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_output_goes_to_the_stream_and_then_to_standard_output_again(capsys):
    stream = io.StringIO()
    with output_to(stream):
        say("one", "two")
    with output_to(None):
        say("three")
    assert stream.getvalue() == "one\ntwo\n"
    assert capsys.readouterr().out == "three\n"
