"""Fields that are flags: dataclass fields with a help text and a rule."""

import dataclasses
import operator
from collections.abc import Sequence

from tasks.core.errors import UserError

_BOUNDS = {
    "at_least": ("at least", operator.ge),
    "above": ("above", operator.gt),
    "below": ("below", operator.lt),
}


def setting(
    default,
    help: str,
    *,
    at_least: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: Sequence[str] | None = None,
    serving: bool = False,
):
    """A dataclass field that becomes a flag, with the rule its value must keep.

    With `serving` it shapes the served graph alone: training is the same whatever it is.
    """
    rule = {"at_least": at_least, "above": above, "below": below, "choices": choices}
    rule["serving"] = serving
    return dataclasses.field(default=default, metadata={"help": help, **rule})


def flag(name: str) -> str:
    """The flag of a field: `clip_norm` is `--clip-norm`."""
    return "--" + name.replace("_", "-")


def of_serving(settings) -> dict:
    """The values of a dataclass of settings that shape the served graph alone, by name."""
    fields = dataclasses.fields(settings)
    return {f.name: getattr(settings, f.name) for f in fields if f.metadata["serving"]}


def check(settings) -> None:
    """Holds every field of a dataclass of settings against its rule.

    Raises:
        UserError: One does not keep it.
    """
    for field in dataclasses.fields(settings):
        value, rule = getattr(settings, field.name), field.metadata
        bounds = [(words, kept, rule[key]) for key, (words, kept) in _BOUNDS.items()]
        bounds = [bound for bound in bounds if bound[2] is not None]
        if not all(kept(value, bound) for _, kept, bound in bounds):
            wanted = " and ".join(f"{words} {bound}" for words, _, bound in bounds)
            raise UserError(f"{flag(field.name)} must be {wanted}, got {value!r}.")
        if rule["choices"] is not None and value not in rule["choices"]:
            choices = list(rule["choices"])
            raise UserError(f"{flag(field.name)} must be one of {choices}, got {value!r}.")
