"""Summary of a corpus before training: sizes, duplicates, overlap of parts, odd labels."""

import array
import collections
import hashlib
from collections.abc import Callable, Iterator

import numpy as np

from tasks.core.examples import PARTS, Example, Splits, Stream, text_hash

_SHOWN = 5  # labels that a line names
_MAX_LABELS = 100_000  # that are counted; a corpus with more has no classes
_INPUTS = ("text", "tokens", "image_bytes")


class _Part:
    """Hashes and counts of one part, of which 16 bytes are held for each example."""

    def __init__(self, stream: Stream, identity: Callable[[Example], str]):
        self.labels: collections.Counter[str] = collections.Counter()
        self.empty, self.first_empty = 0, ""
        inputs, targets = array.array("Q"), array.array("Q")
        for example in stream:
            text = identity(example)
            inputs.append(text_hash(text))
            targets.append(_target_hash(example))
            if not text:
                self.empty += 1
                self.first_empty = self.first_empty or example.origin
            if len(self.labels) < _MAX_LABELS:
                self.labels.update(_labels(example))
        self.count = len(inputs)
        pairs = np.empty(self.count, [("input", np.uint64), ("target", np.uint64)])
        pairs["input"], pairs["target"] = inputs, targets
        pairs = np.unique(pairs)
        self.repeated = self.count - len(pairs)
        self.inputs, counts = np.unique(pairs["input"], return_counts=True)
        self.conflicting = int(np.sum(counts > 1))


def summarize(splits: Splits, identity: Callable[[Example], str]) -> Iterator[str]:
    """Yields the sizes of the parts, and a line for each remark on their examples.

    Args:
        splits: The parts, each of which is read once.
        identity: Returns the input of an example as a text, such as `Corpus.identity`.
    """
    parts = {name: _Part(getattr(splits, name), identity) for name in PARTS}
    yield "examples: " + ", ".join(f"{name} {part.count:,}" for name, part in parts.items())
    train = parts["train"]
    for name in PARTS[1:]:
        part = parts[name]
        shared = len(np.intersect1d(part.inputs, train.inputs, assume_unique=True))
        if shared:
            yield (
                f"{shared:,} of the {len(part.inputs):,} different inputs of the {name} part are "
                "also in the train part, so its scores may be too high"
            )
    for name, part in parts.items():
        if part.repeated:
            yield f"{part.repeated:,} of the {part.count:,} {name} examples repeat another one"
        if part.conflicting and part.labels:
            yield f"{part.conflicting:,} inputs of the {name} part have different labels or tags"
        if part.empty:
            first = part.first_empty
            yield f"{part.empty:,} texts of the {name} part are empty; the first: {first}"
    yield from _label_lines({name: set(part.labels) for name, part in parts.items()})


def _label_lines(labels: dict[str, set[str]]) -> Iterator[str]:
    """Yields remarks on similar labels, and on labels that a part lacks."""
    spellings = {}
    for label in sorted(set().union(*labels.values())):
        spellings.setdefault(" ".join(label.casefold().split()), []).append(label)
    for similar in spellings.values():
        if len(similar) > 1:
            yield f"labels that differ only in case or blanks: {_listed(similar)}"
    lacking = {name: sorted(set().union(*labels.values()) - own) for name, own in labels.items()}
    lines = [f"the {name} part has no {_listed(own)}" for name, own in lacking.items() if own]
    if lines:
        yield "; ".join(lines)


def _listed(labels: list[str]) -> str:
    shown = ", ".join(map(repr, labels[:_SHOWN]))
    return shown if len(labels) <= _SHOWN else f"{shown} and {len(labels) - _SHOWN} more"


def _labels(example: Example) -> tuple[str, ...]:
    if "label" in example.values:
        return (example.values["label"],)
    return example.values.get("tags", ())


def _target_hash(example: Example) -> int:
    targets = [value for key, value in example.values.items() if key not in _INPUTS]
    digest = hashlib.sha256(repr(targets).encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:8], "big")
