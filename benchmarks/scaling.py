"""Words in a second with one and with two processes, and what keeping the state costs.

    python -m benchmarks.scaling

The corpus is that of `benchmarks.growth`. One process trains on one core, then two do, each on
a core of its own, as two machines would (`--strategy multiworker` on loopback), and then one on
both cores. Seconds are those of all epochs but the first. Twice as many words in a second as
on one core is the ideal. Then the state of a run of each size is kept five times, as after
each epoch.
"""

import argparse
import csv
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from app.training.run_state import Progress, Run
from benchmarks import growth, results

LINES = 20_000
EPOCHS = 3
SIZE = ["--units", "128", "--embedding", "128", "--vocabulary", "10000", "--batch-tokens", "8192"]
MESSAGES = {
    "one process, one core": [{0}],
    "two processes, a core each": [{0}, {1}],
    "one process, two cores": [{0, 1}],
}
WEIGHTS = (10**5, 10**6, 10**7)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def seconds(corpus: Path, cores: list[set[int]]) -> float:
    """Of an epoch, with a process on each of some sets of cores."""
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, "-m", "app.train", "sentiment", *SIZE, "--epochs", str(EPOCHS)]
        command += [
            "--patience",
            str(EPOCHS),
            "--train",
            f"{corpus}/train-*",
            "--runs",
            f"{name}/runs",
        ]
        command += ["--valid", f"{corpus}/valid.tsv.gz", "--test", f"{corpus}/test.tsv.gz"]
        command += ["--saved-models", f"{name}/saved_models"]
        command += ["--strategy", "multiworker" if len(cores) > 1 else "none"]
        workers = [f"127.0.0.1:{port}" for port in free_ports(len(cores))]
        processes = []
        for index, own in enumerate(cores):
            told = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
            processes.append(
                subprocess.Popen(
                    command,
                    env={**os.environ, "TF_CONFIG": json.dumps(told) if len(cores) > 1 else ""},
                    preexec_fn=lambda own=own: os.sched_setaffinity(0, own),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
        if sum(process.wait() for process in processes):
            sys.exit(f"error: {' '.join(command)} failed")
        (history,) = Path(name).glob("saved_models/*/1/assets.extra/history.csv")
        with history.open(encoding="utf-8") as file:
            return statistics.mean(float(row["seconds"]) for row in list(csv.DictReader(file))[1:])


def keeping(weights: int) -> tuple[float, int]:
    """Seconds and bytes of a state: weights, the best ones, and two moments of the optimizer."""
    arrays = {
        "model": [np.zeros(weights, np.float32)],
        "optimizer": [np.zeros(weights, np.float32)] * 2,
        "average": [],
        "best": [np.zeros(weights, np.float32)],
    }
    with tempfile.TemporaryDirectory() as name:
        run = Run(Path(name))
        taken = []
        for _ in range(5):
            began = time.monotonic()
            run.save(Progress(), arrays)
            taken.append(time.monotonic() - began)
        return statistics.median(taken), (run.folder / "state.npz").stat().st_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--repeats", type=int, default=3, help="times that all is measured in turn")
    args = parser.parse_args()
    found = {kind: [] for kind in MESSAGES}
    with tempfile.TemporaryDirectory() as name:
        corpus = Path(name)
        words, _ = growth.write("sentiment", corpus, LINES)
        for _ in range(args.repeats):
            for kind, cores in MESSAGES.items():
                found[kind].append(words / seconds(corpus, cores))
                print(f"{kind}: {found[kind][-1]:,.0f} words/s", file=sys.stderr, flush=True)
    alone = found["one process, one core"]
    table = []
    for kind, rates in found.items():
        ratio = statistics.median(rate / one for rate, one in zip(rates, alone, strict=True))
        table.append([kind, f"{statistics.median(rates):,.0f}", f"{ratio:.2f}"])
    print(results.markdown(["", "words/s", "of one core's"], table))
    states = [(weights, *keeping(weights)) for weights in WEIGHTS]
    told = [[f"{w:,}", f"{1000 * s:.0f}", f"{b / 2**20:.1f}"] for w, s, b in states]
    print("\n" + results.markdown(["weights", "ms to keep a state", "MiB"], told))
    print(f"\n{results.machine()}; medians of {args.repeats} runs in turn, and of five")


if __name__ == "__main__":
    main()
