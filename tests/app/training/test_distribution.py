"""Training on two devices and on two machines comes to what one device comes to."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.app.test_train import fails, trained
from tests.conftest import SMALL, where
from tests.support.fitted import assert_same, fitted

ROOT = Path(__file__).parents[3]
PLAIN = ["--dropout", "0", "--word-dropout", "0", "--batch-tokens", "64"]
SIX = ["--epochs", "6", "--patience", "6"]
TRIES = 4
# One whose loss is a mean over examples, and one where it is over steps that have weights.
TASKS = ("sentiment", "tagging")
LIMIT = 600  # seconds that a process may take, on a machine that is busy with other work

# TensorFlow has as many devices as it is told first, so this is a process of its own.
SCRIPT = """
import json, pathlib, shutil, sys
import numpy as np
import tensorflow as tf

import tasks
from app.training import distribution, loop, run_state
from app.training.example_cache import EncodedExamples
from tasks.core.examples import Splits
from tests.support import untrained

folder, names = pathlib.Path(sys.argv[1]), sys.argv[2:]
tf.config.experimental.enable_op_determinism()
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

# Some batches have rows for one device alone; gradients are clipped; weights are averaged.
PLAIN = {"dropout": 0.0, "batch_tokens": 48, "learning_rate": 0.01, "clip_norm": 0.1}
PLAIN |= {"ema_momentum": 0.5, "monitor": "macro_f1", "class_weights": "balanced"}
# A word's characters are read once on each device that has the word, and Adam squares the
# gradients of an embedding one by one before it adds them up: these are left out.
PLAIN_OF = {"word_dropout": 0.0, "label_smoothing": 0.0, "characters": 0, "layers": 1}


def fitted(name, config, place, strategy):
    cls, examples = tasks.find(name), untrained.examples(name, 11)
    place.mkdir(parents=True, exist_ok=True)
    (place / "learnt").mkdir(exist_ok=True)
    task = cls.learn(config, examples, place / "learnt")
    names_of_parts = ("train", "valid")
    parts = {p: EncodedExamples.write(task, examples, place / p) for p in names_of_parts}
    run = run_state.Run(place / "run")
    splits = Splits(examples, examples, examples)
    _, progress = loop.fit(task, **parts, run=run, splits=splits, strategy=strategy)
    state = run.arrays()
    run.close()
    history = [{k: v for k, v in row.items() if k != "seconds"} for row in progress.history]
    return {group: [np.asarray(a).tolist() for a in some] for group, some in state.items()}, history


def config_of(name):
    cls = tasks.find(name).Config
    own = {key: size for key, size in untrained.SIZES.items() if hasattr(cls, key)}
    own |= {key: plain for key, plain in PLAIN_OF.items() if hasattr(cls, key)}
    return cls(**{**untrained.SMALL, **own, **PLAIN, "epochs": 2})


one, two = distribution.strategy_of("none"), distribution.strategy_of("mirrored")
save = run_state.Run.save


def save_and_copy(self, progress, groups):
    save(self, progress, groups)
    if progress.epoch == 1 and self.folder.parent.name == "one":
        (self.folder.parents[1] / "two").mkdir()
        shutil.copytree(self.folder, self.folder.parents[1] / "two" / "run")


for name in names:
    place, config, results = folder / name, config_of(name), {}
    if name == names[0]:  # what one device begins, two end
        results["again"] = fitted(name, config, place / "again", one)
        run_state.Run.save = save_and_copy
    results["one"] = fitted(name, config, place / "one", one)
    run_state.Run.save = save
    results["two"] = fitted(name, config, place / "two", two)
    (folder / f"{name}.json").write_text(json.dumps(results))
"""


@pytest.fixture(scope="module")
def on_two_devices(tmp_path_factory):
    """What each task came to, by how it was trained: its state, and its history."""
    folder = tmp_path_factory.mktemp("devices")
    command = [sys.executable, "-c", SCRIPT, str(folder), *TASKS]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=2 * LIMIT)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in TASKS}


def assert_alike(results, other, tolerance):
    (state, history), (others, other_history) = results, other
    assert set(state) == set(others) == {"model", "optimizer", "average", "best"}
    for group, arrays in state.items():
        for array, wanted in zip(arrays, others[group], strict=True):
            np.testing.assert_allclose(array, wanted, rtol=0, atol=tolerance)
    assert len(history) == len(other_history) == 2
    for row, wanted in zip(history, other_history, strict=True):
        assert row == pytest.approx(wanted, rel=0, abs=10 * tolerance)


@pytest.mark.parametrize("task", TASKS)
def test_two_devices_train_the_same_weights_as_one(on_two_devices, task):
    assert_alike(on_two_devices[task]["two"], on_two_devices[task]["one"], 1e-4)


def test_deterministic_training_is_the_same_to_the_last_bit(on_two_devices):
    results = on_two_devices[TASKS[0]]
    assert results["again"] == results["one"]


# --- Two processes -----------------------------------------------------------


def free_ports(count):
    with contextlib.ExitStack() as opened:
        sockets = [opened.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def cluster(corpus, folder):
    """The two processes of a cluster on this machine, the chief first; stopped at the end."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    flags = [
        *SMALL,
        "--learning-rate",
        "0.03",
        *PLAIN,
        *SIX,
        *where(folder),
        "--strategy",
        "multiworker",
    ]
    command = [sys.executable, "-m", "app.train", "sentiment", "--data", str(corpus), *flags]
    processes = []
    for index in range(2):
        cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, "TF_CONFIG": json.dumps(cluster)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        processes.append(subprocess.Popen(command, cwd=ROOT, env=environment, **pipes))
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


GONE = "error: another process of the cluster has ended or cannot be reached"


def killed(corpus, folder):
    """Kills one of two processes in an epoch, and returns whether it came to that."""
    with cluster(corpus, folder) as (chief, worker):
        while not list(folder.rglob("state.npz")) and chief.poll() is None:
            time.sleep(0.01)
        in_time = chief.poll() is None
        os.kill(worker.pid, signal.SIGKILL)
        _, said = chief.communicate(timeout=LIMIT)
        assert chief.returncode == 2 and GONE in said and "Traceback" not in said, said
    return in_time


def ended(corpus, folder):
    """What the two processes of a cluster said, and with which codes they ended."""
    with cluster(corpus, folder) as processes:
        said = [each.communicate(timeout=LIMIT) for each in processes]
        return said, [each.returncode for each in processes]


def test_two_machines_train_the_same_weights_as_one_although_one_was_killed(corpus, tmp_path):
    folder = tmp_path / "cluster"
    # TensorFlow gives a process up that has not answered for ten seconds, as it happens on a
    # machine that is busy with other work: the same command goes on then as well.
    assert any(killed(corpus, folder) for _ in range(TRIES))
    assert not list((folder / "saved_models/sentiment").iterdir())
    for _ in range(TRIES):
        ((said, errors), (quiet, others)), codes = ended(corpus, folder)
        if GONE not in errors:
            break
    assert codes == [0, 0], errors + others
    assert re.search(r"resuming .* after epoch [1-6]|trained for 6 epochs", said)
    assert "2 devices share each batch" in said and not quiet
    assert len(list((folder / "runs/sentiment").iterdir())) == 1
    version = folder / "saved_models/sentiment/1"
    record = json.loads((version / "assets.extra/run.json").read_text())
    assert (record["epochs"], record["devices"]) == (6, 2)
    alone = fitted(trained, corpus, tmp_path / "alone", *PLAIN, *SIX)
    assert_same(version, alone, atol=1e-4)


def test_an_invalid_cluster_is_an_error(capsys, monkeypatch, corpus, tmp_path):
    from app import train

    monkeypatch.setenv("TF_CONFIG", "{")
    argv = ["sentiment", "--data", str(corpus), "--strategy", "multiworker", *where(tmp_path)]
    said = fails(capsys, train.main, argv)
    assert "--strategy multiworker: TF_CONFIG: must be a JSON object" in said
