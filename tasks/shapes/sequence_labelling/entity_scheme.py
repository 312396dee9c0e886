"""The scheme of tags that mark entities: the one of the data, and the one that is trained.

A network whose tags mark entities is trained on tags of BIOES, whatever the scheme of the data
is, and on well-formed ones, because those of the data are read as `conlleval` reads them. Its
responses have the scheme of the data.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from models.text import entities
from models.text.entity_tags import SchemeConverter, converted_alone
from tasks.core.direction import FORWARD
from tasks.core.errors import UserError
from tasks.shapes.sequence_labelling.settings import AUTO, NO_SCHEME, SAME_SCHEME, Config

_FILE = "scheme.json"  # only if tags are converted
_MAX_NAMED = 5  # tags in a message


def learn(
    config: Config, pairs: Mapping[tuple[str, str], int], folder: Path
) -> tuple[list[str], list[str]]:
    """Finds the scheme of the training part, and writes it to `folder` if tags are converted.

    Args:
        config: The settings.
        pairs: Counts of neighbouring tags, as for `models.text.entities.find_scheme`.
        folder: Folder of the assets.

    Returns:
        The tags that the network is trained on, and those of the data.

    Raises:
        UserError: The tags are not those of the scheme, or a setting needs one.
    """
    tags = sorted({tag for pair in pairs for tag in pair if tag})
    name = _scheme_of(config, pairs, tags)
    if config.monitor == "entity_f1" and not name:
        raise UserError(
            "--monitor entity_f1 needs tags of entities, O and such as B-PER and I-PER, but "
            f"the train part has {tags[:_MAX_NAMED]}."
        )
    is_converted = config.constrain or config.train_scheme != SAME_SCHEME
    if config.direction == FORWARD and not config.constrain:
        is_converted = False  # because ill-formed tags are repaired by those that follow
    if not name or not is_converted:
        return tags, tags
    trained = name if config.train_scheme == SAME_SCHEME else config.train_scheme
    record = {
        "scheme": name,
        "trained": trained,
        "ill_formed": entities.count_ill_formed(pairs, name),
    }
    (folder / _FILE).write_text(json.dumps(record, indent=2), encoding="utf-8")
    types = entities.types_of(tags)
    return entities.complete_tags(types, trained), entities.complete_tags(types, name)


def _scheme_of(
    config: Config, pairs: Mapping[tuple[str, str], int], tags: Sequence[str]
) -> str | None:
    if config.scheme == AUTO:
        return entities.find_scheme(pairs)
    if config.scheme == NO_SCHEME:
        return None
    allowed = entities.complete_tags(entities.types_of(tags), config.scheme)
    others = [tag for tag in tags if tag not in allowed]
    if others or len(allowed) == 1:
        expected = entities.complete_tags(["PER"], config.scheme)
        raise UserError(
            f"--scheme {config.scheme}: the train part must have tags such as {expected}, got "
            f"{(others or tags)[:_MAX_NAMED]}."
        )
    return config.scheme


def is_learnt(config: Config, folder: Path, tags: Sequence[str]) -> bool:
    """Returns whether the tags of assets mark entities."""
    return bool((folder / _FILE).exists() or _unconverted(config, tags))


def _unconverted(config: Config, tags: Sequence[str]) -> str | None:
    """Returns the scheme of tags that are trained as they are."""
    if config.scheme == AUTO:
        return entities.scheme(tags)
    return None if config.scheme == NO_SCHEME else config.scheme


class EntityScheme(tf.Module):
    """The scheme of a tagger.

    Use `restore` to create one.

    Attributes:
        scheme_name: Name of the scheme of the data; None if tags do not mark entities.
        converts: Whether the network has other tags than responses, or repairs theirs.
        reported: Tags of the data, which responses have.
        reported_alone: For each tag of the network the one that responses have, as far as it does
            not depend on neighbours.
        reported_as_same: Whether two tags of the network are the same in responses, (K, K) bool.
        constraints: Which sequences of the network's tags are well formed; None for all.
        remarks: What was decided, in sentences.
    """

    @classmethod
    def restore(cls, folder: Path, config: Config, tags: Sequence[str]) -> "EntityScheme":
        """Returns the scheme whose assets are in `folder`.

        Args:
            folder: Folder of the assets.
            config: The settings.
            tags: Tags of the network.
        """
        path = folder / _FILE
        if not path.exists():
            name = _unconverted(config, tags)
            scheme = cls(name, tags)
            if name and config.direction == FORWARD:
                scheme.remarks = (
                    f"tags mark entities ({name}); a network that reads forward and without "
                    "constraints is trained on them, and returns them, unchanged (--direction, "
                    "--constrain)",
                )
            return scheme
        scheme = cls(constrain=config.constrain, tags=tags, **json.loads(path.read_text("utf-8")))
        scheme._file = tf.saved_model.Asset(str(path))
        return scheme

    def __init__(
        self,
        scheme: str | None,
        tags: Sequence[str],
        trained: str | None = None,
        ill_formed: int = 0,
        constrain: bool = False,
    ):
        super().__init__()
        self.scheme_name, self.converts = scheme, trained is not None
        self.reported = self.reported_alone = tuple(tags)
        self.constraints, self.remarks = None, ()
        if not self.converts:
            return
        self.reported = tuple(entities.complete_tags(entities.types_of(tags), scheme))
        self.reported_alone = tuple(converted_alone(tags, scheme))
        alone = np.array(self.reported_alone)
        self.reported_as_same = alone[:, None] == alone
        self._to_trained = SchemeConverter(self.reported, tags, trained)
        self._to_reported = SchemeConverter(tags, self.reported, scheme)
        self._reported_after = _reported_after(tags, self.reported, scheme, trained)
        if constrain:
            self.constraints = entities.constraints(tags, trained)
        self.remarks = (_remark(scheme, trained, ill_formed, constrain),)

    def to_trained(self, ids: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """Returns the network's ids of tags of the data; see `SchemeConverter.convert`.

        An unknown tag, -1, remains one.
        """
        return tf.where(ids < 0, -1, self._to_trained.convert(ids, rows))

    def to_reported(self, ids: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """Returns the indices of `reported` of ids of the network, which may be ill-formed."""
        return self._to_reported.convert(ids, rows)

    def to_reported_one_by_one(
        self, ids: tf.Tensor, mask: tf.Tensor, before: tf.Tensor
    ) -> tf.Tensor:
        """Returns the indices of `reported` of tags, each by itself and the one before.

        This is enough if the tags are well formed, as decoding with constraints makes them.

        Args:
            ids: Ids of the network, (B, T) int32.
            mask: (B, T) bool, true at valid steps, which have no others between them.
            before: The id before the first valid one of each row, -1 for none, (B,) int32.
        """
        previous = tf.where(mask, ids, before[:, None])
        previous = tf.concat([before[:, None], previous], axis=1)[:, :-1]
        return tf.gather_nd(self._reported_after, tf.stack([previous + 1, ids], axis=-1))


def _reported_after(
    tags: Sequence[str], reported: Sequence[str], scheme: str, trained: str
) -> np.ndarray:
    """Returns the index of the reported tag for each tag after none and after each, (K + 1, K)."""
    table = np.zeros((len(tags) + 1, len(tags)), np.int32)
    for row, before in enumerate(["", *tags]):
        for column, tag in enumerate(tags):
            written = tag
            if scheme != trained and tag != entities.OUTSIDE:
                prefix, type_ = entities.split_tag(tag)
                first = prefix in ("B", "S")
                adjacent = first and before[:2] in ("E-", "S-") and before[2:] == type_
                last = prefix in ("E", "S")
                written = entities.written_tag(
                    type_, scheme, first=first, last=last, adjacent=adjacent
                )
            table[row, column] = reported.index(written)
    return table


def ids_of(tags: tf.Tensor, choices: Sequence[str]) -> tf.Tensor:
    """Returns the index of each tag (N,) among a few choices, int32, and -1 for others."""
    equal = tf.cast(tags[:, None] == tf.constant(choices), tf.int32)
    return tf.where(tf.reduce_any(equal > 0, 1), tf.argmax(equal, 1, tf.int32), -1)


def _remark(scheme: str, trained: str, ill_formed: int, constrain: bool) -> str:
    text = f"tags mark entities ({scheme})"
    if trained != scheme:
        text += f", which are trained in {trained}"
    if constrain:
        text += " and decoded as well-formed sequences"
    if ill_formed:
        text += (
            f"; {ill_formed} pairs of neighbours in the train part are ill-formed, and are read as "
            "conlleval reads them"
        )
    return f"{text} (--scheme, --train-scheme, --constrain)"
