"""No request that is drawn kills the process, gets a code of its own, or harms a neighbour.

`python -m benchmarks.fuzz` sends many more.
"""

import itertools
import os
import signal

import hypothesis
import pytest
import tensorflow as tf

from app.serving import payloads
from benchmarks import fuzz
from tests.support.cc_runtime import Probe
from tests.support.drawn_requests import requests
from tests.support.odd_requests import good_rows
from tests.support.predictions import distances, row

NUMBERS = 1e-5  # by how much those of an answer may depend on who shares its batch
SETTINGS = hypothesis.settings(
    max_examples=40,  # to each signature
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)


def test_whatever_is_asked_is_answered_and_harms_no_neighbour(probed):
    version, probe = probed
    known, *others = good_rows(version, 4)
    for name, signature in probe.signatures.items():
        SETTINGS(hypothesis.given(requests(signature, known, others))(_check(probe, name, known)))()


def _check(probe, name, known):
    """What holds a drawn request to a signature against the rules."""
    alone = probe.ask(name, payloads.columns(probe.signatures[name], [known])).outputs

    def check(drawn):
        answer = probe.ask(name, drawn.arrays)
        if drawn.neighbour is None:
            assert answer.code == tf.errors.INVALID_ARGUMENT
        else:
            assert (answer.code, answer.message) == (0, "")
            apart = distances(alone, row(answer.outputs, drawn.neighbour))
            assert max(apart.values()) <= NUMBERS, apart

    return check


def _killed(process, answer):
    os.kill(process.pid, signal.SIGKILL)
    return answer


def _another(process, answer):
    return answer._replace(
        outputs=answer.outputs | {"probability": answer.outputs["probability"] + 1}
    )


@pytest.mark.parametrize(
    ("breaks", "deaths", "changed"),
    [(lambda _, answer: answer, 0, 0), (_killed, 1, 0), (_another, 0, 1)],
    ids=["nothing", "a death", "another answer"],
)
def test_the_benchmark_counts_what_breaks(
    program, version_of, monkeypatch, breaks, deaths, changed
):
    ask, number = Probe.ask, itertools.count()

    def breaking(process, name, arrays):
        answer = ask(process, name, arrays)
        return breaks(process, answer) if next(number) == 3 else answer

    monkeypatch.setattr(Probe, "ask", breaking)
    version = version_of("sentiment", "lstm")
    line, fine = fuzz.fuzz(program, version, "serving_default", 12, 0)
    assert line[:3] == ["sentiment", "serving_default", 12]
    assert line[4:] == [deaths, changed]
    assert fine == (not deaths and not changed)
