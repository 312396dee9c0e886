"""Devices and machines that share a training, and communication between its processes."""

import atexit
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from app.cli import FAILED
from app.training import cluster_spec
from app.training.run_state import Run
from tasks.core.errors import UserError
from tasks.core.task import ValidationSample

STRATEGIES = ("none", "mirrored", "multiworker")
_SUM = tf.distribute.ReduceOp.SUM
_LOST_PROCESS_ERRORS = (  # what TensorFlow raises if another process ends
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.FailedPreconditionError,
    tf.errors.UnknownError,
)


def strategy_of(name: str) -> tf.distribute.Strategy:
    """Creates a distribution strategy; must run before TensorFlow computes anything.

    Args:
        name: A name in `STRATEGIES`.

    Raises:
        UserError: `TF_CONFIG` does not describe a cluster, or the cluster cannot be joined.
    """
    if name == "none":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        return tf.distribute.MirroredStrategy()
    cluster_spec.check(os.environ.get(cluster_spec.VARIABLE, ""))
    with _report_lost_process():
        return tf.distribute.MultiWorkerMirroredStrategy()


def is_cluster(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether other processes share the training."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether this process keeps the state, exports and publishes."""
    if not is_cluster(strategy):
        return True
    resolver = strategy.cluster_resolver
    workers_only = "chief" not in resolver.cluster_spec().jobs
    return resolver.task_type == "chief" or (workers_only and resolver.task_id == 0)


def in_cluster(strategy: tf.distribute.Strategy) -> contextlib.AbstractContextManager:
    """Returns a context that reports a lost process of the cluster, if there is a cluster.

    Raises:
        UserError: Another process has ended or cannot be reached.
    """
    return _report_lost_process() if is_cluster(strategy) else contextlib.nullcontext()


@contextlib.contextmanager
def _report_lost_process() -> Iterator[None]:
    try:
        yield
    except _LOST_PROCESS_ERRORS as error:
        atexit.register(_exit_at_once)
        lines = str(error.message).splitlines()
        reason = next((line for line in lines if "aborted by" in line), lines[0] if lines else "")
        raise UserError(
            "another process of the cluster has ended or cannot be reached. What the chief has "
            "finished is kept: repeat the command in every process to resume.\n"
            f"TensorFlow reports: {type(error).__name__}: {reason.strip():.300}"
        ) from error


def _exit_at_once() -> None:
    """Ends the process, because TensorFlow's threads would wait for the broken cluster."""
    sys.stdout.flush()
    os._exit(FAILED)


def broadcast_state(run: Run, strategy: tf.distribute.Strategy) -> None:
    """Gives the state of the chief's run to every process of a cluster.

    Raises:
        UserError: This process has another run than the chief.
    """
    if not is_cluster(strategy):
        return
    name = _broadcast(strategy, run.folder.name.encode()).decode()
    if name != run.folder.name:
        raise UserError(
            f"this process has the run {run.folder.name}, but the chief has {name}: every process "
            "of a cluster needs the same settings and the same data."
        )
    state = _broadcast(strategy, run.to_bytes())
    if not is_chief(strategy):
        run.load_bytes(state)


def wait(strategy: tf.distribute.Strategy) -> None:
    """Returns when every process of a cluster has called it."""
    if is_cluster(strategy):
        _broadcast(strategy, b"")


def broadcast_from_chief(
    sample: Callable[[], ValidationSample], strategy: tf.distribute.Strategy
) -> Callable[[], ValidationSample]:
    """Returns a function that samples in the chief, and returns its figures in every process.

    All processes need the same figures, because figures decide when training stops.
    """

    def sample_of_chief() -> ValidationSample:
        own = sample() if is_chief(strategy) else ValidationSample({}, ())
        figures = _broadcast(strategy, json.dumps(own.figures).encode())
        return ValidationSample(json.loads(figures), own.lines)

    return sample_of_chief


def _broadcast(strategy: tf.distribute.Strategy, data: bytes) -> bytes:
    """Returns the chief's bytes in every process: a sum to which the others add zeros."""

    @tf.function(autograph=False)
    def summed(values):
        def replica_sum():
            context = tf.distribute.get_replica_context()
            is_first = tf.equal(context.replica_id_in_sync_group, 0)
            return context.all_reduce(_SUM, tf.where(is_first, values, tf.zeros_like(values)))

        return strategy.experimental_local_results(strategy.run(replica_sum))[0]

    # Every device sums floats, and exactly so if they are whole and below 2**24.
    size = np.array([len(data) % 2**16, len(data) // 2**16], np.float32)
    low, high = summed(tf.constant(size)).numpy()
    size = int(low) + int(high) * 2**16
    if not size:
        return b""
    padded = data[:size].ljust(size + size % 2, b"\0")
    values = np.frombuffer(padded, "<u2").astype(np.float32)
    return summed(tf.constant(values)).numpy().astype("<u2").tobytes()[:size]
