"""The one place where a model is fitted, watched and resumed."""

import collections
import errno
import gc
import math
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from app.batching import Batches, Encoded, origins
from app.runs import Progress, Run
from tasks import UserError
from tasks.corpora import Splits
from tasks.shapes.task import Config, Task, Watched


def fit(
    task: Task, train: Encoded, valid: Encoded, run: Run, splits: Splits
) -> tuple[keras.Model, Progress]:
    """Trains the task's model as far as its config says, from where `run` stands.

    Where the memory does not hold a batch, training goes on with batches of half the
    size from the last finished epoch.

    Args:
        task: The task; it knows its config.
        train: The examples to learn from.
        valid: The examples that say which epoch is the best.
        run: Where the state is kept after each epoch.
        splits: The examples as they are written.

    Returns:
        The model with the weights of the best epoch, and how it came to them.

    Raises:
        UserError: The loss is no number any more, or no batch fits into the memory.
    """
    tokens = run.progress().tokens or task.config.tokens
    while True:
        try:
            return _fit(task, train, valid, run, splits, tokens)
        except tf.errors.ResourceExhaustedError as error:
            if os.strerror(errno.ENOSPC) in str(error):  # TensorFlow's word for that, too
                raise
            if tokens == 1:
                raise UserError("out of memory with one example a batch.") from error
        tokens //= 2
        print(f"out of memory: going on with --tokens {tokens} from the last epoch", flush=True)
        gc.collect()  # a model refers to itself, and its memory is wanted now


def _fit(task, train, valid, run, splits, tokens):
    """`fit` with batches within a budget of `tokens`."""
    config = task.config
    keras.utils.set_random_seed(config.seed)
    model = task.build()
    optimizer = _optimizer(config)
    task.compile(model, optimizer)
    optimizer.build(model.trainable_variables)
    batches, watched = Batches(train, tokens, config.seed), Batches(valid, tokens)
    _check_memory(model, batches, tokens)
    progress = run.progress()
    progress.tokens = tokens if tokens != config.tokens else 0
    kept = run.arrays()
    if kept:
        _assign(model.variables, kept["model"])
        _assign(optimizer.variables, kept["optimizer"])
    else:
        task.adapt(model, Batches(train, tokens).one_pass())
    average = _Average(model, optimizer, config.averaging)
    if kept:
        _assign(average.values, kept.get("average", []))
    best = kept.get("best", _values(model.trainable_variables))
    watch = task.watcher(model, splits.valid)
    keeper = _Keeper(run, progress, config, task.chosen_by, average, watch, best)
    if not progress.ended(config):
        steps = config.steps_per_epoch or batches.steps

        def sources(epoch: int, step: int) -> str:
            return _places(origins(task, splits.train, batches.rows(epoch * steps + step)))

        model.fit(
            batches.to_learn(task, first=progress.epoch * steps),
            steps_per_epoch=steps,
            initial_epoch=progress.epoch,
            epochs=config.epochs,
            validation_data=watched.to_watch(task),
            validation_steps=watched.steps,
            shuffle=False,  # the batches come in their order
            callbacks=[_Finite(sources), keeper, average, *_logs(run.folder)],
            verbose=1 if sys.stdout.isatty() else 2,
        )
    _assign(model.trainable_variables, keeper.best)
    return model, progress


def _check_memory(model: keras.Model, batches: Batches, tokens: int) -> None:
    """Holds the budget against the memory of a machine that kills what asks for more.

    What the layers give is kept until gradients are taken, so a batch needs that much at
    least. A GPU says itself when it has no more.

    Raises:
        UserError: The largest batch would not fit.
    """
    if tf.config.get_visible_devices("GPU"):
        return
    outputs = [each for layer in model.layers for each in keras.tree.flatten(layer.output)]
    needed = max(
        sum(_bytes(output, rows, time) for output in outputs) for rows, time in batches.shapes()
    )
    if needed > _memory():
        raise UserError(
            f"--tokens {tokens}: a batch needs {needed / 2**30:,.1f} GiB of memory at least, and "
            f"here are {_memory() / 2**30:,.1f}; lower it."
        )


def _bytes(output, rows: int, time: int) -> int:
    """The size of what a layer gives, which may have several dimensions that share the time."""
    known = [size for size in output.shape[1:] if size is not None]
    steps = time if None in output.shape[1:] else 1
    return rows * steps * math.prod(known) * tf.as_dtype(output.dtype).size


def _memory() -> int:
    """The bytes that there are for this process: the machine's, or those of its container."""
    bytes_ = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = Path("/sys/fs/cgroup/memory.max")  # a number, or the word max
    told = limit.read_text().strip() if limit.exists() else ""
    return min(bytes_, int(told)) if told.isdigit() else bytes_


def _places(origins: Iterable[str]) -> str:
    """Where examples came from, the lines of a file together: a.tsv:3, 7; b.tsv:1."""
    lines = collections.defaultdict(list)
    for origin in origins:
        file, _, line = origin.rpartition(":")
        lines[file if line.isdigit() else origin] += [line] if line.isdigit() else []
    return "; ".join(f"{file}:{', '.join(some)}" if some else file for file, some in lines.items())


def _optimizer(config: Config) -> keras.optimizers.Optimizer:
    adam = keras.optimizers.Adam(
        config.rate,
        global_clipnorm=config.clip_norm or None,
        clipvalue=config.clip_value or None,
    )
    if config.precision == "mixed_float16":
        return keras.optimizers.LossScaleOptimizer(adam)
    return adam


def _logs(folder: Path) -> list[keras.callbacks.Callback]:
    return [keras.callbacks.TensorBoard(folder / "tensorboard", write_graph=False)]


class _Average(keras.callbacks.Callback):
    """Keeps a moving average of the weights, which stands in for them while validation runs.

    The momentum grows from 2/11 with the steps taken, as that of TensorFlow's
    `ExponentialMovingAverage` does, so that a short run has no part of the weights it
    began with; the optimizer's own average is of one momentum throughout.
    """

    def __init__(self, model, optimizer, momentum: float):
        super().__init__()
        self._weights, self._optimizer, self._momentum = (
            model.trainable_variables,
            optimizer,
            momentum,
        )
        averaged = self._weights if momentum else []
        self.values = [tf.Variable(weight, trainable=False) for weight in averaged]
        self._move = tf.function(self._moved)

    def _moved(self):
        steps = tf.cast(self._optimizer.iterations, tf.float32)
        momentum = tf.minimum(self._momentum, (1.0 + steps) / (10.0 + steps))
        for value, weight in zip(self.values, self._weights, strict=True):
            part = tf.cast(1.0 - momentum, value.dtype)
            value.assign_add(part * (tf.convert_to_tensor(weight) - value))

    def on_train_batch_end(self, batch, logs=None):
        if self.values:
            self._move()

    def on_test_begin(self, logs=None):
        self._swap()

    def on_test_end(self, logs=None):
        self._swap()

    def _swap(self):
        weights = self._weights[: len(self.values)]
        taken = _values(weights)
        _assign(weights, _values(self.values))
        _assign(self.values, taken)


class _Finite(keras.callbacks.Callback):
    """Stops when the loss is no number any more, before that is kept.

    Args:
        sources: Says of an epoch and a step, counted from 0, what its batch was made of.
    """

    def __init__(self, sources: Callable[[int, int], str]):
        super().__init__()
        self._sources = sources

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if not math.isfinite(logs["loss"]):
            raise UserError(
                f"the loss is {logs['loss']} in epoch {self._epoch + 1}, step {batch + 1}: lower "
                f"--rate or --clip-norm. {self._epoch} finished epochs are kept.\n"
                f"That batch was made of {self._sources(self._epoch, batch)}"
            )

    def on_epoch_end(self, epoch, logs=None):
        if not math.isfinite(logs["val_loss"]):
            raise UserError(
                f"the loss on valid is {logs['val_loss']} after epoch {epoch + 1}: lower --rate "
                f"or --clip-norm. {epoch} finished epochs are kept."
            )


class _Keeper(keras.callbacks.Callback):
    """Keeps the whole state after each epoch, the best epoch with it, and stops in time.

    Keras's own callbacks for this forget what was best, and for how long there
    was nothing better, when training goes on in a new process.
    """

    def __init__(
        self,
        run: Run,
        progress: Progress,
        config: Config,
        chosen_by: str,
        average: _Average,
        watch: Callable[[], Watched] | None,
        best: list[np.ndarray],
    ):
        super().__init__()
        self._run, self._progress, self._config = run, progress, config
        self._chosen_by, self._average, self._watch = chosen_by, average, watch
        self._sign = 1 if chosen_by.endswith("loss") else -1
        self.best = best

    def on_epoch_begin(self, epoch, logs=None):
        self._started = time.monotonic()

    def on_test_end(self, logs=None):
        # What is judged here may be the average of the weights, which stands in for them
        # only while validation runs.
        self._judged = _values(self.model.trainable_variables)
        self._watched = self._watch() if self._watch else Watched({}, ())

    def on_epoch_end(self, epoch, logs=None):
        logs.update(self._watched.figures)
        print(*self._watched.lines, sep="\n", end="\n" if self._watched.lines else "", flush=True)
        progress, seconds = self._progress, time.monotonic() - self._started
        progress.epoch = epoch + 1
        progress.seconds += seconds
        progress.history.append(
            {
                "epoch": epoch + 1,
                **{key: round(float(value), 6) for key, value in logs.items()},
                "seconds": round(seconds, 2),
            }
        )
        figure = self._sign * float(logs[self._chosen_by])
        if figure < progress.best:
            progress.best, progress.best_epoch = figure, epoch + 1
            progress.wait = 0
            self.best = self._judged
        else:
            progress.wait += 1
        progress.published = []
        self._run.save(
            progress,
            {
                "model": _values(self.model.variables),
                "optimizer": _values(self.model.optimizer.variables),
                "average": _values(self._average.values),
                "best": self.best,
            },
        )
        self.model.stop_training = progress.ended(self._config)


def _values(variables) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def _assign(variables, values) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
