"""Entities in sequences of tags: schemes, and spans by the rules of CoNLL's `conlleval`.

A tag is "O", outside of entities, or a prefix, "-" and a type, such as "B-PER":

    IO      I-PER I-PER O
    BIO     B-PER I-PER O
    BIOES   B-PER E-PER O S-PER    also as BILOU, with L and U for E and S
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

OUTSIDE = "O"
_SCHEMES = {"IO": "I", "BIO": "BI", "BIOES": "BIES", "BILOU": "BILU"}
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


def split_tag(tag: str) -> tuple[str, str]:
    """Returns prefix and type of a tag, with E and S for L and U; ("O", "") outside of entities."""
    if tag == OUTSIDE or tag[1:2] != "-":
        return OUTSIDE, ""
    prefix = "E" if tag[0] in _LAST else "S" if tag[0] in _SINGLE else tag[0]
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
