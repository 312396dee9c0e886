"""Fixtures of the serving tests: untrained versions, and the C++ program that loads them."""

import contextlib
import functools

import pytest

import tasks
from tests.support import cc_runtime, untrained


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
        lambda task, cell, data="sample", streams=False: untrained_copy(
            task, folder, cell, data=data, streams=streams
        )
    )


@pytest.fixture(scope="session")
def runtime_of(program, version_of):
    """Returns the runtime of a task's version, which tests share because its start is slow."""
    with contextlib.ExitStack() as stack:
        yield functools.cache(
            lambda task, data="sample", streams=False: stack.enter_context(
                cc_runtime.Runtime(program, version_of(task, "lstm", data, streams))
            )
        )


# Versions with more signatures, of entities and of streams, and every task.
KINDS = [(task, data, False) for task, data in untrained.MORE]
KINDS += [(task, "sample", False) for task in tasks.names()]
KINDS += [(task, "sample", True) for task in untrained.STREAMS]


@pytest.fixture(params=KINDS, ids=lambda kind: f"{kind[0]} {kind[1]}{' streams' * kind[2]}")
def loaded_version(request, version_of, runtime_of):
    """A version of each kind, and the runtime that loaded it."""
    task, data, streams = request.param
    return version_of(task, "lstm", data, streams), runtime_of(task, data, streams)
