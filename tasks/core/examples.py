"""Examples, streams of examples, and the three parts of a corpus."""

import dataclasses
import hashlib
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

    @property
    def size(self) -> int:
        """Bytes or characters of all values."""
        return sum(
            sum(map(len, value)) if isinstance(value, tuple) else len(value)
            for value in self.values.values()
        )


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

    def batches(self, size: int, max_bytes: int | None = None) -> Iterator[list[Example]]:
        """Yields lists of `size` examples; the last list may be shorter.

        Args:
            size: Most examples of a list.
            max_bytes: Size of the values of a list beyond which it ends early, so that long
                texts or photographs do not fill the memory; None for no limit.
        """
        batch, total = [], 0
        for example in self:
            batch.append(example)
            total += example.size
            if len(batch) == size or (max_bytes is not None and total >= max_bytes):
                yield batch
                batch, total = [], 0
        if batch:
            yield batch


@dataclasses.dataclass(frozen=True)
class Splits:
    """The three parts of a corpus, with notes for the user on how they were made."""

    train: Stream
    valid: Stream
    test: Stream
    notes: tuple[str, ...] = ()


def text_hash(text: str) -> int:
    """Returns the first 64 bits of the SHA-256 of a text, the same on every machine."""
    digest = hashlib.sha256(text.encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:8], "big")


def position(text: str) -> float:
    """Maps a text to [0, 1) by its hash."""
    return text_hash(text) / 2**64
