"""Examples, streams of them, and the three parts of a corpus."""

import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping

PARTS = ("train", "valid", "test")


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """One example: its values by key, and where it came from, for messages."""

    values: Mapping[str, str | bytes | tuple[str, ...]]
    origin: str


class Stream:
    """Examples one at a time, as often as one likes, never all in memory.

    Args:
        read: Starts reading from the beginning.
        notes: Tells what a person should know of them; it may read them all.
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

    def where(self, keep: Callable[[Example], bool]) -> "Stream":
        """The examples that `keep` is true of."""
        return Stream(lambda: filter(keep, self))

    def batches(self, size: int) -> Iterator[list[Example]]:
        """Lists of `size` examples, the last perhaps shorter."""
        examples = iter(self)
        while batch := list(itertools.islice(examples, size)):
            yield batch


@dataclasses.dataclass(frozen=True)
class Splits:
    """The three parts of a corpus, and what a person should know of how they were made."""

    train: Stream
    valid: Stream
    test: Stream
    notes: tuple[str, ...] = ()


def position(text: str) -> float:
    """Where a text falls in [0, 1): its SHA-256, so the same on every machine and day."""
    digest = hashlib.sha256(text.encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
