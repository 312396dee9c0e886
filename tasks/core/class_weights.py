"""Weights of classes in the training loss: balanced, or from a file."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tasks.core.errors import UserError
from tasks.core.settings import setting

NONE, BALANCED = "none", "balanced"
FLAG = "--class-weights"


def class_weights_setting(classes: str) -> str:
    """Returns the field of a config.

    Args:
        classes: What has weights, such as "classes".
    """
    return setting(
        NONE,
        f"weights of {classes} in the training loss: none; balanced: n / (K n_k) for n_k of the "
        f"n examples, with K {classes}; or a file: JSON, or lines of a label, a tab and a weight",
        affects="training",
    )


def resolve(value: str, counts: Mapping[str, int]) -> dict[str, float]:
    """Returns the weights by class that a setting asks for.

    Args:
        value: Value of the setting: "none", "balanced" or the path of a file.
        counts: Number of training examples by class.

    Raises:
        UserError: The file is malformed, or has other classes than the training part.
    """
    if value == NONE:
        return dict.fromkeys(counts, 1.0)
    if value == BALANCED:
        total = sum(counts.values())
        return {name: total / (len(counts) * count) for name, count in counts.items()}
    path = Path(value)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or not a path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(
            f"{FLAG} must be {NONE}, {BALANCED} or a file that can be read, got {value!r}: "
            f"{reason}."
        ) from error
    weights = _read_json(path, text) if path.suffix == ".json" else _read_lines(path, text)
    for name, (origin, _) in weights.items():
        if name not in counts:
            raise UserError(
                f"{origin}: the train part has no class {name!r}, only {_first(sorted(counts))}."
            )
    missing = sorted(counts.keys() - weights.keys())
    if missing:
        raise UserError(f"{path} has no weight for {_first(missing)}, which the train part has.")
    if not any(weight for _, weight in weights.values()):
        raise UserError(f"{path}: at least one weight must be above 0.")
    return {name: weights[name][1] for name in counts}


def _read_json(path: Path, text: str) -> dict[str, tuple[str, float]]:
    """Returns origin and weight by class."""
    try:
        pairs = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError) as error:
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise UserError(f"{path}{line}: expected JSON: {error}.") from error
    if not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in pairs):
        raise UserError(f"{path}: expected a JSON object of weights by class.")
    weights = {}
    for name, weight in pairs:
        line = 1 + text[: max(0, text.find(json.dumps(name, ensure_ascii=False)))].count("\n")
        _add(weights, f"{path}:{line}", name, weight)
    return weights


def _read_lines(path: Path, text: str) -> dict[str, tuple[str, float]]:
    weights = {}
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.rstrip("\r")
        if not line.strip():
            continue
        name, tab, weight = line.rpartition("\t")
        if not tab:
            raise UserError(
                f"{path}:{number}: expected a label, a tab and a weight, got {line[:40]!r}."
            )
        _add(weights, f"{path}:{number}", name, weight)
    return weights


def _add(weights: dict[str, tuple[str, float]], origin: str, name: str, weight: object) -> None:
    if name in weights:
        raise UserError(f"{origin}: class {name!r} has a weight already, at {weights[name][0]}.")
    try:
        number = math.nan if isinstance(weight, bool) else float(weight)
    except (TypeError, ValueError):
        number = math.nan
    if not (0 <= number < math.inf):
        raise UserError(
            f"{origin}: the weight of class {name!r} must be a number of at least 0, got "
            f"{weight!r}."
        )
    weights[name] = (origin, number)


def _first(names: list[str], count: int = 5) -> str:
    shown = ", ".join(map(repr, names[:count]))
    return shown if len(names) <= count else f"{shown} and {len(names) - count} more"


def write(path: Path, weights: Mapping[str, float]) -> None:
    """Writes an asset with weights by class."""
    path.write_text(json.dumps(dict(sorted(weights.items())), indent=2), encoding="utf-8")


def read(path: Path, classes: Sequence[str]) -> np.ndarray:
    """Returns the weights of an asset in the order of the classes, (K,) float32.

    A class without one has 1: a class of a version that is continued, which the training part
    does not have.
    """
    weights = json.loads(path.read_text(encoding="utf-8"))
    return np.array([weights.get(name, 1.0) for name in classes], np.float32)
