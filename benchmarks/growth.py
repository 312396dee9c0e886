"""Cost of a larger corpus: peak memory, time, disk space, and time to the first step.

    python -m benchmarks.growth                                  # sentiment, 10^4 to 5 * 10^6 lines
    python -m benchmarks.growth --task translation --lines 10000 100000 1000000

Each corpus is ten compressed files of lines of three to twenty words, drawn by Zipf's law from
ten million words, so that new words keep occurring. Training runs in a process of its own: it
reads the corpus and counts its words, encodes it, takes 200 steps, validates, exports, and
evaluates a few hundred lines. Then it runs again with another `--learning-rate`, so that it
finds the encoded examples in the cache. The first step is timed by the line `Epoch 1`, before
which TensorFlow is loaded and the network is built. Peak memory is that of the first process.
"""

import argparse
import functools
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import records

LINES = (10_000, 100_000, 1_000_000, 5_000_000)
WORDS = 10_000_000
SHARDS = 10
EVALUATED = 500  # lines of the valid part, and of the test part
CHUNK = 10_000  # lines that are generated at a time
STEPS = 100  # per epoch, of two epochs
LETTERS = str.maketrans("0123456789", "aeioukmnst")
SMALL = ["--units", "32", "--embedding", "32", "--vocabulary", "10000"]
# Formats the words of a sentence as a line of the corpus, by task.
FORMATS = {
    "sentiment": lambda words: f"{' '.join(words)}\t{len(words[0]) % 2}",
    "tagging": lambda words: " ".join(f"{word}/{len(word)}" for word in words),
    "translation": lambda words: f"{' '.join(words)}\t{' '.join(reversed(words))}",
}


def sentences(rng: np.random.Generator, count: int) -> list[list[str]]:
    """Returns sentences of artificial words; the n-th word has a frequency of 1/n (Zipf's law)."""
    lengths = rng.integers(3, 21, count)
    ranks = np.floor(WORDS ** rng.random(lengths.sum())).astype(int)
    words = " ".join(map(str, ranks.tolist())).translate(LETTERS).split(" ")
    ends = np.cumsum(lengths)
    return [words[end - length : end] for end, length in zip(ends, lengths, strict=True)]


def write(task: str, folder: Path, count: int) -> tuple[int, int]:
    """Writes a corpus, and returns its number of words and its uncompressed size in bytes."""
    rng, word_count, size = np.random.default_rng(0), 0, 0
    parts = [(f"train-{n}.txt.gz", count // SHARDS) for n in range(SHARDS)]
    for name, lines in [*parts, ("valid.txt.gz", EVALUATED), ("test.txt.gz", EVALUATED)]:
        name = name.replace("txt", "tsv") if task != "tagging" else name
        with gzip.open(folder / name, "wb", compresslevel=1) as file:
            for first in range(0, lines, CHUNK):
                chunk = sentences(rng, min(CHUNK, lines - first))
                raw = "".join(f"{FORMATS[task](words)}\n" for words in chunk).encode()
                word_count += sum(map(len, chunk))
                size += len(raw)
                file.write(raw)
    return word_count, size


def train(task: str, corpus: Path, folder: Path, flags: Sequence[str]) -> dict[str, float]:
    """Trains in a process of its own, and returns its peak memory in bytes, and its seconds."""
    end = "txt.gz" if task == "tagging" else "tsv.gz"
    command = [sys.executable, "-u", "-m", "app.train", task, *SMALL, *flags]
    command += ["--train", f"{corpus}/train-*.{end}", "--epochs", "2"]
    command += ["--valid", f"{corpus}/valid.{end}", "--test", f"{corpus}/test.{end}"]
    command += ["--steps-per-epoch", str(STEPS), "--runs", f"{folder}/runs"]
    command += ["--saved-models", f"{folder}/saved_models"]
    began, first = time.monotonic(), 0.0
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    for line in process.stdout:
        if line.startswith(b"Epoch 1"):
            first = time.monotonic() - began
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"error: {' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    version = max((folder / "saved_models" / task).glob("[0-9]*"), key=lambda path: int(path.name))
    record = json.loads((version / "assets.extra/run.json").read_text())
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "peak": usage.ru_maxrss * unit,
        "first": first,
        "cpu": usage.ru_utime + usage.ru_stime,
        **record["seconds"],
    }


def measure(task: str, count: int) -> dict:
    """Measures one size of a corpus, without and with a cache of encoded examples."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words, size = write(task, folder, count)
        cold = train(task, folder, folder, [])
        warm = train(task, folder, folder, ["--learning-rate", "0.002"])
        shards = list((folder / "runs/encoded").rglob("*.tfrecord"))
        return {
            "words": words,
            "bytes": size,
            "encoded": sum(shard.stat().st_size for shard in shards),
            "cold": cold,
            "warm": warm,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--task", choices=FORMATS, default="sentiment")
    parser.add_argument("--lines", type=int, nargs="+", default=LINES)
    parser.add_argument("--fresh", action="store_true", help="ignore stored records")
    args = parser.parse_args()
    by_size = {
        count: records.load_or_measure(
            "growth",
            f"{args.task}-{count}",
            functools.partial(measure, args.task, count),
            args.fresh,
        )
        for count in args.lines
    }
    columns = ["lines", "words", "peak MiB", "read s", "encode s", "first step s"]
    columns += ["first step s, cached examples"]
    rows = []
    for count, record in by_size.items():
        cold, warm = record["cold"], record["warm"]
        seconds = (cold["read"], cold["encode"], cold["first"], warm["first"])
        peak = f"{cold['peak'] / 2**20:.0f}"
        rows.append([f"{count:,}", f"{record['words']:,}", peak, *(f"{s:.1f}" for s in seconds)])
    print(records.markdown_table(columns, rows))
    (few, small), (most, large) = min(by_size.items()), max(by_size.items())
    if few < most:
        words = (large["words"] - small["words"]) / 1e6
        seconds = {
            key: (large["cold"][key] - small["cold"][key]) / words for key in ("read", "encode")
        }
        print(
            f"\neach additional million words: {seconds['read']:.1f} s to read and count, "
            f"{seconds['encode']:.1f} s to encode, "
            f"{(large['encoded'] - small['encoded']) / words / 1e6:.1f} MB on disk, "
            f"{(large['cold']['peak'] - small['cold']['peak']) / words / 2**20:.2f} MiB of memory"
        )
    print(f"\n{args.task}; {records.machine()}")


if __name__ == "__main__":
    main()
