"""Shared fixtures and the mechanics of a run: workers, memory, slow tests."""

import contextlib
import ctypes
import functools
import gc
import io
import os
import shutil
import sys
import time
from pathlib import Path

import pytest

from tests.support import quick

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MALLOC_ARENA_MAX", "2")  # workers inherit it: glibc gives memory back

WORKER_BYTES = 2.5 * 2**30  # memory that one worker may need
COLLECT_EVERY = 10  # tests, where the memory of the process is unknown
COLLECT_AFTER = 100 * 2**20  # bytes by which the process has grown
COLLECT_AFTER_MODULE = 25 * 2**20  # of its fixtures, nothing is used any more

# A model that is made in seconds; the cell has the fewest ops.
SMALL = ["--units", "8", "--embedding", "8", "--epochs", "1", "--cell", "rnn", "--layers", "1"]


def where(folder: Path) -> list[str]:
    """Flags that keep all that a run writes below `folder`."""
    return ["--saved-models", str(folder / "saved_models"), "--runs", str(folder / "runs")]


def signatures(version: Path) -> dict[str, tuple[dict, dict]]:
    """Returns the types and shapes of inputs and outputs of a SavedModel, by signature."""
    import tensorflow as tf
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    def specs_of(tensors):
        return {
            name: (tf.as_dtype(t.dtype).name, [d.size for d in t.tensor_shape.dim])
            for name, t in tensors.items()
        }

    saved = SavedModel.FromString((version / "saved_model.pb").read_bytes())
    definitions = saved.meta_graphs[0].signature_def.items()
    return {
        name: (specs_of(each.inputs), specs_of(each.outputs))
        for name, each in definitions
        if name[0] != "_"
    }


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config) -> int:
    """Returns the number of workers of `-n auto`: one per core, as far as memory allows."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    memory = available_memory()
    if memory is None:
        return min(cores, 2)
    return max(1, min(cores, int(memory / WORKER_BYTES)))


def available_memory() -> int | None:
    """Returns the free memory in bytes, or None if the system does not report it.

    In a container that is what its limit leaves.
    """
    limits = []
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        limits.append(int(fields["MemAvailable"].split()[0]) * 1024)
    except (OSError, KeyError):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    with contextlib.suppress(OSError, ValueError):  # ValueError: the limit is "max"
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text())
        limits.append(limit - int((group / "memory.current").read_text()))
    return min(limits, default=None)


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(config, items):
    """Marks as slow what `tests.support.quick` leaves out of the quick suite."""
    by_test = {}
    for item in items:
        file = item.path.relative_to(config.rootpath).as_posix()
        name = item.name.split("[")[0]
        if name in quick.PARAMETERS.get(file, {}) and not item.get_closest_marker("slow"):
            by_test.setdefault((file, name), []).append(item)
    for (file, name), parameters in by_test.items():
        slow = quick.are_slow(len(parameters), quick.PARAMETERS[file][name])
        for item, is_slow in zip(parameters, slow, strict=True):
            if is_slow:
                item.add_marker(pytest.mark.slow)


def pytest_runtest_setup(item):
    """Skips GPU tests without a GPU, and slow tests after the time in `SLOW_TESTS_UNTIL`."""
    if item.get_closest_marker("gpu"):
        import tensorflow as tf

        if not tf.config.list_physical_devices("GPU"):
            pytest.skip("no GPU is here")
    until = os.environ.get("SLOW_TESTS_UNTIL")  # seconds since the epoch
    if until and item.get_closest_marker("slow") and time.time() > float(until):
        pytest.skip("the time budget of the slow tests is used up")


def pytest_collection_finish():
    """Excludes all imported modules from garbage collection, and makes it rare.

    Tracing makes millions of objects, most of which live as long as their graph.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


_tests_run = 0
_size_after_collection = 0


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown():
    """Frees the graphs of the tests that are over, once they take much memory."""
    global _tests_run
    _tests_run += 1
    size = process_size()
    if _tests_run % COLLECT_EVERY == 0 if size is None else has_grown(size):
        free_graphs()


def process_size() -> int | None:
    """Returns the memory of this process in bytes, or None if the system does not report it."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def has_grown(size: int) -> bool:
    """Whether a size of the process is much above its least since the last collection."""
    global _size_after_collection
    _size_after_collection = min(_size_after_collection, size)
    return size > _size_after_collection + COLLECT_AFTER


@pytest.fixture(scope="module", autouse=True)
def _free_graphs():
    """Frees what a module's tests and fixtures leave in memory."""
    before = process_size()
    yield
    if "keras" in sys.modules:
        import keras

        keras.backend.clear_session(free_memory=False)  # what it frees is collected below
    size = process_size()
    if size is None or size > before + COLLECT_AFTER_MODULE:
        free_graphs()


def free_graphs() -> None:
    """Frees graphs that nothing uses.

    TensorFlow registers the gradient of every `tf.custom_gradient` in a graph by name and
    never removes it. The entry keeps the graph alive, so without this a worker grows with
    every test that traces a `GatedRNN`. It also keeps the kernels of all ops that ran eagerly.
    """
    if "tensorflow" in sys.modules:
        from tensorflow.python.eager import context
        from tensorflow.python.framework import ops

        registry = ops.gradient_registry._registry
        for name in [name for name in registry if name.startswith("CustomGradient-")]:
            del registry[name]
        context.context().clear_kernel_cache()
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    global _size_after_collection
    _size_after_collection = process_size() or 0


@pytest.fixture(scope="session")
def data_dir():
    """The folder of real data; without it the test is skipped."""
    folder = os.environ.get("DATA_DIR")
    if not folder:
        pytest.skip("DATA_DIR, the folder of real data, is not set")
    return Path(folder)


@pytest.fixture
def corpus(tmp_path):
    """A folder with a few labelled texts in three parts."""
    return labelled(tmp_path / "corpus")


def labelled(folder: Path) -> Path:
    """Makes that folder, always the same."""
    folder.mkdir()
    for part, count in (("train", 40), ("valid", 10), ("test", 10)):
        rows = [
            f"{'a warm and funny' if n % 2 else 'a dull , cold'} film number {n} {part}\t"
            f"{'good' if n % 2 else 'bad'}\n"
            for n in range(count)
        ]
        (folder / f"{part}.tsv").write_text("".join(rows), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def folder_of_workers(tmp_path_factory):
    """A folder that all workers share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def published(tmp_path_factory, folder_of_workers):
    """The folder of saved models after one short run on the sample, done once for all workers."""
    import filelock

    from app import train

    shared = folder_of_workers / "published_once"
    with filelock.FileLock(f"{shared}.lock"):
        if not shared.exists():
            folder = tmp_path_factory.mktemp("published")
            flags = [*SMALL, "--cell", "lstm", *where(folder)]
            with contextlib.redirect_stdout(io.StringIO()):
                train.main(["sentiment", *flags])
            folder.rename(shared)
    copied = tmp_path_factory.mktemp("published") / "saved_models"
    return Path(shutil.copytree(shared / "saved_models", copied))


@pytest.fixture(scope="module")
def here():
    """Commands load each version once in a module that changes none; returns what loads it."""
    from app.serving.session import SavedModelSession

    once = functools.cache(SavedModelSession)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.serving.session.SavedModelSession", once)
        yield once


@pytest.fixture
def loaded(version, served, monkeypatch):
    """Commands use the module's `served` for its `version`, and can load no other."""
    monkeypatch.setattr("app.serving.session.SavedModelSession", {version: served}.__getitem__)


@pytest.fixture(scope="session")
def untrained_copy(folder_of_workers):
    """Returns what `untrained.version` does, with each version published once for all workers."""
    from tests.support import untrained

    return functools.partial(untrained.copy, folder_of_workers / "untrained_versions")


@pytest.fixture(scope="session")
def untrained_versions(tmp_path_factory, untrained_copy):
    """The folder of saved models with an untrained version of every task; not to be changed."""
    import tasks

    folder = tmp_path_factory.mktemp("untrained")
    for task in tasks.names():
        untrained_copy(task, folder)
    return folder
