"""Sixteen concurrent clients that feed long texts in small pieces: equality and latency.

    python -m benchmarks.stream_clients                              # the latest version of tagging
    python -m benchmarks.stream_clients --data DIR --words 1000      # texts of a corpus
    python -m benchmarks.stream_clients sentiment --server grpc://localhost:8500 --version 2

Each client has its own connection, by REST or by gRPC in turn, and its own text, consecutive
sentences of the corpus's test part, cut at random into pieces of 1 to 40 bytes, also inside words
and characters. Together the responses to the pieces must be the response of `serving_default` to
the whole text: strings and integers exactly, numbers to 1e-5. Without --server the clients use the
fake server of the tests, which merges their requests; see `benchmarks.clients`. A text must not
have more words than the version reads of a whole text.
"""

import argparse
import contextlib
import itertools
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent import futures
from pathlib import Path
from typing import NamedTuple

import tasks
from app.serving import client, versions
from app.serving.streaming import joined
from benchmarks import records
from benchmarks.clients import equal
from tests.support.fake_server import Batching, FakeServer
from tests.support.untrained import STREAMS

MAX_PIECE = 40  # bytes
COLUMNS = [
    "task",
    "clients",
    "words",
    "pieces",
    "words/s",
    "median ms",
    "95 % ms",
    "other responses",
]


class Result(NamedTuple):
    """What a client measured.

    Attributes:
        seconds: Time of each request.
        is_equal: Whether the pieces had the response of the whole text.
    """

    seconds: list[float]
    is_equal: bool


def pieces(text: bytes, drawn: random.Random, longest: int = MAX_PIECE) -> Iterator[bytes]:
    """Yields a text in pieces of random lengths."""
    while text:
        length = drawn.randint(1, longest)
        yield text[:length]
        text = text[length:]


def run(url: str, task: str, version: int | None, text: str, seed: int) -> Result:
    """Feeds a text, and compares the responses with that to the whole text."""
    with contextlib.closing(client.connect(url, task, version)) as model:
        [whole] = model.predict([{"text": text}])
        responses, seconds = [], []
        stream = model.stream()
        for piece in pieces(text.encode(), random.Random(seed)):
            began = time.perf_counter()
            responses.append(stream.feed(piece))
            seconds.append(time.perf_counter() - began)
        final = stream.finish()
    together = joined([*responses, final]) if "lengths" in final else final
    return Result(seconds, together.keys() == whole.keys() and equal(together, whole))


def texts(task: str, data: str, clients: int, words: int) -> list[str]:
    """Returns a text of so many words for each client."""
    test = tasks.find(task).Corpus(data=data).open().test
    sentences = (_text(example.values) for example in itertools.chain.from_iterable(_again(test)))
    stream = itertools.chain.from_iterable(sentence.split() for sentence in sentences)
    return [" ".join(itertools.islice(stream, words)) for _ in range(clients)]


def _again(examples: Iterable) -> Iterator[Iterable]:
    while True:
        yield iter(examples)


def _text(values: dict) -> str:
    return values["text"] if "text" in values else " ".join(values["tokens"])


def measure(urls: list[str], task: str, version: int | None, read: list[str]) -> list:
    """Returns the row of the table for the texts of concurrent clients."""
    began = time.perf_counter()
    with futures.ThreadPoolExecutor(len(read)) as pool:
        work = [
            pool.submit(run, urls[number % len(urls)], task, version, text, number)
            for number, text in enumerate(read)
        ]
        results = [each.result() for each in work]
    total = time.perf_counter() - began
    seconds = sorted(itertools.chain.from_iterable(each.seconds for each in results))
    count = sum(len(text.split()) for text in read)
    return [
        task,
        len(read),
        f"{count:,}",
        f"{len(seconds):,}",
        f"{count / total:,.0f}",
        f"{1000 * statistics.median(seconds):.1f}",
        f"{1000 * seconds[int(0.95 * len(seconds))]:.1f}",
        sum(not each.is_equal for each in results),
    ]


def main(argv: list[str] | None = None) -> None:
    """Prints the table; the exit code is 1 if a response differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("task", nargs="?", default="tagging", choices=sorted(STREAMS))
    parser.add_argument("--saved-models", type=Path, default=Path("saved_models"))
    parser.add_argument("--version", type=int, help="default: the latest")
    parser.add_argument("--server", help="server with the version; default: the fake one")
    parser.add_argument("--data", default="sample", help="corpus, as for app.train")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--words", type=int, default=200, help="of the text of a client")
    args = parser.parse_args(argv)
    read = texts(args.task, args.data, args.clients, args.words)
    with contextlib.ExitStack() as stack:
        urls = [args.server]
        if not args.server:
            folder = versions.find(args.saved_models, args.task, args.version).absolute()
            base = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            (base / args.task).mkdir()
            (base / args.task / folder.name).symlink_to(folder, target_is_directory=True)
            server = stack.enter_context(FakeServer(base, batching=Batching(16, 0.005)))
            urls = [server.rest, server.grpc]
        row = measure(urls, args.task, args.version, read)
    print(records.markdown_table(COLUMNS, [row]))
    print(f"\nPieces of 1 to {MAX_PIECE} bytes; {records.machine()}")
    sys.exit(1 if row[-1] else 0)


if __name__ == "__main__":
    main()
