"""Callbacks of the training loop: checkpoints, non-finite losses, averaged weights."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from app.core.console import ProgressLog, say
from app.training.run_state import Progress, Run
from tasks.core.errors import UserError
from tasks.core.evaluation import lower_is_better
from tasks.core.task import Config, ValidationSample

_RECENT = 3  # epochs whose mean duration is expected of the further ones
_PLATEAU_FACTOR = 0.5  # of the learning rate, after an epoch without improvement


def to_arrays(variables: Iterable[keras.Variable | tf.Variable]) -> list[np.ndarray]:
    """Returns copies of the values of variables."""
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def assign(variables: Sequence[keras.Variable | tf.Variable], arrays: Sequence[np.ndarray]) -> None:
    """Assigns an array to each variable.

    Raises:
        ValueError: There are more variables than arrays, or fewer.
    """
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


class WeightAverage(keras.callbacks.Callback):
    """Exponential moving average of the weights, which replaces them during validation.

    The momentum grows from 2/11 with the number of steps, as in TensorFlow's
    `ExponentialMovingAverage`, so that a short run does not average in its initial weights.
    The average of Keras's optimizers has the same momentum throughout.

    Args:
        model: The network.
        optimizer: Its optimizer, which counts the steps.
        momentum: Limit of the momentum; 0 disables averaging.

    Attributes:
        values: The averages; empty if averaging is disabled.
    """

    def __init__(self, model: keras.Model, optimizer: keras.optimizers.Optimizer, momentum: float):
        super().__init__()
        self._weights = model.trainable_variables if momentum else []
        self._optimizer, self._momentum = optimizer, momentum
        self.values = [tf.Variable(weight, trainable=False) for weight in self._weights]
        self._update = tf.function(self._updated, autograph=False)

    def _updated(self):
        steps = tf.cast(self._optimizer.iterations, tf.float32)
        momentum = tf.minimum(self._momentum, (1.0 + steps) / (10.0 + steps))
        for value, weight in zip(self.values, self._weights, strict=True):
            rate = tf.cast(1.0 - momentum, value.dtype)
            value.assign_add(rate * (tf.convert_to_tensor(weight) - value))

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self.values:
            self._update()

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._swap()

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        self._swap()

    def _swap(self):
        weights = to_arrays(self._weights)
        assign(self._weights, to_arrays(self.values))
        assign(self.values, weights)


class StopOnNonFinite(keras.callbacks.Callback):
    """Stops training at a loss that is not a finite number, before the state is saved.

    Args:
        origins: Returns the origins of the examples of a batch, given its epoch and its step,
            both counted from 0.
    """

    def __init__(self, origins: Callable[[int, int], str]):
        super().__init__()
        self._origins = origins

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if not math.isfinite(logs["loss"]):
            raise UserError(
                f"the loss is {logs['loss']} in epoch {self._epoch + 1}, step {batch + 1}: lower "
                f"--learning-rate or --clip-norm. {self._epoch} finished epochs are kept.\n"
                f"Examples of that batch: {self._origins(self._epoch, batch)}"
            )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if not math.isfinite(logs["val_loss"]):
            raise UserError(
                f"the validation loss is {logs['val_loss']} after epoch {epoch + 1}: lower "
                f"--learning-rate or --clip-norm. {epoch} finished epochs are kept."
            )


class Checkpoint(keras.callbacks.Callback):
    """Saves the complete state after each epoch, and stops training as the config says.

    Keras's own callbacks for this forget the best epoch, and the number of epochs since,
    when training resumes in a new process. In the list of callbacks it must come before
    `WeightAverage`, so that it sees the weights that were validated.

    Args:
        run: The run that keeps the state; None in a process that is not the chief.
        progress: Progress of the run, which is updated.
        config: Settings that decide when training stops.
        monitor: Name of the metric that selects the best epoch: the lowest value of a loss or
            an error, the highest of any other metric. Of equal epochs, the lowest validation loss.
        average: The averaged weights, which are part of the state.
        sample: Returns figures and lines to print after each epoch; None for neither.
        best: Weights of the best epoch so far.

    Attributes:
        best: Weights of the best epoch so far.
    """

    def __init__(
        self,
        run: Run | None,
        progress: Progress,
        config: Config,
        monitor: str,
        average: WeightAverage,
        sample: Callable[[], ValidationSample] | None,
        best: list[np.ndarray],
    ):
        super().__init__()
        self._run, self._progress, self._config = run, progress, config
        self._monitor, self._average, self._sample_model = monitor, average, sample
        self._sign = 1 if lower_is_better(monitor) else -1
        self.best = best

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._started = time.monotonic()

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        # Averaged weights replace the trained ones only during validation.
        self._validated = to_arrays(self.model.trainable_variables)
        self._sample = self._sample_model() if self._sample_model else ValidationSample({}, ())

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs.update(self._sample.figures)
        for line in self._sample.lines:
            print(line, flush=True)
        self._update_progress(epoch, logs)
        if self._run:
            self._run.save(
                self._progress,
                {
                    "model": to_arrays(self.model.variables),
                    "optimizer": to_arrays(self.model.optimizer.variables),
                    "average": to_arrays(self._average.values),
                    "best": self.best,
                },
            )
        self.model.stop_training = self._progress.ended(self._config)

    def _update_progress(self, epoch, logs):
        progress, seconds = self._progress, time.monotonic() - self._started
        progress.epoch = epoch + 1
        progress.seconds += seconds
        progress.history.append(
            {
                "epoch": epoch + 1,
                **{name: round(float(value), 6) for name, value in logs.items()},
                "seconds": round(seconds, 2),
            }
        )
        score = self._sign * float(logs[self._monitor])
        if score < progress.best or (score == progress.best and progress.has_lowest_loss()):
            progress.best, progress.best_epoch = score, epoch + 1
            progress.wait = 0
            self.best = self._validated
        else:
            progress.wait += 1
            if self._config.schedule == "plateau":
                rate = self.model.optimizer.learning_rate
                rate.assign(rate * _PLATEAU_FACTOR)
        progress.published = []


class BatchLog(keras.callbacks.Callback):
    """Prints the progress of an epoch to a log, a line each minute, next to that of each epoch.

    Args:
        epochs: Most epochs of the run.
        steps: Steps of an epoch.
    """

    def __init__(self, epochs: int, steps: int):
        super().__init__()
        self._epochs, self._steps = epochs, steps

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._log = ProgressLog(f"epoch {epoch + 1} of {self._epochs}", self._steps, "steps")

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._log.count_one()


class TimeLeft(keras.callbacks.Callback):
    """Prints after each epoch how long training may still take, and at its end why it stopped.

    Args:
        progress: Progress of the run, updated before.
        config: Settings that decide when training stops.
        monitor: Name of the metric that selects the best epoch.
    """

    def __init__(self, progress: Progress, config: Config, monitor: str):
        super().__init__()
        self._progress, self._config, self._monitor = progress, config, monitor

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        say(self.sentence())

    def sentence(self) -> str:
        """Returns the time left, or the reason for the end."""
        progress, config = self._progress, self._config
        if progress.wait >= config.patience:
            return (
                f"stopped after epoch {progress.epoch}: {self._monitor} has not improved for "
                f"{progress.wait} epochs (--patience {config.patience}); the best epoch is "
                f"{progress.best_epoch}"
            )
        if progress.epoch >= config.epochs:
            return f"stopped after epoch {progress.epoch}: --epochs is {config.epochs}"
        # The first epoch also builds graphs.
        recent = [entry["seconds"] for entry in progress.history[1:] or progress.history][-_RECENT:]
        seconds, count = sum(recent) / len(recent), config.epochs - progress.epoch
        limit = f"at most {duration(seconds * count)} left for {_epochs(count)}"
        soonest = config.patience - progress.wait
        if soonest < count:
            limit += (
                f", {duration(seconds * soonest)} if {self._monitor} does not improve for {soonest}"
            )
        return limit


def _epochs(count: int) -> str:
    return "one more epoch" if count == 1 else f"{count} more epochs"


def duration(seconds: float) -> str:
    """Returns a duration for people.

    >>> duration(44.6), duration(3000), duration(9000)
    ('45 s', '50 min', '2 h 30 min')
    """
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
