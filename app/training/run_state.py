"""State of a run on disk, from which training resumes after any interruption.

runs/<model>/<hash of config and data>/
    lock            held by the process that trains the run
    assets/         assets of the task
    state.npz       complete state after the last finished epoch, in one file with a checksum
    history.csv     a line per epoch, for people; the state has the same
    network-2/      the same for the second network of an ensemble, and so on
    distilled-3/    the same for the network that was trained on the predictions of three
    tensorboard/    the same for TensorBoard
    cache.txt       name of the folder of its encoded examples

The language model of `--unlabelled` has such a folder, too, in runs/language_model/.

The encoded examples of all runs are in runs/encoded/<task>/ (`app.training.example_cache`).
"""

import csv
import dataclasses
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from app.core import checksums as file_checksums
from app.core.atomic import atomic_open, atomic_write
from tasks.core.errors import UserError
from tasks.core.settings import affecting

CACHE_FILE = "cache.txt"
_FORMAT = 5  # of the folder; another number starts every run again
# Settings that runs and records contain from when an ensemble had a run of its own.
_ONE_NETWORK = {"ensemble": 1, "distill": False}
_PUBLISHED = ("ensemble", "serving")  # effects of the settings of versions of one run


def identity(task: str, config: Any, checksum: str, assets: Path) -> str:
    """Returns the hash that names a run.

    It covers the task, the data and the settings, but not those that only affect how long a
    run trains, how many networks it trains or how the model is served.

    Args:
        task: Name of the task.
        config: Settings of the task.
        checksum: Checksum of the data.
        assets: Folder with the assets of the task.
    """
    settings = _ONE_NETWORK | _training_settings(config)
    parts = [_FORMAT, task, settings, checksum, checksums(assets)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def checksums(assets: Path) -> dict[str, str]:
    """Returns the SHA-256 of each file in a folder of assets, except the settings."""
    files = [path for path in sorted(assets.iterdir()) if path.name != "config.json"]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _training_settings(config: Any) -> dict[str, Any]:
    """Returns the settings that distinguish runs."""
    return affecting(config, "encoding", "training")


@dataclasses.dataclass
class Progress:
    """Progress of a run.

    Attributes:
        epoch: Number of finished epochs.
        best: Lowest validation loss so far, or minus the highest value of another metric.
        best_epoch: The epoch that reached it, counted from 1.
        wait: Number of epochs since the best one.
        history: Metrics of each epoch.
        seconds: Time spent in training.
        published: Versions that were published, each with its settings of the ensemble and of
            serving.
        tokens: Token budget of a batch if the one in the settings exceeded the memory, else 0.
        implementations: Implementations of recurrent layers that were chosen by timing, from
            `tuning.choose`; none where a rule selects them.
    """

    epoch: int = 0
    best: float = float("inf")
    best_epoch: int = 0
    wait: int = 0
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    published: list[dict] = dataclasses.field(default_factory=list)
    tokens: int = 0
    implementations: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def has_lowest_loss(self) -> bool:
        """Returns whether the last epoch has a lower validation loss than the best one."""
        return self.history[-1]["val_loss"] < self.history[self.best_epoch - 1]["val_loss"]

    def ended(self, config: Any) -> bool:
        """Returns whether nothing remains to be trained."""
        return self.epoch >= config.epochs or self.wait >= config.patience

    def version_of(self, config: Any) -> int | None:
        """Returns the last published version of the same ensemble and serving, or None."""
        settings = affecting(config, *_PUBLISHED)
        versions = [
            item["version"] for item in self.published if _ONE_NETWORK | item["serving"] == settings
        ]
        return versions[-1] if versions else None


def unfinished(folder: Path, config: Any) -> list[Path]:
    """Returns the unfinished runs of a task that have the same settings but other data.

    Args:
        folder: Folder of a run; the others are in the same parent folder.
        config: Settings of that run.
    """
    runs = []
    for path in sorted(folder.parent.glob("*/assets/config.json")):
        other = path.parents[1]
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:  # a process was killed while it wrote the file
            continue
        settings = _training_settings(config)
        same_settings = all(record.get(name) == value for name, value in settings.items())
        if same_settings and other != folder:
            try:
                progress = read_progress(other)
            except UserError:  # damaged, which matters when that run is resumed
                continue
            if progress.epoch > 0 and not progress.ended(config):
                runs.append(other)
    return runs


class Run:
    """The folder of a run, locked until it is closed.

    Args:
        folder: The folder; it is created if it does not exist.

    Raises:
        UserError: Another process is training the same run.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / "lock")
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            raise UserError(f"another process is training the same run in {folder}.") from None
        for draft in folder.glob("state.npz.draft-*"):  # of processes that were killed
            draft.unlink()

    @property
    def assets(self) -> Path:
        """Folder with the assets of the task."""
        return self.folder / "assets"

    def replace_assets(self, folder: Path) -> None:
        """Replaces the assets by a copy of those in a folder."""
        shutil.rmtree(self.assets, ignore_errors=True)
        shutil.copytree(folder, self.assets)

    def close(self) -> None:
        """Releases the lock."""
        self._lock.release()

    def record_cache(self, cache: Path) -> None:
        """Records which folder of encoded examples the run uses."""
        atomic_write(self.folder / CACHE_FILE, cache.name + "\n")

    def progress(self) -> Progress:
        """Returns the progress of the run; that of a new run is zero."""
        return read_progress(self.folder)

    def arrays(self) -> dict[str, list[np.ndarray]]:
        """Returns the arrays that were saved, by group; nothing for a new run."""
        state = _read_state(self.folder, lambda key: key != "progress")
        groups: dict[str, list[np.ndarray]] = {}
        keys = [key.split("/") for key in state]
        for group, index in sorted(keys, key=lambda key: int(key[1])):
            groups.setdefault(group, []).append(state[f"{group}/{index}"])
        return groups

    def save(self, progress: Progress, groups: dict[str, list[np.ndarray]]) -> None:
        """Saves a state, completely or not at all.

        Args:
            progress: Progress of the run.
            groups: Lists of arrays by group, such as weights and state of the optimizer.
        """
        arrays = {
            f"{group}/{index}": array
            for group, members in groups.items()
            for index, array in enumerate(members)
        }
        with atomic_open(self.folder / "state.npz", fsync=True) as file:
            np.savez(file, progress=json.dumps(dataclasses.asdict(progress)), **arrays)
            file_checksums.append(file)
        atomic_write(self.folder / "history.csv", history_table(progress.history))

    def to_bytes(self) -> bytes:
        """Returns the state for `load_bytes` in another process; b"" for a new run."""
        path = self.folder / "state.npz"
        return path.read_bytes() if path.exists() else b""

    def load_bytes(self, state: bytes) -> None:
        """Replaces the state by what `to_bytes` returned in another process."""
        self.reset()
        if state:
            (self.folder / "state.npz").write_bytes(state)

    def mark_published(self, version: int, config: Any) -> None:
        """Records a published version and its settings of the ensemble and of serving."""
        progress = self.progress()
        settings = affecting(config, *_PUBLISHED)
        progress.published.append({"version": version, "serving": settings})
        self.save(progress, self.arrays())

    def inner(self, name: str) -> "Run":
        """Returns a run inside this one, to be closed by the caller.

        Args:
            name: Name of its folder.
        """
        return Run(self.folder / name)

    def reset(self, networks: Iterable[str] = ("", "*")) -> None:
        """Removes states, so that the run starts again.

        Args:
            networks: Folders of networks, as from `network_folders`; by default all.
        """
        for network in networks:
            for state in self.folder.glob(f"{network or '.'}/state.npz"):
                state.unlink()


def network_folders(config: Mapping[str, Any]) -> list[str]:
    """Returns the folders of the networks of a run, relative to its own, in order of training.

    Args:
        config: Its settings, as recorded.
    """
    count = config.get("ensemble", 1)
    distilled = [f"distilled-{count}"] if config.get("distill") else []
    return ["", *(f"network-{number}" for number in range(2, count + 1)), *distilled]


def history_table(history: list[dict[str, float]]) -> str:
    """Returns the metrics of each epoch as a table in CSV."""
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, history[0] if history else [])
    writer.writeheader()
    writer.writerows(history)
    return table.getvalue()


def read_progress(folder: Path) -> Progress:
    """Returns the progress of the run in a folder; that of a new run is zero.

    Raises:
        UserError: The state is damaged.
    """
    state = _read_state(folder, lambda key: key == "progress")
    return Progress(**json.loads(str(state.get("progress", "{}"))))


def _read_state(folder: Path, predicate: Callable[[str], bool]) -> dict[str, np.ndarray]:
    """Returns the entries of a state whose keys satisfy a predicate; nothing for a new run."""
    path = folder / "state.npz"
    if not path.exists():
        return {}
    try:
        content = file_checksums.strip(path.read_bytes())
    except (OSError, file_checksums.DamagedFile) as error:
        raise UserError(
            f"{path}, the state of a run, cannot be read: {error}. Restore it from a copy, or "
            "remove it to train from the start."
        ) from error
    with np.load(io.BytesIO(content), allow_pickle=False) as state:
        return {key: state[key] for key in filter(predicate, state.files)}
