"""What every signature answers to what it should not be asked, and that no other row is harmed."""

import numpy as np
import pytest
import tensorflow as tf

from app.serving import payloads
from tests.support.odd_requests import good_rows, malformed, odd_rows
from tests.support.predictions import distances, row

NUMBERS = 1e-5  # by how much those of an answer may depend on who shares its batch


def asked_well(probe, name, request):
    """The outputs of a request that must be answered."""
    answer = probe.ask(name, request)
    assert (answer.code, answer.message) == (0, "")
    return answer.outputs


def test_a_request_that_is_none_is_an_invalid_argument(probed):
    version, probe = probed
    good = good_rows(version, 2)
    for name, signature in probe.signatures.items():
        wanted = asked_well(probe, name, payloads.columns(signature, good))
        codes = {}
        for what, request in malformed(signature, good):
            answer = probe.ask(name, request)
            codes[what] = answer.code
            assert answer.code == 0 or answer.message
        wrong = {what: code for what, code in codes.items() if code != tf.errors.INVALID_ARGUMENT}
        assert not wrong, name
        again = asked_well(probe, name, payloads.columns(signature, good))
        assert max(distances(wanted, again).values()) == 0


def test_no_rows_have_an_answer_of_none(probed):
    version, probe = probed
    for name, signature in probe.signatures.items():
        request = payloads.columns(signature, [])
        some = asked_well(probe, name, payloads.columns(signature, good_rows(version, 1)))
        for output, array in asked_well(probe, name, request).items():
            assert len(array) == 0, (name, output)
            assert (array.dtype, array.ndim) == (some[output].dtype, some[output].ndim)


def test_an_odd_row_is_answered_and_harms_no_other(probed):
    version, probe = probed
    first, last = good_rows(version, 2)
    for name, signature in probe.signatures.items():
        alone = [
            asked_well(probe, name, payloads.columns(signature, [each])) for each in (first, last)
        ]
        for kind, odd in odd_rows(signature).items():
            together = asked_well(probe, name, payloads.columns(signature, [first, odd.row, last]))
            for wanted, at in zip(alone, (0, 2), strict=True):
                apart = distances(wanted, row(together, at))
                assert max(apart.values()) <= NUMBERS, (name, kind, apart)
            assert_sensible(row(together, 1), odd.nothing, (name, kind))
            by_itself = asked_well(probe, name, payloads.columns(signature, [odd.row]))
            assert_sensible(by_itself, odd.nothing, (name, kind))


def assert_sensible(answer, nothing, where):
    """Holds an answer of one row: what can be read, and nothing said to nothing."""
    for output, array in answer.items():
        if array.dtype == object:
            for value in array.flat:
                value.decode("utf-8")
        else:
            assert np.isfinite(array).all(), (where, output)
    if "label" in answer:  # a class there is of anything
        assert answer["label"][0]
        assert answer["probabilities"].sum() == pytest.approx(1, abs=1e-5)
        return
    texts = b"".join(
        value for array in answer.values() if array.dtype == object for value in array.flat
    )
    lengths = [array[0] for output, array in answer.items() if output.endswith("lengths")]
    if nothing:
        assert texts == b"", where
        assert not any(lengths), where
    if "valid" in answer:
        assert answer["valid"][0] == (not nothing), where
    elif not nothing:
        assert all(lengths), where
