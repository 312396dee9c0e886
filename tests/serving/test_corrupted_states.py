"""A state that a version did not return is not valid in the C++ runtime, and affects no other row.

`python -m benchmarks.fuzz --states 10000` sends many more.
"""

import collections

import pytest

from tests.support import corrupted_states, untrained
from tests.support.corrupted_states import check

PIECES = [b"the old man", b" the bo", b"ats, \xe5\xa5"]
COUNT = 140  # states of each version


@pytest.mark.parametrize("task", untrained.STREAMS)
def test_corrupted_states_are_not_valid_and_affect_no_other_row(task, runtime_of):
    runtime = runtime_of(task, streams=True)
    good = corrupted_states.states(runtime.run, PIECES)
    other = next(other for other in untrained.STREAMS if other != task)
    foreign = corrupted_states.states(runtime_of(other, streams=True).run, PIECES)
    for signature in ("feed", "finish"):
        results = list(check(runtime.run, signature, good, foreign, COUNT // 2))
        outcomes = collections.Counter(outcome for _, outcome in results)
        assert outcomes.keys() <= {"not valid", "as before"}, results
        assert outcomes["not valid"] > 0.9 * len(results)
    assert len({each.kind for each, _ in results}) == len(corrupted_states._KINDS)


def test_valid_states_in_place_of_corrupted_ones_would_be_noticed(runtime_of):
    runtime = runtime_of("tagging", streams=True)
    good = corrupted_states.states(runtime.run, PIECES)
    # The version's own states, which it does not know to be those of another.
    results = list(check(runtime.run, "feed", good[:1], good[2:], 77))
    assert ("other version", "wrong response") in {(each.kind, out) for each, out in results}
