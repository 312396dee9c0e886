"""Scores in half precision, compared with those in float32, over seeds.

    DATA_DIR=... python -m benchmarks.precision             # runs missing rows, prints all
    DATA_DIR=... python -m benchmarks.precision --only mr   # one corpus

Each row is a run of `app.train` with its defaults and other values of `--seed` and
`--precision`. The score is the accuracy of the published float32 graph on the test part. Records
are stored in runs/benchmarks/, so an interrupted command resumes.
"""

import argparse
import functools
import statistics
import tempfile
from pathlib import Path

from benchmarks import records

SEEDS = (0, 1, 2)
PRECISIONS = ("float32", "mixed_bfloat16")
CORPORA = {
    "mr": ("sentiment", "sentiment/mr", "sentiment, Rotten Tomatoes sentences"),
    "ewt": ("tagging", "tagging/en_ewt", "tagging, English-EWT, UPOS"),
}


def measure(corpus: str, precision: str, seed: int) -> dict:
    """Trains a version, and returns its record."""
    task, path, _ = CORPORA[corpus]
    flags = [
        "--data",
        str(records.data_dir() / path),
        "--precision",
        precision,
        "--seed",
        str(seed),
    ]
    with tempfile.TemporaryDirectory() as name:
        return records.train(task, Path(name), *flags)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--only", choices=CORPORA, help="one corpus")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    args = parser.parse_args()
    rows = []
    for corpus in [args.only] if args.only else CORPORA:
        by_precision = {precision: [] for precision in PRECISIONS}
        for seed in args.seeds:
            for precision in PRECISIONS:
                run = functools.partial(measure, corpus, precision, seed)
                record = records.load_or_measure("precision", f"{corpus}-{precision}-{seed}", run)
                by_precision[precision].append(100 * record["scores"]["accuracy"])
        for precision, scores in by_precision.items():
            by_seed = " ".join(f"{score:.2f}" for score in scores)
            spread = f"{statistics.mean(scores):.2f} ± {statistics.pstdev(scores):.2f}"
            rows.append([CORPORA[corpus][2], precision, by_seed, spread])
    print(records.markdown_table(["data", "precision", "accuracy %, by seed", "mean ± s.d."], rows))
    print(f"\n{records.machine()}")


if __name__ == "__main__":
    main()
