"""Annotations of words that one network predicts: one, or several at once.

Examples with several have each by its name, such as a column of CoNLL-U, next to `tags`, which is
the first. The network has a head for each, and a response an output.
"""

import collections
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow as tf

from models.text.edit_scripts import EditScripts, is_edit_script
from models.text.words import Vocabulary
from tasks.core.class_weights import NONE
from tasks.core.direction import FORWARD
from tasks.core.errors import UserError
from tasks.shapes.sequence_labelling.settings import AUTO, MONITORED, NO_SCHEME, Config

FIRST = "tags"  # key of the first annotation in examples and responses
_FILE = "annotations.json"  # only with several annotations
_MONITORS = ("accuracy", "loss")  # beside those of single annotations


class Annotation(tf.Module):
    """One of several annotations.

    Args:
        name: Its name.
        path: File of its tags.
        majority: Its most frequent tag in the train part.

    Attributes:
        tags: Vocabulary of the tags.
        edit_scripts: The scripts of lemmas; None if the tags are not scripts.
    """

    def __init__(self, name: str, path: Path, majority: str):
        super().__init__(name=name)
        self.tags, self.majority = Vocabulary(path, first=0), majority
        is_lemmas = all(map(is_edit_script, self.tags.words))
        self.edit_scripts = EditScripts(self.tags.words) if is_lemmas else None

    def values(self, ids: tf.Tensor, words: tf.Tensor) -> tf.Tensor:
        """Returns the values of responses, (N,) strings: tags, or lemmas.

        Args:
            ids: Ids of the tags, (N,) int32.
            words: (N,) strings.
        """
        return self.edit_scripts.apply(ids, words) if self.edit_scripts else self.tags.decode(ids)


def names_of(values: Mapping) -> tuple[str, ...]:
    """Returns the names of the annotations of an example: `tags` if there is only one."""
    return tuple(key for key in values if key not in ("tokens", FIRST)) or (FIRST,)


def check(config: Config, names: Sequence[str]) -> None:
    """Checks that the settings fit the annotations of the train part.

    Raises:
        UserError: A setting is for one annotation only, or monitors one that is not there.
    """
    if len(names) == 1:
        if config.monitor in MONITORED:
            raise UserError(
                f"--monitor {config.monitor} needs several annotations, such as --tags upos,feats."
            )
        return
    conflicts = {
        "--crf": config.crf,
        f"--direction {FORWARD}": config.direction == FORWARD,
        f"--scheme {config.scheme}": config.scheme not in (AUTO, NO_SCHEME),
        f"--class-weights {config.class_weights}": config.class_weights != NONE,
        f"--ensemble {config.ensemble}": config.ensemble > 1,
    }
    for flag, is_given in conflicts.items():
        if is_given:
            raise UserError(
                f"{flag} cannot be combined with several annotations (--tags {','.join(names)})."
            )
    monitors = [*_MONITORS, *(f"{name}_accuracy" for name in names)]
    if config.monitor and config.monitor not in monitors:
        raise UserError(
            f"--monitor must be one of {monitors} with --tags {','.join(names)}, got "
            f"{config.monitor!r}."
        )


def is_learnt(folder: Path) -> bool:
    """Returns whether the assets in a folder are those of several annotations."""
    return (folder / _FILE).exists()


def reject_continuing(*folders: Path) -> None:
    """Checks that a task that is continued, and its continuation, have a single annotation.

    Args:
        *folders: Folders of their assets.

    Raises:
        UserError: One of them has several.
    """
    if any(map(is_learnt, folders)):
        raise UserError("--from cannot be combined with several annotations (--tags).")


def write(folder: Path, counts: Mapping[str, collections.Counter[str]], first: str) -> None:
    """Writes the tags of several annotations.

    Args:
        folder: Folder of the assets.
        counts: Counts of tags by the name of their annotation.
        first: Name of the file of the first.
    """
    majorities = {
        name: min(own, key=lambda tag, own=own: (-own[tag], tag)) for name, own in counts.items()
    }
    (folder / _FILE).write_text(json.dumps(majorities, indent=2), encoding="utf-8")
    for name, path in _paths(folder, list(counts), first).items():
        Vocabulary.write(path, sorted(counts[name]))


def restore(folder: Path, first: str) -> tuple[Sequence[Annotation], tf.saved_model.Asset | None]:
    """Returns several annotations, or none for a single one; and the asset that names them."""
    if not is_learnt(folder):
        return (), None
    path = folder / _FILE
    majorities = json.loads(path.read_text(encoding="utf-8"))
    paths = _paths(folder, list(majorities), first)
    restored = [Annotation(name, paths[name], majority) for name, majority in majorities.items()]
    return restored, tf.saved_model.Asset(str(path))


def _paths(folder: Path, names: Sequence[str], first: str) -> dict[str, Path]:
    """Returns the files of tags by annotation."""
    return {
        name: folder / (f"{FIRST}-{name}.txt" if number else first)
        for number, name in enumerate(names)
    }
