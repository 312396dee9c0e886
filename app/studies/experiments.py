"""The points of a study: each a cell with settings and a seed on a task or a probe.

A point is measured once, wherever it is asked for again: its record is a file in the folder of
studies, named by the hash of all that defines it.
"""

import concurrent.futures
import dataclasses
import hashlib
import json
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from app import cli
from app.atomic import atomic_write
from models.cells import specs

_PATHS = ("data", "blimp")  # settings that tables do without
_FORMAT = 1  # of a record; a new one has every point measured anew


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What is to be measured.

    Attributes:
        subject: A task or a probe.
        label: The cell's name in tables.
        cell: What `models.cells.specs.find` takes.
        seed: Of weights and examples.
        settings: The others that were told, by name, in the order of the names.
    """

    subject: str
    label: str
    cell: str
    seed: int
    settings: tuple[tuple[str, object], ...] = ()

    @property
    def told(self) -> str:
        """The subject with its settings, in words, but for where its data is."""
        shown = [f"{name}={value}" for name, value in self.settings if name not in _PATHS]
        return " ".join([self.subject, *shown])

    @property
    def identity(self) -> str:
        """The hash of all that defines it, of which the label is no part."""
        spec = specs.find(self.cell).to_json()
        told = [_FORMAT, self.subject, spec, self.seed, self.settings]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


class Runner:
    """Where points are measured, some at once, and their records kept.

    Used as a context: at its end the processes end.

    Args:
        folder: Of the records.
        jobs: How many points at once, each in a process with its share of the cores.
        say: Is given a line after each.
    """

    def __init__(self, folder: Path, jobs: int, say: Callable[[str], None]):
        self.folder, self.jobs, self._say = folder, jobs, say
        self._pool = None
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error) -> None:
        if self._pool:
            self._pool.shutdown(wait=error[0] is None, cancel_futures=True)

    def measured(self, points: Sequence[Experiment]) -> dict[Experiment, dict]:
        """The record of each point; what is recorded already is not measured again."""
        known = {point: self._find(point) for point in points}
        left = [point for point, record in known.items() if not record]
        if left:
            self._say(f"{len(left)} of {len(known)} points are to be measured")
        began = time.monotonic()
        asked = {self._measuring().submit(_measure, point, self.folder): point for point in left}
        for count, done in enumerate(concurrent.futures.as_completed(asked), 1):
            point = asked[done]
            known[point] = self._keep(point, done.result())
            minutes = (time.monotonic() - began) / count * (len(left) - count) / 60
            self._say(
                f"[{count}/{len(left)}] {point.told}, {point.label}, seed {point.seed}: "
                f"{_main_score(known[point])}; about {minutes:.0f} min left"
            )
        return known

    def _measuring(self):
        """The processes that measure; TensorFlow in them rules out forking."""
        if not self._pool:
            self._pool = concurrent.futures.ProcessPoolExecutor(
                self.jobs,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_begin,
                initargs=(max(1, (os.cpu_count() or 1) // self.jobs),),
            )
        return self._pool

    def _find(self, point: Experiment) -> dict | None:
        path = self.folder / f"{point.identity}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def _keep(self, point: Experiment, result: dict) -> dict:
        """Writes what was measured, whole or not at all."""
        record = {"point": dataclasses.asdict(point), **result}
        path = self.folder / f"{point.identity}.json"
        atomic_write(path, json.dumps(record, indent=2))
        return record


def _main_score(record: Mapping) -> str:
    name, score = next(iter(record["scores"].items()))
    return f"{name} {score:.4g} in {record['seconds']:.0f} s"


def _begin(cores: int) -> None:
    """Gives a process its share of the cores, before TensorFlow takes all.

    It ends with the study, even if that is killed: a point may take long.
    """
    threading.Thread(target=_end_with_study, daemon=True).start()
    with cli.quiet():
        import tensorflow as tf
    tf.config.threading.set_intra_op_parallelism_threads(cores)
    tf.config.threading.set_inter_op_parallelism_threads(cores)


def _end_with_study() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _measure(point: Experiment, folder: Path) -> dict:
    """Scores, parameters and seconds of a point, in whichever process."""
    import tasks

    if point.subject in tasks.names():
        return _trained(point, folder / point.identity)
    from app.studies import probe_training

    settings = {**dict(point.settings), "cell": point.cell, "seed": point.seed}
    return probe_training.measure(*probe_training.of_settings(point.subject, settings))


def _trained(point: Experiment, work: Path) -> dict:
    """Trains, exports and evaluates a task as `app.train` does; its output goes to a log."""
    import tasks
    from app.training import pipeline

    task = tasks.find(point.subject)
    settings = {**dict(point.settings), "cell": point.cell, "seed": point.seed}
    config, corpus = (
        cls(**{f.name: settings[f.name] for f in dataclasses.fields(cls) if f.name in settings})
        for cls in (task.Config, task.Corpus)
    )
    work.mkdir(exist_ok=True)
    with (work / "log.txt").open("a", encoding="utf-8") as log:
        options = pipeline.TrainOptions(work / "saved_models", work / "runs", output=log)
        version = pipeline.train(point.subject, config, corpus, options)
    record = json.loads((version / "assets.extra" / "run.json").read_text(encoding="utf-8"))
    shutil.rmtree(work)
    return {
        "scores": record["scores"],
        "parameters": record["parameters"],
        "seconds": record["seconds"]["fit"],
        "run": record,
    }


def check(points: Sequence[Experiment]) -> None:
    """Holds every point against the rules of what it is measured on, before any is measured.

    Raises:
        UserError: A setting does not keep a rule, or data is not there.
    """
    import numpy as np

    import tasks
    from tasks import probes

    with cli.quiet():
        from app.studies import probe_training
    for point in points:
        settings = {**dict(point.settings), "cell": point.cell, "seed": point.seed}
        if point.subject not in tasks.names():
            probe_training.of_settings(point.subject, settings)
            continue
        task = tasks.find(point.subject)
        own = {field.name for field in dataclasses.fields(task.Config)}
        task.Config(**{name: value for name, value in settings.items() if name in own})
    rng = np.random.default_rng(0)
    for name, told in {(p.subject, p.settings) for p in points if p.subject in probes.names()}:
        probe_training.of_settings(name, dict(told))[0].draw(rng, 1)  # its data is there


def chance(subject: str, settings: tuple) -> dict[str, float]:
    """What is reached without memory, of a probe."""
    import tasks

    with cli.quiet():
        from app.studies import probe_training
    if subject in tasks.names():
        return {}
    own, _ = probe_training.of_settings(subject, dict(settings))
    return own.chance()


def curves(subject: str) -> dict[str, tuple[str, ...]]:
    """The scores that are one figure at several difficulties, of a probe."""
    import tasks
    from tasks import probes

    return {} if subject in tasks.names() else probes.find(subject).curves


def greater(subject: str) -> bool:
    """Whether the greater score is the better one."""
    import tasks
    from tasks import probes

    return subject in tasks.names() or probes.find(subject).greater_is_better
