"""Training speed of two processes compared with one, and the cost of saving the state.

    python -m benchmarks.scaling

The corpus is that of `benchmarks.growth`. One process trains on one core; then two processes
train on a core each, as two machines would (`--strategy multiworker` on the loopback
interface); then one process trains on both cores. Times are of all epochs but the first. Ideally
two processes train on twice as many words per second as one. Then the state of a run is saved
five times for each number of weights, as after each epoch.
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
from benchmarks import growth, records

LINES = 20_000
EPOCHS = 3
SIZE = ["--units", "128", "--embedding", "128", "--vocabulary", "10000", "--batch-tokens", "8192"]
# Cores of each process.
SETUPS = {
    "one process, one core": [{0}],
    "two processes, one core each": [{0}, {1}],
    "one process, two cores": [{0, 1}],
}
WEIGHTS = (10**5, 10**6, 10**7)


def free_ports(count: int) -> list[int]:
    """Returns ports that no process listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports


def seconds(corpus: Path, cores: list[set[int]]) -> float:
    """Returns the mean seconds per epoch of a process on each set of cores."""
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, "-m", "app.train", "sentiment", *SIZE, "--epochs", str(EPOCHS)]
        command += ["--patience", str(EPOCHS), "--train", f"{corpus}/train-*"]
        command += ["--valid", f"{corpus}/valid.tsv.gz", "--test", f"{corpus}/test.tsv.gz"]
        command += ["--saved-models", f"{name}/saved_models", "--runs", f"{name}/runs"]
        command += ["--strategy", "multiworker" if len(cores) > 1 else "none"]
        workers = [f"127.0.0.1:{port}" for port in free_ports(len(cores))]
        processes = []
        for index, own in enumerate(cores):
            cluster = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
            processes.append(
                subprocess.Popen(
                    command,
                    env={**os.environ, "TF_CONFIG": json.dumps(cluster) if len(cores) > 1 else ""},
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


def save_state(weights: int) -> tuple[float, int]:
    """Returns the median seconds to save a state, and its size in bytes.

    The state has the weights, those of the best epoch, and two moments of the optimizer.
    """
    arrays = {
        "model": [np.zeros(weights, np.float32)],
        "optimizer": [np.zeros(weights, np.float32)] * 2,
        "average": [],
        "best": [np.zeros(weights, np.float32)],
    }
    with tempfile.TemporaryDirectory() as name:
        run = Run(Path(name))
        seconds = []
        for _ in range(5):
            began = time.monotonic()
            run.save(Progress(), arrays)
            seconds.append(time.monotonic() - began)
        return statistics.median(seconds), (run.folder / "state.npz").stat().st_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--repeats", type=int, default=3, help="turns of all measurements")
    args = parser.parse_args()
    by_setup = {setup: [] for setup in SETUPS}
    with tempfile.TemporaryDirectory() as name:
        corpus = Path(name)
        words, _ = growth.write("sentiment", corpus, LINES)
        for _ in range(args.repeats):
            for setup, cores in SETUPS.items():
                by_setup[setup].append(words / seconds(corpus, cores))
                print(f"{setup}: {by_setup[setup][-1]:,.0f} words/s", file=sys.stderr, flush=True)
    alone = by_setup["one process, one core"]
    rows = []
    for setup, rates in by_setup.items():
        ratio = statistics.median(rate / one for rate, one in zip(rates, alone, strict=True))
        rows.append([setup, f"{statistics.median(rates):,.0f}", f"{ratio:.2f}"])
    print(records.markdown_table(["", "words/s", "relative to one core"], rows))
    states = [(weights, *save_state(weights)) for weights in WEIGHTS]
    rows = [[f"{w:,}", f"{1000 * s:.0f}", f"{b / 2**20:.1f}"] for w, s, b in states]
    print("\n" + records.markdown_table(["weights", "ms to save the state", "MiB"], rows))
    print(f"\n{records.machine()}; medians of {args.repeats} interleaved runs, and of five saves")


if __name__ == "__main__":
    main()
