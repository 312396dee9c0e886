"""What tests of serving share: versions nothing was learnt in, and the program that loads them."""

import contextlib
import functools

import pytest

import tasks
from tests.support import cc_runtime, untrained


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    """The compiled probe; without a C compiler the test is skipped."""
    if cc_runtime.compiler() is None:
        pytest.skip("no C compiler is here, so TensorFlow's C++ runtime cannot be asked")
    return cc_runtime.build(tmp_path_factory.mktemp("probe") / "probe")


@pytest.fixture(scope="session")
def version_of(tmp_path_factory):
    """Gives the version of a task with a cell, published when it is first wanted."""
    folder = tmp_path_factory.mktemp("versions")
    return functools.cache(lambda task, cell: untrained.version(task, folder, cell))


@pytest.fixture(scope="session")
def probe_of(program, version_of):
    """Gives a probe of a task's version, which tests share: its first answers are slow."""
    with contextlib.ExitStack() as stack:
        yield functools.cache(
            lambda task: stack.enter_context(cc_runtime.Probe(program, version_of(task, "lstm")))
        )


@pytest.fixture(params=tasks.names())
def probed(request, version_of, probe_of):
    """A version of each task, and a probe that has loaded it."""
    return version_of(request.param, "lstm"), probe_of(request.param)
