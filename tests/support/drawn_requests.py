"""Requests that nobody would think of, drawn by Hypothesis for any signature of any task."""

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from app.serving import payloads
from tests.support.odd_requests import malformed, odd_rows, picture

_ROWS = 4  # at most, beside the neighbour
_IMAGES = [picture(*kind) for kind in (("PNG",), ("JPEG",), ("PNG", "RGBA"), ("JPEG", "L"))]
_HEAD = 64  # bytes of an image that say what it is
_INT32 = st.integers(-(2**31), 2**31 - 1)


class Drawn(NamedTuple):
    """A request.

    Attributes:
        arrays: Its inputs.
        neighbour: The row of it that is well known; None where it is no request of the
            signature at all.
    """

    arrays: dict[str, np.ndarray]
    neighbour: int | None


@st.composite
def requests(draw, signature, known: dict, others: list[dict]) -> Drawn:
    """Requests to a signature, one of eight malformed.

    Args:
        draw: Hypothesis's own.
        signature: The `SignatureDef`.
        known: A row that is in every request: the neighbour of the others.
        others: Some more that are good, to be changed.
    """
    if draw(st.integers(0, 7)) == 7:
        wrong = [arrays for _, arrays in malformed(signature, [known, *others])]
        return Drawn(draw(st.sampled_from(wrong)), None)
    some = draw(st.lists(_row(signature, others), min_size=1, max_size=_ROWS))
    at = draw(st.integers(0, len(some)))
    return Drawn(payloads.columns(signature, [*some[:at], known, *some[at:]]), at)


def _row(signature, others):
    small = [odd.row for odd in odd_rows(signature).values() if _bytes(odd.row) < 1000]
    return st.one_of(
        st.sampled_from(small),
        _ROWS_OF[frozenset(signature.inputs)](others),
    )


def _bytes(row) -> int:
    return sum(
        len(value)
        for each in row.values()
        for value in np.atleast_1d(each).astype(object).tolist()
        if isinstance(value, bytes)
    )


def _strings(words: list[str]):
    """Bytes of all kinds: of any value, of characters, of the words of a sample."""
    known = st.lists(st.sampled_from(words), max_size=12).map(" ".join)
    blanks = st.text("\0 \t\r\n\x0b\u00a0\u200b\u200d\u3000▁▅", max_size=8)
    texts = st.lists(st.one_of(known, blanks, st.text(max_size=20)), max_size=4).map("".join)
    return st.one_of(texts.map(str.encode), st.binary(max_size=60))


def _texts(others):
    words = sorted({word for row in others for word in row["text"].split()})
    return st.builds(lambda text: {"text": text}, _strings(words))


def _tokens(others):
    words = sorted({word for row in others for word in row["tokens"]})
    tokens = st.lists(
        st.one_of(st.sampled_from(words).map(str.encode), _strings(words)), max_size=9
    )
    lengths = st.one_of(st.integers(-2, 11), _INT32)
    return st.builds(lambda some, length: {"tokens": some, "lengths": length}, tokens, lengths)


def _images(others):
    images = st.sampled_from([*_IMAGES, *(row["image_bytes"] for row in others)])
    changed = st.builds(_changed, images, st.lists(_CHANGES, min_size=1, max_size=4))
    return st.builds(
        lambda image: {"image_bytes": image}, st.one_of(changed, st.binary(max_size=99))
    )


# Where, in a head or anywhere, what stands there instead, and of how many bytes.
_CHANGES = st.tuples(
    st.one_of(st.integers(0, _HEAD), st.integers(0, 2**20)),
    st.one_of(st.binary(max_size=6), st.just(b"\xff\xff\xff\xff")),
    st.one_of(st.integers(0, 8), st.just(2**20)),
)


def _changed(image: bytes, changes) -> bytes:
    for place, new, length in changes:
        at = place % (len(image) + 1)
        image = image[:at] + new + image[at + length :]
    return image


_ROWS_OF = {
    frozenset(["text"]): _texts,
    frozenset(["tokens", "lengths"]): _tokens,
    frozenset(["image_bytes"]): _images,
}
