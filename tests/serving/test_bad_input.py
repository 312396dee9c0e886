"""Malformed requests are rejected, and unusual rows do not affect other rows."""

import numpy as np
import pytest
import tensorflow as tf

from app.serving import payloads
from tests.support.odd_requests import good_rows, malformed, odd_rows
from tests.support.predictions import distances, row

TOLERANCE = 1e-5  # of numbers, for the effect of other rows in the batch


def outputs_of(runtime, name, request):
    """Returns the outputs of a request, which must succeed."""
    response = runtime.run(name, request)
    assert (response.code, response.message) == (0, "")
    return response.outputs


def test_a_malformed_request_is_an_invalid_argument(loaded_version):
    version, runtime = loaded_version
    good = good_rows(version, 2)
    for name, signature in runtime.signatures.items():
        expected = outputs_of(runtime, name, payloads.columns(signature, good))
        codes = {}
        for description, request in malformed(signature, good):
            response = runtime.run(name, request)
            codes[description] = response.code
            assert response.code == 0 or response.message
        assert set(codes.values()) == {tf.errors.INVALID_ARGUMENT}, (name, codes)
        again = outputs_of(runtime, name, payloads.columns(signature, good))
        assert max(distances(expected, again).values()) == 0


def test_a_request_without_rows_has_a_response_without_rows(loaded_version):
    version, runtime = loaded_version
    for name, signature in runtime.signatures.items():
        request = payloads.columns(signature, [])
        one = outputs_of(runtime, name, payloads.columns(signature, good_rows(version, 1)))
        for output, array in outputs_of(runtime, name, request).items():
            assert len(array) == 0, (name, output)
            assert (array.dtype, array.ndim) == (one[output].dtype, one[output].ndim)


def test_an_unusual_row_gets_a_response_and_does_not_affect_others(loaded_version):
    version, runtime = loaded_version
    first, last = good_rows(version, 2)
    for name, signature in runtime.signatures.items():
        alone = [
            outputs_of(runtime, name, payloads.columns(signature, [good])) for good in (first, last)
        ]
        for kind, odd in odd_rows(signature).items():
            together = outputs_of(
                runtime, name, payloads.columns(signature, [first, odd.row, last])
            )
            for expected, index in zip(alone, (0, 2), strict=True):
                apart = distances(expected, row(together, index))
                assert max(apart.values()) <= TOLERANCE, (name, kind, apart)
            nothing = odd.nothing and name != "next"  # some token follows any text
            assert_sensible(row(together, 1), nothing, (name, kind))
            single = outputs_of(runtime, name, payloads.columns(signature, [odd.row]))
            assert_sensible(single, nothing, (name, kind))


def assert_sensible(response, nothing, where):
    """Checks a response of one row: valid text and numbers, and an empty output for no input."""
    for output, array in response.items():
        if array.dtype == object:
            for value in array.flat:
                value.decode("utf-8")
        else:
            assert np.isfinite(array).all(), (where, output)
    if "label" in response:  # every text has a class
        assert response["label"][0]
        assert response["probabilities"].sum() == pytest.approx(1, abs=1e-5)
        return
    texts = b"".join(
        value for array in response.values() if array.dtype == object for value in array.flat
    )
    lengths = [array[0] for output, array in response.items() if output.endswith("lengths")]
    if nothing:
        assert texts == b"", where
        assert not any(lengths), where
    if "valid" in response:
        assert response["valid"][0] == (not nothing), where
    elif not nothing:
        assert all(lengths), where
