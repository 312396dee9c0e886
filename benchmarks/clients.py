"""Sixteen clients at once: what is lost, what is answered otherwise than alone, how long it takes.

    python -m benchmarks.clients                        # the versions in saved_models/

Each client has a connection of its own, over REST or gRPC by turns, and sends requests of
one to four rows of the sample's test part one after another. They use the fake
server of the tests (tests/support/fake_server.py): the same graphs in the same session, with
the merging rules of the real one, but in Python, so that its own time is in the latencies.
A response is correct if it is that of the version for the row alone: strings and integers equal,
numbers to 1e-5.
"""

import argparse
import itertools
import random
import sys
import time
from concurrent import futures
from pathlib import Path

import numpy as np

import tasks
from app.serving import client, export
from app.serving.session import SavedModelSession
from benchmarks import results
from tests.support.fake_server import Batching, FakeServer

CLIENTS, REQUESTS, ROWS = 16, 30, 4  # requests of each client; most rows of one
KNOWN = 64  # different rows
NUMBERS = 1e-5


def alike(one: dict, other: dict) -> bool:
    """Whether two answers of a row are the same."""
    for name, value in one.items():
        given, wanted = np.asarray(value), np.asarray(other[name])
        if given.shape != wanted.shape:
            return False
        if wanted.dtype.kind == "f":
            if not np.allclose(given, wanted, rtol=NUMBERS, atol=NUMBERS):
                return False
        elif not np.array_equal(given, wanted):
            return False
    return True


def measure(name: str, saved_models: Path) -> list:
    """A line of the table."""
    version = export.find(saved_models, name)
    task, served = tasks.find(name).restore(version / "assets"), SavedModelSession(version)
    test = tasks.find(name).Corpus().open().test
    known = [task.row(example.values) for example in itertools.islice(iter(test), KNOWN)]
    wanted = [served.predict([row])[0] for row in known]
    source = random.Random(0)
    work = [
        [source.choices(range(KNOWN), k=source.randint(1, ROWS)) for _ in range(REQUESTS)]
        for _ in range(CLIENTS)
    ]

    def ask(requests: list[list[int]], url: str) -> list[tuple[float, list[dict]]]:
        own, answers = client.connect(url, name, timeout=300), []
        for places in requests:
            began = time.perf_counter()
            given = own.predict([known[at] for at in places])
            answers.append((time.perf_counter() - began, given))
        own.close()
        return answers

    batching = Batching(max_batch_size=32, timeout=0.001, pad_variable_length_inputs=True)
    with (
        FakeServer(saved_models, [name], batching=batching) as server,
        futures.ThreadPoolExecutor(CLIENTS) as threads,
    ):
        began = time.perf_counter()
        given = list(threads.map(ask, work, itertools.cycle((server.rest, server.grpc))))
        taken = time.perf_counter() - began
        merged = server.predictions / server.runs
    asked = list(itertools.chain(*work))
    answered = list(itertools.chain.from_iterable(given))
    lost = sum(len(places) - len(told) for places, (_, told) in zip(asked, answered, strict=True))
    wrong = sum(
        not alike(answer, wanted[at])
        for places, (_, told) in zip(asked, answered, strict=True)
        for at, answer in zip(places, told, strict=True)
    )
    p50, p95, p99 = np.percentile([seconds for seconds, _ in answered], (50, 95, 99)) * 1e3
    count = sum(map(len, asked))
    latencies = [f"{each:.0f}" for each in (p50, p95, p99)]
    return [
        name,
        len(asked),
        count,
        lost,
        wrong,
        f"{merged:.1f}",
        *latencies,
        f"{count / taken:.0f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--saved-models", type=Path, default=Path("saved_models"))
    args = parser.parse_args()
    table = []
    for name in tasks.names():
        if not export.versions(args.saved_models / name):
            print(f"{name}: no version in {args.saved_models}", file=sys.stderr)
            continue
        print(f"{name}: {CLIENTS} clients", file=sys.stderr, flush=True)
        table.append(measure(name, args.saved_models))
    columns = ["task", "requests", "rows", "lost", "wrong", "requests in a run"]
    print(results.markdown([*columns, "p50 ms", "p95 ms", "p99 ms", "rows/s"], table))
    print(f"\n{results.machine()}; {CLIENTS} clients; seed 0")


if __name__ == "__main__":
    main()
