"""Experiments of a study: a cell with settings and a seed, trained on a task or a probe.

The record of an experiment is a file named by the hash of everything that defines the
experiment, so that no experiment runs twice.
"""

import concurrent.futures
import concurrent.futures.process
import dataclasses
import functools
import glob
import hashlib
import itertools
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
from app.core.atomic import atomic_write
from models.cells import specs
from tasks.core.errors import UserError
from tasks.core.examples import PARTS

_PATH_SETTINGS = ("data", "blimp")  # not shown in tables
_PATHS = (*_PATH_SETTINGS, *PARTS, "vectors", "unlabelled")  # whose files define an experiment
_FORMAT = 1  # of a record; a new number invalidates all records


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One training of a study.

    Attributes:
        subject: Name of a task or a probe.
        label: Name of the cell in tables.
        cell: The cell, as `models.cells.specs.find` accepts it.
        seed: Seed of weights and examples.
        settings: The other settings as pairs of name and value, sorted by name.
    """

    subject: str
    label: str
    cell: str
    seed: int
    settings: tuple[tuple[str, object], ...] = ()

    @property
    def title(self) -> str:
        """The subject and its settings, without paths of data."""
        shown = [f"{name}={value}" for name, value in self.shown_settings]
        return " ".join([self.subject, *shown])

    @property
    def shown_settings(self) -> list[tuple[str, object]]:
        """The settings without paths of data."""
        return [setting for setting in self.settings if setting[0] not in _PATH_SETTINGS]

    @property
    def identity(self) -> str:
        """Hash of everything that defines the experiment; the label does not."""
        spec = specs.find(self.cell).to_json()
        parts = [_FORMAT, self.subject, spec, self.seed, self.settings]
        paths = [_existing(value) for name, value in self.settings if name in _PATHS and value]
        if checksums := [_checksum(path) for path in itertools.chain(*paths)]:
            parts.append(checksums)
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def all_settings(self) -> dict[str, object]:
        """Returns the settings with the cell and the seed."""
        return {**dict(self.settings), "cell": self.cell, "seed": self.seed}


def _existing(value: str) -> list[Path]:
    """Returns the file or folder that a setting names, or those that match its pattern."""
    if Path(value).exists():
        return [Path(value)]
    # As `Corpus.glob` does: Path.glob would match hidden files.
    return sorted(map(Path, glob.glob(value, recursive=True)))  # noqa: PTH207


def _checksum(path: Path) -> str:
    """Returns the hash of a file, or of the files of a folder and their names."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        status = file.stat()
        content = _file_checksum(file, status.st_size, status.st_mtime_ns)
        digest.update(f"{file.relative_to(path)}\0{content}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


@functools.cache
def _file_checksum(file: Path, size: int, mtime: int) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


class Runner:
    """Runs experiments in parallel processes, and stores their records.

    A context manager: leaving it ends the processes.

    Args:
        folder: Folder of the records; created if missing.
        jobs: Number of experiments that run at the same time, each in a process with its
            share of the cores.
        log: Called with a line after each experiment.
    """

    def __init__(self, folder: Path, jobs: int, log: Callable[[str], None]):
        self.folder, self.jobs, self._log = folder, jobs, log
        self._pool = None
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error) -> None:
        if self._pool:
            self._pool.shutdown(wait=error[0] is None, cancel_futures=True)

    def run(self, experiments: Sequence[Experiment]) -> dict[Experiment, dict]:
        """Returns the record of each experiment; runs those without a stored record.

        Raises:
            UserError: A process ended from outside, as where memory runs out.
        """
        try:
            return self._run(experiments)
        except concurrent.futures.process.BrokenProcessPool as error:
            raise UserError(
                "a process of the study was killed, perhaps because memory ran out. Finished "
                "experiments are kept: repeat the command to continue, with a lower --jobs."
            ) from error

    def _run(self, experiments: Sequence[Experiment]) -> dict[Experiment, dict]:
        records = {experiment: self._load(experiment) for experiment in experiments}
        pending: dict[str, list[Experiment]] = {}  # a cell may have several names
        for experiment, record in records.items():
            if not record:
                pending.setdefault(experiment.identity, []).append(experiment)
        if pending:
            self._log(f"{len(pending)} of {len(records)} experiments to run")
        began = time.monotonic()
        futures = {
            self._processes().submit(_measure, equal[0], self.folder): equal
            for equal in pending.values()
        }
        for count, future in enumerate(concurrent.futures.as_completed(futures), 1):
            experiment = futures[future][0]
            record = self._store(experiment, future.result())
            records |= dict.fromkeys(futures[future], record)
            minutes = (time.monotonic() - began) / count * (len(pending) - count) / 60
            self._log(
                f"[{count}/{len(pending)}] {experiment.title}, {experiment.label}, "
                f"seed {experiment.seed}: {_main_score(records[experiment])}; "
                f"about {minutes:.0f} min left"
            )
        return records

    def _processes(self) -> concurrent.futures.ProcessPoolExecutor:
        """Returns the worker processes; spawned, because TensorFlow does not survive a fork."""
        if not self._pool:
            self._pool = concurrent.futures.ProcessPoolExecutor(
                self.jobs,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_start_worker,
                initargs=(max(1, (os.cpu_count() or 1) // self.jobs),),
            )
        return self._pool

    def _load(self, experiment: Experiment) -> dict | None:
        path = self.folder / f"{experiment.identity}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def _store(self, experiment: Experiment, result: Mapping) -> dict:
        record = {"point": dataclasses.asdict(experiment), **result}
        path = self.folder / f"{experiment.identity}.json"
        atomic_write(path, json.dumps(record, indent=2))
        return record


def _main_score(record: Mapping) -> str:
    name, score = next(iter(record["scores"].items()))
    return f"{name} {score:.4g} in {record['seconds']:.0f} s"


def _start_worker(cores: int) -> None:
    """Limits the cores of a worker, and ends it when the study ends, even if that is killed."""
    threading.Thread(target=_exit_with_study, daemon=True).start()
    with cli.with_tensorflow():
        import tensorflow as tf
    tf.config.threading.set_intra_op_parallelism_threads(cores)
    tf.config.threading.set_inter_op_parallelism_threads(cores)


def _exit_with_study() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _measure(experiment: Experiment, folder: Path) -> dict:
    """Returns the scores, parameters and seconds of an experiment."""
    import tasks

    if experiment.subject in tasks.names():
        return _train_task(experiment, folder / experiment.identity)
    from app.studies import probe_settings, probe_training

    settings = experiment.all_settings()
    return probe_training.measure(*probe_settings.of_settings(experiment.subject, settings))


def _train_task(experiment: Experiment, work: Path) -> dict:
    """Trains, exports and evaluates a task as `app.train` does; output goes to a log file."""
    import tasks
    from app.training import pipeline

    task = tasks.find(experiment.subject)
    settings = experiment.all_settings()
    config, corpus = (
        cls(**{f.name: settings[f.name] for f in dataclasses.fields(cls) if f.name in settings})
        for cls in (task.Config, task.Corpus)
    )
    work.mkdir(exist_ok=True)
    with (work / "log.txt").open("a", encoding="utf-8") as log:
        options = pipeline.TrainOptions(work / "saved_models", work / "runs", output=log)
        version = pipeline.train(experiment.subject, config, corpus, options)
    record = json.loads((version / "assets.extra" / "run.json").read_text(encoding="utf-8"))
    shutil.rmtree(work)
    return {
        "scores": record["scores"],
        "parameters": record["parameters"],
        "seconds": record["seconds"]["fit"],
        "run": record,
    }


def check(experiments: Sequence[Experiment]) -> None:
    """Checks the settings of all experiments, and the data of their probes.

    Raises:
        UserError: A setting is invalid, or the data of a probe cannot be read.
    """
    import numpy as np

    import tasks
    from app.studies import probe_settings
    from tasks import probes

    for experiment in experiments:
        settings = experiment.all_settings()
        if experiment.subject not in tasks.names():
            probe_settings.of_settings(experiment.subject, settings)
            continue
        task = tasks.declaration(experiment.subject)
        names = {field.name for field in dataclasses.fields(task.Config)}
        task.Config(**{name: value for name, value in settings.items() if name in names})
    rng = np.random.default_rng(0)
    for name, settings in {(e.subject, e.settings) for e in experiments}:
        if name in probes.names():
            probe, _ = probe_settings.of_settings(name, dict(settings))
            probe.draw(rng, 1)  # reads its data


def chance(subject: str, settings: tuple[tuple[str, object], ...]) -> dict[str, float]:
    """Returns the scores of a probe's best predictor without memory; of a task, none."""
    import tasks
    from app.studies import probe_settings

    if subject in tasks.names():
        return {}
    probe, _ = probe_settings.of_settings(subject, dict(settings))
    return probe.chance()


def curves(subject: str) -> dict[str, tuple[str, ...]]:
    """Returns the scores of a probe that form a curve over difficulty, by axis title."""
    import tasks
    from tasks import probes

    return {} if subject in tasks.names() else probes.find(subject).curves


def greater_is_better(subject: str, score: str) -> bool:
    """Returns whether a greater value of the main score of a task or a probe is better."""
    import tasks
    from tasks import probes
    from tasks.core.evaluation import lower_is_better

    if subject in tasks.names():
        return not lower_is_better(score)
    return probes.find(subject).greater_is_better
