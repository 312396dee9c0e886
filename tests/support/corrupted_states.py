"""Corrupted states of streams, and what a version must do with them.

A state that the version did not return is not valid: its row has the response to an empty text,
and the other rows have theirs.
"""

import base64
import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tests.support.cc_runtime import Response
from tests.support.predictions import distances, row

TOLERANCE = 1e-5  # of numbers, as the size of a batch changes the order of summation
ROWS = 8  # of a request; one of them has a state that is valid
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_HEADER = slice(4, 12)  # the fingerprint of the version
Run = Callable[[str, Mapping[str, np.ndarray]], Response]


class Corrupted(NamedTuple):
    """A state, and how it was made."""

    kind: str
    state: bytes


def decoded(state: bytes) -> bytes:
    """Returns the bytes that a state encodes."""
    return base64.urlsafe_b64decode(state + b"=" * (-len(state) % 4))


def encoded(data: bytes) -> bytes:
    """Returns the string of a state for its bytes."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def draw(drawn: random.Random, good: Sequence[bytes], foreign: Sequence[bytes]) -> Corrupted:
    """Returns a corrupted state; by chance it may be as it was.

    Args:
        drawn: The source of chance.
        good: States of the version.
        foreign: States of other versions.
    """
    kind = drawn.choice(sorted(_KINDS))
    return Corrupted(kind, _KINDS[kind](drawn, drawn.choice(good), drawn.choice(foreign)))


def _flip_bits(drawn, good, _):
    data = bytearray(decoded(good))
    for _ in range(drawn.choice([1, 1, 2, 40])):
        data[drawn.randrange(len(data))] ^= 1 << drawn.randrange(8)
    return encoded(bytes(data))


def _replace_characters(drawn, good, _):
    data = bytearray(good)
    for _ in range(drawn.choice([1, 1, 3])):
        data[drawn.randrange(len(data))] = drawn.choice([*_LETTERS.encode(), *b"+/= \0\xff"])
    return bytes(data)


def _truncate(drawn, good, _):
    cut = drawn.randrange(len(good))
    return drawn.choice([good[:cut], good[cut:], good[:-1], good[:-4]])


def _extend(drawn, good, _):
    more = _random_letters(drawn, drawn.choice([1, 4, 300]))
    return drawn.choice([good + more, more + good, good + good, good + b"=", good + b"\n"])


def _take_another_fingerprint(drawn, good, foreign):
    data, other = bytearray(decoded(good)), decoded(foreign)
    data[_HEADER] = drawn.choice([other[_HEADER], drawn.randbytes(8)])
    return encoded(bytes(data))


def _write_own_fingerprint(_, good, foreign):
    data = bytearray(decoded(foreign))
    data[_HEADER] = decoded(good)[_HEADER]
    return encoded(bytes(data))


def _set_number(drawn, good, _):
    """Replaces 4 bytes by those of an extreme number, with the checksum of before."""
    data = bytearray(decoded(good))
    start = drawn.randrange(12, len(data) - 12)
    extreme = np.float32(drawn.choice([np.nan, np.inf, -np.inf, 3e38])).tobytes()
    data[start : start + 4] = drawn.choice([extreme, b"\xff\xff\xff\x7f", b"\0\0\0\x80"])
    return encoded(bytes(data))


def _splice(drawn, good, foreign):
    cut = drawn.randrange(len(good))
    return good[:cut] + foreign[cut:]


def _random_letters(drawn, count):
    return "".join(drawn.choices(_LETTERS, k=count)).encode()


def _random_base64(drawn, good, _):
    return _random_letters(drawn, drawn.choice([len(good), drawn.randrange(2 * len(good))]))


def _random_bytes(drawn, good, _):
    return drawn.randbytes(drawn.randrange(len(good)))


_KINDS = {
    "flipped bits": _flip_bits,
    "replaced characters": _replace_characters,
    "truncated": _truncate,
    "extended": _extend,
    "other version": lambda _, good, foreign: foreign,
    "other fingerprint": _take_another_fingerprint,
    "other version, own fingerprint": _write_own_fingerprint,
    "extreme number": _set_number,
    "spliced": _splice,
    "random base64": _random_base64,
    "random bytes": _random_bytes,
}


def states(run: Run, pieces: Sequence[bytes]) -> list[bytes]:
    """Returns the state before and after each of some pieces of a text."""
    outputs = run("start", {"batch": np.zeros(1, np.int32)}).outputs
    made = [outputs["state"][0]]
    for piece in pieces:
        request = {"state": np.array(made[-1:], object), "text": np.array([piece], object)}
        made.append(run("feed", request).outputs["state"][0])
    return made


def check(
    run: Run,
    signature: str,
    good: Sequence[bytes],
    foreign: Sequence[bytes],
    count: int,
    seed: int = 0,
) -> Iterator[tuple[Corrupted, str]]:
    """Sends corrupted states, `ROWS` - 1 in a request with one that is valid.

    Args:
        run: Runs a request to a signature.
        signature: "feed" or "finish".
        good: States of the version, of which the first is the initial one.
        foreign: States of other versions.
        count: Number of corrupted states.
        seed: Seed of the states.

    Yields:
        Each of them, and the outcome: "not valid" or "as before", which are correct; or what is
        wrong: "wrong response", "error ..." or "changed neighbour".
    """
    drawn, piece, alone = random.Random(seed), b" boats sank. \xe5", {}

    def request(states, piece=piece):
        columns = {"state": np.array([*states, None], object)[:-1]}  # None keeps bytes as objects
        if signature == "feed":
            columns["text"] = np.array([piece] * len(states) + [None], object)[:-1]
        return run(signature, columns)

    def response_alone(state):
        if state not in alone:
            alone[state] = request([state]).outputs
        return alone[state]

    empty = {**request(good[:1], b"").outputs, "valid": np.array([False])}
    if "state" in empty:
        empty["state"] = np.array([b"", None], object)[:-1]
    corrupted = (draw(drawn, good, foreign) for _ in range(count))
    for batch in iter(lambda: list(itertools.islice(corrupted, ROWS - 1)), []):
        place, neighbour = drawn.randrange(len(batch) + 1), drawn.choice(good)
        sent = [each.state for each in batch]
        response = request([*sent[:place], neighbour, *sent[place:]])
        if response.code:
            yield from ((each, f"error {response.code}: {response.message}") for each in batch)
            continue
        rows = [row(response.outputs, number) for number in range(len(sent) + 1)]
        is_changed = _differ(rows.pop(place), response_alone(neighbour))
        for each, outputs in zip(batch, rows, strict=True):
            if is_changed:
                yield each, "changed neighbour"
            elif not outputs["valid"][0]:
                yield each, "wrong response" if _differ(outputs, empty) else "not valid"
            else:
                same = [state for state in good if _decode_alike(state, each.state)]
                correct = same and not _differ(outputs, response_alone(same[0]))
                yield each, "as before" if correct else "wrong response"


def _differ(one, other):
    return max(distances(one, other).values()) > TOLERANCE


def _decode_alike(one, other):
    """Whether two strings are equal but for the bits that base64 ignores at the end."""
    try:
        return decoded(one) == decoded(other)
    except ValueError:
        return False
