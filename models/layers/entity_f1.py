"""F1 of entities as a metric of Keras.

Shapes: B batch, T time, K tags.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from ..cells.cell import Tensor
from ..text.entities import OUTSIDE, split_tag
from .crf import CRF

_PREFIXES = (OUTSIDE, "B", "I", "E", "S")


@keras.saving.register_keras_serializable(package="gated")
class EntityF1(keras.metrics.Metric):
    """Micro-averaged F1 of entities, as `models.text.entities` counts them in tags.

    Steps of weight 0 are outside of entities.

    Args:
        tags: The K tags.
        crf: CRF layer of the model, which decodes the tags; None takes the largest logit.
        name: Name of the metric.
        dtype: Dtype of the metric, as in `keras.metrics.Metric`.

    Raises:
        ValueError: A metric with `crf` is restored from a config.
    """

    def __init__(
        self,
        tags: Sequence[str],
        crf: CRF | None = None,
        name: str = "entity_f1",
        dtype: str | None = None,
    ):
        super().__init__(name=name, dtype=dtype)
        self.tags = list(tags)
        self._decode = crf.decode if crf else None
        self._name_of_crf = getattr(crf, "name", type(crf).__name__) if crf else None
        pairs = [split_tag(tag) for tag in self.tags]
        types = sorted({type_ for _, type_ in pairs})
        self._prefixes = np.array([_PREFIXES.index(prefix) for prefix, _ in pairs], "int32")
        self._types = np.array([types.index(type_) for _, type_ in pairs], "int32")
        self.correct, self.occurrences = (
            self.add_weight(name=counts, shape=(), initializer="zeros")
            for counts in ("correct", "occurrences")
        )

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        """Counts entities.

        Args:
            y_true: Indices of the correct tags, (B, T).
            y_pred: Logits, (B, T, K).
            sample_weight: Weights (B, T).
        """
        mask = None if sample_weight is None else ops.not_equal(sample_weight, 0)
        if self._decode:
            predicted, _ = self._decode(ops.copy(y_pred), mask)
        else:
            predicted = ops.argmax(y_pred, axis=-1)
        reference, prediction = (
            self._spans(ops.cast(ids, "int32"), mask) for ids in (y_true, predicted)
        )
        # An entity is correct if one of the same type begins and ends with it.
        same = ops.equal(reference["start"], prediction["start"])
        same = ops.logical_and(same, ops.equal(reference["type"], prediction["type"]))
        ends = ops.logical_and(reference["ends"], prediction["ends"])
        correct = ops.logical_and(same, ends)
        for counts, values in (
            (self.correct, [correct]),
            (self.occurrences, [reference["ends"], prediction["ends"]]),
        ):
            for marks in values:
                counts.assign(counts + ops.sum(ops.cast(marks, counts.dtype)))

    def _spans(self, ids: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
        """Returns whether an entity ends at each step, its first step and its type, each (B, T)."""
        prefix, type_ = ops.take(self._prefixes, ids), ops.take(self._types, ids)
        if mask is not None:
            prefix, type_ = ops.where(mask, prefix, 0), ops.where(mask, type_, 0)
        before, type_before = (ops.pad(x, [[0, 0], [1, 0]])[:, :-1] for x in (prefix, type_))
        is_entity = prefix > 0
        closed = ops.logical_or(before == 0, before >= 3)  # O, E or S
        begins = ops.logical_or(prefix == 1, prefix == 4)
        begins = ops.logical_or(begins, ops.logical_or(closed, type_before != type_))
        begins = ops.logical_and(is_entity, begins)
        begins_next = ops.pad(begins, [[0, 0], [0, 1]], constant_values=True)[:, 1:]
        entity_next = ops.pad(is_entity, [[0, 0], [0, 1]], constant_values=False)[:, 1:]
        last = ops.logical_or(begins_next, ops.logical_not(entity_next))
        steps = ops.arange(ops.shape(ids)[1])
        marked = ops.where(begins, steps, -1)  # (B, T)
        until = ops.where(steps[None, :] <= steps[:, None], marked[:, None, :], -1)
        start = ops.max(until, axis=-1, initial=-1)  # there may be no steps
        return {"ends": ops.logical_and(is_entity, last), "start": start, "type": type_}

    def get_config(self) -> dict[str, Any]:
        config = {"tags": self.tags, "name": self.name, "dtype": self.dtype}
        return config if self._name_of_crf is None else {**config, "crf": self._name_of_crf}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "EntityF1":
        if "crf" in config:
            raise ValueError(
                "EntityF1 cannot be restored from a file, as it refers to the layer "
                f"{config['crf']!r}: load the model with compile=False and compile it with "
                "EntityF1(tags, that layer)."
            )
        return cls(**config)

    def result(self) -> Tensor:
        return 2 * self.correct / ops.maximum(self.occurrences, 1e-7)
