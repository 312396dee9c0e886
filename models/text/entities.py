"""Entities in sequences of tags: schemes, and spans by the rules of CoNLL's `conlleval`.

A tag is "O", outside of entities, or a prefix, "-" and a type, such as "B-PER":

    IO      I-PER I-PER O
    IOB1    I-PER I-PER B-PER O    B only between neighbours of one type, as in CoNLL-2003
    BIO     B-PER I-PER O
    BIOES   B-PER E-PER O S-PER    also as BILOU, with L and U for E and S

Shapes: K tags.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

OUTSIDE = "O"
_SCHEMES = {"IO": "I", "BIO": "BI", "BIOES": "BIES", "BILOU": "BILU"}  # by their prefixes
_PREFIXES = {**_SCHEMES, "IOB1": "BI"}
# The prefixes of an entity's first, inner and last token, and of its only one.
_WRITTEN = {"IO": "IIII", "BIO": "BIIB", "BIOES": "BIES", "BILOU": "BILU"}
_LAST, _SINGLE = "EL", "SU"


class Entity(NamedTuple):
    """An entity.

    Attributes:
        start: Position of its first token.
        end: Position after its last token.
        type: Its type, such as "PER".
    """

    start: int
    end: int
    type: str


class Constraints(NamedTuple):
    """Which sequences of tags are well formed.

    Attributes:
        start: Whether a sequence may begin with each tag, (K,) bool.
        transitions: Whether the tag of the column may follow that of the row, (K, K) bool.
        end: Whether a sequence may end with each tag, (K,) bool.
    """

    start: np.ndarray
    transitions: np.ndarray
    end: np.ndarray


def scheme(tags: Iterable[str]) -> str | None:
    """Returns the name of the scheme of a set of tags; None if they do not mark entities.

    >>> scheme(["O", "B-PER", "I-PER"]), scheme(["NOUN", "VERB"])
    ('BIO', None)
    """
    tags = set(tags)
    marks = {tag for tag in tags if tag != OUTSIDE}
    if OUTSIDE not in tags or not marks or not all(tag[1:2] == "-" and tag[2:] for tag in marks):
        return None
    prefixes = {tag[0] for tag in marks}
    return next((name for name, all_of in _SCHEMES.items() if prefixes <= set(all_of)), None)


def find_scheme(pairs: Mapping[tuple[str, str], int]) -> str | None:
    """Returns the name of the scheme of sequences of tags; None if they do not mark entities.

    BIO and IOB1 have the same tags: it is IOB1 if that leaves fewer pairs ill-formed.

    Args:
        pairs: Counts of neighbours, "" before the first tag of a sequence and after its last.

    >>> find_scheme({("", "I-PER"): 1, ("I-PER", "B-PER"): 1, ("B-PER", "O"): 1, ("O", ""): 1})
    'IOB1'
    """
    name = scheme({tag for pair in pairs for tag in pair if tag})
    if name != "BIO":
        return name
    return min(("BIO", "IOB1"), key=lambda candidate: count_ill_formed(pairs, candidate))


def count_ill_formed(pairs: Mapping[tuple[str, str], int], scheme: str) -> int:
    """Returns how many neighbours, counted as for `find_scheme`, a scheme forbids."""
    return sum(count for pair, count in pairs.items() if not _may_follow(*pair, scheme))


def neighbours(tags: Sequence[str]) -> Iterable[tuple[str, str]]:
    """Returns the neighbours in a sequence of tags, as for `find_scheme`."""
    return itertools.pairwise(["", *tags, ""])


def complete_tags(types: Iterable[str], scheme: str) -> list[str]:
    """Returns all tags of a scheme for types of entities.

    >>> complete_tags(["PER"], "BIO")
    ['B-PER', 'I-PER', 'O']
    """
    prefixes = _PREFIXES[scheme]
    return sorted([OUTSIDE, *(f"{p}-{type_}" for p in prefixes for type_ in types)])


def types_of(tags: Iterable[str]) -> list[str]:
    """Returns the types of entities that tags name, in alphabetical order."""
    return sorted({split_tag(tag)[1] for tag in tags} - {""})


def written_tag(type_: str, scheme: str, *, first: bool, last: bool, adjacent: bool) -> str:
    """Returns the tag of a token of an entity.

    Args:
        type_: Type of the entity.
        scheme: Name of the scheme.
        first: Whether it is the first token of the entity.
        last: Whether it is the last.
        adjacent: Whether it is the first, and an entity of the same type ends just before it.
    """
    if scheme == "IOB1":
        return f"{'B' if adjacent else 'I'}-{type_}"
    of_first, of_inner, of_last, of_only = _WRITTEN[scheme]
    if first and last:
        prefix = of_only
    elif first:
        prefix = of_first
    elif last:
        prefix = of_last
    else:
        prefix = of_inner
    return f"{prefix}-{type_}"


def constraints(tags: Sequence[str], scheme: str) -> Constraints:
    """Returns which sequences of K tags are well formed in a scheme.

    Tags that the scheme does not have are never well formed.
    """
    return Constraints(
        np.array([_may_follow("", tag, scheme) for tag in tags]),
        np.array([[_may_follow(row, column, scheme) for column in tags] for row in tags]),
        np.array([_may_follow(tag, "", scheme) for tag in tags]),
    )


def _may_follow(before: str, after: str, scheme: str) -> bool:
    """Returns whether a scheme allows two neighbours; "" is the border of a sequence."""
    for tag in (before, after):
        if tag not in ("", OUTSIDE) and (tag[1:2] != "-" or tag[0] not in _PREFIXES[scheme]):
            return False
    (prefix, type_), (prefix_after, type_after) = split_tag(before), split_tag(after)
    same = type_ == type_after
    if scheme == "BIO":
        return prefix_after != "I" or (prefix in "BI" and same)
    if scheme == "IOB1":
        return prefix_after != "B" or (prefix in "BI" and same)
    if scheme == "IO":
        return True
    is_open, continues = prefix in "BI", prefix_after in "IE"
    return is_open == continues and (same or not is_open)


def split_tag(tag: str) -> tuple[str, str]:
    """Returns prefix and type of a tag, with E and S for L and U; ("O", "") outside of entities."""
    if tag == OUTSIDE or tag[1:2] != "-":
        return OUTSIDE, ""
    prefix = tag[0]
    if prefix in _LAST:
        prefix = "E"
    elif prefix in _SINGLE:
        prefix = "S"
    return prefix, tag[2:]


def entities(tags: Sequence[str]) -> list[Entity]:
    """Returns the entities of a sequence of tags of any scheme, in order.

    An entity begins at B or S, and at I or E after O, E, S or another type; it ends before O, B,
    S or another type, and after E or S. So every sequence of tags has entities, ill-formed ones
    too, as `conlleval` counts them (Tjong Kim Sang & Buchholz 2000).

    >>> [tuple(entity) for entity in entities(["B-PER", "I-PER", "O", "I-LOC", "I-ORG"])]
    [(0, 2, 'PER'), (3, 4, 'LOC'), (4, 5, 'ORG')]
    """
    spans, start = [], None
    before, type_before = OUTSIDE, ""
    for position, tag in enumerate([*tags, OUTSIDE]):
        prefix, type_ = split_tag(tag)
        begins = prefix != OUTSIDE and (
            prefix in "BS" or before in (OUTSIDE, "E", "S") or type_ != type_before
        )
        if start is not None and (begins or prefix == OUTSIDE):
            spans.append(Entity(start, position, type_before))
            start = None
        if begins:
            start = position
        before, type_before = prefix, type_
    return spans
