"""Weights of a published version as the start of a training."""

import abc
import dataclasses
import fnmatch
import json
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

import models
from app.serving.base_version import BaseVersion
from models.networks import ensemble
from models.text.words import Vocabulary
from tasks.core.errors import UserError
from tasks.core.id_map import IdMap
from tasks.core.task import Task

RECORD = "base.json"  # among the assets of a run, which it identifies
# Layers whose weights are counted in the training part, or fitted on the validation part.
_NOT_TRAINED = (
    "calibration",
    "confidence",
    "evidence",
    "linear_path",
    "mixture",
    "thresholds",
    "word_dropout",
)


def write_record(base: BaseVersion, freeze: Sequence[str], assets: Path) -> None:
    """Writes what a run continues from to its assets, so that it belongs to the run's identity."""
    record = {**base.record(), "freeze": list(freeze)}
    (assets / RECORD).write_text(json.dumps(record, indent=2), encoding="utf-8")


class InitialWeights(abc.ABC):
    """Weights that a new network starts from, in place of those that a seed gives."""

    @abc.abstractmethod
    def freeze_layers(self, model: keras.Model) -> None:
        """Excludes layers of a new network from training."""

    @abc.abstractmethod
    def initialise(self, task: Task, model: keras.Model, number: int = 0) -> None:
        """Gives a new network the weights.

        Args:
            task: The task to be trained.
            model: Its network.
            number: Number of the network in an ensemble, from 0.

        Raises:
            UserError: The weights do not fit.
        """


@dataclasses.dataclass(frozen=True)
class ContinuedWeights(InitialWeights):
    """Initial weights from a published version of the same task.

    Attributes:
        base: The version.
        task: Its task, restored.
        freeze: Groups of layers that are not trained, of `Task.layer_groups`.
    """

    base: BaseVersion
    task: Task
    freeze: Sequence[str] = ()

    def sentence(self, task: Task) -> str:
        """Returns what is continued, and what is new, in a sentence."""
        news = []
        for name in task.vocabularies:
            old, new = (getattr(each, name, None) for each in (self.task, task))
            if isinstance(old, Vocabulary):
                count = len(set(new.words) - set(old.words))
                news.append(f"{count} new {name}" if count else f"no new {name}")
        frozen = f"; not trained: {', '.join(self.freeze)}" if self.freeze else ""
        return f"continuing from {self.base.folder}: {', '.join(news) or 'its subwords'}{frozen}"

    def freeze_layers(self, model: keras.Model) -> None:
        patterns = [pattern for group in self.freeze for pattern in self.task.layer_groups[group]]
        for layer in model.layers:
            if any(fnmatch.fnmatch(layer.name, pattern) for pattern in patterns):
                layer.trainable = False

    def initialise(self, task: Task, model: keras.Model, number: int = 0) -> None:
        """Gives a new network the trained weights of the version.

        The rows of ids that the version has are those of the same words and labels; those of new
        words and characters are that of the unknown one, and those of new labels keep their
        initial values.
        """
        networks = ensemble.members(models.load(self.base.folder))
        network = networks[number % len(networks)]
        trained = {weight.path: weight.numpy() for weight in network.weights}
        id_maps = self._id_maps(task)
        for weight in model.weights:
            if weight.path.split("/")[0] in _NOT_TRAINED:
                continue
            old, new = trained.get(weight.path), weight.numpy()
            if old is None or old.ndim != new.ndim:
                raise UserError(
                    f"--from: {self.base.folder} has no weight {weight.path}: a flag such as "
                    "--cell or --layers changes the network; leave it out."
                )
            weight.assign(_extended(old, new, id_maps, weight.path))

    def _id_maps(self, task: Task) -> list[IdMap]:
        maps = {}
        for name in task.vocabularies:
            old = getattr(self.task, name, None)
            if isinstance(old, Vocabulary):
                maps[name] = IdMap.of(old, getattr(task, name))
        return [*maps.values(), *task.moved_inputs(maps)]


def _extended(old: np.ndarray, new: np.ndarray, id_maps: Sequence[IdMap], path: str) -> np.ndarray:
    """Returns the values of a weight, with rows and columns of ids moved to their new ids."""
    result = old
    is_old = np.ones(new.shape, bool)
    for axis, (before, after) in enumerate(zip(old.shape, new.shape, strict=True)):
        fitting = [ids for ids in id_maps if (ids.before, ids.after) == (before, after)]
        if before == after and (not fitting or fitting[0].is_identity):
            continue
        if not fitting:
            raise UserError(
                f"--from: the weight {path} of that version has the shape {list(old.shape)}, but "
                f"the settings and the data need {list(new.shape)}: leave out flags that change "
                "the network."
            )
        source = fitting[0].sources
        result = np.take(result, np.maximum(source, 0), axis=axis)
        shape = [1] * new.ndim
        shape[axis] = after
        is_old &= (source >= 0).reshape(shape)
    return np.where(is_old, result, new)
