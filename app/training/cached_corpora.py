"""Encoded corpora on disk: their size, their last use, and removal of stale ones.

`app.training.example_cache` describes and writes the files. This module knows only their names,
so that listing them needs no TensorFlow.
"""

import contextlib
import dataclasses
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from app.training.run_state import CACHE_FILE
from tasks.core.examples import PARTS

ENCODED_PARTS = PARTS[:2]  # the test part is evaluated as text
LOCK, RECORD = "lock", "encoded.json"
_FILES = (RECORD, f"{RECORD}.draft-*", "*.tfrecord")  # the record first: without it, all is void
_DAY = 24 * 60 * 60  # seconds


@dataclasses.dataclass(frozen=True)
class EncodedCorpus:
    """An encoded corpus.

    Attributes:
        task: Name of the task.
        folder: Its folder.
        size: Size of its files in bytes.
        last_used: Time of the last use, in seconds since the epoch; if it is incomplete, the
            time of the last change.
        complete: Whether all parts are complete.
        runs: Folders of the runs that refer to it.
    """

    task: str
    folder: Path
    size: int
    last_used: float
    complete: bool
    runs: tuple[Path, ...]

    def stale_reason(self, unused_days: int, now: float) -> str:
        """Returns why the corpus may be removed, or "" if it may not.

        Args:
            unused_days: Days after which a corpus that is not used is stale.
            now: The time in seconds since the epoch.
        """
        if not self.complete:
            return "incomplete"
        days = (now - self.last_used) / _DAY
        return f"not used for {days:.0f} days" if days >= unused_days else ""


def mark_used(folder: Path) -> None:
    """Records that a part is used now, as the modification time of its record."""
    with contextlib.suppress(OSError):  # a cache may be read-only
        os.utime(folder / RECORD)


def find(runs: Path) -> list[EncodedCorpus]:
    """Returns the encoded corpora of a folder of training state, by task and name.

    Args:
        runs: The folder, as given to `app.train --runs`.
    """
    corpora = []
    for folder in sorted((runs / "encoded").glob("*/*")):
        if folder.is_dir() and re.fullmatch("[0-9a-f]{16}", folder.name):
            with contextlib.suppress(FileNotFoundError):  # another process is removing it
                corpora.append(_describe(folder, runs))
    return corpora


def remove_stale(
    runs: Path, unused_days: int, now: float | None = None
) -> Iterator[tuple[EncodedCorpus, str]]:
    """Removes corpora that are incomplete, or have not been used for some days.

    A corpus is kept if a process is encoding it, or training a run that refers to it. Only
    files that training wrote are removed.

    Args:
        runs: Folder of training state.
        unused_days: Days after which a corpus that is not used is stale.
        now: The time in seconds since the epoch; None for the present.

    Yields:
        Each corpus that has been removed, and the reason.
    """
    now = time.time() if now is None else now
    for corpus in find(runs):
        if corpus.stale_reason(unused_days, now):
            reason = _remove(corpus.folder, runs, unused_days, now)
            if reason:
                yield corpus, reason


def _remove(folder: Path, runs: Path, unused_days: int, now: float) -> str:
    """Removes a corpus if it is stale and not in use; returns the reason, or "" if kept."""
    parts = [folder / part for part in ENCODED_PARTS if (folder / part).is_dir()]
    with contextlib.ExitStack() as locks:
        try:
            for part in parts:
                locks.enter_context(FileLock(part / LOCK).acquire(blocking=False))
            # Again, because a process may have used it before its parts were locked. A process
            # that trains records its corpus first, and then reads it: it is either seen here, or
            # waits for the locks.
            corpus = _describe(folder, runs)
            reason = corpus.stale_reason(unused_days, now)
            if not reason:
                return ""
            for run in corpus.runs:
                locks.enter_context(FileLock(run / LOCK).acquire(blocking=False))
        except Timeout:
            return ""
        for part in parts:
            for path in _files(part):
                path.unlink()
            with contextlib.suppress(PermissionError):  # Windows removes it when it is released
                (part / LOCK).unlink()
    for path in (*parts, folder):
        with contextlib.suppress(OSError):  # not empty: another process uses it again
            path.rmdir()
    return reason


def _describe(folder: Path, runs: Path) -> EncodedCorpus:
    parts = [folder / part for part in ENCODED_PARTS]
    files = [path.stat() for part in parts for path in _files(part)]
    records = [part / RECORD for part in parts]
    complete = all(record.is_file() for record in records)
    times = [record.stat().st_mtime for record in records] if complete else []
    changes = [folder.stat().st_mtime, *(file.st_mtime for file in files)]
    task = folder.parent.name
    return EncodedCorpus(
        task=task,
        folder=folder,
        size=sum(file.st_size for file in files),
        last_used=max(times or changes),
        complete=complete,
        runs=tuple(
            path.parent
            for path in sorted(runs.glob(f"*/*/{CACHE_FILE}"))
            if path.read_text(encoding="utf-8").strip() == folder.name
        ),
    )


def _files(part: Path) -> list[Path]:
    """Returns the files of a part in the order of removal, without its lock."""
    return [path for pattern in _FILES for path in sorted(part.glob(pattern))]
