"""Merged requests get the same responses as separate ones.

The server's BatchingSession merges and pads requests, and splits the response by rows; here
`tests.support.predictions.merged` merges them.
"""

import itertools

import numpy as np

from app.serving import payloads
from tests.support.odd_requests import good_rows, odd_rows
from tests.support.predictions import distances, merged

SIZES = (1, 3, 2)
TOLERANCE = 1e-6


def test_a_merged_request_gets_the_responses_of_its_parts(loaded_version):
    version, runtime = loaded_version
    good = sorted(good_rows(version, sum(SIZES)), key=_size)  # so that lengths differ
    for name, signature in runtime.signatures.items():
        ends = list(itertools.accumulate(SIZES))
        parts = [good[end - size : end] for size, end in zip(SIZES, ends, strict=True)]
        # Padding changes the meaning of lengths beyond the tokens, so those are excluded.
        parts.append([odd.row for odd in odd_rows(signature).values() if odd.nothing])
        requests = [payloads.columns(signature, part) for part in parts]
        responses = [runtime.run(name, request) for request in (*requests, merged(requests))]
        assert [response.code for response in responses] == [0] * len(responses)
        *alone, together = (response.outputs for response in responses)
        first = 0
        for part, expected in zip(parts, alone, strict=True):
            outputs = {key: array[first : first + len(part)] for key, array in together.items()}
            apart = distances(expected, outputs)
            assert max(apart.values()) <= TOLERANCE, (name, first, apart)
            first += len(part)
        # The response to the repeated row is discarded.
        assert {len(array) for array in together.values()} == {first + 1}


def _size(row):
    return sum(len(value) for value in row.values() if not isinstance(value, int | float))


def test_padding_is_that_of_the_server():
    ids = [np.array([[5, 6, 7]]), np.array([[1, 2, 3, 4], [8, 9, 8, 9]])]
    words = [np.array([[b"a", b"b"]], object), np.array([[b"c"]], object)]
    assert merged([{"ids": array} for array in ids])["ids"].tolist() == [
        [5, 6, 7, 5],
        [1, 2, 3, 4],
        [8, 9, 8, 9],
        [5, 6, 7, 5],
    ]
    assert merged([{"words": array} for array in words])["words"].tolist() == [
        [b"a", b"b"],
        [b"c", b"c"],
        [b"a", b"b"],
    ]


def test_a_difference_where_values_must_be_equal_is_infinite():
    def distance(one, other):
        return distances({"x": np.array(one)}, {"x": np.array(other)})["x"]

    assert distance([1.0, 2.0], [1.0, 2.0]) == 0
    assert distance([[0.5]], [[0.5, 0.0]]) == 0
    assert distance([[0.5]], [[0.5, 0.25]]) == 0.25
    assert distance([100.0], [101.0]) == 1 / 101
    assert distance([1], [2]) == np.inf
    assert distance([[1]], [[1, 0]]) == 0
    assert distance([np.nan], [np.nan]) == np.inf
    assert distance([1.0], [1]) == np.inf
    strings = [np.array([value], object) for value in (b"a", b"b")]
    assert distances({"x": strings[0]}, {"x": strings[1]})["x"] == np.inf
