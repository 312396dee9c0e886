"""Entities in batches of tags, in core TensorFlow ops: borders, and tags of another scheme.

Shapes: N tokens of all sentences, one after the other; K tags.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from .entities import OUTSIDE, complete_tags, split_tag, types_of, written_tag

_PREFIXES = (OUTSIDE, "B", "I", "E", "S")


class TagReader:
    """Reads entities in ids of tags of any scheme, by the rules of `models.text.entities`.

    Args:
        tags: The K tags.

    Attributes:
        types: Types of entities, in alphabetical order.

    Example:
        >>> reader = TagReader(["B-PER", "I-PER", "O"])
        >>> first, last, types = reader.borders(tf.constant([1, 1, 2, 0]), tf.zeros(4, tf.int32))
        >>> first.numpy().tolist(), last.numpy().tolist(), types.numpy().tolist()
        ([True, False, False, True], [False, True, False, True], [0, 0, -1, 0])
    """

    def __init__(self, tags: Sequence[str]):
        self.types = types_of(tags)
        pairs = [split_tag(tag) for tag in tags]
        # The last entry is that of the id -1, an unknown tag.
        self._prefixes = np.array([*(_PREFIXES.index(p) for p, _ in pairs), 0], np.int32)
        self._types = np.array(
            [*(self.types.index(t) if t else -1 for _, t in pairs), -1], np.int32
        )

    def borders(self, ids: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns whether an entity begins and ends at each token, and its type.

        Args:
            ids: Ids of the tags, (N,) int32; -1 is outside of entities.
            rows: Sentence of each token, (N,), ascending.

        Returns:
            (N,) bool, (N,) bool, and indices of `types`, (N,) int32, -1 outside of entities.
        """
        ids = tf.where(ids < 0, len(self._prefixes) - 1, ids)
        prefixes, types = tf.gather(self._prefixes, ids), tf.gather(self._types, ids)
        in_entity = prefixes > 0
        same_row = tf.concat([tf.zeros_like(rows[:1], tf.bool), rows[1:] == rows[:-1]], 0)
        before = tf.where(same_row, _shifted(prefixes), 0)
        type_before = tf.where(same_row, _shifted(types), -1)
        closed = (before == 0) | (before >= 3)  # O, E or S
        first = in_entity & ((prefixes == 1) | (prefixes == 4) | closed | (types != type_before))
        goes_on = in_entity & ~first  # the token continues the entity of the token before it
        last = in_entity & ~tf.concat([goes_on[1:], tf.zeros_like(goes_on[:1])], 0)
        return first, last, types


class SchemeConverter:
    """Converts ids of tags to those of another scheme; the result is well formed.

    Args:
        tags: The K tags.
        target: Tags of the other scheme, which are complete for the types of `tags`.
        scheme: Name of the other scheme.
    """

    def __init__(self, tags: Sequence[str], target: Sequence[str], scheme: str):
        self._reader = TagReader(tags)
        target = list(target)
        self._outside = target.index(OUTSIDE)
        flags = list(itertools.product((False, True), repeat=3))
        self._table = np.array(
            [
                target.index(written_tag(type_, scheme, first=first, last=last, adjacent=adjacent))
                for type_ in self._reader.types
                for first, last, adjacent in flags
            ],
            np.int32,
        )

    def convert(self, ids: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """Returns the ids of the tags of the same entities, (N,) int32.

        Args:
            ids: Ids of the tags, (N,) int32; -1 is outside of entities.
            rows: Sentence of each token, (N,), ascending.
        """
        first, last, types = self._reader.borders(ids, rows)
        adjacent = first & (types == _shifted(types)) & (rows == _shifted(rows))
        adjacent &= tf.range(tf.size(ids)) > 0
        kind = 4 * tf.cast(first, tf.int32) + 2 * tf.cast(last, tf.int32)
        kind += tf.cast(adjacent, tf.int32)
        converted = tf.gather(self._table, 8 * tf.maximum(types, 0) + kind)
        return tf.where(types >= 0, converted, self._outside)


def converted_alone(tags: Sequence[str], scheme: str) -> list[str]:
    """Returns the tag of another scheme for each tag, as far as it does not depend on others.

    In IO and IOB1 all tags of a type have the same.
    """
    result = []
    for tag in tags:
        prefix, type_ = split_tag(tag)
        if prefix == OUTSIDE:
            result.append(OUTSIDE)
            continue
        kinds = {"first": prefix in "BS", "last": prefix in "ES"}
        result.append(written_tag(type_, scheme, **kinds, adjacent=False))
    return result


def reported_tags(tags: Sequence[str], scheme: str) -> list[str]:
    """Returns all tags of a scheme for the types of entities of other tags."""
    return complete_tags(types_of(tags), scheme)


def _shifted(values: tf.Tensor) -> tf.Tensor:
    """Returns the values one step later; the first is repeated."""
    return tf.concat([values[:1], values[:-1]], 0)
