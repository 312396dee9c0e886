"""Scores of half precision beside those of float32, over seeds.

    DATA_DIR=... python -m benchmarks.precision             # runs what has not been run
    DATA_DIR=... python -m benchmarks.precision --only mr   # one corpus

Each row is `app.train` with its defaults, another `--seed` and another `--precision`; the score
is the accuracy of the published float32 graph on test. Each run is a file in runs/benchmarks/,
so the command goes on where it was stopped.
"""

import argparse
import functools
import statistics
import tempfile
from pathlib import Path

from benchmarks import results

SEEDS = (0, 1, 2)
PRECISIONS = ("float32", "mixed_bfloat16")
CORPORA = {
    "mr": ("sentiment", "sentiment/mr", "sentiment, Rotten Tomatoes sentences"),
    "ewt": ("tagging", "tagging/en_ewt", "tagging, English-EWT, UPOS"),
}


def measure(corpus: str, precision: str, seed: int) -> dict:
    """The record of the version that a training publishes."""
    task, path, _ = CORPORA[corpus]
    told = ["--data", str(results.data_dir() / path), "--precision", precision, "--seed", str(seed)]
    with tempfile.TemporaryDirectory() as name:
        return results.trained(task, Path(name), *told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--only", choices=CORPORA, help="one corpus")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    args = parser.parse_args()
    table = []
    for corpus in [args.only] if args.only else CORPORA:
        found = {precision: [] for precision in PRECISIONS}
        for seed in args.seeds:
            for precision in PRECISIONS:
                run = functools.partial(measure, corpus, precision, seed)
                record = results.result("precision", f"{corpus}-{precision}-{seed}", run)
                found[precision].append(100 * record["scores"]["accuracy"])
        for precision, scores in found.items():
            shown = " ".join(f"{score:.2f}" for score in scores)
            spread = f"{statistics.mean(scores):.2f} ± {statistics.pstdev(scores):.2f}"
            table.append([CORPORA[corpus][2], precision, shown, spread])
    print(results.markdown(["", "precision", "accuracy %, by seed", "mean ± deviation"], table))
    print(f"\n{results.machine()}")


if __name__ == "__main__":
    main()
