"""Stops commands at random moments, a hundred times, and checks what they leave.

    python -m benchmarks.kills
    python -m benchmarks.kills --kills 20 --task tagging
    python -m benchmarks.kills --command predict

The command is started again and again, and stopped after a random time of at most its
uninterrupted duration: by SIGKILL, by SIGTERM, by Ctrl-C or by two Ctrl-C in a row.

`train` trains a task on its embedded sample and publishes it. After each stop, every version must
be complete by the checksums of its files. At the end every version must have the same weights as
one that was trained without interruption, as training is `--deterministic`.

`predict` predicts a file of 20,000 lines, empty ones and such that are not UTF-8 among them, with
`app.predict --from --to`. The result must have the bytes of an uninterrupted run.
"""

import argparse
import collections
import contextlib
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

import models
import tasks
from app.serving import versions
from benchmarks import records
from models import manifest
from tests.support import untrained

SMALL = ["--units", "16", "--embedding", "16", "--epochs", "6", "--patience", "6"]
# Phase that follows each line of training's output.
PHASES = {
    b"": "loading and reading",
    b"Epoch": "training",
    b"best epoch": "published",
}


def command(task: str, folder: Path) -> list[str]:
    """Returns the command that trains and publishes below a folder."""
    folders = ["--saved-models", f"{folder}/saved_models", "--runs", f"{folder}/runs"]
    return [sys.executable, "-u", "-m", "app.train", task, *SMALL, "--deterministic", *folders]


LINES = 20_000  # of the file that is predicted
SIGNALS = {
    "SIGKILL": (signal.SIGKILL,),
    "SIGTERM": (signal.SIGTERM,),
    "Ctrl-C": (signal.SIGINT,),
    "Ctrl-C twice": (signal.SIGINT, signal.SIGINT),
}
_LOADED = 0.4  # share of a prediction after which TensorFlow has been imported
_PAUSE = 0.05  # seconds between two signals
_EXIT = 600  # seconds, on a busy machine, within which a process ends after a signal


class Stops:
    """Starts of a command, and how they ended.

    Args:
        argv: The command.
        duration: Its duration without interruption, in seconds.
        seed: Random seed of the moments.
        earliest: The earliest moment, as a share of the duration.

    Attributes:
        count: Starts that were stopped.
        counts: Starts by signal and phase.
        tracebacks: Starts that printed a traceback.
    """

    def __init__(self, argv: list[str], duration: float, seed: int, earliest: float = 0.0):
        self._argv, self._between = argv, (earliest * duration, duration)
        self._random, self._signals = random.Random(seed), itertools.cycle(SIGNALS)
        self.count, self.counts, self.tracebacks = 0, collections.Counter(), 0

    def start(self) -> bool:
        """Starts the command and stops it; returns whether it ended before."""
        name = next(self._signals)
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            process = subprocess.Popen(self._argv, stdout=stdout, stderr=stderr)
            ended = False
            with contextlib.suppress(subprocess.TimeoutExpired):
                ended = process.wait(self._random.uniform(*self._between)) == 0
            for signal_ in () if process.poll() is not None else SIGNALS[name]:
                os.kill(process.pid, signal_)
                time.sleep(_PAUSE)
            process.wait(_EXIT)
            for file in (stdout, stderr):
                file.seek(0)
            output, errors = stdout.read(), stderr.read()
        if b"Traceback" in errors:
            self.tracebacks += 1
            print(errors.decode("utf-8", "replace")[-2000:], file=sys.stderr, flush=True)
        self.count += not ended
        self.counts["none" if ended else name, "ended before" if ended else _phase(output)] += 1
        return ended

    def report(self) -> str:
        """Returns the table of the starts."""
        rows = [[name, phase, count] for (name, phase), count in sorted(self.counts.items())]
        return records.markdown_table(["signal", "during", "times"], rows)


def _phase(output: bytes) -> str:
    last = [phase for mark, phase in PHASES.items() if mark in output][-1]
    if last == "training" and f"Epoch {SMALL[5]}/".encode() in output:
        return "last epoch, export and evaluation"
    return last


def timed(argv: list[str]) -> float:
    """Runs a command, and returns its duration in seconds."""
    began = time.monotonic()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def weights(version: Path) -> list[np.ndarray]:
    """Returns the weights of a version."""
    return models.load(version).get_weights()


def broken(folders: Iterable[Path]) -> list[Path]:
    """Returns the versions whose files differ from those that were published."""
    damaged = []
    for version in folders:
        try:
            manifest.verify(version)
        except manifest.Damage:
            damaged.append(version)
    return damaged


def stop_training(task: str, kills: int, seed: int, root: Path) -> bool:
    """Stops trainings, prints the results, and returns whether they are right."""
    alone, folder, bad = root / "alone", root / "stopped", []
    duration = timed(command(task, alone))
    published = folder / "saved_models" / task

    def complete() -> list[Path]:
        return [published / str(version) for version in versions.numbers(published)]

    stops = Stops(command(task, folder), duration, seed)
    while stops.count < kills:
        stops.start()
        bad += broken(complete())
        print(
            f"{stops.count} stops; versions: {len(complete())}",
            file=sys.stderr,
            flush=True,
        )
    subprocess.run(command(task, folder), check=True, stdout=subprocess.DEVNULL)
    expected = weights(alone / "saved_models" / task / "1")
    different = [
        version
        for version in complete()
        if not all(map(np.array_equal, weights(version), expected))
    ]
    print(stops.report())
    print(
        f"\n{stops.count} stops: {len(complete())} versions, {len(set(bad))} of them incomplete, "
        f"{len(different)} with other weights than without interruption; {stops.tracebacks} "
        f"tracebacks; the last start ended normally. {task}, {duration:.0f} s without "
        f"interruption; {records.machine()}"
    )
    return not bad and not different and not stops.tracebacks


def stop_predicting(task: str, kills: int, seed: int, root: Path) -> bool:
    """Stops predictions of a file, prints the results, and returns whether they are right."""
    version = untrained.version(task, root / "saved_models")
    texts = [example.values["text"].encode() for example in untrained.examples(task)]
    lines = [b"", b"\xff\xfe", *texts]
    source = root / "lines.txt"
    source.write_bytes(b"\n".join(itertools.islice(itertools.cycle(lines), LINES)) + b"\n")

    def predict(target: Path) -> list[str]:
        folder = str(version.parent.parent)
        files = ["--from", str(source), "--to", str(target)]
        return [sys.executable, "-m", "app.predict", task, *files, "--saved-models", folder]

    alone, target = root / "alone.txt", root / "stopped.txt"
    duration = timed(predict(alone))
    expected, completed, different = alone.read_bytes(), 0, 0
    stops = Stops(predict(target), duration, seed, _LOADED)
    while stops.count < kills:
        if stops.start():
            completed += 1
            different += target.read_bytes() != expected
            target.unlink()
        print(f"{stops.count} stops; files: {completed}", file=sys.stderr, flush=True)
    print(stops.report())
    print(
        f"\n{stops.count} stops: {completed} files, {different} of them with other bytes than "
        f"without interruption; {stops.tracebacks} tracebacks. {LINES:,} lines, {duration:.0f} s "
        f"without interruption; {records.machine()}"
    )
    return completed > 0 and not different and not stops.tracebacks


COMMANDS: dict[str, Callable[[str, int, int, Path], bool]] = {
    "train": stop_training,
    "predict": stop_predicting,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--command", choices=COMMANDS, default="train")
    parser.add_argument("--task", choices=tasks.names(), default="sentiment")
    parser.add_argument("--kills", type=int, default=100, help="stops (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the moments")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        right = COMMANDS[args.command](args.task, args.kills, args.seed, Path(name))
    sys.exit(0 if right else 1)


if __name__ == "__main__":
    main()
