"""The devices and machines that share a training, and what their processes tell one another."""

import atexit
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from app.cli import FAILED
from app.training.run_state import Run
from tasks.core.errors import UserError
from tasks.core.task import ValidationSample

STRATEGIES = ("none", "mirrored", "multiworker")
_SUM = tf.distribute.ReduceOp.SUM
_GONE = (  # what TensorFlow raises where another process is
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.FailedPreconditionError,
    tf.errors.UnknownError,
)


def strategy_of(name: str) -> tf.distribute.Strategy:
    """The strategy of a name in `STRATEGIES`, before TensorFlow computes anything.

    Raises:
        UserError: There is no cluster to join, or it cannot be joined.
    """
    if name == "none":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        return tf.distribute.MirroredStrategy()
    told = os.environ.get("TF_CONFIG", "")
    try:
        config = json.loads(told)
        kind, index = config["task"]["type"], int(config["task"]["index"])
        config["cluster"][kind][index]
    except (ValueError, LookupError, TypeError):
        raise UserError(
            "--strategy multiworker needs in TF_CONFIG the cluster and which of it this is, such "
            'as {"cluster": {"worker": ["host:port", "host:port"]}, "task": {"type": "worker", '
            f'"index": 0}}}}, got {told!r}.'
        ) from None
    with _gone_told():
        return tf.distribute.MultiWorkerMirroredStrategy()


def is_cluster(strategy: tf.distribute.Strategy) -> bool:
    """Whether other processes share the training."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def _leave() -> None:
    """Ends a process at its end, where TensorFlow's threads would wait for a broken cluster."""
    sys.stdout.flush()
    os._exit(FAILED)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that keeps, exports and publishes."""
    if not is_cluster(strategy):
        return True
    resolver = strategy.cluster_resolver
    alone = "chief" not in resolver.cluster_spec().jobs
    return resolver.task_type == "chief" or (alone and resolver.task_id == 0)


def in_cluster(strategy: tf.distribute.Strategy) -> contextlib.AbstractContextManager:
    """Says in plain words that another process of the cluster is gone, if there is a cluster.

    Raises:
        UserError: It is.
    """
    return _gone_told() if is_cluster(strategy) else contextlib.nullcontext()


@contextlib.contextmanager
def _gone_told() -> Iterator[None]:
    try:
        yield
    except _GONE as error:
        atexit.register(_leave)
        lines = str(error.message).splitlines()
        said = next((line for line in lines if "aborted by" in line), lines[0] if lines else "")
        raise UserError(
            "another process of the cluster has ended or cannot be reached. What the chief has "
            "finished is kept: the same command in every process goes on from there.\n"
            f"TensorFlow says: {type(error).__name__}: {said.strip():.300}"
        ) from error


def broadcast_state(run: Run, strategy: tf.distribute.Strategy) -> None:
    """Gives every process of a cluster the state of the chief's run.

    Raises:
        UserError: This process is about to train something else than the chief.
    """
    if not is_cluster(strategy):
        return
    name = _of_chief(strategy, run.folder.name.encode()).decode()
    if name != run.folder.name:
        raise UserError(
            f"here is the run {run.folder.name}, and the chief has {name}: every process of a "
            "cluster needs the same settings and the same data."
        )
    state = _of_chief(strategy, run.to_bytes())
    if not is_chief(strategy):
        run.load_bytes(state)


def wait(strategy: tf.distribute.Strategy) -> None:
    """Returns when every process of a cluster has come here."""
    if is_cluster(strategy):
        _of_chief(strategy, b"")


def broadcast_from_chief(
    watch: Callable[[], ValidationSample], strategy: tf.distribute.Strategy
) -> Callable[[], ValidationSample]:
    """The chief's look at a model, in every process: what decides is to be equal in all."""

    def look() -> ValidationSample:
        watched = watch() if is_chief(strategy) else ValidationSample({}, ())
        told = _of_chief(strategy, json.dumps(watched.figures).encode())
        return ValidationSample(json.loads(told), watched.lines)

    return look


def _of_chief(strategy: tf.distribute.Strategy, told: bytes) -> bytes:
    """What the chief tells, in every process: a sum to which the others add nothing."""

    @tf.function(autograph=False)
    def summed(values):
        def part():
            context = tf.distribute.get_replica_context()
            first = tf.equal(context.replica_id_in_sync_group, 0)
            return context.all_reduce(_SUM, tf.where(first, values, tf.zeros_like(values)))

        return strategy.experimental_local_results(strategy.run(part))[0]

    # Floats, which every device sums, and exactly where they are whole and below 2**24.
    size = np.array([len(told) % 2**16, len(told) // 2**16], np.float32)
    low, high = summed(tf.constant(size)).numpy()
    size = int(low) + int(high) * 2**16
    if not size:
        return b""
    padded = told[:size].ljust(size + size % 2, b"\0")
    values = np.frombuffer(padded, "<u2").astype(np.float32)
    return summed(tf.constant(values)).numpy().astype("<u2").tobytes()[:size]
