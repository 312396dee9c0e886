"""Sixteen concurrent clients: lost and wrong responses, and latency.

    python -m benchmarks.clients                        # the versions in saved_models/

Each client has its own connection, by REST or by gRPC in turn, and sends requests of one to
four rows of the sample's test part, one after another. They use the fake server of the tests
(tests/support/fake_server.py), which runs the same graphs in the same session and merges
requests by the rules of TensorFlow Serving, but in Python, so that its own time is part of the
latencies. A response is correct if it equals the version's response to the row alone: strings
and integers exactly, numbers to 1e-5.
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
from app.serving import client, versions
from app.serving.session import SavedModelSession
from benchmarks import records
from tests.support.fake_server import Batching, FakeServer

CLIENTS, REQUESTS, MAX_ROWS = 16, 30, 4  # requests per client, rows per request
DISTINCT_ROWS = 64
TOLERANCE = 1e-5


def equal(prediction: dict, reference: dict) -> bool:
    """Returns whether two predictions for a row are equal, numbers within `TOLERANCE`."""
    for name, value in prediction.items():
        actual, expected = np.asarray(value), np.asarray(reference[name])
        if actual.shape != expected.shape:
            return False
        if expected.dtype.kind == "f":
            if not np.allclose(actual, expected, rtol=TOLERANCE, atol=TOLERANCE):
                return False
        elif not np.array_equal(actual, expected):
            return False
    return True


def measure(name: str, saved_models: Path) -> list:
    """Returns the row of a task."""
    version = versions.find(saved_models, name)
    task, session = tasks.find(name).restore(version / "assets"), SavedModelSession(version)
    test = tasks.find(name).Corpus().open().test
    rows = [task.row(example.values) for example in itertools.islice(iter(test), DISTINCT_ROWS)]
    references = [session.predict([row])[0] for row in rows]
    source = random.Random(0)
    # The indices of the rows of each request, by client.
    work = [
        [
            source.choices(range(DISTINCT_ROWS), k=source.randint(1, MAX_ROWS))
            for _ in range(REQUESTS)
        ]
        for _ in range(CLIENTS)
    ]

    def send(requests: list[list[int]], url: str) -> list[tuple[float, list[dict]]]:
        """Returns the seconds and the predictions of each request of a client."""
        connection, responses = client.connect(url, name, timeout=300), []
        for indices in requests:
            began = time.perf_counter()
            predictions = connection.predict([rows[index] for index in indices])
            responses.append((time.perf_counter() - began, predictions))
        connection.close()
        return responses

    batching = Batching(max_batch_size=32, timeout=0.001, pad_variable_length_inputs=True)
    with (
        FakeServer(saved_models, [name], batching=batching) as server,
        futures.ThreadPoolExecutor(CLIENTS) as threads,
    ):
        began = time.perf_counter()
        by_client = list(threads.map(send, work, itertools.cycle((server.rest, server.grpc))))
        seconds = time.perf_counter() - began
        per_batch = server.predictions / server.runs
    requests = list(itertools.chain(*work))
    responses = list(itertools.chain.from_iterable(by_client))
    lost = wrong = 0
    for indices, (_, predictions) in zip(requests, responses, strict=True):
        lost += len(indices) - len(predictions)
        wrong += sum(
            not equal(prediction, references[index])
            for index, prediction in zip(indices, predictions, strict=True)
        )
    latencies = np.percentile([latency for latency, _ in responses], (50, 95, 99)) * 1e3
    count = sum(map(len, requests))
    return [
        name,
        len(requests),
        count,
        lost,
        wrong,
        f"{per_batch:.1f}",
        *(f"{latency:.0f}" for latency in latencies),
        f"{count / seconds:.0f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--saved-models", type=Path, default=Path("saved_models"))
    args = parser.parse_args()
    rows = []
    for name in tasks.names():
        if not versions.numbers(args.saved_models / name):
            print(f"{name}: no version in {args.saved_models}", file=sys.stderr)
            continue
        print(f"{name}: {CLIENTS} clients", file=sys.stderr, flush=True)
        rows.append(measure(name, args.saved_models))
    columns = ["task", "requests", "rows", "lost", "wrong", "requests per batch"]
    print(records.markdown_table([*columns, "p50 ms", "p95 ms", "p99 ms", "rows/s"], rows))
    print(f"\n{records.machine()}; {CLIENTS} clients; seed 0")


if __name__ == "__main__":
    main()
