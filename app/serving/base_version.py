"""The published version that a training continues from, found and read without TensorFlow."""

import dataclasses
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from app.serving import versions
from models import manifest
from tasks.core.errors import UserError
from tasks.core.settings import from_record, with_defaults

FLAG = "--from"
_RATE_FACTOR = 0.1  # of the learning rate, so that what was learnt is not lost
# Settings that are not continued: what belongs to one training only.
_NOT_CONTINUED = ("learning_rate", "ensemble", "distill", "class_weights", "vectors_licence")


@dataclasses.dataclass(frozen=True)
class BaseVersion:
    """A published version that a training continues from.

    Attributes:
        folder: Folder of the version.
        model: Name under which it was published.
        sha256: Checksum of its manifest, which identifies it.
        settings: Its settings by name, as recorded.
    """

    folder: Path
    model: str
    sha256: str
    settings: dict[str, Any]

    def record(self) -> dict[str, str]:
        """Returns the entry of `run.json`."""
        return {"version": f"{self.model}/{self.folder.name}", "manifest_sha256": self.sha256}

    def config_class(self, config_class: type) -> type:
        """Returns a dataclass of settings whose defaults are the settings of the version.

        The learning rate is a tenth of that of the version. Settings that follow from the size of
        a corpus follow from that of the new one.

        Args:
            config_class: The dataclass of the task's settings.

        Raises:
            UserError: The version cannot be continued.
        """
        config = from_record(config_class, self.settings)
        if getattr(config, "vectors", ""):
            raise UserError(
                f"{FLAG}: {self.folder} was trained with --vectors, whose vocabulary cannot be "
                "extended; choose a version without them."
            )
        defaults = {
            field.name: getattr(config, field.name)
            for field in dataclasses.fields(config_class)
            if field.name not in _NOT_CONTINUED and not field.metadata["auto"]
        }
        rate = config.learning_rate * _RATE_FACTOR
        return with_defaults(config_class, **defaults, learning_rate=float(f"{rate:.6g}"))


def find(value: str, task: str, saved_models: Path, model: str | None = None) -> BaseVersion:
    """Returns the version that a value of the flag names.

    Args:
        value: Number of a version of the model, model and number such as "films/2", or the path
            of a version's folder.
        task: Name of the task.
        saved_models: Folder of the published models.
        model: Name of the model that is trained; None for that of the task.

    Raises:
        UserError: There is no such version, it is damaged, or it is of another task.
    """
    if value.isascii() and value.isdigit():
        model = model or task
        if model != task and not versions.numbers(saved_models / model):
            raise UserError(
                f"{FLAG} {value} is a version of {model}, which has none yet; name the other "
                f"model, too, such as {task}/{value}."
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
        raise UserError(f"{FLAG}: {folder} is a version of {name}, not of {task}.")
    sha256 = hashlib.sha256((folder / manifest.PLACE).read_bytes()).hexdigest()
    return BaseVersion(folder, record.get("name", task), sha256, settings)
