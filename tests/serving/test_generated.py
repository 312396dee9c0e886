"""No random request kills the process, fails unexpectedly, or affects another row.

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
from tests.support.cc_runtime import Runtime
from tests.support.drawn_requests import requests
from tests.support.odd_requests import good_rows
from tests.support.predictions import distances, row

TOLERANCE = 1e-5  # of numbers, for the effect of other rows in the batch
SETTINGS = hypothesis.settings(
    max_examples=40,  # per signature
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)


def test_every_request_gets_a_response_and_does_not_affect_its_neighbour(loaded_version):
    version, runtime = loaded_version
    neighbour, *others = good_rows(version, 4)
    for name, signature in runtime.signatures.items():
        SETTINGS(
            hypothesis.given(requests(signature, neighbour, others))(
                _check(runtime, name, neighbour)
            )
        )()


def _check(runtime, name, neighbour):
    """Returns a function that checks the response to a request."""
    alone = runtime.run(name, payloads.columns(runtime.signatures[name], [neighbour])).outputs

    def check(request):
        response = runtime.run(name, request.arrays)
        if request.neighbour is None:
            assert response.code == tf.errors.INVALID_ARGUMENT
        else:
            assert (response.code, response.message) == (0, "")
            apart = distances(alone, row(response.outputs, request.neighbour))
            assert max(apart.values()) <= TOLERANCE, apart

    return check


def _kill(process, response):
    os.kill(process.pid, signal.SIGKILL)
    return response


def _change(process, response):
    return response._replace(
        outputs=response.outputs | {"probability": response.outputs["probability"] + 1}
    )


@pytest.mark.parametrize(
    ("fail", "deaths", "changed"),
    [(lambda _, response: response, 0, 0), (_kill, 1, 0), (_change, 0, 1)],
    ids=["no failure", "a death", "a changed response"],
)
def test_the_benchmark_counts_failures(program, version_of, monkeypatch, fail, deaths, changed):
    run, number = Runtime.run, itertools.count()

    def run_and_fail(process, name, arrays):
        response = run(process, name, arrays)
        return fail(process, response) if next(number) == 3 else response

    monkeypatch.setattr(Runtime, "run", run_and_fail)
    version = version_of("sentiment", "lstm")
    line, passed = fuzz.fuzz(program, version, "serving_default", 12, 0)
    assert line[:3] == ["sentiment", "serving_default", 12]
    assert line[4:] == [deaths, changed]
    assert passed == (not deaths and not changed)
