"""Requests that the server makes one of are answered as if each had come alone.

Its BatchingSession merges and pads them, and cuts the answer between rows; here
`tests.support.predictions.merged` does.
"""

import itertools

import numpy as np

from app.serving import payloads
from tests.support.odd_requests import good_rows, odd_rows
from tests.support.predictions import distances, merged

SIZES = (1, 3, 2)
NUMBERS = 1e-6


def test_a_merged_request_is_answered_as_its_parts_are(probed):
    version, probe = probed
    good = sorted(good_rows(version, sum(SIZES)), key=_size)  # so each has a length of its own
    for name, signature in probe.signatures.items():
        ends = list(itertools.accumulate(SIZES))
        parts = [good[end - size : end] for size, end in zip(SIZES, ends, strict=True)]
        # What is beyond its request's own columns must mean what it meant, so no odd lengths.
        parts.append([odd.row for odd in odd_rows(signature).values() if odd.nothing])
        requests = [payloads.columns(signature, part) for part in parts]
        answers = [probe.ask(name, request) for request in (*requests, merged(requests))]
        assert [answer.code for answer in answers] == [0] * len(answers)
        *alone, together = (answer.outputs for answer in answers)
        first = 0
        for part, wanted in zip(parts, alone, strict=True):
            cut = {key: array[first : first + len(part)] for key, array in together.items()}
            apart = distances(wanted, cut)
            assert max(apart.values()) <= NUMBERS, (name, first, apart)
            first += len(part)
        # The repeated row is answered, and thrown away.
        assert {len(array) for array in together.values()} == {first + 1}


def _size(row):
    return sum(len(value) for value in row.values() if not isinstance(value, int))


def test_padding_is_what_the_server_pads_with():
    ids = [np.array([[5, 6, 7]]), np.array([[1, 2, 3, 4], [8, 9, 8, 9]])]
    words = [np.array([[b"a", b"b"]], object), np.array([[b"c"]], object)]
    assert merged([{"ids": each} for each in ids])["ids"].tolist() == [
        [5, 6, 7, 5],
        [1, 2, 3, 4],
        [8, 9, 8, 9],
        [5, 6, 7, 5],
    ]
    assert merged([{"words": each} for each in words])["words"].tolist() == [
        [b"a", b"b"],
        [b"c", b"c"],
        [b"a", b"b"],
    ]


def test_what_must_be_equal_and_is_not_is_infinitely_far():
    def apart(one, other):
        return distances({"it": np.array(one)}, {"it": np.array(other)})["it"]

    assert apart([1.0, 2.0], [1.0, 2.0]) == 0
    assert apart([[0.5]], [[0.5, 0.0]]) == 0
    assert apart([[0.5]], [[0.5, 0.25]]) == 0.25
    assert apart([100.0], [101.0]) == 1 / 101
    assert apart([1], [2]) == np.inf
    assert apart([[1]], [[1, 0]]) == 0
    assert apart([np.nan], [np.nan]) == np.inf
    assert apart([1.0], [1]) == np.inf
    strings = [np.array([each], object) for each in (b"a", b"b")]
    assert distances({"it": strings[0]}, {"it": strings[1]})["it"] == np.inf
