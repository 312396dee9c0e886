"""Fixtures of the serving tests: untrained versions, and the C++ program that loads them."""

import contextlib
import functools

import pytest

import tasks
from tests.support import cc_runtime, untrained
from tests.support.odd_requests import has_direction


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    """The compiled program; the test is skipped without a C compiler."""
    if cc_runtime.compiler() is None:
        pytest.skip("no C compiler is installed, so TensorFlow's C++ runtime cannot be tested")
    return cc_runtime.build(tmp_path_factory.mktemp("runtime") / "runtime")


@pytest.fixture(scope="session")
def version_of(tmp_path_factory, untrained_copy):
    """Returns the version of a task with a cell, published on first use."""
    folder = tmp_path_factory.mktemp("versions")
    return functools.cache(
        lambda task, cell, data="sample", direction="both": untrained_copy(
            task, folder, cell, data=data, direction=direction
        )
    )


@pytest.fixture(scope="session")
def runtime_of(program, version_of):
    """Returns the runtime of a task's version, which tests share because its start is slow."""
    with contextlib.ExitStack() as stack:
        yield functools.cache(
            lambda task, data="sample", direction="both": stack.enter_context(
                cc_runtime.Runtime(program, version_of(task, "lstm", data, direction))
            )
        )


# Every task; more of those with other signatures: of entities, and of streams.
KINDS = [(task, "sample", "both") for task in tasks.names()]
KINDS += [(task, data, "both") for task, data in untrained.MORE]
KINDS += [(task, "sample", "forward") for task in tasks.names() if has_direction(task)]


@pytest.fixture(params=KINDS, ids=" ".join)
def loaded_version(request, version_of, runtime_of):
    """A version of each kind, and the runtime that loaded it."""
    task, data, direction = request.param
    return version_of(task, "lstm", data, direction), runtime_of(task, data, direction)
