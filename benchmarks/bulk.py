"""Speed and peak memory of `app.predict` over files of many lines.

    python -m benchmarks.bulk                           # the version of sentiment in saved_models/
    python -m benchmarks.bulk --lines 1000000 --only bulk

A line contains one to twenty texts of the embedded sample, with a median of two. Each command
runs in a process of its own, which is measured from start to end: `--from FILE --to FILE`; the
plain command with the file as standard input; and Apache Beam on its local runner if it is
installed. The table has lines per second of CPU time too, because other work on the machine
slows down the wall clock.
"""

import argparse
import importlib.util
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import tasks
from benchmarks import records

TASK = "sentiment"
LINES = (10_000, 100_000)
MAX_TEXTS = 20  # per line
TITLES = {
    "bulk": "`app.predict --from --to`",
    "plain": "`app.predict < FILE`",
    "beam": "`app.beam --from --to`",
}


class Usage(NamedTuple):
    """Resources that a process used.

    Attributes:
        seconds: Wall-clock time from start to end.
        cpu_seconds: CPU time over all cores.
        peak_bytes: Peak resident memory.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int


def texts(count: int) -> Iterator[str]:
    """Yields lines of various lengths, made of texts of the embedded sample."""
    train = tasks.find(TASK).Corpus().open().train
    samples, source = [example.values["text"] for example in train], random.Random(0)
    for _ in range(count):
        length = min(1 + int(source.lognormvariate(0, 0.8)), MAX_TEXTS)
        yield " ".join(source.choices(samples, k=length))


def measure(command: list[str], source: Path, target: Path) -> Usage:
    """Runs a command with files as its standard input and output, and returns its usage."""
    began = time.monotonic()
    with source.open("rb") as stdin, target.open("wb") as stdout:
        process = subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"error: {' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    cpu_seconds = usage.ru_utime + usage.ru_stime
    return Usage(time.monotonic() - began, cpu_seconds, usage.ru_maxrss * unit)


def commands(folder: Path, lines: Path, saved_models: Path) -> dict[str, list[str]]:
    """Returns the commands that are available, by their key in `TITLES`."""
    arguments = [TASK, "--saved-models", str(saved_models)]
    predict = [sys.executable, "-m", "app.predict", *arguments]
    available = {
        "bulk": [*predict, "--from", str(lines), "--to", f"{folder}/bulk"],
        "plain": predict,
    }
    if importlib.util.find_spec("apache_beam"):
        beam = [sys.executable, "-m", "app.beam", *arguments]
        available["beam"] = [*beam, "--from", str(lines), "--to", f"{folder}/beam"]
    return available


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--saved-models", type=Path, default=Path("saved_models"))
    parser.add_argument("--lines", type=int, nargs="+", default=LINES, help="lines of each file")
    parser.add_argument("--only", choices=TITLES, nargs="+", default=list(TITLES), help="commands")
    args = parser.parse_args()
    rows = []
    for count in args.lines:
        with tempfile.TemporaryDirectory() as name:
            lines, words = Path(name) / "lines.txt", 0
            with lines.open("w", encoding="utf-8") as file:
                for text in texts(count):
                    words += len(text.split())
                    file.write(f"{text}\n")
            available = commands(Path(name), lines, args.saved_models)
            for kind in args.only:
                if kind not in available:
                    continue
                print(f"{count:,} lines, {TITLES[kind]}", file=sys.stderr)
                usage = measure(available[kind], lines, Path(name) / "responses")
                rows.append(
                    [
                        f"{count:,}",
                        TITLES[kind],
                        f"{count / usage.seconds:,.0f}",
                        f"{count / usage.cpu_seconds:,.0f}",
                        f"{usage.peak_bytes / 2**20:.0f}",
                        f"{usage.seconds:.0f}",
                    ]
                )
    columns = ["lines", "command", "lines/s", "lines per CPU s", "peak MiB", "seconds"]
    print(records.markdown_table(columns, rows))
    print(
        f"\n{records.machine()}; {words / count:.0f} words per line; whole processes, start-up "
        "included"
    )


if __name__ == "__main__":
    main()
