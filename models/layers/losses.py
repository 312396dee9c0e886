"""What training lessens and watches where a network answers each step of a sequence.

Shapes: B batch, T time, V classes.
"""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="gated")
class SmoothedCrossEntropy(keras.losses.Loss):
    """Cross-entropy of ids (B, T) under logits (B, T, V), in part against the uniform distribution.

    Args:
        smoothing: That part (Szegedy et al. 2016, sec. 7); 0 is plain cross-entropy.
    """

    def __init__(
        self, smoothing: float = 0.0, reduction="mean_with_sample_weight", name="cross_entropy",
        dtype=None,
    ):  # fmt: skip
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if not 0.0 <= smoothing < 1.0:
            raise ValueError(f"smoothing must be at least 0 and below 1, got {smoothing!r}.")
        self.smoothing = smoothing

    def call(self, y_true, y_pred):
        logs = ops.log_softmax(y_pred)
        ids = ops.cast(y_true, "int32")[..., None]
        right = ops.take_along_axis(logs, ids, axis=-1)[..., 0]
        if not self.smoothing:
            return -right
        return -(1.0 - self.smoothing) * right - self.smoothing * ops.mean(logs, axis=-1)

    def get_config(self):
        return {**super().get_config(), "smoothing": self.smoothing}


@keras.saving.register_keras_serializable(package="gated")
class StepAccuracy(keras.metrics.Mean):
    """The share of steps whose largest logit is that of the right class.

    Keras's own accuracy takes the mean of each sequence first, over all its steps, so
    that of batches padded to different lengths the shorter count for more.
    """

    def update_state(self, y_true, y_pred, sample_weight=None):
        right = ops.equal(ops.argmax(y_pred, axis=-1), ops.cast(y_true, "int32"))
        weights = None if sample_weight is None else ops.reshape(sample_weight, (-1,))
        super().update_state(ops.reshape(right, (-1,)), weights)
