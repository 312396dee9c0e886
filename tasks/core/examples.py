"""Examples, streams of examples, and the three parts of a corpus."""

import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping

PARTS = ("train", "valid", "test")


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """One example of a corpus.

    Attributes:
        values: The fields of the example by key, such as `text` and `label`.
        origin: Source location for messages, such as `train.tsv:7`.
    """

    values: Mapping[str, str | bytes | tuple[str, ...]]
    origin: str


class Stream:
    """Re-iterable sequence of examples that is never held in memory as a whole.

    Args:
        read: Starts reading from the beginning.
        notes: Returns notes for the user about the examples; may read all of them.
    """

    def __init__(
        self,
        read: Callable[[], Iterable[Example]],
        notes: Callable[[], Iterable[str]] = tuple,
    ):
        self._read = read
        self.notes = notes

    def __iter__(self) -> Iterator[Example]:
        return iter(self._read())

    def filter(self, predicate: Callable[[Example], bool]) -> "Stream":
        """Returns a stream of the examples for which `predicate` is true."""
        return Stream(lambda: filter(predicate, self))

    def batches(self, size: int) -> Iterator[list[Example]]:
        """Yields lists of `size` examples; the last list may be shorter."""
        examples = iter(self)
        while batch := list(itertools.islice(examples, size)):
            yield batch


@dataclasses.dataclass(frozen=True)
class Splits:
    """The three parts of a corpus, with notes for the user on how they were made."""

    train: Stream
    valid: Stream
    test: Stream
    notes: tuple[str, ...] = ()


def position(text: str) -> float:
    """Maps a text to [0, 1) by its SHA-256, so the result is the same on every machine."""
    digest = hashlib.sha256(text.encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
