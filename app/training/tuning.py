"""Choice of the implementations of recurrent layers in training, timed once per machine.

`models.cells.tuning` times training steps of a layer. What it measured is stored in the cache
folder of the user, a file for each processor, version of TensorFlow, layer and class of sizes, so
that the next training on this machine chooses at once, and the same. A run that resumes has the
choice in its state.
"""

import dataclasses
import hashlib
import itertools
import json
import os
import platform
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from app.core.atomic import atomic_write
from app.core.console import say
from app.training.batches import Batches
from models.cells import tuning
from models.cells.recurrent import GatedRNN
from models.cells.tuning import Sizes, Tuning
from tasks.core.task import Task

MIN_STEPS = 500  # of a training; in shorter ones tuning takes longer than it saves
_FORMAT = 1  # of the stored times; raised when a change of an implementation makes them stale
_BATCHES = 20  # first batches of a training, of which the middle one is usual
_CPU_INFO = Path("/proc/cpuinfo")


def choose(task: Task, model: keras.Model, batches: Batches, steps: int) -> list[dict[str, Any]]:
    """Times the recurrent layers of a model, if a training is long enough, and says what is chosen.

    Args:
        task: The task that encoded the examples.
        model: The network.
        batches: Batches of the training part.
        steps: Number of steps of the training.

    Returns:
        For each layer that has a choice, its "layer", the path of the layer, and the fields of its
        `Tuning`: the argument of `apply`.
    """
    layers = tuning.layers_of(model)
    if steps < MIN_STEPS or not any(tuning.candidates(layer, 1)[1:] for layer in layers.values()):
        return []
    usual = sorted(itertools.islice(batches.one_pass(), _BATCHES), key=lambda b: b["length"].max())
    batch = tf.nest.map_structure(tf.constant, usual[len(usual) // 2])
    inputs, *_ = task.to_inputs(batch, training=True)
    records, problems = [], []
    for path, sizes in tuning.input_sizes(model, inputs).items():
        sizes = sizes.rounded()
        names = tuning.candidates(layers[path], sizes.time)
        if len(names) > 1:
            times = _times(layers[path], names, sizes, problems)
            choice = tuning.choose(times, sizes)
            records.append({"layer": path, **dataclasses.asdict(choice)})
    if records:
        chosen = (f"{item['layer']} runs in {_tuning(item).sentence()}" for item in records)
        say(f"chosen by timing on this machine: {'; '.join(chosen)}")
    say(*problems[:1])
    return records


def apply(model: keras.Model, records: Sequence[Mapping[str, Any]]) -> None:
    """Has the layers of a model run what `choose` chose, now or before a training was resumed."""
    layers = tuning.layers_of(model)
    for item in records:
        layers[item["layer"]].tuning = _tuning(item)


def _tuning(item: Mapping[str, Any]) -> Tuning:
    return Tuning(**{key: value for key, value in item.items() if key != "layer"})


def _times(
    layer: GatedRNN, names: Sequence[str], sizes: Sizes, problems: list[str]
) -> dict[str, float]:
    """Returns the milliseconds by implementation, stored or measured.

    What cannot be read is measured again; why times cannot be stored is added to `problems`.
    """
    key = cache_key(layer, sizes)
    path = folder() / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    stored = _read(path, key)
    if stored is not None and list(stored) == list(names):
        return stored
    times = tuning.measure(layer, names, sizes)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, json.dumps({"key": json.loads(key), "milliseconds": times}, indent=2))
    except OSError as error:
        reason = error.strerror or error
        problems.append(f"times are measured again next time: {path} cannot be written: {reason}")
    return times


def _read(path: Path, key: str) -> dict[str, float] | None:
    """Returns the times of a file, or None if there are none for the key."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        is_same = record["key"] == json.loads(key)
        times = {str(name): float(value) for name, value in record["milliseconds"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    is_valid = all(0.0 < value < float("inf") for value in times.values())
    return times if is_same and is_valid else None


def folder() -> Path:
    """Returns the folder of stored times, in $XDG_CACHE_HOME or ~/.cache.

    A user without a home, as in some containers, has it in the folder of temporary files.
    """
    cache = os.environ.get("XDG_CACHE_HOME")
    if not cache:
        try:
            cache = Path.home() / ".cache"
        except RuntimeError:
            cache = tempfile.gettempdir()
    return Path(cache) / "gated-rnn" / "implementations"


def cache_key(layer: GatedRNN, sizes: Sizes) -> str:
    """Returns all that times depend on, as JSON."""
    key = {
        "format": _FORMAT,
        "processor": processor(),
        "cores": os.cpu_count(),
        "tensorflow": tf.__version__,
        "cell": layer.spec.to_json(),
        "units": layer.units,
        "layers": layer.layers,
        "direction": layer.direction,
        "precision": layer.compute_dtype,
        **dataclasses.asdict(sizes),
    }
    return json.dumps(key, sort_keys=True)


def processor() -> str:
    """Returns the model of the processor, as precisely as the system names it."""
    if _CPU_INFO.exists():
        names = ("model name", "cpu family", "model", "stepping")
        lines = (line.partition(":") for line in _CPU_INFO.read_text("utf-8").splitlines())
        fields = {name.strip(): value.strip() for name, _, value in reversed([*lines])}
        if values := [fields[name] for name in names if name in fields]:
            return " ".join(values)
    return platform.processor() or platform.machine()
