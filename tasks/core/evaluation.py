"""What a judge found: scores, and what is worth a look beside them."""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows for people; a float is shown with three digits, bytes are an image."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | int | float | bytes]]


@dataclasses.dataclass(frozen=True)
class Confusion:
    """How often each wanted class (a row) was answered as each class (a column)."""

    title: str
    classes: Sequence[str]
    counts: Sequence[Sequence[int]]


@dataclasses.dataclass(frozen=True)
class Alignment:
    """What each token of an output (T) looked at in its source (S): weights (T, S) of 0 to 1."""

    source: Sequence[str]
    target: Sequence[str]
    weights: Sequence[Sequence[float]]


@dataclasses.dataclass(frozen=True)
class AttentionMaps:
    """Where in an image each word (T) looked: maps (T, H, W) of 0 to 1 over its whole area."""

    image_bytes: bytes
    words: Sequence[str]
    maps: Sequence[Sequence[Sequence[float]]]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The judgement of one part of a corpus.

    Attributes:
        count: Examples judged.
        scores: Figures by name; the first is the one that counts.
        tables: The figures in detail, as `app.evaluate` prints them.
        confusions: Confusion matrices, for pictures.
        mistakes: The worst mistakes, for the report.
    """

    count: int
    scores: dict[str, float]
    tables: Sequence[Table] = ()
    confusions: Sequence[Confusion] = ()
    mistakes: Table | None = None
