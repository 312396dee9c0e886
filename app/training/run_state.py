"""A run's state on disk: what it takes to go on after any interruption.

runs/<task>/<hash of config and data>/
    assets/         what the task learnt
    state.npz       the whole state after the last finished epoch, in one file
    history.csv     a line an epoch
    tensorboard/    the same for TensorBoard

In runs/encoded/<task>/ is what app.training.example_cache keeps for all of them.
"""

import csv
import dataclasses
import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from app.atomic import atomic_open
from tasks.core.errors import UserError
from tasks.core.settings import affecting

_FORMAT = 3  # of the folder; a new one starts every run anew
_FREE = ("epochs", "patience")  # how long a run goes on is no part of what it is


def identity(task: str, config, checksum: str, learnt: Path) -> str:
    """The hash that names a run: of its task, config and data, but not of how it will serve.

    Args:
        task: Its name.
        config: Its settings.
        checksum: That of the data.
        learnt: The folder of what the task learnt of the data, and was given in files.
    """
    told = [_FORMAT, task, _told(config), checksum, checksums(learnt)]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def checksums(learnt: Path) -> dict[str, str]:
    """The hash of each file of what a task learnt, but for its settings."""
    files = [path for path in sorted(learnt.iterdir()) if path.name != "config.json"]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _told(config) -> dict:
    """The settings of a config that say which run it is."""
    return affecting(config, "encoding", "training")


@dataclasses.dataclass
class Progress:
    """How far a run has come.

    Attributes:
        epoch: Epochs finished.
        best: The lowest loss on valid so far, or minus the greatest of another figure.
        best_epoch: The epoch that had it, counted from 1.
        wait: Epochs since then.
        history: The figures of each epoch.
        seconds: Spent in training.
        published: The versions that came of it, each with its settings of serving.
        tokens: The budget of a batch, where that of the settings was more than the memory
            holds; else 0.
    """

    epoch: int = 0
    best: float = float("inf")
    best_epoch: int = 0
    wait: int = 0
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    published: list[dict] = dataclasses.field(default_factory=list)
    tokens: int = 0

    def ended(self, config) -> bool:
        """Whether there is nothing left to train."""
        return self.epoch >= config.epochs or self.wait >= config.patience

    def version_of(self, config) -> int | None:
        """The last version that serves as `config` says, if there is one."""
        serving = affecting(config, "serving")
        found = [each["version"] for each in self.published if each["serving"] == serving]
        return found[-1] if found else None


def unfinished(folder: Path, config) -> list[Path]:
    """The runs beside one, by the same settings but of other data, that have not ended."""
    found = []
    for path in sorted(folder.parent.glob("*/assets/config.json")):
        beside = path.parents[1]
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:  # its process was killed while it wrote
            continue
        alike = all(record.get(key) == value for key, value in _told(config).items())
        if alike and beside != folder:
            progress = _progress(beside)
            found += [beside] * (progress.epoch > 0 and not progress.ended(config))
    return found


class Run:
    """The folder of one run, locked for as long as the process has it open.

    Raises:
        UserError: Another process is training the same.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / "lock")
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            raise UserError(f"another process is training the same run in {folder}.") from None
        for draft in folder.glob("state.npz.draft-*"):  # of a process that was killed
            draft.unlink()

    @property
    def assets(self) -> Path:
        """What the task learnt."""
        return self.folder / "assets"

    def close(self) -> None:
        """Lets others have it."""
        self._lock.release()

    def progress(self) -> Progress:
        """How far the run has come; a new one has not."""
        return _progress(self.folder)

    def arrays(self) -> dict[str, list[np.ndarray]]:
        """The arrays that `save` kept, by group; none of a new run."""
        state, groups = _state(self.folder, lambda key: key != "progress"), {}
        keys = [key.split("/") for key in state]
        for group, at in sorted(keys, key=lambda key: int(key[1])):
            groups.setdefault(group, []).append(state[f"{group}/{at}"])
        return groups

    def save(self, progress: Progress, groups: dict[str, list[np.ndarray]]) -> None:
        """Keeps a state, whole or not at all.

        Args:
            progress: How far the run has come.
            groups: Lists of arrays, by group.
        """
        arrays = {
            f"{group}/{at}": array
            for group, some in groups.items()
            for at, array in enumerate(some)
        }
        with atomic_open(self.folder / "state.npz", fsync=True) as file:
            np.savez(file, progress=json.dumps(dataclasses.asdict(progress)), **arrays)
        self._write_history(progress)

    def to_bytes(self) -> bytes:
        """The state as another process may `take` it; nothing of a new run."""
        path = self.folder / "state.npz"
        return path.read_bytes() if path.exists() else b""

    def load_bytes(self, state: bytes) -> None:
        """Takes the state that `to_bytes` gave of the same run elsewhere."""
        self.reset()
        if state:
            (self.folder / "state.npz").write_bytes(state)

    def mark_published(self, version: int, config) -> None:
        """Notes which version the run came to, and how it serves."""
        progress = self.progress()
        progress.published.append({"version": version, "serving": affecting(config, "serving")})
        self.save(progress, self.arrays())

    def reset(self) -> None:
        """Starts anew: a finished run is done again."""
        (self.folder / "state.npz").unlink(missing_ok=True)

    def _write_history(self, progress):
        with (self.folder / "history.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, progress.history[0] if progress.history else [])
            writer.writeheader()
            writer.writerows(progress.history)


def _progress(folder):
    told = _state(folder, lambda key: key == "progress").get("progress", "{}")
    return Progress(**json.loads(str(told)))


def _state(folder, wanted: Callable[[str], bool]) -> dict[str, np.ndarray]:
    """What the state of a run has under the wanted keys; nothing of a new one."""
    path = folder / "state.npz"
    if not path.exists():
        return {}
    try:
        with np.load(path, allow_pickle=False) as state:
            return {key: state[key] for key in filter(wanted, state.files)}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path}, the state of a run, cannot be read: {error}. Bring it back, or move it "
            "away to train anew."
        ) from error
