"""Optimizers of the training loop and schedules of their learning rate."""

import math
from typing import Any

import keras
from keras import ops

from tasks.core.config import Config


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate that grows linearly from 0, then stays, or falls to 0.

    Args:
        learning_rate: The largest learning rate.
        shape: After warm-up: "constant", "linear", or "cosine" (Loshchilov & Hutter 2017,
            without restarts).
        warmup_steps: Steps in which it grows.
        steps: All steps, at the end of which it is 0 unless it is constant.
    """

    def __init__(self, learning_rate: float, shape: str, warmup_steps: int, steps: int):
        self.learning_rate, self.shape = learning_rate, shape
        self.warmup_steps, self.steps = warmup_steps, steps

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32")
        warmup = ops.minimum(1.0, (step + 1.0) / max(1, self.warmup_steps))
        rest = max(1, self.steps - self.warmup_steps)
        progress = ops.clip((step - self.warmup_steps) / rest, 0.0, 1.0)
        factor = 1.0
        if self.shape == "linear":
            factor = 1.0 - progress
        elif self.shape == "cosine":
            factor = 0.5 * (1.0 + ops.cos(math.pi * progress))
        return self.learning_rate * warmup * factor

    def get_config(self) -> dict[str, float | int | str]:
        return {
            "learning_rate": self.learning_rate,
            "shape": self.shape,
            "warmup_steps": self.warmup_steps,
            "steps": self.steps,
        }


def optimizer_of(config: Config, steps: int) -> keras.optimizers.Optimizer:
    """Returns the optimizer of a config, which takes gradients summed over all replicas.

    Args:
        config: The settings of a task. The schedule "plateau" starts with a constant rate, which
            `app.training.callbacks.Checkpoint` lowers.
        steps: Steps of all epochs, over which the learning rate changes.
    """
    learning_rate = config.learning_rate
    if config.schedule in ("linear", "cosine") or config.warmup_steps:
        learning_rate = Schedule(learning_rate, config.schedule, config.warmup_steps, steps)
    optimizer_class = {
        "adam": _Adam,
        "adamw": _AdamW,
        "sgd": _SGD,
        "schedule_free": _ScheduleFree,
    }[config.optimizer]
    options = {"weight_decay": config.weight_decay} if config.weight_decay else {}
    if config.optimizer == "adamw":
        options = {"weight_decay": config.weight_decay}  # whose default is not 0
    if config.optimizer == "sgd":
        options |= {"momentum": 0.9, "nesterov": True}
    optimizer = optimizer_class(
        learning_rate,
        global_clipnorm=config.clip_norm or None,
        clipvalue=config.clip_value or None,
        name=config.optimizer,
        **options,
    )
    if config.precision == "mixed_float16":
        return keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


class _SummedGradients:
    """An optimizer for gradients that the loop has already summed over all replicas.

    Keras's own sum them themselves, after they have clipped those of each replica.
    """

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return grads_and_vars


class _Adam(_SummedGradients, keras.optimizers.Adam):
    pass


class _AdamW(_SummedGradients, keras.optimizers.AdamW):
    pass


class _SGD(_SummedGradients, keras.optimizers.SGD):
    pass


class _ScheduleFree(_SummedGradients, keras.optimizers.ScheduleFreeAdamW):
    pass
