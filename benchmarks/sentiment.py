"""Accuracy of sentiment beside bags of words, on the same splits.

    python -m benchmarks.sentiment             # runs what has not been run, prints the table
    python -m benchmarks.sentiment --show      # prints what has been run
    python -m benchmarks.sentiment --only mr   # one corpus

The split of a seed is by the SHA-256 of the seed and the text, 80/10/10; the
sample has its own. Ours is the score of the served model on test, as
`app.train` publishes it. The baselines are scikit-learn's, on the same words,
binary counts of single words or of words and pairs: multinomial naive Bayes,
and logistic regression with its C chosen on valid.
"""

import argparse
import hashlib
import itertools
import json
import statistics
import tempfile
from pathlib import Path

from benchmarks import results
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
    """The parts of a corpus by the split of a seed."""
    path = CORPORA[corpus][0]
    data = path if path == "sample" else str(results.data_dir() / path)
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
    """The score of the model that `app.train` publishes, with its defaults."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part, some in parts.items():
            lines = (json.dumps(dict(e.values)) + "\n" for e in some)
            (folder / f"{part}.jsonl").write_text("".join(lines), encoding="utf-8")
        record = results.trained("sentiment", folder, "--data", name, "--seed", str(seed), *flags)
        return {
            "accuracy": record["scores"]["accuracy"],
            "seconds": sum(record["seconds"].values()),
            "config": record["config"],
        }


def baseline(parts: dict, method: str) -> dict:
    """The score of a bag of words."""
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
    """One row: a method on a corpus by a seed."""
    parts = examples(corpus, seed)
    if method == "gated":
        return gated(parts, seed, CORPORA[corpus][1])
    return baseline(parts, method)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--show", action="store_true", help="print only what has been run")
    parser.add_argument("--only", choices=CORPORA, help="run one corpus")
    args = parser.parse_args()
    lines = []
    for corpus, (_, _, title) in CORPORA.items():
        for method, name in METHODS.items():
            found = []
            for seed in SEEDS:
                row = f"{corpus}-{method}-{seed}"
                if args.show or (args.only and args.only != corpus):
                    found.append(results.known("sentiment", row))
                else:
                    found.append(
                        results.result(
                            "sentiment", row, lambda c=corpus, m=method, s=seed: measure(c, m, s)
                        )
                    )
            if None in found:
                lines.append([title, name, "not run", "", ""])
                continue
            scores = [100 * result["accuracy"] for result in found]
            seconds = [result["seconds"] for result in found if "seconds" in result]
            lines.append(
                [
                    title,
                    name,
                    f"{statistics.mean(scores):.1f} ± {statistics.stdev(scores):.1f}",
                    " ".join(f"{score:.1f}" for score in scores),
                    f"{statistics.mean(seconds):.0f}" if seconds else "",
                ]
            )
    columns = ["corpus", "method", "accuracy %, mean ± s.d.", "seeds 0 1 2", "seconds"]
    print(results.markdown(columns, lines))
    print(f"\n{results.machine()}; accuracy on test; split and weights by the seed")


if __name__ == "__main__":
    main()
