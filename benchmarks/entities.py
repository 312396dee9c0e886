"""Entities of the sample with and without constraints and CRF, and the cost of `entities`.

    python -m benchmarks.entities          # runs what is missing, prints all
    python -m benchmarks.entities --show   # prints the rows that have been run

Each row of the first table is a run of `app.train` on `sample:entities` with a small network that
is trained briefly, so that it has errors that constraints can repair; the default one has hardly
any. The second table has the CPU time of the signatures of a version of default size: `tokens` gets
the sentences of the test part as tokens, `serving_default` and `entities` get them as text.
"""

import argparse
import functools
import shlex
import statistics
import tempfile
import time
from pathlib import Path

import tasks
from app.serving.session import SavedModelSession
from benchmarks import records
from tests.support import untrained

DATA = "sample:entities"
SMALL = shlex.split(
    "--units 16 --embedding 16 --layers 1 --characters 8 --epochs 2 --learning-rate 0.01"
)
RUNS = {
    "softmax": ["--no-constrain"],
    "softmax, constrained": [],
    "CRF": ["--crf", "--no-constrain"],
    "CRF, constrained": ["--crf"],
}
COLUMNS = ["network", "precision %", "recall %", "F1 %", "accuracy of tags %"]
SCORES = ("entity_precision", "entity_recall", "entity_f1", "accuracy")
SIGNATURES = ("tokens", "serving_default", "entities")
BATCHES = (1, 32)
SENTENCES = 96  # of a turn


def measure(flags: list[str], seed: int) -> dict:
    """Trains a version, and returns its scores."""
    with tempfile.TemporaryDirectory() as name:
        argv = ["--data", DATA, "--seed", str(seed), *SMALL, *flags]
        record = records.train("tagging", Path(name), *argv)
    return {"scores": record["scores"]}


def row(name: str, by_seed: list[dict | None]) -> list[str]:
    """Returns a row of scores, given the record of each seed, or None if it is not measured."""
    if None in by_seed:
        return [name, "not run", *[""] * (len(SCORES) - 1)]
    cells = []
    for score in SCORES:
        values = [100 * record["scores"][score] for record in by_seed]
        spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        cells.append(f"{statistics.mean(values):.1f}{spread}")
    return [name, *cells]


def measure_costs(repeats: int) -> dict[str, dict[str, float]]:
    """Returns the milliseconds of CPU time per sentence, by batch size and signature."""
    config = tasks.declaration("tagging").Config()
    sizes = {name: getattr(config, name) for name in untrained.SMALL}
    examples = tasks.declaration("tagging").Corpus(data=DATA).open().test
    sentences = [example.values["tokens"] for example in examples][:SENTENCES]
    rows = [{"text": " ".join(s), "tokens": s, "lengths": len(s)} for s in sentences]
    with tempfile.TemporaryDirectory() as name:
        version = untrained.version("tagging", Path(name), data=DATA, **sizes)
        session = SavedModelSession(version)
        return {str(size): _costs(session, rows, size, repeats) for size in BATCHES}


def _costs(
    session: SavedModelSession, rows: list[dict], size: int, repeats: int
) -> dict[str, float]:
    """Returns the cost of each signature; the signatures take turns, after one to warm up."""
    batches = [rows[start : start + size] for start in range(0, len(rows), size)]
    seconds: dict[str, list[float]] = {name: [] for name in SIGNATURES}
    for turn in range(repeats + 1):
        for name in SIGNATURES:
            began = time.process_time()  # that of all threads, whatever else the machine does
            for batch in batches:
                session.predict(batch, name)
            if turn:
                seconds[name].append(time.process_time() - began)
    return {name: 1000 * statistics.median(s) / len(rows) for name, s in seconds.items()}


def main(argv: list[str] | None = None) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--show", action="store_true", help="print only rows that have been run")
    parser.add_argument("--only", choices=[*RUNS, "costs"], help="run one row, or the costs")
    parser.add_argument("--seeds", type=int, default=2, help="number of seeds of each row")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each signature")
    args = parser.parse_args(argv)

    def result(name: str, key: str, run) -> dict | None:
        if args.show or (args.only and args.only != name):
            return records.load("entities", key)
        return records.load_or_measure("entities", key, run)

    rows = []
    for name, flags in RUNS.items():
        by_seed = []
        for seed in range(args.seeds):
            run = functools.partial(measure, flags, seed)
            by_seed.append(result(name, f"{name.replace(', ', '-')}-{seed}", run))
        rows.append(row(name, by_seed))
    costs = result("costs", "costs", functools.partial(measure_costs, args.repeats))
    print(records.markdown_table(COLUMNS, rows))
    print(f"\nTest part of {DATA}; seeds of each row: {args.seeds}; `{' '.join(SMALL)}`\n")
    cells = [
        [size, *(f"{by_name[name]:.2f}" for name in SIGNATURES)]
        for size, by_name in (costs or {}).items()
    ]
    columns = ["batch", *(f"{name}, CPU ms per sentence" for name in SIGNATURES)]
    print(records.markdown_table(columns, cells))
    print(f"\n{records.machine()}; default sizes, {args.repeats} turns")


if __name__ == "__main__":
    main()
