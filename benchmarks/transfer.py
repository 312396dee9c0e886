"""Accuracy with knowledge from elsewhere, compared with training from scratch.

    DATA_DIR=... python -m benchmarks.transfer               # runs missing rows, prints all
    DATA_DIR=... python -m benchmarks.transfer --show        # prints the rows that have been run
    DATA_DIR=... python -m benchmarks.transfer --only trec   # one corpus
    DATA_DIR=... python -m benchmarks.transfer --method vectors   # one method

Each row is a run of `app.train`, with the splits of `benchmarks.sentiment`; the vectors are
GloVe's of 100 dimensions, and the language model reads the training part and a twelfth of
the train part of IMDB, without labels. Settings were chosen on the validation part of one
seed. Records are stored in runs/benchmarks/, so an interrupted command resumes.
"""

import argparse
import functools
import itertools
import json
import statistics
import tempfile
from pathlib import Path

from benchmarks import records, sentiment
from tasks.corpora.labelled_text import LabelledTexts

VECTORS = "vectors/glove100.txt.gz"
UNLABELLED, EVERY = "reviews.txt", 12  # of the reviews of IMDB, which are sorted by label
PRETRAINING = ["--pretraining-epochs", "5"]
# By method: flags of `app.train`.
LARGER = ["--units", "128", "--dropout", "0.3", "--word-dropout", "0.1"]
METHODS = {
    "from scratch": [],
    "from scratch, ensemble": ["--ensemble", "3"],
    "vectors": ["--vectors", VECTORS],
    "vectors, 128 units": ["--vectors", VECTORS, *LARGER],
    "vectors, 128 units, ensemble": ["--vectors", VECTORS, *LARGER, "--ensemble", "3"],
    "language model": ["--unlabelled", UNLABELLED, *PRETRAINING],
    "language model, 128 units": ["--unlabelled", UNLABELLED, *PRETRAINING, *LARGER],
}
# By corpus: its name for people, and the seeds.
CORPORA = {
    "trec": ("TREC-6", (0,)),
    "subj": ("Subj", (0,)),
    "mr": ("MR", (0,)),
    "imdb": ("IMDB", (0,)),
}
# Published accuracies: CNN of Kim (2014), with random vectors and with those of word2vec; NBSVM of
# Wang & Manning (2012); SA-LSTM of Dai & Le (2015), which reads more texts of IMDB.
PUBLISHED = {
    "trec": {"from scratch": "CNN 91.2", "vectors": "CNN 93.6"},
    "subj": {"from scratch": "CNN 89.6", "vectors": "CNN 93.4"},
    "mr": {"from scratch": "CNN 76.1", "vectors": "CNN 81.5", "language model": "SA-LSTM 83.3"},
    "imdb": {"from scratch": "NBSVM 91.2", "language model": "SA-LSTM 92.8"},
}


def measure(corpus: str, method: str, seed: int) -> dict:
    """Trains with `app.train`, and returns scores and sizes of the published model."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        flags = [*METHODS[method], "--seed", str(seed)]
        for part, examples in sentiment.split(corpus, seed).items():
            path = folder / f"{part}.jsonl"
            lines = (json.dumps(dict(example.values)) + "\n" for example in examples)
            path.write_text("".join(lines), encoding="utf-8")
            flags += [f"--{part}", str(path)]
        if UNLABELLED in flags:
            _write_reviews(folder / UNLABELLED)
        paths = {VECTORS: records.data_dir() / VECTORS, UNLABELLED: folder / UNLABELLED}
        flags = [str(paths.get(flag, flag)) for flag in flags]
        record = records.train("sentiment", folder, *flags)
    return {
        "accuracy": record["scores"]["accuracy"],
        "interval": record["intervals"]["accuracy"],
        "vectors": record.get("vectors"),
        "pretraining": record.get("pretraining"),
        "test": record["evaluated"]["examples"],
        "seconds": record["seconds"],
        "config": record["config"],
    }


def _write_reviews(path: Path) -> None:
    """Writes a part of the reviews of IMDB to a file, without their labels, one per line."""
    train = LabelledTexts(data=str(records.data_dir() / "sentiment/imdb.zip")).open().train
    texts = (example.values["text"] for example in itertools.islice(train, 0, None, EVERY))
    lines = (" ".join(text.replace("<br />", " ").split()) + "\n" for text in texts)
    path.write_text("".join(lines), encoding="utf-8")


def cells(results: list[dict | None]) -> list[str]:
    """Returns the accuracy and the minutes of training of a method, given its results by seed."""
    if None in results:
        return ["not run", ""]
    scores = [100 * result["accuracy"] for result in results]
    if len(scores) > 1:
        accuracy = f"{statistics.mean(scores):.1f} ± {statistics.stdev(scores):.1f}"
    else:
        low, high = results[0]["interval"]
        accuracy = f"{scores[0]:.1f} ({100 * low:.1f} to {100 * high:.1f})"
    minutes = statistics.mean(result["seconds"]["fit"] for result in results) / 60
    return [accuracy, f"{minutes:.1f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--show", action="store_true", help="print only rows that have been run")
    parser.add_argument("--only", choices=CORPORA, help="run one corpus")
    parser.add_argument("--method", choices=METHODS, help="run one method")
    args = parser.parse_args()
    rows = []
    for corpus, (title, seeds) in CORPORA.items():
        for method in METHODS:
            published = PUBLISHED[corpus].get(method.split(",")[0], "")
            results = []
            for seed in seeds:
                key = f"{corpus}-{method.replace(',', '').replace(' ', '-')}-{seed}"
                others = args.only not in (None, corpus) or args.method not in (None, method)
                if args.show or others:
                    results.append(records.load("transfer", key))
                else:
                    run = functools.partial(measure, corpus, method, seed)
                    results.append(records.load_or_measure("transfer", key, run))
            if args.show and None in results:
                continue
            test = "" if None in results else f"{results[0]['test']}"
            rows.append([title, method, *cells(results), test, len(seeds), published])
    columns = ["corpus", "method", "accuracy %", "minutes", "test texts", "seeds", "published"]
    print(records.markdown_table(columns, rows))
    print(
        f"\n{records.machine()}; accuracy of the served model on the test part, with its 95 % "
        "interval, or mean ± s.d. of several seeds; minutes of training"
    )


if __name__ == "__main__":
    main()
