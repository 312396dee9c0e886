"""Accuracy of sentiment, compared with bags of words on the same splits.

    python -m benchmarks.sentiment             # runs missing rows, prints all
    python -m benchmarks.sentiment --show      # prints the rows that have been run
    python -m benchmarks.sentiment --only mr   # one corpus

The split of a seed is by the SHA-256 of the seed and the text, 80/10/10; the sample has its own
split. The score of this project is that of the served model on the test part, as `app.train`
publishes it. The baselines are those of scikit-learn on the same words, with binary counts of
words or of words and pairs: multinomial naive Bayes, and logistic regression with its C
selected on the validation part.
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
CORPORA = {
    "sample": ("sample", [], "embedded sample"),
    "mr": ("sentiment/mr", [], "Rotten Tomatoes sentences"),
    "movie_reviews": (
        "sentiment/movie_reviews/movie_reviews.zip",
        ["--max-length", "1000", "--batch-tokens", "8000"],
        "movie reviews (documents)",
    ),
}
METHODS = {
    "gated": "this project, default cell",
    "words": "naive Bayes, words",
    "pairs": "naive Bayes, words and pairs",
    "logistic": "logistic regression, words and pairs",
}


def examples(corpus: str, seed: int) -> dict[str, list[Example]]:
    """Returns the parts of a corpus in the split of a seed."""
    path = CORPORA[corpus][0]
    data = path if path == "sample" else str(records.data_dir() / path)
    splits = LabelledTexts(data=data).open()
    parts = {part: list(getattr(splits, part)) for part in PARTS}
    if corpus == "sample":
        return parts
    divided = {part: [] for part in PARTS}
    for example in (e for part in parts.values() for e in part):
        text = f"{seed}:{example.values['text'].strip()}"
        tenth = int(hashlib.sha256(text.encode()).hexdigest(), 16) % 10
        divided[{8: "valid", 9: "test"}.get(tenth, "train")].append(example)
    return divided


def gated(parts: dict, seed: int, flags: list[str]) -> dict:
    """Trains with `app.train` and its defaults, and returns the score of the published model."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part, part_examples in parts.items():
            lines = (json.dumps(dict(e.values)) + "\n" for e in part_examples)
            (folder / f"{part}.jsonl").write_text("".join(lines), encoding="utf-8")
        record = records.train("sentiment", folder, "--data", name, "--seed", str(seed), *flags)
        return {
            "accuracy": record["scores"]["accuracy"],
            "seconds": sum(record["seconds"].values()),
            "config": record["config"],
        }


def baseline(parts: dict, method: str) -> dict:
    """Trains a bag of words, and returns its score."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import MultinomialNB

    from models.text.words import split

    def texts(part):
        return [
            [word.decode() for word in words]
            for words in split([e.values["text"] for e in parts[part]]).to_list()
        ]

    labels = {part: [e.values["label"] for e in parts[part]] for part in PARTS}
    count = CountVectorizer(
        analyzer=lambda words: (
            words
            if method == "words"
            else words + [" ".join(pair) for pair in itertools.pairwise(words)]
        ),
        binary=True,
    )
    bags = {"train": count.fit_transform(texts("train"))}
    bags |= {part: count.transform(texts(part)) for part in ("valid", "test")}
    if method == "logistic":
        models = [
            LogisticRegression(C=c, max_iter=2000).fit(bags["train"], labels["train"])
            for c in (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
        ]
        model = max(models, key=lambda m: m.score(bags["valid"], labels["valid"]))
    else:
        model = MultinomialNB().fit(bags["train"], labels["train"])
    return {"accuracy": float(model.score(bags["test"], labels["test"]))}


def measure(corpus: str, method: str, seed: int) -> dict:
    """Measures a method on a corpus with a seed."""
    parts = examples(corpus, seed)
    if method == "gated":
        return gated(parts, seed, CORPORA[corpus][1])
    return baseline(parts, method)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--show", action="store_true", help="print only rows that have been run")
    parser.add_argument("--only", choices=CORPORA, help="run one corpus")
    args = parser.parse_args()
    rows = []
    for corpus, (_, _, title) in CORPORA.items():
        for method, name in METHODS.items():
            results = []
            for seed in SEEDS:
                key = f"{corpus}-{method}-{seed}"
                if args.show or (args.only and args.only != corpus):
                    results.append(records.load("sentiment", key))
                else:
                    results.append(
                        records.load_or_measure(
                            "sentiment", key, lambda c=corpus, m=method, s=seed: measure(c, m, s)
                        )
                    )
            if None in results:
                rows.append([title, name, "not run", "", ""])
                continue
            scores = [100 * result["accuracy"] for result in results]
            seconds = [result["seconds"] for result in results if "seconds" in result]
            rows.append(
                [
                    title,
                    name,
                    f"{statistics.mean(scores):.1f} ± {statistics.stdev(scores):.1f}",
                    " ".join(f"{score:.1f}" for score in scores),
                    f"{statistics.mean(seconds):.0f}" if seconds else "",
                ]
            )
    columns = ["corpus", "method", "accuracy %, mean ± s.d.", "seeds 0 1 2", "seconds"]
    print(records.markdown_table(columns, rows))
    print(
        f"\n{records.machine()}; accuracy on the test part; each seed has its own split and weights"
    )


if __name__ == "__main__":
    main()
