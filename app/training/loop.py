"""The one place where a model is fitted, watched and resumed, on one device or on several.

A strategy of TensorFlow's makes a replica of the model on each device. Keras's own `fit`
needs batches that fall into equal parts, clips the gradients of each replica by itself, and
fails on several machines; so the loop is here, for one device as for many, with Keras's
model, loss, metrics, optimizer and callbacks. Each replica has its share of the rows of a
batch, what it finds is weighed by what it counts for in the batch, and all of them take the
same step: the one that a single device would take.
"""

import collections
import errno
import gc
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from app.training import distribution
from app.training.batches import Batches, Share
from app.training.example_cache import EncodedExamples, origins
from app.training.run_state import Progress, Run
from tasks.core.errors import UserError
from tasks.core.examples import Splits
from tasks.core.task import Config, Task, ValidationSample

_COUNTED = 2**16  # tokens of a batch that is only counted
_SUM = tf.distribute.ReduceOp.SUM


def fit(
    task: Task,
    train: EncodedExamples,
    valid: EncodedExamples,
    run: Run,
    splits: Splits,
    strategy: tf.distribute.Strategy | None = None,
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
        strategy: What `clusters.strategy_of` gave; None for one device.

    Returns:
        The model with the weights of the best epoch, and how it came to them.

    Raises:
        UserError: The loss is no number any more, or no batch fits into the memory.
    """
    strategy = strategy or distribution.strategy_of("none")
    tokens = run.progress().tokens or task.config.batch_tokens
    while True:
        try:
            return _fit(task, train, valid, run, splits, strategy, tokens)
        except tf.errors.ResourceExhaustedError as error:
            if os.strerror(errno.ENOSPC) in str(error):  # TensorFlow's word for that, too
                raise
            if distribution.is_cluster(strategy) or tokens == 1:
                raise UserError(f"out of memory with --batch-tokens {tokens}; lower it.") from error
        tokens //= 2
        print(
            f"out of memory: going on with --batch-tokens {tokens} from the last epoch", flush=True
        )
        gc.collect()  # a model refers to itself, and its memory is wanted now


def _fit(task, train, valid, run, splits, strategy, tokens):
    """`fit` with batches within a budget of `tokens`."""
    config = task.config
    keras.utils.set_random_seed(config.seed)
    with strategy.scope():
        model = task.build()
        optimizer = _optimizer(config)
        task.compile(model, optimizer)
        optimizer.build(model.trainable_variables)
    batches = Batches(train, tokens, config.seed, config.buffer)
    watched = Batches(valid, tokens, buffer=config.buffer)
    machines = strategy.num_replicas_in_sync if distribution.is_cluster(strategy) else 1
    _check_memory(model, batches, tokens, machines)
    progress = run.progress()
    progress.tokens = tokens if tokens != config.batch_tokens else 0
    kept = run.arrays()
    if kept:
        _assign(model.variables, kept["model"])
        _assign(optimizer.variables, kept["optimizer"])
    else:
        task.adapt(model, Batches(train, max(tokens, _COUNTED), buffer=config.buffer).one_pass())
    average = _Average(model, optimizer, config.ema_momentum)
    if kept:
        _assign(average.values, kept.get("average", []))
    best = kept.get("best", _values(model.trainable_variables))
    watch = task.validation_sampler(model, splits.valid)
    if watch and distribution.is_cluster(strategy):
        watch = distribution.broadcast_from_chief(watch, strategy)
    chief = distribution.is_chief(strategy)
    keeper = _Keeper(run if chief else None, progress, config, task.monitor, average, watch, best)
    if not progress.ended(config):
        steps = config.steps_per_epoch or batches.steps
        first = progress.epoch * steps

        def sources(epoch: int, step: int) -> str:
            return _places(origins(task, splits.train, batches.rows(epoch * steps + step)))

        callbacks = keras.callbacks.CallbackList(
            [_Finite(sources), keeper, average, *(_logs(run.folder) if chief else [])],
            add_progbar=chief,
            model=model,
            verbose=1 if sys.stdout.isatty() else 2,
            epochs=config.epochs,
            steps=steps,
        )
        learnt = _fed(strategy, lambda share: batches.to_learn(task, first, share))
        judged = _fed(strategy, lambda share: watched.to_watch(task, share))
        epochs = range(progress.epoch, config.epochs)
        _loop(model, strategy, epochs, (learnt, steps), (judged, watched.steps), callbacks)
    _assign(model.trainable_variables, keeper.best)
    return model, progress


# --- Steps, on all devices at once -------------------------------------------


def _fed(
    strategy: tf.distribute.Strategy, dataset: Callable[[Share], tf.data.Dataset]
) -> Iterator[tuple]:
    """What the replicas on this machine are fed: for each its share of every batch."""

    def here(context: tf.distribute.InputContext) -> tf.data.Dataset:
        count = context.num_replicas_in_sync
        each = count // context.num_input_pipelines
        first = each * context.input_pipeline_id
        return dataset(Share(range(first, first + each), count))

    return iter(strategy.distribute_datasets_from_function(here))


def _loop(
    model: keras.Model,
    strategy: tf.distribute.Strategy,
    epochs: range,
    train: tuple[Iterator, int],
    valid: tuple[Iterator, int],
    callbacks: keras.callbacks.CallbackList,
) -> None:
    """What `fit` does: epochs of learning and judging, until a callback stops it.

    Args:
        model: The compiled model.
        strategy: That it was built by.
        epochs: Which.
        train: What to learn from, and how many batches of it are an epoch.
        valid: What to judge by, likewise.
        callbacks: What is told of it all.
    """
    learn, judge = _steps(model, strategy)
    model.stop_training = False
    callbacks.on_train_begin()
    for epoch in epochs:
        callbacks.on_epoch_begin(epoch)
        begun, done = callbacks.on_train_batch_begin, callbacks.on_train_batch_end
        logs = _pass(model, learn, *train, begun, done)
        callbacks.on_test_begin()
        begun, done = callbacks.on_test_batch_begin, callbacks.on_test_batch_end
        judged = _pass(model, judge, *valid, begun, done)
        callbacks.on_test_end(judged)
        logs |= {f"val_{name}": figure for name, figure in judged.items()}
        callbacks.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    callbacks.on_train_end(logs)


def _pass(model, step, batches, count, begun, done) -> dict[str, tf.Tensor]:
    """Takes `count` steps, and returns the figures of them together."""
    model.reset_metrics()
    for number in range(count):
        begun(number)
        logs = step(batches)
        done(number, logs)
    return logs


def _steps(model: keras.Model, strategy: tf.distribute.Strategy) -> tuple[Callable, Callable]:
    """How a batch is learnt from, and how one is judged.

    Returns:
        Two functions, each of what `_fed` gives, that return the figures so far.
    """
    whole = next(metric for metric in model.metrics if metric.name == "loss")
    reduction = model.loss.reduction

    def seen(batch, training):
        """A replica's part of the loss of the batch, and what `told` wants to know."""
        examples, rows = batch
        x, y, weight = keras.utils.unpack_x_y_sample_weight(examples)
        outputs = model(x, training=training)
        loss = model.compute_loss(x, y, outputs, weight, training=training)
        # The loss is a mean, over as much as counts here; and Keras has divided it by the
        # number of replicas, as if that were as much everywhere.
        counts = tf.cast(rows, tf.float32)
        there = tf.cast(rows > 0, tf.float32)
        if weight is not None and reduction == "mean_with_sample_weight":
            counts = tf.reduce_sum(weight) * there
        all_counts = tf.distribute.get_replica_context().all_reduce(_SUM, counts)
        share = tf.math.divide_no_nan(counts, all_counts) * strategy.num_replicas_in_sync
        weight = tf.fill(tf.shape(y)[:1], there) if weight is None else weight * there
        return loss * share, (rows, x, y, outputs, weight)

    def told(loss, rows, x, y, outputs, weight):
        """Counts what was found into the figures; `loss` is that of the whole batch."""
        whole.update_state(loss, sample_weight=rows)
        model.compute_metrics(x, y, outputs, weight)

    def learn(batch):
        with tf.GradientTape() as tape:
            loss, found = seen(batch, training=True)
            scaled = model.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, model.trainable_variables)
        context = tf.distribute.get_replica_context()
        loss, *gradients = context.all_reduce(_SUM, [loss, *gradients])
        model.optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        told(loss, *found)

    def judge(batch):
        loss, found = seen(batch, training=False)
        told(tf.distribute.get_replica_context().all_reduce(_SUM, loss), *found)

    def everywhere(step):
        @tf.function(autograph=False, reduce_retracing=True)
        def run(batches):
            strategy.run(step, args=(batches.get_next(),))
            return model.get_metrics_result()  # of all replicas, for it is asked outside of them

        return run

    return everywhere(learn), everywhere(judge)


class _Adam(keras.optimizers.Adam):
    """Adam that is given gradients which are sums over all replicas already.

    Keras's own sums them itself, after it has clipped those of each replica.
    """

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return grads_and_vars


# --- Memory and faults -------------------------------------------------------


def _check_memory(model: keras.Model, batches: Batches, tokens: int, machines: int) -> None:
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
        sum(_bytes(output, -(-rows // machines), time) for output in outputs)
        for rows, time in batches.shapes()
    )
    if needed > _memory():
        raise UserError(
            f"--batch-tokens {tokens}: a batch needs at least {needed / 2**30:,.1f} GiB of memory, "
            f"but only {_memory() / 2**30:,.1f} GiB are available; lower it."
        )


def _bytes(output, rows: int, time: int) -> int:
    """The size of what a layer gives, which may have several dimensions that share the time."""
    known = [size for size in output.shape[1:] if size is not None]
    steps = time if None in output.shape[1:] else 1
    return rows * steps * math.prod(known) * tf.as_dtype(output.dtype).size


def _memory() -> int:
    """The bytes that there are for this process: the machine's, or those of its container."""
    if not hasattr(os, "sysconf"):  # Windows
        return sys.maxsize
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
    adam = _Adam(
        config.learning_rate,
        global_clipnorm=config.clip_norm or None,
        clipvalue=config.clip_value or None,
        name="adam",
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
                f"--learning-rate or --clip-norm. {self._epoch} finished epochs are kept.\n"
                f"That batch was made of {self._sources(self._epoch, batch)}"
            )

    def on_epoch_end(self, epoch, logs=None):
        if not math.isfinite(logs["val_loss"]):
            raise UserError(
                f"the loss on valid is {logs['val_loss']} after epoch {epoch + 1}: lower "
                f"--learning-rate or --clip-norm. {epoch} finished epochs are kept."
            )


class _Keeper(keras.callbacks.Callback):
    """Keeps the whole state after each epoch, the best epoch with it, and stops in time.

    Keras's own callbacks for this forget what was best, and for how long there
    was nothing better, when training goes on in a new process.
    """

    def __init__(
        self,
        run: Run | None,
        progress: Progress,
        config: Config,
        monitor: str,
        average: _Average,
        watch: Callable[[], ValidationSample] | None,
        best: list[np.ndarray],
    ):
        super().__init__()
        self._run, self._progress, self._config = run, progress, config
        self._chosen_by, self._average, self._watch = monitor, average, watch
        self._sign = 1 if monitor.endswith("loss") else -1
        self.best = best

    def on_epoch_begin(self, epoch, logs=None):
        self._started = time.monotonic()

    def on_test_end(self, logs=None):
        # What is judged here may be the average of the weights, which stands in for them
        # only while validation runs.
        self._judged = _values(self.model.trainable_variables)
        self._watched = self._watch() if self._watch else ValidationSample({}, ())

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
        if self._run:  # that of the chief
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
