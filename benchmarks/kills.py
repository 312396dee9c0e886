"""Kills training at random moments, a hundred times, and checks every version that is left.

    python -m benchmarks.kills
    python -m benchmarks.kills --kills 20 --task tagging

A command trains a task on its embedded sample and publishes it. The command is started again and
again, and killed as by `kill -9` after a random time of at most its uninterrupted duration. After
each kill, every version must be complete by the checksums of its files. At the end every version
must have the same weights as one that was trained without interruption, as training is
`--deterministic`.
"""

import argparse
import collections
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

import models
import tasks
from app.serving import export
from benchmarks import records
from models import manifest

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


def run_and_kill(argv: list[str], seconds: float) -> str:
    """Starts a command, kills it after some seconds, and returns its phase."""
    with tempfile.TemporaryFile() as stdout:
        process = subprocess.Popen(argv, stdout=stdout, stderr=subprocess.DEVNULL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            return "ended before" if process.returncode == 0 else "failed"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        stdout.seek(0)
        output = stdout.read()
    last = [phase for mark, phase in PHASES.items() if mark in output][-1]
    epochs = f"Epoch {SMALL[5]}/".encode()
    if last == "training" and epochs in output:
        return "last epoch, export and evaluation"
    return last


def weights(version: Path) -> list[np.ndarray]:
    """Returns the weights of a version."""
    return models.load(version).get_weights()


def broken(versions: Iterable[Path]) -> list[Path]:
    """Returns the versions whose files differ from those that were published."""
    damaged = []
    for version in versions:
        try:
            manifest.verify(version)
        except manifest.Damage:
            damaged.append(version)
    return damaged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--task", choices=tasks.names(), default="sentiment")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="random seed of the moments")
    args = parser.parse_args()
    source, counts, kills, bad = random.Random(args.seed), collections.Counter(), 0, []
    with tempfile.TemporaryDirectory() as name:
        alone, folder = Path(name) / "alone", Path(name) / "killed"
        began = time.monotonic()
        subprocess.run(command(args.task, alone), check=True, stdout=subprocess.DEVNULL)
        duration = time.monotonic() - began
        published = folder / "saved_models" / args.task

        def versions() -> list[Path]:
            return [published / str(version) for version in export.versions(published)]

        while kills < args.kills:
            phase = run_and_kill(command(args.task, folder), source.uniform(0, duration))
            kills += phase not in ("ended before", "failed")
            counts[phase] += 1
            bad += broken(versions())
            print(
                f"{kills} kills, the last during {phase}; versions: {len(versions())}", flush=True
            )
        subprocess.run(command(args.task, folder), check=True, stdout=subprocess.DEVNULL)
        expected = weights(alone / "saved_models" / args.task / "1")
        different = [
            version
            for version in versions()
            if not all(map(np.array_equal, weights(version), expected))
        ]
        print("\n" + records.markdown_table(["killed during", "times"], sorted(counts.items())))
        print(
            f"\n{kills} kills: {len(versions())} versions, {len(set(bad))} of them incomplete, "
            f"{len(different)} with other weights than without interruption; the last start ended "
            f"normally. {args.task}, {duration:.0f} s without interruption; {records.machine()}"
        )
    sys.exit(bool(bad or different or counts["failed"]))


if __name__ == "__main__":
    main()
