"""Losses and metrics for predictions of a step or of a text.

Shapes: B batch, T time, V classes; A annotations, with V logits together.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from ..cells.cell import Tensor


@keras.saving.register_keras_serializable(package="gated")
class SmoothedCrossEntropy(keras.losses.Loss):
    """Cross-entropy of ids (B, T) under logits (B, T, V), with label smoothing.

    Args:
        smoothing: Share of the target that is spread evenly over all classes (Szegedy et
            al. 2016, sec. 7), at least 0 and below 1; 0 is plain cross-entropy.
        reduction: Reduction over steps, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the loss, as in `keras.losses.Loss`.

    Raises:
        ValueError: `smoothing` is out of range.
    """

    def __init__(
        self,
        smoothing: float = 0.0,
        reduction: str = "mean_with_sample_weight",
        name: str = "cross_entropy",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if not 0.0 <= smoothing < 1.0:
            raise ValueError(f"smoothing must be at least 0 and below 1, got {smoothing!r}.")
        self.smoothing = smoothing

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        log_probabilities = ops.log_softmax(y_pred)
        ids = ops.cast(y_true, "int32")[..., None]
        log_likelihood = ops.take_along_axis(log_probabilities, ids, axis=-1)[..., 0]
        if not self.smoothing:
            return -log_likelihood
        uniform = ops.mean(log_probabilities, axis=-1)
        return -(1.0 - self.smoothing) * log_likelihood - self.smoothing * uniform

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "smoothing": self.smoothing}


@keras.saving.register_keras_serializable(package="gated")
class OutputLoss(keras.losses.Loss):
    """Loss of a network that returns the losses of its steps, (B, T), whatever the targets.

    Args:
        reduction: Reduction over steps, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the loss, as in `keras.losses.Loss`.
    """

    def __init__(
        self,
        reduction: str = "mean_with_sample_weight",
        name: str = "output_loss",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return y_pred


@keras.saving.register_keras_serializable(package="gated")
class ScaledHuber(keras.losses.Loss):
    """Huber loss of values (B, 1), measured in units of a scale.

    Errors of up to one unit are squared, larger ones count in proportion, so that outliers do
    not dominate. With the standard deviation of the values as the scale, the loss and its
    gradients do not depend on their unit.

    Args:
        scale: The unit, above 0.
        reduction: Reduction over rows, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the loss, as in `keras.losses.Loss`.
    """

    def __init__(
        self,
        scale: float,
        reduction: str = "sum_over_batch_size",
        name: str = "huber",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.scale = scale

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        error = ops.abs(y_pred - ops.cast(y_true, y_pred.dtype)) / self.scale
        return ops.mean(ops.where(error <= 1, error * error / 2, error - 0.5), axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale": self.scale}


@keras.saving.register_keras_serializable(package="gated")
class StepAccuracy(keras.metrics.Mean):
    """Share of steps whose largest logit is that of the target class, weighted by step.

    The accuracy of Keras first averages over the steps of each sequence. In batches padded
    to different lengths, the steps of shorter batches would then count for more.
    """

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        correct = ops.equal(ops.argmax(y_pred, axis=-1), ops.cast(y_true, "int32"))
        weights = None if sample_weight is None else ops.reshape(sample_weight, (-1,))
        super().update_state(ops.reshape(correct, (-1,)), weights)


@keras.saving.register_keras_serializable(package="gated")
class JointCrossEntropy(keras.losses.Loss):
    """Sum of the cross-entropies of A annotations under their logits, side by side.

    Args:
        sizes: Number of logits of each annotation, which sum up to V.
        smoothing: Label smoothing, as in `SmoothedCrossEntropy`.
        reduction: Reduction over steps, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the loss, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Ids (B, T, A); an id of -1 is unknown and adds nothing.
        y_pred: Logits (B, T, V).
    """

    def __init__(
        self,
        sizes: Sequence[int],
        smoothing: float = 0.0,
        reduction: str = "mean_with_sample_weight",
        name: str = "cross_entropy",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.sizes = list(sizes)
        self._single = SmoothedCrossEntropy(smoothing)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        ids = ops.cast(y_true, "int32")
        losses = []
        for index, logits in enumerate(split_logits(y_pred, self.sizes)):
            own = ids[..., index]
            loss = self._single.call(ops.maximum(own, 0), logits)
            losses.append(ops.where(own < 0, 0.0, loss))
        return sum(losses[1:], start=losses[0])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "sizes": self.sizes, "smoothing": self._single.smoothing}


@keras.saving.register_keras_serializable(package="gated")
class JointAccuracy(keras.metrics.Mean):
    """Share of steps of which all annotations, or one of them, have the largest logit.

    An unknown id, -1, is predicted by no network and counts as wrong.

    Args:
        sizes: Number of logits of each annotation.
        annotation: Index of the annotation; None for all.
        name: Name of the metric.
        dtype: Dtype of the metric, as in `keras.metrics.Metric`.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        annotation: int | None = None,
        name: str = "accuracy",
        dtype: str | None = None,
    ):
        super().__init__(name=name, dtype=dtype)
        self.sizes, self.annotation = list(sizes), annotation

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        """Counts the steps of ids (B, T, A) and logits (B, T, V), with weights (B, T)."""
        predicted = [ops.argmax(logits, -1) for logits in split_logits(y_pred, self.sizes)]
        correct = ops.equal(ops.stack(predicted, -1), ops.cast(y_true, predicted[0].dtype))
        if self.annotation is None:
            correct = ops.all(correct, axis=-1)
        else:
            correct = correct[..., self.annotation]
        weights = None if sample_weight is None else ops.reshape(sample_weight, (-1,))
        super().update_state(ops.reshape(correct, (-1,)), weights)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "sizes": self.sizes, "annotation": self.annotation}


def split_logits(logits: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Returns the logits of each annotation (..., size) of those side by side (..., V)."""
    ends = list(itertools.accumulate(sizes))
    return [logits[..., end - size : end] for size, end in zip(sizes, ends, strict=True)]
