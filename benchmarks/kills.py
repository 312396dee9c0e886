"""Kills training a hundred times, at random moments, and looks at what is left of it.

    python -m benchmarks.kills
    python -m benchmarks.kills --kills 20 --task tagging

One command trains a task on its embedded sample and publishes. It is begun again and again,
and killed as by `kill -9` after a time drawn from 0 to what it takes when it is left alone.
After each kill every version there is has to be whole, by the sums of its files; at the end
every version has to have the very weights of one that was trained in one go: training is
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
from benchmarks import results
from models import manifest

SMALL = ["--units", "16", "--embedding", "16", "--epochs", "6", "--patience", "6"]
# What training says, and what it is at after that.
PHASES = {
    b"": "loading and reading",
    b"Epoch": "training",
    b"best epoch": "published",
}


def command(task: str, folder: Path) -> list[str]:
    """What trains and publishes below a folder."""
    own = ["--saved-models", f"{folder}/saved_models", "--runs", f"{folder}/runs"]
    return [sys.executable, "-u", "-m", "app.train", task, *SMALL, "--deterministic", *own]


def killed(argv: list[str], after: float) -> str:
    """Begins a command, kills it after some seconds, and returns what it was at."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(argv, stdout=said, stderr=subprocess.DEVNULL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(after)
            return "ended before" if process.returncode == 0 else "failed"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        said.seek(0)
        told = said.read()
    last = [phase for mark, phase in PHASES.items() if mark in told][-1]
    epochs = f"Epoch {SMALL[5]}/".encode()
    return "last epoch, export and judging" if last == "training" and epochs in told else last


def weights(version: Path) -> list[np.ndarray]:
    return models.load(version).get_weights()


def broken(versions: Iterable[Path]) -> list[Path]:
    """The versions whose files are not those that were published."""
    found = []
    for version in versions:
        try:
            manifest.verify(version)
        except manifest.Damage:
            found.append(version)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--task", choices=tasks.names(), default="sentiment")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    source, counts, kills, bad = random.Random(args.seed), collections.Counter(), 0, []
    with tempfile.TemporaryDirectory() as name:
        alone, folder = Path(name) / "alone", Path(name) / "killed"
        began = time.monotonic()
        subprocess.run(command(args.task, alone), check=True, stdout=subprocess.DEVNULL)
        longest = time.monotonic() - began
        own = folder / "saved_models" / args.task

        def versions() -> list[Path]:
            return [own / str(version) for version in export.versions(own)]

        while kills < args.kills:
            at = killed(command(args.task, folder), source.uniform(0, longest))
            kills += at not in ("ended before", "failed")
            counts[at] += 1
            bad += broken(versions())
            print(f"{kills} kills, the last one in: {at}; versions: {len(versions())}", flush=True)
        subprocess.run(command(args.task, folder), check=True, stdout=subprocess.DEVNULL)
        wanted = weights(alone / "saved_models" / args.task / "1")
        other = [
            version
            for version in versions()
            if not all(map(np.array_equal, weights(version), wanted))
        ]
        print("\n" + results.markdown(["killed while", "times"], sorted(counts.items())))
        print(
            f"\n{kills} kills: {len(versions())} versions, {len(set(bad))} of them not whole, "
            f"{len(other)} with other weights than of one go; begun anew it ended well. "
            f"{args.task}, {longest:.0f} s in one go; {results.machine()}"
        )
    sys.exit(bool(bad or other or counts["failed"]))


if __name__ == "__main__":
    main()
