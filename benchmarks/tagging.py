"""Accuracy of tagging on treebanks: the defaults, and one change at a time.

    DATA_DIR=... python -m benchmarks.tagging          # runs missing rows, prints all
    DATA_DIR=... python -m benchmarks.tagging --show # prints the rows that have been run

Each row is a run of `app.train` with its defaults and the listed flags. Gold tokens are tagged
through the signature `tokens` of the published version. Records are stored in runs/benchmarks/,
so an interrupted command resumes.
"""

import argparse
import functools
import statistics
import tempfile
from pathlib import Path

from benchmarks import records

VECTORS = "vectors/glove100.txt.gz"  # in DATA_DIR
SCORES = ("accuracy", "unseen_accuracy", "sentence_accuracy")
# Treebank, flags of `app.train`, and seeds, by row.
RUNS = {
    "ewt-upos": ("en_ewt", [], (0, 1, 2)),
    "sequoia-upos": ("fr_sequoia", [], (0, 1, 2)),
    "ewt-xpos": ("en_ewt", ["--tags", "xpos"], (0,)),
    "ewt-crf": ("en_ewt", ["--crf"], (0,)),
    "ewt-words": ("en_ewt", ["--characters", "0"], (0,)),
    "ewt-peephole": ("en_ewt", ["--cell", "lstm_peephole"], (0,)),
    "ewt-gru": ("en_ewt", ["--cell", "gru"], (0,)),
    "ewt-coupled": ("en_ewt", ["--cell", "lstm_coupled"], (0,)),
    "ewt-forward": ("en_ewt", ["--direction", "forward", "--lookahead", "2"], (0,)),
    "ewt-vectors": ("en_ewt", ["--vectors", VECTORS], (0,)),
    "ewt-distilled": ("en_ewt", ["--ensemble", "3", "--distill"], (0,)),
    "sequoia-distilled": ("fr_sequoia", ["--ensemble", "3", "--distill"], (0,)),
}
TITLES = {"en_ewt": "English-EWT", "fr_sequoia": "French-Sequoia"}


def measure(treebank: str, flags: list[str], seed: int) -> dict:
    """Trains a version, and returns its record."""
    data = str(records.data_dir() / "tagging" / treebank)
    vectors = str(records.data_dir() / VECTORS)
    flags = [vectors if flag == VECTORS else flag for flag in flags]
    with tempfile.TemporaryDirectory() as name:
        return records.train("tagging", Path(name), "--data", data, "--seed", str(seed), *flags)


def row(name: str, by_seed: list[dict | None]) -> list[str]:
    """Returns a row of the table.

    Args:
        name: A key of `RUNS`.
        by_seed: Record of each seed, or None if it has not been measured.
    """
    treebank, flags, seeds = RUNS[name]
    head = [TITLES[treebank], " ".join(flags) or "defaults"]
    if None in by_seed:
        return [*head, "not run", "", "", "", ""]
    cells = []
    for score in SCORES:
        values = [100 * record["scores"][score] for record in by_seed]
        spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        cells.append(f"{statistics.mean(values):.2f}{spread}")
    minutes = [sum(record["seconds"].values()) / 60 for record in by_seed]
    return [*head, *cells, str(len(seeds)), f"{statistics.mean(minutes):.1f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--show", action="store_true", help="print only rows that have been run")
    parser.add_argument("--only", choices=RUNS, help="run one row")
    args = parser.parse_args()
    rows = []
    for name, (treebank, flags, seeds) in RUNS.items():
        by_seed = []
        for seed in seeds:
            key = f"{name}-{seed}"
            if args.show or (args.only and args.only != name):
                by_seed.append(records.load("tagging", key))
            else:
                run = functools.partial(measure, treebank, flags, seed)
                by_seed.append(records.load_or_measure("tagging", key, run))
        rows.append(row(name, by_seed))
    columns = ["treebank", "flags", "accuracy %", "unseen words %", "sentences %"]
    print(records.markdown_table([*columns, "seeds", "minutes"], rows))
    print(f"\n{records.machine()}; test part, gold tokens; mean ± s.d. over seeds of the weights")


if __name__ == "__main__":
    main()
