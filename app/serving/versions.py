"""Published versions in their folders, found without TensorFlow."""

import re
from pathlib import Path

from models import manifest
from tasks.core.errors import UserError

_MAX_VERSION = 2**63 - 1


def numbers(folder: Path) -> list[int]:
    """Returns the published versions in a task's folder, in ascending order."""
    if not folder.is_dir():
        return []
    return sorted(
        int(path.name) for path in folder.iterdir() if _is_version(path.name) and path.is_dir()
    )


def _is_version(name: str) -> bool:
    """Whether the name of a folder is a number in ASCII that fits the server's type, int64."""
    return re.fullmatch("[1-9][0-9]{0,18}", name) is not None and int(name) <= _MAX_VERSION


def next_number(folder: Path) -> int:
    """Returns the number of the version that will be published next in a task's folder.

    Raises:
        UserError: The latest version has the largest number that a server can load.
    """
    latest = max(numbers(folder), default=0)
    if latest == _MAX_VERSION:
        raise UserError(
            f"{folder / str(latest)} has the largest number that a server can load, so no later "
            "version can be published; move it away."
        )
    return latest + 1


def published(saved_models: Path) -> dict[str, list[int]]:
    """Returns the published versions of each model that has any, in ascending order."""
    models = {folder.name: numbers(folder) for folder in sorted(saved_models.glob("*"))}
    return {name: present for name, present in models.items() if present}


def find(
    saved_models: Path, task: str, version: int | None = None, flag: str = "--version"
) -> Path:
    """Returns the folder of a published version.

    Args:
        saved_models: Folder of the published models.
        task: Name of the task.
        version: Number of the version; None for the latest.
        flag: Flag that names the version, for messages.

    Raises:
        UserError: There is no such version, or its files differ from those published.
    """
    folder = saved_models / task
    available = numbers(folder)
    if not available:
        raise UserError(f"{folder} holds no version; run: python -m app.train {task}")
    if version is None:
        version = available[-1]
    elif version not in available:
        raise UserError(f"{flag} must be one of {available} in {folder}, got {version}.")
    path = folder / str(version)
    try:
        manifest.verify(path)
    except manifest.Damage as damage:
        raise UserError(str(damage)) from damage
    return path
