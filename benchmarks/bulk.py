"""How fast `app.predict` answers a file of many lines, and how much memory it takes.

    python -m benchmarks.bulk                           # the version of sentiment in saved_models/
    python -m benchmarks.bulk --lines 1000000 --only bulk

A line is one to twenty texts of the embedded sample, two in the middle. Each command is a
process of its own, from start to end: `--from FILE --to FILE`, the plain one with the file as
its standard input, and Apache Beam on its local runner where it is installed. Lines in a
second of CPU are told beside those in a second of the clock, which other work on the machine
slows down.
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
from benchmarks import results

TASK = "sentiment"
LINES = (10_000, 100_000)
MOST = 20  # texts of a line
TOLD = {
    "bulk": "`app.predict --from --to`",
    "plain": "`app.predict < FILE`",
    "beam": "`app.beam --from --to`",
}


class Taken(NamedTuple):
    """What a process took.

    Attributes:
        seconds: From start to end.
        cpu: Seconds of all cores.
        peak: Bytes of memory.
    """

    seconds: float
    cpu: float
    peak: int


def texts(count: int) -> Iterator[str]:
    """Lines of many lengths, made of the embedded sample."""
    train = tasks.find(TASK).Corpus().open().train
    known, source = [example.values["text"] for example in train], random.Random(0)
    for _ in range(count):
        joined = min(1 + int(source.lognormvariate(0, 0.8)), MOST)
        yield " ".join(source.choices(known, k=joined))


def measure(command: list[str], source: Path, to: Path) -> Taken:
    """Runs a process that reads a file as its standard input and writes another."""
    began = time.monotonic()
    with source.open("rb") as lines, to.open("wb") as answers:
        process = subprocess.Popen(command, stdin=lines, stdout=answers, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"error: {' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    unit = 1 if sys.platform == "darwin" else 1024
    cpu = usage.ru_utime + usage.ru_stime
    return Taken(time.monotonic() - began, cpu, usage.ru_maxrss * unit)


def commands(folder: Path, lines: Path, saved_models: Path) -> dict[str, list[str]]:
    """The commands that can be measured here, by what tells them apart."""
    asked = [TASK, "--saved-models", str(saved_models)]
    predict = [sys.executable, "-m", "app.predict", *asked]
    found = {
        "bulk": [*predict, "--from", str(lines), "--to", f"{folder}/bulk"],
        "plain": predict,
    }
    if importlib.util.find_spec("apache_beam"):
        beam = [sys.executable, "-m", "app.beam", *asked]
        found["beam"] = [*beam, "--from", str(lines), "--to", f"{folder}/beam"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--saved-models", type=Path, default=Path("saved_models"))
    parser.add_argument("--lines", type=int, nargs="+", default=LINES, help="lines of each file")
    parser.add_argument("--only", choices=TOLD, nargs="+", default=list(TOLD), help="commands")
    args = parser.parse_args()
    table = []
    for count in args.lines:
        with tempfile.TemporaryDirectory() as name:
            lines, words = Path(name) / "lines.txt", 0
            with lines.open("w", encoding="utf-8") as file:
                for text in texts(count):
                    words += len(text.split())
                    file.write(f"{text}\n")
            found = commands(Path(name), lines, args.saved_models)
            for kind in (each for each in args.only if each in found):
                print(f"{count:,} lines, {TOLD[kind]}", file=sys.stderr)
                taken = measure(found[kind], lines, Path(name) / "answers")
                rate, of_cpu = (f"{count / each:,.0f}" for each in (taken.seconds, taken.cpu))
                shown = [rate, of_cpu, f"{taken.peak / 2**20:.0f}"]
                table.append([f"{count:,}", TOLD[kind], *shown, f"{taken.seconds:.0f}"])
    columns = ["lines", "command", "lines/s", "lines per CPU s", "peak MiB", "seconds"]
    print(results.markdown(columns, table))
    print(f"\n{results.machine()}; {words / count:.0f} words a line")


if __name__ == "__main__":
    main()
