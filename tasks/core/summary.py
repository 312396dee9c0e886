"""Summary of a corpus: duplicates, overlap of parts, empty texts, odd labels."""

import array
import collections
import hashlib
import math
from collections.abc import Callable, Collection, Iterator, Mapping

import numpy as np

from tasks.core.examples import PARTS, Example, Splits, text_hash

MAX_NUMBERS = 20  # different labels up to which numbers with decimals are classes
_SHOWN = 5  # labels that a line names
_RARE = 5  # a class has less than this fraction of an equal share of the examples
_MAX_LABELS = 100_000  # that are counted; a corpus with more has no classes
_INPUTS = ("text", "tokens", "image_bytes")


class PartSummary:
    """Counts of the examples of one part, of each of which 16 bytes are held.

    Args:
        identity: Returns the input of an example as a text, such as `Corpus.identity`.

    Attributes:
        labels: Occurrences of each label or tag.
        empty: Number of empty inputs.
        first_empty: Origin of the first.
    """

    def __init__(self, identity: Callable[[Example], str]):
        self._identity = identity
        self.labels: collections.Counter[str] = collections.Counter()
        self.empty, self.first_empty = 0, ""
        self._inputs, self._targets = array.array("Q"), array.array("Q")

    def add(self, example: Example) -> None:
        """Counts an example."""
        text = self._identity(example)
        self._inputs.append(text_hash(text))
        self._targets.append(_target_hash(example))
        if not text:
            self.empty += 1
            self.first_empty = self.first_empty or example.origin
        if len(self.labels) < _MAX_LABELS:
            self.labels.update(_labels(example))

    def __len__(self) -> int:
        """Number of examples."""
        return len(self._inputs)

    def repetitions(self) -> tuple[np.ndarray, int, int]:
        """Counts what occurs more than once.

        Returns:
            The distinct hashes of inputs, in ascending order; the examples that repeat an
            earlier one; and the inputs with different targets.
        """
        pairs = np.empty(len(self), [("input", np.uint64), ("target", np.uint64)])
        pairs["input"], pairs["target"] = self._inputs, self._targets
        pairs = np.unique(pairs)
        inputs, counts = np.unique(pairs["input"], return_counts=True)
        return inputs, len(self) - len(pairs), int(np.sum(counts > 1))


def summarize(splits: Splits, identity: Callable[[Example], str]) -> dict[str, PartSummary]:
    """Returns the summary of each part, each of which is read once.

    Args:
        splits: The parts.
        identity: Returns the input of an example as a text, such as `Corpus.identity`.
    """
    parts = {name: PartSummary(identity) for name in PARTS}
    for name, part in parts.items():
        for example in getattr(splits, name):
            part.add(example)
    return parts


def remarks(parts: Mapping[str, PartSummary]) -> Iterator[str]:
    """Yields a line for each property of a corpus that its user should know of.

    Args:
        parts: The summary of each part, by name.
    """
    repetitions = {name: part.repetitions() for name, part in parts.items()}
    train_inputs = repetitions["train"][0]
    for name in PARTS[1:]:
        inputs = repetitions[name][0]
        shared = len(np.intersect1d(inputs, train_inputs, assume_unique=True))
        if shared:
            yield (
                f"the {name} part shares {shared:,} of its {len(inputs):,} different inputs with "
                "the train part, so its scores may be too high"
            )
    for name, part in parts.items():
        _, repeated, conflicting = repetitions[name]
        if repeated:
            verb = "repeats" if repeated == 1 else "repeat"
            yield f"{repeated:,} of the {len(part):,} {name} examples {verb} another one"
        if conflicting and part.labels:
            inputs = "1 input" if conflicting == 1 else f"{conflicting:,} inputs"
            verb = "has" if conflicting == 1 else "have"
            yield f"{inputs} of the {name} part {verb} different labels or tags"
        if part.empty:
            texts = "1 text" if part.empty == 1 else f"{part.empty:,} texts"
            verb = "is" if part.empty == 1 else "are"
            yield f"{texts} of the {name} part {verb} empty; the first: {part.first_empty}"
    yield from _label_lines({name: set(part.labels) for name, part in parts.items()})
    yield from _rare_classes(parts["train"])


def measured_numbers(labels: Collection[str]) -> list[str]:
    """Returns labels in ascending order if they are measured numbers; [] if they are classes.

    Whole numbers are classes, and so are few numbers with decimals, such as ratings.
    """
    try:
        numbers = {label: float(label) for label in labels}
    except ValueError:
        return []
    is_measured = len(numbers) > MAX_NUMBERS and all(map(math.isfinite, numbers.values()))
    if not is_measured or all(number.is_integer() for number in numbers.values()):
        return []
    return sorted(numbers, key=numbers.__getitem__)


def _label_lines(labels: dict[str, set[str]]) -> Iterator[str]:
    """Yields remarks on similar labels, and on labels that a part lacks."""
    if numbers := measured_numbers(set().union(*labels.values())):
        yield (
            f"the labels are {len(numbers):,} different numbers, such as {numbers[0]} and "
            f"{numbers[-1]}; give --target number to predict numbers"
        )
        return
    spellings = {}
    for label in sorted(set().union(*labels.values())):
        spellings.setdefault(" ".join(label.casefold().split()), []).append(label)
    for similar in spellings.values():
        if len(similar) > 1:
            yield f"labels that differ only in case or whitespace: {_listed(similar)}"
    lacking = {name: sorted(set().union(*labels.values()) - own) for name, own in labels.items()}
    lines = [f"the {name} part has no {_listed(own)}" for name, own in lacking.items() if own]
    if lines:
        yield "; ".join(lines)


def _rare_classes(train: PartSummary) -> Iterator[str]:
    """Yields a remark on classes with less than a fifth of the examples of an equal share."""
    counts = train.labels
    if not counts or counts.total() != len(train):  # tags, or several labels of an example
        return
    limit = len(train) / len(counts) / _RARE
    rare = sorted((count, label) for label, count in counts.items() if count < limit)
    if rare:
        shown = ", ".join(f"{label!r} {count:,}" for count, label in rare[:_SHOWN])
        more = f" and {len(rare) - _SHOWN} more" if len(rare) > _SHOWN else ""
        yield f"rare classes among the {len(train):,} train examples: {shown}{more}"


def _listed(labels: list[str]) -> str:
    shown = ", ".join(map(repr, labels[:_SHOWN]))
    return shown if len(labels) <= _SHOWN else f"{shown} and {len(labels) - _SHOWN} more"


def _labels(example: Example) -> tuple[str, ...]:
    if "label" in example.values:
        label = example.values["label"]
        return label if isinstance(label, tuple) else (label,)
    return example.values.get("tags", ())


def _target_hash(example: Example) -> int:
    targets = [value for key, value in example.values.items() if key not in _INPUTS]
    digest = hashlib.sha256(repr(targets).encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:8], "big")
