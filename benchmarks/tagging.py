"""Accuracy of tagging on treebanks: the default model, and one change at a time.

    DATA_DIR=... python -m benchmarks.tagging          # runs what is missing, prints all
    DATA_DIR=... python -m benchmarks.tagging --show # prints what there is

Each row is `app.train` with its defaults and the flags told; gold tokens go through
the signature `tokens` of what it published. Each run is a file in runs/benchmarks/, so
the command goes on where it was stopped.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from benchmarks import results

SCORES = ("accuracy", "unseen_accuracy", "sentence_accuracy")
# A name: the treebank, the flags beside the defaults, and the seeds.
RUNS = {
    "ewt-upos": ("en_ewt", [], (0, 1, 2)),
    "sequoia-upos": ("fr_sequoia", [], (0, 1, 2)),
    "ewt-xpos": ("en_ewt", ["--tags", "xpos"], (0,)),
    "ewt-crf": ("en_ewt", ["--crf"], (0,)),
    "ewt-words": ("en_ewt", ["--characters", "0"], (0,)),
    "ewt-peephole": ("en_ewt", ["--cell", "lstm_peephole"], (0,)),
    "ewt-gru": ("en_ewt", ["--cell", "gru"], (0,)),
    "ewt-coupled": ("en_ewt", ["--cell", "lstm_coupled"], (0,)),
}
TITLES = {"en_ewt": "English-EWT", "fr_sequoia": "French-Sequoia"}


def measure(treebank: str, flags: list[str], seed: int) -> dict:
    """The record of the version that a training publishes."""
    data = str(results.data_dir() / "tagging" / treebank)
    with tempfile.TemporaryDirectory() as name:
        told = ["--data", data, "--seed", str(seed), *flags]
        return results.trained("tagging", Path(name), *told)


def line(name: str, records: list[dict | None]) -> list[str]:
    """A line of the table."""
    treebank, flags, seeds = RUNS[name]
    told = [TITLES[treebank], " ".join(flags) or "defaults"]
    if None in records:
        return [*told, "not run", "", "", "", ""]
    columns = []
    for score in SCORES:
        found = [100 * record["scores"][score] for record in records]
        spread = f" ± {statistics.stdev(found):.2f}" if len(found) > 1 else ""
        columns.append(f"{statistics.mean(found):.2f}{spread}")
    minutes = [sum(record["seconds"].values()) / 60 for record in records]
    return [*told, *columns, str(len(seeds)), f"{statistics.mean(minutes):.1f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--show", action="store_true", help="print only what has been run")
    parser.add_argument("--only", choices=RUNS, help="run one line")
    args = parser.parse_args()
    table = []
    for name, (treebank, flags, seeds) in RUNS.items():
        records = []
        for seed in seeds:
            row = f"{name}-{seed}"
            if args.show or (args.only and args.only != name):
                records.append(results.known("tagging", row))
            else:
                records.append(
                    results.result(
                        "tagging", row, lambda t=treebank, f=flags, s=seed: measure(t, f, s)
                    )
                )
        table.append(line(name, records))
    columns = ["treebank", "flags", "accuracy %", "unseen words %", "sentences %"]
    print(results.markdown([*columns, "seeds", "minutes"], table))
    print(f"\n{results.machine()}; test part, gold tokens; mean ± s.d. over seeds of the weights")


if __name__ == "__main__":
    main()
