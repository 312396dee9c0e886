"""Runs on disk: their progress, their size, and removal of those that are published.

`app.training.run_state` describes and writes the files. This module needs no TensorFlow.
"""

import contextlib
import dataclasses
import json
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from app.serving import versions
from app.training import run_state
from tasks.core.errors import UserError

_LOCK = "lock"
# What training writes; the state first, because without it a run is a new one.
_WRITTEN = (
    "state.npz*",
    "*/state.npz*",
    "history.csv",
    run_state.CACHE_FILE,
    "assets",
    "tensorboard",
    "network-[0-9]*/",
    "distilled-[0-9]*/",
)
_DAY = 24 * 60 * 60  # seconds


@dataclasses.dataclass(frozen=True)
class StoredRun:
    """A run on disk.

    Attributes:
        model: Name of the model that it trains.
        folder: Its folder.
        size: Size of its files in bytes.
        last_used: Time of the last change, in seconds since the epoch.
        state: Its progress in words.
        version: Version that it was published as, if it has ended with that; else None.
    """

    model: str
    folder: Path
    size: int
    last_used: float
    state: str
    version: int | None = None


def find(runs: Path) -> list[StoredRun]:
    """Returns the runs of a folder of training state, by model and name.

    Args:
        runs: The folder, as given to `app.train --runs`.
    """
    stored = []
    for folder in sorted(runs.glob("*/*")):
        is_run = folder.parent.name != "encoded" and re.fullmatch("[0-9a-f]{16}", folder.name)
        if is_run and folder.is_dir():
            with contextlib.suppress(FileNotFoundError):  # another process is removing it
                stored.append(_describe(folder))
    return stored


def remove_published(
    runs: Path, saved_models: Path, unused_days: int, now: float | None = None
) -> Iterator[StoredRun]:
    """Removes runs that have ended, and whose version exists.

    Runs that are unfinished, damaged or in use stay, and so do files that training did not write.

    Args:
        runs: Folder of training state.
        saved_models: Folder of the published models.
        unused_days: Days without change after which a run is removed.
        now: The time in seconds since the epoch; None for the present.

    Yields:
        Each run that has been removed.
    """
    now = time.time() if now is None else now
    for run in find(runs):
        with contextlib.suppress(Timeout), FileLock(run.folder / _LOCK).acquire(blocking=False):
            run = _describe(run.folder)  # again, because a process may have changed it
            if _is_published(run, saved_models) and now - run.last_used >= unused_days * _DAY:
                _remove(run.folder)
                yield run
            if not any(path for path in run.folder.glob("*") if path.name != _LOCK):
                with contextlib.suppress(OSError):  # another process starts the run
                    (run.folder / _LOCK).unlink(missing_ok=True)
                    run.folder.rmdir()


def _is_published(run: StoredRun, saved_models: Path) -> bool:
    """Whether the version of a run exists, and is not one of other settings that has its number."""
    if run.version not in versions.numbers(saved_models / run.model):
        return False
    name = "assets/config.json"
    published = saved_models / run.model / str(run.version) / name
    return published.is_file() and published.read_bytes() == (run.folder / name).read_bytes()


def _remove(folder: Path) -> None:
    for pattern in _WRITTEN:
        for path in folder.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def _describe(folder: Path) -> StoredRun:
    files = [path.stat() for path in folder.rglob("*") if path.is_file() and path.name != _LOCK]
    state, version = _state(folder)
    return StoredRun(
        model=folder.parent.name,
        folder=folder,
        size=sum(file.st_size for file in files),
        last_used=max((file.st_mtime for file in files), default=folder.stat().st_mtime),
        state=state,
        version=version,
    )


def _state(folder: Path) -> tuple[str, int | None]:
    """Returns the progress of a run in words, and the version that it ended with."""
    try:
        progress = run_state.read_progress(folder)
        config = json.loads((folder / "assets/config.json").read_text(encoding="utf-8"))
        networks = run_state.network_folders(config)
        trained = sum(_has_ended(folder / name, config) for name in networks)
    except (UserError, OSError, ValueError, KeyError, TypeError):
        return "damaged", None
    if trained < len(networks) and len(networks) > 1:
        return f"unfinished, {trained} of {len(networks)} networks", None
    if not trained:
        return f"unfinished, {progress.epoch} of at most {config['epochs']} epochs", None
    if not progress.published:
        return f"trained for {progress.epoch} epochs, not published", None
    version = progress.published[-1]["version"]
    return f"published as version {version}", version


def _has_ended(folder: Path, config: Mapping[str, Any]) -> bool:
    """Whether nothing of the network in a folder remains to be trained."""
    progress = run_state.read_progress(folder)
    return progress.epoch >= config["epochs"] or progress.wait >= config["patience"]
