"""Published versions in their folders, found without TensorFlow."""

import json
import re
from pathlib import Path
from typing import Any

from models import manifest
from tasks.core.errors import UserError

_MAX_VERSION = 2**63 - 1
# Entries of a record, which another program may have written, by type.
_TYPES = {
    "task": str,
    "config": dict,
    "data": dict,
    "scores": dict,
    "intervals": dict,
    "base": dict,
    "networks": list,
}


def numbers(folder: Path) -> list[int]:
    """Returns the published versions in a model's folder, in ascending order.

    A number alone makes a version, so that a later one never takes the number of a damaged one.
    """
    if not folder.is_dir():
        return []
    return sorted(
        int(path.name) for path in folder.iterdir() if _is_version(path.name) and path.is_dir()
    )


def is_complete(folder: Path) -> bool:
    """Whether the folder of a version has a SavedModel, and is no folder of other files."""
    return (folder / "saved_model.pb").is_file()


def _is_version(name: str) -> bool:
    """Whether the name of a folder is a number in ASCII that fits the server's type, int64."""
    return re.fullmatch("[1-9][0-9]{0,18}", name) is not None and int(name) <= _MAX_VERSION


def next_number(folder: Path) -> int:
    """Returns the number of the version that will be published next in a model's folder.

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


def record(folder: Path) -> dict[str, Any]:
    """Returns the `run.json` of a version, without entries of a wrong type.

    It is empty if the version has none that can be read.
    """
    try:
        content = json.loads((folder / "assets.extra/run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}  # such as a version of another program
    if not isinstance(content, dict):
        return {}
    return {k: value for k, value in content.items() if isinstance(value, _TYPES.get(k, object))}


def task_of(folder: Path) -> str | None:
    """Returns the task of a model, as its latest version that has a record names it.

    Args:
        folder: Folder of the model's versions.

    Returns:
        The name of the task; None if no version has a record.
    """
    for number in reversed(numbers(folder)):
        task = record(folder / str(number)).get("task")
        if isinstance(task, str):
            return task
    return None


def parse(text: str, model: str, flag: str = "--compare") -> tuple[str, int]:
    """Returns the model and the number of a version, given as "3" or "sentiment/3".

    Args:
        text: The version.
        model: The model where only a number is given.
        flag: Flag whose value it is, for messages.

    Raises:
        UserError: The text is neither.
    """
    name, _, number = text.rpartition("/")
    if not _is_version(number) or "/" in name:
        raise UserError(
            f"{flag} must be versions such as 3, or with their model such as {model}/3, got "
            f"{text!r}."
        )
    return name or model, int(number)


def title(folder: Path) -> str:
    """Returns the name of a version for people, such as "sentiment/3"."""
    folder = folder.absolute()
    return f"{folder.parent.name}/{folder.name}"


def find(
    saved_models: Path,
    model: str,
    version: int | None = None,
    flag: str = "--version",
    task: str | None = None,
) -> Path:
    """Returns the folder of a published version.

    Args:
        saved_models: Folder of the published models.
        model: Name of the model.
        version: Number of the version; None for the latest.
        flag: Flag that names the version, for messages.
        task: Task that the version must be of; None for any.

    Raises:
        UserError: There is no such version, its files differ from those published, or it is of
            another task.
    """
    folder = saved_models / model
    available = numbers(folder)
    if not available:
        words = task or model
        words += "" if words == model else f" --name {model}"
        raise UserError(f"{folder} holds no version; run: python -m app.train {words}")
    if version is None:
        version = available[-1]
    elif version not in available:
        raise UserError(f"{flag} must be one of {available} in {folder}, got {version}.")
    path = folder / str(version)
    try:
        manifest.verify(path)
    except manifest.Damage as damage:
        raise UserError(str(damage)) from damage
    actual = record(path).get("task", task)
    if task is not None and actual != task:
        raise UserError(f"{path} is a version of the task {actual}, not of {task}.")
    return path


def check_task(folder: Path, task: str) -> None:
    """Checks that a model's folder has no versions of another task.

    Raises:
        UserError: It has.
    """
    actual = task_of(folder)
    if actual not in (None, task):
        raise UserError(
            f"{folder} holds versions of the task {actual}, not of {task}; choose another --name."
        )
