"""The published version that a training starts from, found and read without TensorFlow.

A version of the same task is continued. A language model of words gives tasks that read words the
initial weights of their embedding and of their cells.
"""

import dataclasses
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import tasks
from app.serving import versions
from models import manifest
from tasks.core import word_vectors
from tasks.core.config import Config
from tasks.core.errors import UserError
from tasks.core.settings import find_cell, flag, from_record, with_defaults
from tasks.shapes.language_modelling import settings as language_modelling

FLAG = "--from"
_RATE_FACTOR = 0.1  # of the learning rate, so that what was learnt is not lost
# Settings that are not continued: what belongs to one training only.
_NOT_CONTINUED = (
    "learning_rate",
    "ensemble",
    "distill",
    "class_weights",
    "vectors_licence",
    "unlabelled",
)
# Settings that a network has in common with the language model that gives its initial weights.
_OF_ENCODER = ("cell", "units", "layers", "embedding")


@dataclasses.dataclass(frozen=True)
class BaseVersion:
    """A published version that a training starts from.

    Attributes:
        folder: Folder of the version.
        model: Name under which it was published.
        sha256: Checksum of its manifest, which identifies it.
        settings: Its settings by name, as recorded.
        task: Name of its task.
        is_language_model: Whether it is a language model for another task, in place of a version
            that is continued.
    """

    folder: Path
    model: str
    sha256: str
    settings: dict[str, Any]
    task: str = ""
    is_language_model: bool = False

    def record(self) -> dict[str, str]:
        """Returns the entry of `run.json`."""
        return {"version": f"{self.model}/{self.folder.name}", "manifest_sha256": self.sha256}

    def config_class(self, config_class: type) -> type:
        """Returns a dataclass of settings whose defaults are the settings of the version.

        The learning rate is a tenth of that of the version. Settings that follow from the size of
        a corpus follow from that of the new one. Of a language model, only cell and sizes are the
        defaults.

        Args:
            config_class: The dataclass of the task's settings.

        Raises:
            UserError: The version cannot be continued.
        """
        if self.is_language_model:
            return with_defaults(config_class, **{n: self.settings[n] for n in _OF_ENCODER})
        config = from_record(config_class, self.settings)
        if getattr(config, "vectors", ""):
            raise UserError(
                f"{FLAG}: {self.folder} was trained with --vectors, so its vocabulary cannot "
                "be extended; choose a version that was trained without."
            )
        defaults = {
            field.name: getattr(config, field.name)
            for field in dataclasses.fields(config_class)
            if field.name not in _NOT_CONTINUED and not field.metadata["auto"]
        }
        rate = config.learning_rate * _RATE_FACTOR
        return with_defaults(config_class, **defaults, learning_rate=float(f"{rate:.6g}"))

    def check(self, config: Config) -> None:
        """Checks that the settings of a training fit the version, where weights need it.

        Raises:
            UserError: A setting has another value than a language model, or the size of the
                vocabulary cannot be that of the version, whose words are kept.
        """
        if not self.is_language_model:
            self._check_vocabulary(config)
            return
        if getattr(config, "trees", False):
            raise UserError(
                f"{FLAG}: the language model {self.folder} reads sequences of words; it cannot "
                "start a network with --trees."
            )
        if config.vectors or config.unlabelled:
            other = "--vectors" if config.vectors else "--unlabelled"
            raise UserError(
                f"{FLAG} and {other} exclude each other: the vectors of words come from the "
                f"language model {self.folder}."
            )
        for name in _OF_ENCODER:
            own, needed = getattr(config, name), self.settings[name]
            if own != needed and (name != "cell" or find_cell(own) != find_cell(needed)):
                raise UserError(
                    f"{flag(name)} must be {needed}, as in the language model {self.folder}, got "
                    f"{own}."
                )

    def _check_vocabulary(self, config: Config) -> None:
        old, new = self.settings.get("vocabulary", config.vocabulary), config.vocabulary
        adds_words = hasattr(config, "vectors") or getattr(config, "token", "") == "words"
        if new < old or (new != old and not adds_words):
            words = "words" if adds_words else "subwords"
            bound = "at least " if adds_words else ""
            raise UserError(
                f"--vocabulary must be {bound}{old}, as in {self.folder}, whose {words} are kept, "
                f"got {new}."
            )


def find(value: str, task: str, saved_models: Path, model: str | None = None) -> BaseVersion:
    """Returns the version that a value of the flag names.

    Args:
        value: Number of a version of the model, model and number such as "films/2", or the path
            of a version's folder.
        task: Name of the task.
        saved_models: Folder of the published models.
        model: Name of the model that is trained; None for that of the task.

    Raises:
        UserError: There is no such version, it is damaged, or it is of another task and no
            language model of words that the task could use.
    """
    if value.isascii() and value.isdigit():
        model = model or task
        if model != task and not versions.numbers(saved_models / model):
            raise UserError(
                f"{FLAG} {value} means version {value} of {model}, which has no versions yet; "
                f"give the model, too, such as {task}/{value}."
            )
        folder = versions.find(saved_models, model, int(value), FLAG)
    else:
        folder = Path(value)
        if re.fullmatch("[^/]+/[0-9]+", value) and not folder.exists():
            folder = saved_models / value
        try:
            manifest.verify(folder)
        except (manifest.Damage, OSError) as error:
            raise UserError(
                f"{FLAG} must be the number of a version, its model and number, or its folder, "
                f"got {value!r}: {error}"
            ) from error
    try:
        record = json.loads((folder / "assets.extra/run.json").read_text(encoding="utf-8"))
        settings = json.loads((folder / "assets/config.json").read_text(encoding="utf-8"))
        name = record["task"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{FLAG}: {folder} has no complete record of its training.") from error
    if name != task:
        _check_language_model(folder, name, settings, task)
    sha256 = hashlib.sha256((folder / manifest.PLACE).read_bytes()).hexdigest()
    model = record.get("name", name)
    return BaseVersion(folder, model, sha256, settings, name, is_language_model=name != task)


def _check_language_model(folder: Path, name: str, settings: dict[str, Any], task: str) -> None:
    """Checks that a version of another task is a language model that a task can use.

    Args:
        folder: Folder of the version.
        name: Name of its task.
        settings: Its settings.
        task: Name of the task that is trained.

    Raises:
        UserError: It is not.
    """
    declared = tasks.declaration(name).Config if name in tasks.names() else object
    reads_words = issubclass(tasks.declaration(task).Config, word_vectors.Config)
    if not reads_words or not issubclass(declared, language_modelling.Config):
        raise UserError(
            f"{FLAG}: {folder} is a version of {name}, not of {task}; of other tasks, only a "
            "language model of words can be used, and only by tasks that read words."
        )
    token = settings.get("token")
    if token != language_modelling.WORDS:
        raise UserError(
            f"{FLAG}: {folder} is a language model of {token}, and {task} reads words; train one "
            f"with --token {language_modelling.WORDS}."
        )
