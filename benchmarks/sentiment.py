"""Accuracy of sentiment with default settings, compared with baselines on the same splits.

    python -m benchmarks.sentiment             # runs missing rows, prints all
    python -m benchmarks.sentiment --show      # prints the rows that have been run
    python -m benchmarks.sentiment --only mr   # one corpus

A seed decides the split and the weights. The split is by the SHA-256 of the seed and the text:
80/10/10, or 90/10 of the train part where the corpus has a test part of its own; the sample has
its own split. Scores are those of the served model on the test part, as `app.train` publishes it,
and of the baselines that `app.train` trains next to it with scikit-learn.
"""

import argparse
import hashlib
import itertools
import json
import statistics
import tempfile
from pathlib import Path

from benchmarks import records
from tasks.core.examples import PARTS, Example
from tasks.corpora.labelled_text import LabelledTexts

SEEDS = (0, 1, 2)
# By name: the path in DATA_DIR, whether it has a test part of its own, and flags.
CORPORA = {
    "sample": ("sample", True, []),
    "mr": ("sentiment/mr", False, []),
    "movie_reviews": (
        "sentiment/movie_reviews/movie_reviews.zip",
        False,
        ["--max-length", "1000"],
    ),
    "uci_amazon": ("sentiment/uci/amazon_cells_labelled.txt", False, []),
    "uci_imdb": ("sentiment/uci/imdb_labelled.txt", False, []),
    "uci_yelp": ("sentiment/uci/yelp_labelled.txt", False, []),
    "trec": ("sentiment/trec", True, []),
    "subj": ("sentiment/subj", False, []),
    "imdb": ("sentiment/imdb.zip", True, []),
}
BASELINES = ("naive Bayes", "logistic regression")


def split(corpus: str, seed: int) -> dict[str, list[Example]]:
    """Returns the parts of a corpus in the split of a seed."""
    path, has_test, _ = CORPORA[corpus]
    data = path if path == "sample" else str(records.data_dir() / path)
    splits = LabelledTexts(data=data).open()
    if corpus == "sample":
        return {part: list(getattr(splits, part)) for part in PARTS}
    parts = {part: [] for part in PARTS}
    if has_test:
        parts["test"] = list(splits.test)
    rest = PARTS[:2] if has_test else PARTS
    for example in itertools.chain.from_iterable(getattr(splits, part) for part in rest):
        text = f"{seed}:{example.values['text'].strip()}"
        tenth = int(hashlib.sha256(text.encode()).hexdigest(), 16) % 10
        part = {8: "valid", 9: "train" if has_test else "test"}.get(tenth, "train")
        parts[part].append(example)
    return parts


def measure(corpus: str, seed: int) -> dict:
    """Trains with `app.train` and its defaults, and returns the scores of the published model."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part, examples in split(corpus, seed).items():
            lines = (json.dumps(dict(example.values)) + "\n" for example in examples)
            (folder / f"{part}.jsonl").write_text("".join(lines), encoding="utf-8")
        flags = CORPORA[corpus][2]
        record = records.train("sentiment", folder, "--data", name, "--seed", str(seed), *flags)
    return {
        "accuracy": record["scores"]["accuracy"],
        **{name: record["baselines"][name]["accuracy"] for name in BASELINES},
        "share": record["fitted_on_valid"]["linear_path_share"],
        "test": record["evaluated"]["examples"],
        "seconds": sum(record["seconds"].values()),
        "config": record["config"],
    }


def row(corpus: str, results: list[dict | None]) -> list[str]:
    """Returns the row of a corpus, given its results by seed."""
    if None in results:
        return [corpus, *["not run"] * 6]

    def percent(key):
        scores = [100 * result[key] for result in results]
        return f"{statistics.mean(scores):.1f} ± {statistics.stdev(scores):.1f}"

    return [
        corpus,
        f"{statistics.mean(result['test'] for result in results):.0f}",
        percent("accuracy"),
        *map(percent, BASELINES),
        " ".join(f"{result['share']:.2f}" for result in results),
        f"{statistics.mean(result['seconds'] for result in results):.0f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--show", action="store_true", help="print only rows that have been run")
    parser.add_argument("--only", choices=CORPORA, help="run one corpus")
    args = parser.parse_args()
    rows = []
    for corpus in CORPORA:
        results = []
        for seed in SEEDS:
            key = f"{corpus}-{seed}"
            if args.show or (args.only and args.only != corpus):
                results.append(records.load("sentiment", key))
            else:
                results.append(
                    records.load_or_measure(
                        "sentiment", key, lambda c=corpus, s=seed: measure(c, s)
                    )
                )
        rows.append(row(corpus, results))
    columns = ["corpus", "test texts", "this project", *BASELINES, "linear share", "seconds"]
    print(records.markdown_table(columns, rows))
    print(
        f"\n{records.machine()}; accuracy on the test part in %, mean ± s.d. of seeds "
        f"{', '.join(map(str, SEEDS))}; default settings"
    )


if __name__ == "__main__":
    main()
