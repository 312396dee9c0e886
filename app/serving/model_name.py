"""Names of models on the command line: `python -m app.predict films "a dull film"`.

Versions are published under the name of their task, or under one that `app.train --name` gives,
so that several models of a task exist side by side. Commands that read a version take the name of
a model in place of a task, and find its task in the record of its latest version.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import tasks
from app.core import config_file
from app.serving import versions
from tasks.core.errors import UserError

FLAG = "--name"
_PATTERN = "[a-z][a-z0-9_-]{0,62}"  # part of a URL, and a folder on systems that ignore case
# Names with a meaning of their own where a model could stand.
_RESERVED = {
    "encoded": "runs/encoded holds encoded examples",
    "gradients": "app.look gradients measures gradients",
}


def add_flag(parser: argparse.ArgumentParser, text: str) -> None:
    """Adds the flag --name.

    Args:
        parser: Parser of a command whose first argument is a task.
        text: What the flag does.
    """
    parser.add_argument(FLAG, metavar="MODEL", help=f"{text} (default: the name of the task)")


def of(args: argparse.Namespace) -> str:
    """Returns the name of the model that the arguments of a command give.

    Raises:
        UserError: The name could not be that of a folder of versions.
    """
    if args.name is None:
        return args.task
    is_folder_name = args.name not in ("", "..") and Path(args.name).name == args.name
    if not is_folder_name or not args.name.isprintable():
        raise UserError(f"{FLAG} must be the name of a model, got {args.name!r}.")
    return args.name


def version(args: argparse.Namespace) -> Path:
    """Returns the folder of the version that the arguments of a command give.

    Raises:
        UserError: There is no such version, it is damaged, or it is of another task.
    """
    return versions.find(args.saved_models, of(args), args.version, task=args.task)


def check_new(name: str | None, task: str, saved_models: Path) -> None:
    """Checks the name of a model before it is trained.

    Args:
        name: The name; None for that of the task.
        task: Name of the task.
        saved_models: Folder of the published models.

    Raises:
        UserError: The name is malformed, has another meaning, or belongs to another task.
    """
    name = task if name is None else name
    if not re.fullmatch(_PATTERN, name) and name != task:
        raise UserError(
            f"{FLAG} must begin with a lower-case letter, and have at most 63 lower-case letters, "
            f"digits, - and _, got {name!r}."
        )
    if name in _RESERVED:
        raise UserError(f"{FLAG} must not be {name}: {_RESERVED[name]}.")
    if name != task and name in tasks.names():
        raise UserError(f"{FLAG} must not be the name of a task other than {task}, got {name!r}.")
    versions.check_task(saved_models / name, task)


def with_task(argv: Sequence[str]) -> list[str]:
    """Returns a command line whose first argument is a task, where it was the name of a model.

    Args:
        argv: Arguments of a command that reads a version.

    Returns:
        The arguments, with the task of the model and --name in place of its name.

    Raises:
        UserError: A name is given twice, or the task of the model is not known.
    """
    if not argv or argv[0].startswith("-") or argv[0] in tasks.names():
        return list(argv)
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--saved-models", type=Path)
    parser.add_argument(FLAG, nargs="?")
    args, _ = parser.parse_known_args(argv[1:])
    path = config_file.path_in(argv[1:])
    settings = config_file.read(path, "") if path else {}
    folder = Path(args.saved_models or settings.get("saved_models") or "saved_models")
    name, models = argv[0], list(versions.published(folder))
    if name not in models:
        if set(models) <= set(tasks.names()):
            return list(argv)  # an error of the parser, which lists the tasks
        raise UserError(
            f"{name} is not a task, and {folder} has no model by that name; the models "
            f"are {models}. For a model that is only on a server, give its task and {FLAG}."
        )
    if args.name is not None:
        raise UserError(f"{FLAG} is only for a task; {name} is already the name of a model.")
    task = versions.task_of(folder / name)
    if task not in tasks.names():
        reason = "has no record of its task" if task is None else f"is of the unknown task {task}"
        raise UserError(
            f"{folder / name} {reason}; give the task and {FLAG} {name}. The tasks are "
            f"{tasks.names()}."
        )
    return [task, f"{FLAG}={name}", *argv[1:]]
