"""Training without what comes before and after it, for tests of settings and of weights."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

import models
from app.serving import export
from app.serving.session import SavedModelSession
from app.training import pipeline
from app.training.run_state import Progress
from tasks.core.task import Task


@dataclasses.dataclass(frozen=True)
class Stopped:
    """A training that was stopped before its model was exported."""

    task: Task
    model: keras.Model
    progress: Progress

    def export(self, folder: Path) -> SavedModelSession:
        """Exports the model to a folder, and loads it as a server does."""
        folder.mkdir(parents=True, exist_ok=True)
        return SavedModelSession(export.draft(self.task, self.model, folder / "draft"))


class _Fitted(Exception):
    """The model is trained."""


def fitted(train: Callable[..., object], *arguments) -> Stopped:
    """Calls a function that runs `app.train`, and stops it as soon as its model is trained.

    It parses flags, reads, encodes and trains as always. There is no rehearsal.
    """
    found = []

    def stop(prepared, fitted, saved_models):
        found.append(Stopped(prepared.task, fitted.model, fitted.progress))
        raise _Fitted

    with pytest.MonkeyPatch.context() as patch, pytest.raises(_Fitted):
        patch.setattr(pipeline, "rehearse", lambda *args: None)
        patch.setattr(pipeline, "export_and_evaluate", stop)
        train(*arguments)
    return found[0]


def assert_same(one: Stopped | Path, other: Stopped | Path, atol: float = 1e-5) -> None:
    """Asserts that two trainings, or published versions, have the same weights."""
    weights, others = _weights(one), _weights(other)
    assert weights.keys() == others.keys()
    for path, weight in weights.items():
        np.testing.assert_allclose(weight, others[path], atol=atol, err_msg=path)


def _weights(trained: Stopped | Path) -> dict[str, np.ndarray]:
    model = trained.model if isinstance(trained, Stopped) else models.load(trained)
    # A network for training has the state of its random layers as well.
    return {w.path: w.numpy() for w in model.weights if "seed_generator" not in w.path}
