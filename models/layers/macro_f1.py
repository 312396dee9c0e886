"""F1 of classes and of labels as metrics of Keras.

Shapes: B batch, T time, K classes.
"""

from typing import Any

import keras
from keras import ops

from ..cells.cell import Tensor


@keras.saving.register_keras_serializable(package="gated")
class MacroF1(keras.metrics.Metric):
    """Mean F1 over the classes that occur, of the largest logit: `compile(weighted_metrics=[...])`.

    The metric of Keras takes classes as one-hot vectors; this one takes them as indices, and
    steps as rows. Replicas sum their counts.

    Args:
        classes: K.
        name: Name of the metric.
        dtype: Dtype of the metric, as in `keras.metrics.Metric`.
    """

    def __init__(self, classes: int, name: str = "macro_f1", dtype: str | None = None):
        super().__init__(name=name, dtype=dtype)
        self.classes = classes
        self.correct, self.references, self.predictions = (
            self.add_weight(name=counts, shape=(classes,), initializer="zeros")
            for counts in ("correct", "references", "predictions")
        )

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        """Counts predictions.

        Args:
            y_true: Indices of the correct classes, (B,) or (B, T).
            y_pred: Logits, (B, K) or (B, T, K).
            sample_weight: Weights (B,) or (B, T); rows and steps of weight 0 do not count.
        """
        references = ops.one_hot(ops.reshape(ops.cast(y_true, "int32"), (-1,)), self.classes)
        predictions = ops.one_hot(ops.reshape(ops.argmax(y_pred, axis=-1), (-1,)), self.classes)
        if sample_weight is not None:
            weights = ops.reshape(ops.cast(sample_weight, references.dtype), (-1, 1))
            references, predictions = references * weights, predictions * weights
        correct = references * ops.cast(predictions > 0, references.dtype)
        for counts, values in (
            (self.correct, correct),
            (self.references, references),
            (self.predictions, predictions),
        ):
            counts.assign(counts + ops.cast(ops.sum(values, axis=0), counts.dtype))

    def result(self) -> Tensor:
        occurrences = self.references + self.predictions
        f1 = 2 * self.correct / ops.maximum(occurrences, 1e-7)
        occurring = ops.sum(ops.cast(occurrences > 0, f1.dtype))
        return ops.sum(f1) / ops.maximum(occurring, 1.0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "classes": self.classes}


@keras.saving.register_keras_serializable(package="gated")
class LabelF1(keras.metrics.Metric):
    """F1 of K labels, of which a row may have several; those with a logit above 0 are predicted.

    The metric of Keras takes probabilities, and makes its weights in the first batch, which a
    distribution strategy does not allow. Replicas sum their counts.

    Args:
        labels: K.
        average: "micro" counts the decisions on all labels together; "macro" is the mean over
            the labels that occur.
        name: Name of the metric.
        dtype: Dtype of the metric, as in `keras.metrics.Metric`.
    """

    def __init__(
        self, labels: int, average: str = "micro", name: str = "f1", dtype: str | None = None
    ):
        super().__init__(name=name, dtype=dtype)
        if average not in ("micro", "macro"):
            raise ValueError(f"average must be 'micro' or 'macro', got {average!r}.")
        self.labels, self.average = labels, average
        self.correct, self.occurrences = (
            self.add_weight(name=counts, shape=(labels,), initializer="zeros")
            for counts in ("correct", "occurrences")
        )

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        """Counts decisions.

        Args:
            y_true: 1 for the labels of a row, 0 for others, (B, K).
            y_pred: Logits, (B, K).
            sample_weight: Weights (B,); rows of weight 0 do not count.
        """
        references = ops.cast(y_true, self.dtype)
        predictions = ops.cast(y_pred > 0, self.dtype)
        if sample_weight is not None:
            weights = ops.reshape(ops.cast(sample_weight, self.dtype), (-1, 1))
            references, predictions = references * weights, predictions * weights
        correct = references * ops.cast(predictions > 0, self.dtype)
        self.correct.assign(self.correct + ops.sum(correct, axis=0))
        self.occurrences.assign(self.occurrences + ops.sum(references + predictions, axis=0))

    def result(self) -> Tensor:
        if self.average == "micro":
            return 2 * ops.sum(self.correct) / ops.maximum(ops.sum(self.occurrences), 1e-7)
        f1 = 2 * self.correct / ops.maximum(self.occurrences, 1e-7)
        occurring = ops.sum(ops.cast(self.occurrences > 0, f1.dtype))
        return ops.sum(f1) / ops.maximum(occurring, 1.0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "labels": self.labels, "average": self.average}
