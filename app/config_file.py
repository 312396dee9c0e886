"""Settings from a file: `python -m app.train sentiment --config settings.yaml`.

The file is YAML or JSON, with a value for each setting by the name of its flag. A `run.json` of a
published version also works: its settings are taken. Flags on the command line take precedence.
"""

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app import cli
from tasks.core.errors import UserError
from tasks.core.settings import flag

FLAG = "--config"


def with_file(argv: Sequence[str], settings: Sequence[type]) -> list[str]:
    """Returns a command line with the settings of the file that it names as flags.

    They come before the flags of the command line, which therefore take precedence.

    Args:
        argv: Arguments of a command; the first is the task.
        settings: Dataclasses of the settings that the file may have.

    Raises:
        UserError: The file cannot be read, or has a setting that does not exist.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(FLAG, nargs="?", type=Path)
    args, _ = parser.parse_known_args(argv[1:])
    if args.config is None:
        return list(argv)
    return [argv[0], *_flags(args.config, _read(args.config, argv[0]), settings), *argv[1:]]


def add_flag(parser: argparse.ArgumentParser) -> None:
    """Adds the flag --config."""
    parser.add_argument(
        FLAG,
        type=Path,
        metavar="FILE",
        help="YAML or JSON file of settings by the names of their flags, or the run.json of a "
        "version; flags on the command line take precedence",
    )


def _read(path: Path, task: str) -> Mapping[str, Any]:
    """Returns the settings of a file.

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
        return content
    if content.get("task", task) != task:
        raise UserError(f"{FLAG}: {path} is a record of {content['task']}, got the task {task}.")
    return content["config"]


def _parse(path: Path, text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    import yaml

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{FLAG}: {path} is neither YAML nor JSON: {reason:.200}.") from error


def _flags(path: Path, values: Mapping[str, Any], settings: Sequence[type]) -> list[str]:
    """Returns the flags for the settings of a file."""
    fields = {field.name: field for cls in settings for field in dataclasses.fields(cls)}
    names = {name: name for name in fields}
    for name, field in fields.items():
        names |= dict.fromkeys([field.metadata["old_name"], *field.metadata["aliases"]], name)
    words = []
    for key, value in values.items():
        name = names.get(str(key).replace("-", "_"))
        if not key or name is None:
            near = cli.nearest_flag(flag(str(key)), [flag(name) for name in fields])
            hint = f"; did you mean {near.removeprefix('--')}?" if near else "."
            raise UserError(f"{FLAG}: {path} has the setting {key!r}, which does not exist{hint}")
        words += _flag(path, fields[name], value)
    return words


def _flag(path: Path, field: dataclasses.Field, value: object) -> list[str]:
    """Returns the flag for a value; none for a value that follows from others.

    Raises:
        UserError: The value is a list, or a mapping where there can be none.
    """
    name = flag(field.name)
    if isinstance(value, bool):
        return [name if value else name.replace("--", "--no-", 1)]
    if value is None:
        return [f"{name}=auto"] if field.metadata["auto"] else []
    if isinstance(value, dict) and field.name == "cell":
        return [f"{name}={json.dumps(value)}"]
    if not isinstance(value, str | int | float):
        raise UserError(
            f"{FLAG}: {path}: {field.name} must be a text, a number, true or false, got {value!r}."
        )
    return [f"{name}={value}"]


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
