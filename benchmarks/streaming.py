"""Cost of a word of a text that is read in pieces, however much was read before.

    python -m benchmarks.streaming
    python -m benchmarks.streaming --tokens 1000

A tagger that reads forward gets a text word by word. Before the word that is measured, 10 to
1,000,000 words were read: the time of one `feed` must not depend on their number, and neither may
the size of the state or the peak memory of the process. Beside it is the time of `serving_default`
for all words so far, which is what a client without a state would request, up to `--whole` words.
"""

import argparse
import resource
import statistics
import tempfile
import time
from pathlib import Path

from app.serving.session import SavedModelSession
from app.serving.streaming import MAX_READ
from benchmarks import records
from tests.support import untrained

COLUMNS = [
    "words before",
    "feed of a word, ms",
    "all words again, ms",
    "state, bytes",
    "peak memory, MiB",
]
WORDS = "the old man saw the tower , and the women slept . "
REPEATS = 30


def measure(session: SavedModelSession, counts: list[int], whole: int) -> list[list[object]]:
    """Returns a row for each number of words that were read before."""
    rows, stream, read = [], session.stream(), 0
    words = WORDS.split()
    for count in counts:
        while read < count:
            more = min(count - read, MAX_READ // len(WORDS) * len(words))
            stream.feed(_text(words, more))
            read += more
        seconds = []
        for number in range(REPEATS):
            began = time.perf_counter()
            stream.feed(words[number % len(words)] + " ")
            seconds.append(time.perf_counter() - began)
        read += REPEATS
        again = f"{_seconds_of_whole(session, words, count) * 1000:.0f}" if count <= whole else ""
        rows.append(
            [
                f"{count:,}",
                f"{statistics.median(seconds) * 1000:.1f}",
                again,
                f"{len(stream.state):,}",
                f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:,.0f}",
            ]
        )
    return rows


def _text(words: list[str], count: int) -> str:
    return " ".join(words[number % len(words)] for number in range(count)) + " "


def _seconds_of_whole(session, words, count):
    """Median time of three requests for a text of so many words."""
    text = _text(words, count + 1)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        session.predict([{"text": text}])
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=1_000_000, help="most words before")
    parser.add_argument("--whole", type=int, default=10_000, help="most words that are sent again")
    parser.add_argument("--units", type=int, default=128)
    args = parser.parse_args()
    counts = [10**power for power in range(1, 7) if 10**power <= args.tokens]
    settings = {"direction": "forward", "lookahead": 2, "units": args.units, "embedding": 100}
    settings["max_tokens"] = args.whole + 1
    with tempfile.TemporaryDirectory() as folder:
        session = SavedModelSession(untrained.version("tagging", Path(folder), **settings))
        stream = session.stream()
        stream.feed("warm up ")
        rows = measure(session, counts, args.whole)
    print(records.markdown_table(COLUMNS, rows))
    print(f"\n{args.units} units, lookahead 2, one client; {records.machine()}")


if __name__ == "__main__":
    main()
