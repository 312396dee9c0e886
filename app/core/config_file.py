"""Settings from a file: `python -m app.train sentiment --config settings.yaml`.

The file is YAML or JSON, with a value for each flag of the command by its name. A `run.json` of a
published version also works: of its settings those are taken that the command has. Flags on the
command line take precedence.
"""

import argparse
import dataclasses
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.core.errors import UserError
from tasks.core.settings import flag

FLAG = "--config"
_NOT_SETTINGS = ("--help", FLAG)
_SEVERAL = ("+", "*")  # numbers of values of a flag that takes a list
_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
YES_NO = "yes|no"  # metavar of a flag whose values are these words


def add_flag(parser: argparse.ArgumentParser) -> None:
    """Adds the flag --config."""
    parser.add_argument(
        FLAG,
        type=Path,
        metavar="FILE",
        help="YAML or JSON file of settings by the names of their flags, or the run.json of a "
        "version; flags on the command line take precedence",
    )


def path_in(words: Sequence[str]) -> Path | None:
    """Returns the file that a command line names; None if it names none."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(FLAG, nargs="?", type=Path)
    return parser.parse_known_args(list(words))[0].config


def flags(
    path: Path,
    options: Mapping[str, argparse.Action],
    *,
    task: str = "",
    trains: bool = False,
    automatic: Collection[str] = (),
    nearest: Callable[[str, Sequence[str]], str],
) -> list[str]:
    """Returns the settings of a file as flags, to be followed by those of the command line.

    Args:
        path: The file.
        options: The flags of the command, with what argparse does for each.
        task: Task of the command; "" if it has none.
        trains: Whether a record must have no other settings than the command.
        automatic: Flags whose value may be null, which means auto.
        nearest: Returns the flag that was probably meant by an unknown one; "" if none is near.

    Raises:
        UserError: The file cannot be read, is the record of another task, or has a setting that
            does not exist or is malformed.
    """
    values, is_record = _read(path, task)
    known_flags = [name for name in options if name.startswith("--") and name not in _NOT_SETTINGS]
    words, keys = [], {}
    for key, value in values.items():
        name = flag(str(key).replace("-", "_"))
        if name not in known_flags:
            if is_record and not trains:
                continue
            near = nearest(name, known_flags) if key else ""
            hint = f"; did you mean {near.removeprefix('--')}?" if near else "."
            raise UserError(f"{FLAG}: {path} has the setting {key!r}, which does not exist{hint}")
        same = keys.setdefault(options[name].dest, key)
        if same != key:
            raise UserError(f"{FLAG}: {path} has {same!r} and {key!r}, which are one setting.")
        if value is None:
            if name not in automatic and not is_record:
                raise UserError(f"{FLAG}: {path}: {key} has no value; add one, or remove the line.")
            words += [f"{name}=auto"] if name in automatic else []
        else:
            words += _words(path, name, options[name], value)
    # Itself last, so that no list before it takes what follows on the command line.
    return [*words, f"{FLAG}={path}"]


def read(path: Path, task: str) -> dict[str, Any]:
    """Returns the settings of a file by the name of the field.

    Raises:
        UserError: It is neither JSON nor YAML, or the record of another task.
    """
    values, _ = _read(path, task)
    return {str(key).replace("-", "_"): value for key, value in values.items()}


def base_of(path: Path) -> str:
    """Returns the version that the version of a record continued; "" for any other file."""
    content = _parse(path, path.read_text(encoding="utf-8"))
    base = content.get("base") if isinstance(content, dict) else None
    return str(base.get("version", "")) if isinstance(base, dict) else ""


def _words(path: Path, name: str, action: argparse.Action, value: object) -> list[str]:
    """Returns the words of a command line that give a flag a value.

    Raises:
        UserError: The value is a list, or a mapping where there can be none, or is not a truth
            value, or is one where there can be none.
    """
    setting_name = name.removeprefix("--").replace("-", "_")
    truth = value if isinstance(value, bool) else _WORDS.get(str(value).lower())
    has_none = isinstance(action, argparse.BooleanOptionalAction) or action.nargs == 0
    if has_none and truth is None:
        raise UserError(f"{FLAG}: {path}: {setting_name} must be true or false, got {value!r}.")
    if isinstance(action, argparse.BooleanOptionalAction):
        return [name if truth else name.replace("--", "--no-", 1)]
    if has_none or (action.nargs == "?" and truth is not None):
        return [name] if truth else []
    if isinstance(value, dict) and name == "--cell":
        value = json.dumps(value)
    items = value if isinstance(value, list) else [value]
    if action.metavar == YES_NO:
        truths = {True: "yes", False: "no"}
        items = [truths.get(_WORDS.get(str(item).lower()), item) for item in items]
    elif any(isinstance(item, bool) for item in items):
        raise UserError(
            f"{FLAG}: {path}: {setting_name} must not be true or false; put a text in quotes."
        )
    takes_list = action.nargs in _SEVERAL or isinstance(action.nargs, int)
    repeats = isinstance(action, argparse._AppendAction)
    wrong = (isinstance(value, list) and not (takes_list or repeats)) or "--" in items
    if wrong or not all(isinstance(item, str | int | float) for item in items):
        raise UserError(
            f"{FLAG}: {path}: {setting_name} must be a string, a number, true or false, got "
            f"{value!r}."
        )
    if takes_list:
        return [name, *map(str, items)]
    return [f"{name}={item}" for item in items]


def _read(path: Path, task: str) -> tuple[Mapping[str, Any], bool]:
    """Returns the settings of a file, and whether it is the record of a version.

    Raises:
        UserError: It is neither JSON nor YAML, or the record of another task.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{FLAG}: {path} is not UTF-8.") from error
    except OSError as error:
        raise UserError(f"{FLAG}: {path} cannot be read: {error.strerror}.") from error
    content = _parse(path, text)
    if not isinstance(content, dict):
        raise UserError(
            f"{FLAG}: {path} must have a value for each setting, such as units: 64, got "
            f"{type(content).__name__}."
        )
    if not isinstance(content.get("config"), dict):
        return content, False
    if task and content.get("task", task) != task:
        raise UserError(f"{FLAG}: {path} is a record of {content['task']}, got the task {task}.")
    return content["config"], True


def _parse(path: Path, text: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError):
        pass
    import yaml

    from app.core import yaml_file

    try:
        return yaml_file.parse(text)
    except yaml_file.DuplicateKeyError as error:
        raise UserError(f"{FLAG}: {path} has {error.args[0]!r} twice.") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{FLAG}: {path} is neither YAML nor JSON: {reason:.200}.") from error


def _without_duplicates(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Returns an object of JSON; one with a key twice is left to YAML, which reports it.

    Raises:
        ValueError: It has a key twice.
    """
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key occurs twice")
    return values


def changed_flags(args: argparse.Namespace, settings: Sequence[type]) -> list[str]:
    """Returns the flags whose values are not the defaults, as words of a command line.

    Args:
        args: The values.
        settings: Dataclasses of settings, which have the defaults.
    """
    words: dict[str, str] = {}
    for cls in settings:
        for field in dataclasses.fields(cls):
            value, name = getattr(args, field.name), flag(field.name)
            if value == field.default:
                continue
            if isinstance(value, bool):
                words[name] = name if value else name.replace("--", "--no-", 1)
            else:
                words[name] = f"{name}={'auto' if value is None else value}"
    return list(words.values())
