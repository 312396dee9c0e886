"""Whatever happens after training is tried before it."""

import errno
import os

import pytest
import tensorflow as tf

import tasks
from app import report
from app.serving import export
from app.training import loop, pipeline
from tasks.core.errors import UserError
from tests.support import untrained


class Reached(Exception):
    """Training has begun."""


@pytest.fixture
def train(corpus, tmp_path, monkeypatch):
    """Runs a training until its first step, with the folder of versions that is given."""

    def begin(*args, **kwargs):
        raise Reached

    monkeypatch.setattr(loop, "fit", begin)

    def run(saved_models):
        task = tasks.find("sentiment")
        options = pipeline.TrainOptions(saved_models, tmp_path / "runs")
        config = task.Config(units=8, embedding=8)
        pipeline.train("sentiment", config, task.Corpus(data=str(corpus)), options)

    return run


@pytest.mark.parametrize("name", ["file", "file/below", "folder"])
def test_a_folder_that_cannot_be_written_is_an_error_before_training(train, tmp_path, name):
    (tmp_path / "file").write_text("a file")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "sentiment").write_text("a file")
    with pytest.raises(UserError, match=r"--saved-models: .*sentiment must be a folder that can"):
        train(tmp_path / name)
    assert (tmp_path / "file").read_text() == "a file"


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(errno.EACCES, os.strerror(errno.EACCES)),
        tf.errors.PermissionDeniedError(None, None, "read-only file system"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_version_that_could_not_be_saved_is_an_error_before_training(
    train, tmp_path, monkeypatch, error
):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(tf.saved_model, "save", fail)
    with pytest.raises(UserError, match=r"(?i)(denied|read-only file system)"):
        train(tmp_path / "saved_models")


def test_a_full_disk_is_reported_as_such(train, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tf.saved_model, "save", fail)
    with pytest.raises(UserError, match=r"^no space left on device"):
        train(tmp_path / "saved_models")


def test_a_page_that_cannot_be_written_is_an_error_before_training(train, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr(report, "page", fail)
    with pytest.raises(ZeroDivisionError):
        train(tmp_path / "saved_models")


def test_the_page_has_the_names_known_before_training(train, tmp_path, monkeypatch, corpus):
    pages = []

    def page(*args, draw=report.page):
        pages.append(draw(*args))
        return pages[-1]

    monkeypatch.setattr(report, "page", page)
    with pytest.raises(Reached):
        train(tmp_path / "saved_models")
    [page] = pages
    assert page.count("<svg") == 2
    for text in ("good", "bad", str(corpus), "test.tsv:1", "a dull , cold film number 0 test"):
        assert text in page


def test_nothing_is_left_in_the_folder(train, tmp_path):
    folder = tmp_path / "saved_models"
    with pytest.raises(Reached):
        train(folder)
    assert [path.name for path in folder.iterdir()] == ["sentiment"]
    assert not list((folder / "sentiment").iterdir())


def test_what_a_killed_rehearsal_left_is_replaced(tmp_path):
    draft = tmp_path / "sentiment" / "draft-1"
    draft.mkdir(parents=True)
    (draft / "saved_model.pb").write_bytes(b"half")
    export.rehearse(draft)
    assert not draft.exists()


@pytest.mark.parametrize("name", tasks.names())
def test_every_task_has_a_preview_of_its_evaluation(name, tmp_path):
    task_class = tasks.find(name)
    sizes = {k: v for k, v in untrained.SIZES.items() if hasattr(task_class.Config, k)}
    config = task_class.Config(**untrained.SMALL, **sizes)
    task = task_class.learn(config, untrained.examples(name), tmp_path)
    preview = task.Evaluator(task).preview()
    assert preview.count == 0 and preview.tables
    for confusion in preview.confusions:
        assert len(confusion.classes) > 1 and not any(map(any, confusion.counts))
