"""What is predicted from a text: one of several classes, several labels, or a number.

The corpus reads the field `label` of a text accordingly, and the network has outputs to match.
"""

import math
import unicodedata
from collections.abc import Iterable, Sequence

from tasks.core.errors import UserError
from tasks.core.settings import setting

AUTO = "auto"  # the corpus decides: classes or labels
TARGETS = CLASSES, LABELS, NUMBER = ("classes", "labels", "number")
SEPARATOR = "|"  # of the labels of a text
DETECTED = 1000  # texts whose labels decide on the target
_MAX_NUMBER = 1e30  # in 32 bits, with room for squares of standardised values
# Control characters, unpaired surrogates, and line and paragraph separators. Others that are
# invisible are part of words: U+200C in Persian, U+200D in emoji, U+00A0 in French.
_NOT_IN_LABELS = {"Cc", "Cs", "Zl", "Zp"}


def target_setting() -> str:
    """Returns the field of a config and of a corpus."""
    return setting(
        AUTO,
        "what the label of a text is: classes: one class; labels: none or several, separated by | "
        "or in a list; number: a number; auto: labels if they recur in several combinations, "
        "otherwise classes",
        choices=(AUTO, *TARGETS),
    )


def values_of(target: str, label: str | float | Sequence[str], origin: str) -> dict:
    """Returns the value of an example that a field `label` gives, by its key.

    Args:
        target: One of `TARGETS`; `AUTO` is `CLASSES`.
        label: Content of the field; a sequence for several labels.
        origin: Source location, for messages.

    Returns:
        The class under `label`, the distinct labels as a tuple under `label`, or the text of the
        number under `value`.

    Raises:
        UserError: The field is not of that kind.
    """
    if target == NUMBER:
        return {"value": _number(label, origin)}
    if target == LABELS:
        return {"label": _labels(label, origin)}
    return {"label": _name(label, origin)}


def _number(text: str | float, origin: str) -> str:
    """Returns a number in the notation of Python, which `tf.strings.to_number` reads."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = math.nan
    if not abs(value) <= _MAX_NUMBER or (isinstance(text, str) and "_" in text):
        raise UserError(
            f"{origin}: the label must be a number such as 4 or -0.5 for --target number, got "
            f"{_shortened(text)}."
        )
    return repr(value)


def _labels(label: str | Sequence[str], origin: str) -> tuple[str, ...]:
    """Returns the distinct labels of a text in alphabetical order."""
    if isinstance(label, str):
        names = label.split(SEPARATOR)
    else:
        names = label
        for name in names:
            if SEPARATOR in name:
                raise UserError(
                    f"{origin}: a label in a list must not contain {SEPARATOR}, which separates "
                    f"the labels of a text, got {_shortened(name)}."
                )
    names = [_name(name, origin) for name in names if name.strip()]
    return tuple(sorted(set(names)))


def _name(label: str, origin: str) -> str:
    label = label.strip()
    if not label:
        raise UserError(f"{origin}: the label is empty. Only --target labels allows that.")
    if any(unicodedata.category(character) in _NOT_IN_LABELS for character in label):
        raise UserError(
            f"{origin}: the label must be one line without control characters, got {label!r}."
        )
    return label


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def several(combinations: Iterable[tuple[str, ...]]) -> tuple[bool, int, int]:
    """Decides whether texts have several labels, or classes whose names contain a separator.

    They have several labels if most of the labels that occur together with others also occur
    in another combination, or alone.

    Args:
        combinations: The labels of each text.

    Returns:
        The decision, the number of texts with more than one label, and the number of texts.
    """
    combinations = list(combinations)
    count = sum(len(names) > 1 for names in combinations)
    distinct = set(combinations)
    together = {name for names in distinct if len(names) > 1 for name in names}
    recurring = sum(sum(name in names for names in distinct) > 1 for name in together)
    return recurring > len(together) / 2, count, len(combinations)
