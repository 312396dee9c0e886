"""The training loop: steps on one device or several, validation, resuming.

A distribution strategy of TensorFlow makes a replica of the model on each device. Keras's own
`fit` needs batches that divide evenly, clips the gradients of each replica separately, and
fails on several machines. Therefore the loop is written here, with Keras's model, loss,
metrics, optimizer and callbacks. Each replica gets its share of the rows of a batch, its loss
is weighted by its part of the batch, and all replicas take the same step: the one that a
single device would take.
"""

import dataclasses
import errno
import gc
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import keras
import tensorflow as tf

from app.core.console import say
from app.training import distribution, memory, tuning
from app.training.batches import Batches, Share
from app.training.callbacks import (
    BatchLog,
    Checkpoint,
    StopOnNonFinite,
    TimeLeft,
    WeightAverage,
    assign,
    to_arrays,
)
from app.training.continuation import InitialWeights
from app.training.example_cache import EncodedExamples, origins
from app.training.optimizers import optimizer_of
from app.training.run_state import Progress, Run
from models.cells.tuning import layers_of
from tasks.core.errors import UserError
from tasks.core.examples import Splits
from tasks.core.task import Config, Task

_ADAPT_TOKENS = 2**16  # token budget of batches that `Task.adapt` counts
_SUM = tf.distribute.ReduceOp.SUM


@dataclasses.dataclass(frozen=True)
class RecurrentOptions:
    """How recurrent layers run in training; results differ by rounding only.

    Attributes:
        tune: Whether a new run times the implementations of its layers and has them run the
            fastest, instead of those that a rule selects.
        checkpoint_every: Number of steps whose values are computed again at a time in the backward
            pass, so that training takes less memory; None keeps the values of all steps.
    """

    tune: bool = False
    checkpoint_every: int | None = None


BY_RULE = RecurrentOptions()


def fit(
    task: Task,
    train: EncodedExamples,
    valid: EncodedExamples,
    run: Run,
    splits: Splits,
    strategy: tf.distribute.Strategy | None = None,
    teacher: keras.Model | None = None,
    start: InitialWeights | None = None,
    number: int = 0,
    recurrent: RecurrentOptions = BY_RULE,
) -> tuple[keras.Model, Progress]:
    """Trains the model of a task until its config says so, from the state of a run.

    If a batch does not fit into the memory of a GPU, training continues from the last finished
    epoch with half the token budget.

    Args:
        task: The task, with its config.
        train: Encoded examples of the training part.
        valid: Encoded examples of the validation part, which select the best epoch.
        run: The run that keeps the state after each epoch.
        splits: The examples before encoding.
        strategy: Strategy from `distribution.strategy_of`; None for one device.
        teacher: Model whose predictions replace the targets in training; None for none.
        start: Weights that a new network starts from; None for those that its seed gives.
        number: Number of the network in an ensemble, from 0.
        recurrent: How recurrent layers run.

    Returns:
        The model with the weights of the best epoch and those of `Task.fit_on_valid`, and the
        progress of the run.

    Raises:
        UserError: The loss is not a finite number, or no batch fits into memory.
    """
    strategy = strategy or distribution.strategy_of("none")
    tokens = run.progress().tokens or task.config.batch_tokens
    while True:
        try:
            return _fit(
                task, train, valid, run, splits, strategy, tokens, teacher, start, number, recurrent
            )
        except tf.errors.ResourceExhaustedError as error:
            if os.strerror(errno.ENOSPC) in str(error):  # the same class reports a full disk
                raise
            if tokens == 1:
                raise UserError(
                    "out of memory with --batch-tokens 1: a single example does not fit. Lower "
                    "--units, --layers or the length of the examples."
                ) from error
            if distribution.is_cluster(strategy):
                raise UserError(
                    f"out of memory with --batch-tokens {tokens}; lower --batch-tokens."
                ) from error
        tokens //= 2
        say(f"out of memory: continuing from the last finished epoch with --batch-tokens {tokens}")
        gc.collect()  # a model refers to itself, and its memory is needed now


def _fit(task, train, valid, run, splits, strategy, tokens, teacher, start, number, recurrent):
    """Does what `fit` does, with one token budget."""
    config = task.config
    train_batches = Batches(train, tokens, config.seed, config.buffer)
    valid_batches = Batches(valid, tokens, buffer=config.buffer)
    steps = config.steps_per_epoch or train_batches.steps
    model = build(task, strategy, steps * config.epochs, start)
    machines = strategy.num_replicas_in_sync if distribution.is_cluster(strategy) else 1
    memory.check(model, train_batches, tokens, machines)
    progress = run.progress()
    progress.tokens = tokens if tokens != config.batch_tokens else 0
    state = run.arrays()
    if state:
        assign(model.variables, state["model"])
        assign(model.optimizer.variables, state["optimizer"])
    else:
        _initialise(task, model, train, valid, tokens, start, number)
        if recurrent.tune and not recurrent.checkpoint_every:
            progress.implementations = tuning.choose(
                task, model, train_batches, steps * config.epochs
            )
    tuning.apply(model, progress.implementations)
    for layer in layers_of(model).values():
        layer.checkpoint_every = recurrent.checkpoint_every
    average = WeightAverage(model, model.optimizer, config.ema_momentum)
    if state:
        assign(average.values, state.get("average", []))
    best = state.get("best", to_arrays(model.trainable_variables))
    sample = task.validation_sampler(model, splits.valid)
    if sample and distribution.is_cluster(strategy):
        sample = distribution.broadcast_from_chief(sample, strategy)
    is_chief = distribution.is_chief(strategy)
    checkpoint = Checkpoint(
        run if is_chief else None, progress, config, task.monitor, average, sample, best
    )
    if not progress.ended(config):

        def batch_origins(epoch: int, step: int) -> str:
            rows = train_batches.rows(epoch * steps + step)
            return _by_file(origins(task, splits.train, rows))

        # In this order: weights are copied before the averages are swapped back.
        callbacks = [StopOnNonFinite(batch_origins), checkpoint, average]
        log_folder = run.folder if is_chief else None
        time_left = TimeLeft(progress, config, task.monitor)
        callbacks = _callback_list(callbacks, model, config, steps, log_folder, time_left)
        first = progress.epoch * steps
        learning = distribute(strategy, lambda s: train_batches.training_dataset(task, first, s))
        validation = distribute(strategy, lambda s: valid_batches.validation_dataset(task, s))
        _run_epochs(
            task,
            model,
            strategy,
            range(progress.epoch, config.epochs),
            (learning, steps),
            (validation, valid_batches.steps),
            callbacks,
            teacher,
        )
    assign(model.trainable_variables, checkpoint.best)
    task.fit_on_valid(model, valid_batches)
    return model, progress


def _initialise(task, model, train, valid, tokens, start, number):
    """Assigns the weights of a new network that follow from the data or from another network."""
    budget = max(tokens, _ADAPT_TOKENS)
    parts = (Batches(part, budget, buffer=task.config.buffer) for part in (train, valid))
    task.adapt(model, *parts)
    if start:
        start.initialise(task, model, number)


def validate(
    task: Task, model: keras.Model, batches: Batches, strategy: tf.distribute.Strategy
) -> dict[str, float]:
    """Returns the loss and the metrics of a trained model on the validation part, by name.

    Args:
        task: The task, which compiles the model.
        model: A model for training, or an ensemble of them.
        batches: Batches of the validation part.
        strategy: Strategy that the model was built with.
    """
    with strategy.scope():
        task.compile(model, keras.optimizers.SGD())
    data = distribute(strategy, lambda share: batches.validation_dataset(task, share))
    _, validation_step = make_steps(task, model, strategy)
    model.reset_metrics()
    for _ in range(batches.steps):
        logs = validation_step(data)
    return {name: float(value) for name, value in logs.items()}


def build(
    task: Task, strategy: tf.distribute.Strategy, steps: int, start: InitialWeights | None
) -> keras.Model:
    """Returns the network for training, compiled, with the weights that the seed gives.

    Args:
        task: The task.
        strategy: Strategy that the model is built with.
        steps: Steps of all epochs, over which the learning rate changes.
        start: Weights that it will start from, with layers that stay as they are.

    Raises:
        UserError: The weights do not fit into memory.
    """
    keras.utils.set_random_seed(task.config.seed)
    try:
        with strategy.scope():
            model = task.build()
            if start:
                start.freeze_layers(model)
            optimizer = optimizer_of(task.config, steps)
            task.compile(model, optimizer)
            optimizer.build(model.trainable_variables)
    except tf.errors.ResourceExhaustedError as error:
        reason = error.message.split("} ")[-1].split(" on /job")[0]
        raise UserError(
            f"the weights of the network do not fit into memory ({reason:.200}); lower its sizes, "
            "such as --units and --layers."
        ) from error
    return model


def _callback_list(
    callbacks: list[keras.callbacks.Callback],
    model: keras.Model,
    config: Config,
    steps: int,
    folder: Path | None,
    time_left: TimeLeft,
) -> keras.callbacks.CallbackList:
    """Returns callbacks with those that show progress, if `folder` is given for their logs."""
    if folder:
        tensorboard = keras.callbacks.TensorBoard(folder / "tensorboard", write_graph=False)
        callbacks = [*callbacks, tensorboard]
        if not sys.stdout.isatty():  # where Keras prints a line at the end of an epoch only
            callbacks.append(BatchLog(config.epochs, steps))
    callback_list = keras.callbacks.CallbackList(
        callbacks,
        add_progbar=folder is not None,
        model=model,
        verbose=1 if sys.stdout.isatty() else 2,
        epochs=config.epochs,
        steps=steps,
    )
    if folder:
        callback_list.callbacks.append(
            time_left
        )  # after the line of the epoch, which the list prints last
    return callback_list


# --- Epochs ------------------------------------------------------------------


def distribute(
    strategy: tf.distribute.Strategy, dataset: Callable[[Share], tf.data.Dataset]
) -> Iterator[tuple]:
    """Returns an iterator over batches that gives each replica on this machine its share."""

    def dataset_of_pipeline(context: tf.distribute.InputContext) -> tf.data.Dataset:
        count = context.num_replicas_in_sync
        replicas = count // context.num_input_pipelines
        first = replicas * context.input_pipeline_id
        return dataset(Share(range(first, first + replicas), count))

    return iter(strategy.distribute_datasets_from_function(dataset_of_pipeline))


def _run_epochs(
    task: Task,
    model: keras.Model,
    strategy: tf.distribute.Strategy,
    epochs: range,
    train: tuple[Iterator, int],
    valid: tuple[Iterator, int],
    callbacks: keras.callbacks.CallbackList,
    teacher: keras.Model | None = None,
) -> None:
    """Trains and validates for some epochs, or until a callback stops it.

    Args:
        task: The task.
        model: The compiled model.
        strategy: The strategy that the model was built with.
        epochs: The numbers of the epochs, from 0.
        train: The iterator over the training part, and the number of batches of an epoch.
        valid: The same for the validation part.
        callbacks: The callbacks.
        teacher: Model whose predictions replace the targets in training; None for none.
    """
    train_step, validation_step = make_steps(task, model, strategy, teacher)
    model.stop_training = False
    callbacks.on_train_begin()
    for epoch in epochs:
        callbacks.on_epoch_begin(epoch)
        begin, end = callbacks.on_train_batch_begin, callbacks.on_train_batch_end
        logs = _run_steps(model, train_step, *train, begin, end)
        callbacks.on_test_begin()
        begin, end = callbacks.on_test_batch_begin, callbacks.on_test_batch_end
        validation_logs = _run_steps(model, validation_step, *valid, begin, end)
        callbacks.on_test_end(validation_logs)
        logs |= {f"val_{name}": value for name, value in validation_logs.items()}
        callbacks.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    callbacks.on_train_end(logs)


def _run_steps(model, step, batches, count, on_begin, on_end) -> dict[str, tf.Tensor]:
    """Runs `count` steps, and returns the metrics over all of them."""
    model.reset_metrics()
    for number in range(count):
        on_begin(number)
        logs = step(batches)
        on_end(number, logs)
    return logs


# --- Steps, on all devices at once -------------------------------------------


def make_steps(
    task: Task,
    model: keras.Model,
    strategy: tf.distribute.Strategy,
    teacher: keras.Model | None = None,
) -> tuple[Callable, Callable]:
    """Returns the training step and the validation step.

    With a teacher, the training step minimises `Task.distillation_loss`.

    Each takes an iterator from `distribute`, and returns the metrics so far.
    """
    loss_metric = next(metric for metric in model.metrics if metric.name == "loss")
    reduction = model.loss.reduction

    def replica_loss(batch, training):
        """Returns a replica's part of the loss, and the arguments of `update_metrics`."""
        examples, rows = batch
        x, y, weight = keras.utils.unpack_x_y_sample_weight(examples)
        outputs = model(x, training=training)
        if training and teacher is not None:
            loss = task.distillation_loss(model, teacher(x, training=False), outputs, weight)
        else:
            loss = model.compute_loss(x, y, outputs, weight, training=training)
        # The loss is a mean over the rows or weights of this replica, and Keras has divided it
        # by the number of replicas, as if all had equally many.
        total = tf.cast(rows, tf.float32)
        has_rows = tf.cast(rows > 0, tf.float32)
        if weight is not None and reduction == "mean_with_sample_weight":
            total = tf.reduce_sum(weight) * has_rows
        total_of_all = tf.distribute.get_replica_context().all_reduce(_SUM, total)
        share = tf.math.divide_no_nan(total, total_of_all) * strategy.num_replicas_in_sync
        weight = tf.fill(tf.shape(y)[:1], has_rows) if weight is None else weight * has_rows
        return loss * share, (rows, x, y, outputs, weight)

    def update_metrics(loss, rows, x, y, outputs, weight):
        """Updates the metrics of a replica; `loss` is that of the whole batch."""
        loss_metric.update_state(loss, sample_weight=rows)
        model.compute_metrics(x, y, outputs, weight)

    def train_replica(batch):
        with tf.GradientTape() as tape:
            loss, arguments = replica_loss(batch, training=True)
            scaled = model.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, model.trainable_variables)
        context = tf.distribute.get_replica_context()
        loss, *gradients = context.all_reduce(_SUM, [loss, *gradients])
        model.optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        update_metrics(loss, *arguments)

    def validate_replica(batch):
        loss, arguments = replica_loss(batch, training=False)
        update_metrics(tf.distribute.get_replica_context().all_reduce(_SUM, loss), *arguments)

    def on_all_replicas(step):
        @tf.function(autograph=False, reduce_retracing=True)
        def run(batches):
            strategy.run(step, args=(batches.get_next(),))
            return model.get_metrics_result()  # outside of replicas, so that it covers them all

        return run

    return on_all_replicas(train_replica), on_all_replicas(validate_replica)


def _by_file(origins: Iterable[str]) -> str:
    """Joins origins of examples, with the lines of a file together: a.tsv:3, 7; b.tsv:1."""
    lines: dict[str, list[str]] = {}
    for origin in origins:
        file, _, line = origin.rpartition(":")
        if line.isdigit():
            lines.setdefault(file, []).append(line)
        else:
            lines.setdefault(origin, [])
    return "; ".join(
        f"{file}:{', '.join(numbers)}" if numbers else file for file, numbers in lines.items()
    )
