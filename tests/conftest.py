"""What tests share: real data by `DATA_DIR`, and one trained model."""

import contextlib
import functools
import io
import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SMALL = ["--units", "8", "--embedding", "8", "--epochs", "1"]  # a model that is made in seconds


def where(folder: Path) -> list[str]:
    """Flags that keep all that a run writes below `folder`."""
    return ["--saved-models", str(folder / "saved_models"), "--runs", str(folder / "runs")]


def signatures(version: Path) -> dict[str, tuple[dict, dict]]:
    """What the signatures of a SavedModel take and give: by name the type and shape of each."""
    import tensorflow as tf
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    def told(tensors):
        return {
            name: (tf.as_dtype(t.dtype).name, [d.size for d in t.tensor_shape.dim])
            for name, t in tensors.items()
        }

    saved = SavedModel.FromString((version / "saved_model.pb").read_bytes())
    found = saved.meta_graphs[0].signature_def.items()
    return {name: (told(s.inputs), told(s.outputs)) for name, s in found if name[0] != "_"}


def pytest_runtest_setup(item):
    """Skips what needs a GPU where there is none."""
    if item.get_closest_marker("gpu"):
        import tensorflow as tf

        if not tf.config.list_physical_devices("GPU"):
            pytest.skip("no GPU is here")


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
def published(tmp_path_factory):
    """The folder of saved models after one short run on the sample."""
    from app import train

    folder = tmp_path_factory.mktemp("published")
    with contextlib.redirect_stdout(io.StringIO()):
        train.main(["sentiment", *SMALL, *where(folder)])
    return folder / "saved_models"


@pytest.fixture(scope="module")
def here():
    """Has verbs load each version once in a module that changes none; gives what loads it."""
    from app.serving.session import SavedModelSession

    once = functools.cache(SavedModelSession)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.serving.session.SavedModelSession", once)
        yield once


@pytest.fixture
def loaded(version, served, monkeypatch):
    """Has verbs ask a module's `version` as its `served`, not loaded again, and no other."""
    monkeypatch.setattr("app.serving.session.SavedModelSession", {version: served}.__getitem__)


@pytest.fixture(scope="session")
def untrained_versions(tmp_path_factory):
    """The folder of saved models with an untrained version of every task; not to be changed."""
    import tasks
    from tests.support import untrained

    folder = tmp_path_factory.mktemp("untrained")
    for task in tasks.names():
        untrained.version(task, folder)
    return folder
