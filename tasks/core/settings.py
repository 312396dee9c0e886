"""Settings: dataclass fields with a help text and a rule, from which flags are made."""

import dataclasses
import difflib
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from models.cells import specs
from tasks.core.errors import UserError

CELL_HELP = "name listed by `python -m app.cells`, spec as JSON, or .json file"
# What the value of a setting can change, each including those after it.
EFFECTS = ("encoding", "training", "schedule", "ensemble", "serving")

_Settings = TypeVar("_Settings")
_MAX_INT = 2**31 - 1  # TensorFlow's sizes and lengths have 32 bits

_BOUNDS = {
    "at_least": ("at least", operator.ge),
    "above": ("above", operator.gt),
    "at_most": ("at most", operator.le),
    "below": ("below", operator.lt),
}


def setting(
    default: Any,
    help: str,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    choices: Sequence[str] | None = None,
    affects: str = "encoding",
    old_name: str = "",
    aliases: Sequence[str] = (),
    absent: Any = None,
    auto: type | None = None,
) -> Any:
    """Returns a dataclass field that becomes a flag, with a rule for its value.

    Args:
        default: Default of the field; its type is that of the flag.
        help: Help text of the flag.
        at_least: Smallest allowed value.
        above: Bound that the value must exceed.
        at_most: Largest allowed value.
        below: Bound that the value must stay below.
        choices: Allowed values.
        affects: First stage that depends on the value: "encoding" of examples, "training" of
            the weights of a network, the "schedule" that only decides when training stops, the
            "ensemble" of networks, or "serving", the served graph alone. The default is the safe
            one: a new setting renews encoded examples and runs unless it is declared otherwise.
        old_name: Former name of the field, still accepted as a flag and in records.
        aliases: Names that other tools have for the field, accepted as flags only.
        absent: Value in records that were written before the field existed; None if it is the
            default.
        auto: Type of a field whose value may be None, which stands for a value that follows from
            the corpus; the flag has the value "auto" for it. See `tasks.core.config`.
    """
    if affects not in EFFECTS:
        raise ValueError(f"affects must be one of {list(EFFECTS)}, got {affects!r}.")
    bounds = {"at_least": at_least, "above": above, "at_most": at_most, "below": below}
    rule = {**bounds, "choices": choices}
    metadata = {"help": help, **rule, "affects": affects, "old_name": old_name}
    metadata |= {"absent": absent, "auto": auto}
    metadata["aliases"] = tuple(aliases)
    return dataclasses.field(default=default, metadata=metadata)


def with_defaults(settings: type[_Settings], **defaults: Any) -> type[_Settings]:
    """Returns a dataclass of settings with some other defaults, and the same help and rules.

    Args:
        settings: A frozen dataclass of settings.
        **defaults: The new defaults, by field.

    Raises:
        TypeError: A name is not a field of the settings.

    Example:
        Config = with_defaults(classification.Config, units=32, dropout=0.5)
    """
    fields = {field.name: field for field in dataclasses.fields(settings)}
    unknown = sorted(defaults.keys() - fields.keys())
    if unknown:
        raise TypeError(f"{settings.__qualname__} has no settings {unknown}.")
    namespace = {
        name: dataclasses.field(default=value, metadata=fields[name].metadata)
        for name, value in defaults.items()
    }
    annotations = {name: fields[name].type for name in defaults}
    subclass = type(
        settings.__name__,
        (settings,),
        {"__doc__": settings.__doc__, "__annotations__": annotations, **namespace},
    )
    return dataclasses.dataclass(frozen=True)(subclass)


def from_record(settings: Callable[..., _Settings], record: Mapping[str, Any]) -> _Settings:
    """Returns the settings of a record, such as `config.json` of a published version.

    Fields that have been renamed since are understood by their former names, and those that did
    not exist yet have their value of that time.

    Args:
        settings: The dataclass of the settings.
        record: Values by field.

    Raises:
        UserError: The record has an unknown field, or a field twice by both of its names.
    """
    renamed = {f.metadata["old_name"]: f.name for f in dataclasses.fields(settings)}
    values = {}
    for name, value in record.items():
        current = renamed.get(name, name)
        if current in values:
            raise UserError(f"the settings have {current!r} twice, once by a former name.")
        values[current] = value
    fields = [field.name for field in dataclasses.fields(settings)]
    for name in values:
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UserError(f"the settings have no field {name!r}, only {fields}{hint}")
    for field in dataclasses.fields(settings):
        if field.metadata["absent"] is not None:
            values.setdefault(field.name, field.metadata["absent"])
    return settings(**values)


def flag(name: str) -> str:
    """Returns the flag of a field: `clip_norm` is `--clip-norm`."""
    return "--" + name.replace("_", "-")


def affecting(settings: Any, *effects: str) -> dict[str, Any]:
    """Returns the values of settings that are declared to affect some stages, by name.

    Args:
        settings: A dataclass of settings.
        *effects: Stages, of `EFFECTS`.
    """
    fields = dataclasses.fields(settings)
    return {f.name: getattr(settings, f.name) for f in fields if f.metadata["affects"] in effects}


def find_cell(cell: str, flag: str = "--cell") -> specs.CellSpec:
    """Returns the spec of a cell given by a flag.

    Args:
        cell: A name, a spec as JSON, or the path of a .json file.
        flag: The flag, for the message.

    Raises:
        UserError: There is no such cell, or its spec is invalid.
    """
    try:
        return specs.find(cell)
    except ValueError as error:
        raise UserError(f"{flag}: {error}") from error
    except RecursionError as error:
        raise UserError(f"{flag}: the JSON is nested too deeply.") from error


def check(settings: Any) -> None:
    """Checks every field of a dataclass of settings against its rule.

    A number must also be finite, and an integer fit into 32 bits.

    Raises:
        UserError: A value breaks its rule.
    """
    for field in dataclasses.fields(settings):
        value, rule = getattr(settings, field.name), field.metadata
        if value is None and rule["auto"]:
            continue
        if isinstance(value, int) and value > _MAX_INT:
            raise UserError(f"{flag(field.name)} must be at most {_MAX_INT}, got {value}.")
        if isinstance(value, float) and math.isinf(value):
            raise UserError(f"{flag(field.name)} must be a finite number, got {value!r}.")
        bounds = [(words, holds, rule[key]) for key, (words, holds) in _BOUNDS.items()]
        bounds = [bound for bound in bounds if bound[2] is not None]
        if not all(holds(value, limit) for _, holds, limit in bounds):
            expected = " and ".join(f"{words} {limit}" for words, _, limit in bounds)
            raise UserError(f"{flag(field.name)} must be {expected}, got {value!r}.")
        if rule["choices"] is not None and value not in rule["choices"]:
            choices = list(rule["choices"])
            raise UserError(f"{flag(field.name)} must be one of {choices}, got {value!r}.")
