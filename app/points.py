"""The points of a study: each a cell with settings and a seed on a task or a probe.

A point is measured once, wherever it is asked for again: its record is a file in the folder of
studies, named by the hash of all that defines it.
"""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from models import specs

_FORMAT = 1  # of a record; a new one has every point measured anew


@dataclasses.dataclass(frozen=True)
class Point:
    """What is to be measured.

    Attributes:
        subject: A task or a probe.
        label: The cell's name in tables.
        cell: What `models.specs.find` takes.
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
        """The subject with its settings, in words."""
        return " ".join([self.subject, *(f"{name}={value}" for name, value in self.settings)])

    @property
    def identity(self) -> str:
        """The hash of all that defines it, of which the label is no part."""
        spec = specs.find(self.cell).to_json()
        told = [_FORMAT, self.subject, spec, self.seed, self.settings]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


class Records:
    """The records of points, each in a file of its own."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def find(self, point: Point) -> dict | None:
        """What was measured of a point: None if nothing was yet."""
        path = self.folder / f"{point.identity}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def keep(self, point: Point, result: dict) -> dict:
        """Writes what was measured of a point, whole or not at all."""
        record = {"point": dataclasses.asdict(point), **result}
        path = self.folder / f"{point.identity}.json"
        draft = path.with_suffix(f".draft-{os.getpid()}")
        draft.write_text(json.dumps(record, indent=2), encoding="utf-8")
        draft.replace(path)
        return record

    def measured(
        self, points: Sequence[Point], jobs: int, say: Callable[[str], None]
    ) -> Iterator[tuple[Point, dict]]:
        """Measures points, some at once, and gives each with its record as it is there.

        Args:
            points: What to measure; what is recorded already is not measured again.
            jobs: How many at once, each in a process of its own with its share of the cores.
            say: Is given a line after each.
        """
        known = {point: self.find(point) for point in points}
        yield from ((point, record) for point, record in known.items() if record)
        left = [point for point in known if not known[point]]
        if not left:
            return
        say(f"{len(points) - len(left)} of {len(points)} points are known; {len(left)} to measure")
        cores = max(1, (os.cpu_count() or 1) // jobs)
        began = time.monotonic()
        # A process that TensorFlow runs in cannot be forked.
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(
            jobs, mp_context=context, initializer=_begin, initargs=(cores,)
        ) as pool:
            asked = {pool.submit(_measure, point, self.folder): point for point in left}
            try:
                for count, done in enumerate(concurrent.futures.as_completed(asked), 1):
                    point, record = asked[done], self.keep(asked[done], done.result())
                    minutes = (time.monotonic() - began) / count * (len(left) - count) / 60
                    name, score = next(iter(record["scores"].items()))
                    say(
                        f"[{count}/{len(left)}] {point.told}, {point.label}, seed {point.seed}: "
                        f"{name} {score:.4g} in {record['seconds']:.0f} s; "
                        f"about {minutes:.0f} min left"
                    )
                    yield point, record
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _begin(cores: int) -> None:
    """Gives a process its share of the cores, before TensorFlow takes all."""
    from app import flags

    with flags.quiet():
        import tensorflow as tf
    tf.config.threading.set_intra_op_parallelism_threads(cores)
    tf.config.threading.set_inter_op_parallelism_threads(cores)


def _measure(point: Point, folder: Path) -> dict:
    """Scores, parameters and seconds of a point, in whichever process."""
    import tasks

    if point.subject in tasks.names():
        return _trained(point, folder / point.identity)
    from app import probing

    settings = {**dict(point.settings), "cell": point.cell, "seed": point.seed}
    return probing.measure(*probing.of_settings(point.subject, settings))


def _trained(point: Point, work: Path) -> dict:
    """A task is trained, exported and judged as `app.train` does it; what it says goes to a log."""
    from app import train

    argv = [point.subject, "--cell", point.cell, "--seed", str(point.seed)]
    for name, value in point.settings:
        argv += [f"--{name.replace('_', '-')}", str(value)]
    argv += ["--saved-models", str(work / "saved_models"), "--runs", str(work / "runs")]
    work.mkdir(exist_ok=True)
    with (work / "log.txt").open("a") as log, contextlib.redirect_stdout(log):
        version = train.main(argv)
    record = json.loads((version / "assets.extra" / "run.json").read_text(encoding="utf-8"))
    shutil.rmtree(work)
    return {
        "scores": record["scores"],
        "parameters": record["parameters"],
        "seconds": record["seconds"]["fit"],
        "run": record,
    }


def check(points: Sequence[Point]) -> None:
    """Holds every point against the rules of what it is measured on, before any is measured.

    Raises:
        UserError: A setting does not keep a rule, or data is not there.
    """
    import tasks
    from app import probing

    for point in points:
        settings = {**dict(point.settings), "cell": point.cell, "seed": point.seed}
        if point.subject not in tasks.names():
            probing.of_settings(point.subject, settings)
            continue
        task = tasks.find(point.subject)
        own = {field.name for field in dataclasses.fields(task.Config)}
        task.Config(**{name: value for name, value in settings.items() if name in own})
    for told in {(p.subject, p.settings) for p in points if p.subject not in tasks.names()}:
        chance(*told)


def chance(subject: str, settings: tuple) -> dict[str, float]:
    """What is reached without memory, of a probe."""
    import tasks
    from app import probing

    if subject in tasks.names():
        return {}
    own, _ = probing.of_settings(subject, dict(settings))
    return own.chance()


def greater(subject: str) -> bool:
    """Whether the greater score is the better one."""
    import tasks
    from tasks import probes

    return subject in tasks.names() or probes.find(subject).greater
