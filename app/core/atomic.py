"""Files that appear complete or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO


def atomic_write(path: Path, data: str | bytes, *, fsync: bool = False) -> None:
    """Writes a file through a draft beside it and one rename.

    Args:
        path: File to write or replace.
        data: Content; text is written as UTF-8.
        fsync: Whether the content is flushed to disk before the rename, so that it survives a
            power cut.

    Raises:
        OSError: The file cannot be written; the previous file, if any, is unchanged.
    """
    with atomic_open(path, fsync=fsync) as file:
        file.write(data.encode("utf-8") if isinstance(data, str) else data)


@contextlib.contextmanager
def atomic_open(path: Path, *, fsync: bool = False) -> Iterator[IO[bytes]]:
    """Opens a draft that replaces `path` when the context ends without an error.

    It is open for reading too. On an error it is removed, because it may be what fills the disk.
    """
    draft = path.with_name(f"{path.name}.draft-{os.getpid()}")
    try:
        with draft.open("w+b") as file:
            yield file
            if fsync:
                file.flush()
                os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
