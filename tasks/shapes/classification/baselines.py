"""Baselines of classification: naive Bayes, logistic and ridge regression of scikit-learn.

All count which words and pairs of adjacent words a text contains. They share the rules of words
with the model, but read lower-cased texts as a whole, and no code that learns.
"""

import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf
from scipy import sparse

from models.layers.threshold import f1_threshold
from models.text import case
from models.text.words import split
from tasks.core.examples import Example, Splits, Stream, position

MAX_TEXTS = 50_000  # of the train part; of more, a sample
_PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0)  # C of scikit-learn; the validation part chooses
_LABEL_PENALTIES = (0.1, 0.3, 1.0, 3.0)  # the same, of each label
_RIDGE_PENALTIES = (300.0, 100.0, 30.0, 10.0, 3.0, 1.0)  # alpha of scikit-learn
_ITERATIONS = 100
_BATCH_SIZE, _BATCH_BYTES = 1024, 2**24
_MAX_WEIGHTS = 2**22  # features times classes


def confusions(splits: Splits, classes: Sequence[str]) -> dict[str, np.ndarray]:
    """Trains the baselines, and returns their confusion matrices on the test part.

    Args:
        splits: The corpus; each text of it has one of the classes.
        classes: Names of the K classes, K >= 2.

    Returns:
        Counts by reference and prediction (K, K), by method.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import MultinomialNB

    bags = _Bags(classes)
    train, labels = bags.all(splits.train)
    used = np.unique(train.indices)
    train = train[:, used]
    bayes = MultinomialNB().fit(train, labels)
    valid, valid_labels = bags.all(splits.valid)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # more iterations change little
        candidates = [
            LogisticRegression(C=penalty, max_iter=_ITERATIONS).fit(train, labels)
            for penalty in _PENALTIES
        ]
    regression = max(candidates, key=lambda model: model.score(valid[:, used], valid_labels))
    counts = {}
    for texts, references in bags.batches(splits.test):
        for name, model in (("naive Bayes", bayes), ("logistic regression", regression)):
            matrix = counts.setdefault(name, np.zeros([len(classes)] * 2, int))
            np.add.at(matrix, (references, model.predict(texts[:, used])), 1)
    return counts


def decisions(splits: Splits, labels: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Trains a classifier for each label, with a threshold from the validation part.

    Args:
        splits: The corpus; each text of it has some of the labels, or none.
        labels: Names of the K labels.

    Returns:
        References and predictions on the test part, both (N, K) bool, by method.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import MultinomialNB

    def memberships(batch: Sequence[Example]) -> np.ndarray:
        return np.array([[label in e.values["label"] for label in labels] for e in batch], bool)

    bags = _Bags(labels, memberships)
    train, references = bags.all(splits.train)
    used = np.unique(train.indices)
    train = train[:, used]
    valid, valid_references = bags.all(splits.valid)
    test, test_references = bags.all(splits.test, sample=False)
    valid, test = valid[:, used], test[:, used]
    results = {}
    for name, models in (
        ("naive Bayes", [MultinomialNB()]),
        (
            "logistic regression",
            [LogisticRegression(C=c, solver="liblinear") for c in _LABEL_PENALTIES],
        ),
    ):
        columns = []
        for positive, valid_positive in zip(references.T, valid_references.T, strict=True):
            if positive.all() or not positive.any():  # a classifier needs both
                columns.append(np.full(test.shape[0], positive.all()))
                continue
            fitted = [model.fit(train, positive) for model in models]
            scored = [(_log_loss(m.predict_proba(valid)[:, 1], valid_positive), m) for m in fitted]
            _, best = min(scored, key=lambda pair: pair[0])
            threshold = f1_threshold(best.predict_proba(valid)[:, 1], valid_positive)
            columns.append(best.predict_proba(test)[:, 1] >= threshold)
        results[name] = test_references, np.stack(columns, axis=1)
    return results


def _log_loss(probability: np.ndarray, positive: np.ndarray) -> float:
    """Returns the mean negative log-likelihood of N decisions."""
    probability = np.clip(np.where(positive, probability, 1 - probability), 1e-12, 1)
    return float(-np.log(probability).mean())


def values(splits: Splits) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Trains a ridge regression, whose penalty the validation part chooses.

    Args:
        splits: The corpus; each text of it has a number.

    Returns:
        References and predictions on the test part, both (N,), by method.
    """
    from sklearn.linear_model import Ridge

    def numbers(batch: Sequence[Example]) -> np.ndarray:
        return np.array([float(example.values["value"]) for example in batch])

    bags = _Bags([""], numbers)
    train, references = bags.all(splits.train)
    used = np.unique(train.indices)
    valid, valid_references = bags.all(splits.valid)
    test, test_references = bags.all(splits.test, sample=False)
    candidates = [
        Ridge(alpha=penalty, solver="sparse_cg", max_iter=_ITERATIONS, tol=1e-3).fit(
            train[:, used], references
        )
        for penalty in _RIDGE_PENALTIES
    ]
    best = min(
        candidates,
        key=lambda model: np.abs(model.predict(valid[:, used]) - valid_references).mean(),
    )
    return {"ridge regression": (test_references, best.predict(test[:, used]))}


class _Bags:
    """Texts as the sets of their words and pairs of words, hashed.

    Args:
        classes: Names of the classes or labels, whose number bounds that of the features.
        targets: Returns the targets of examples; None for the indices of their classes.
    """

    def __init__(
        self,
        classes: Sequence[str],
        targets: Callable[[Sequence[Example]], np.ndarray] | None = None,
    ):
        from sklearn.feature_extraction.text import HashingVectorizer

        self._index = {label: number for number, label in enumerate(classes)}
        self._targets = targets or self._indices
        self._vectorizer = HashingVectorizer(
            analyzer=_words_and_pairs,
            n_features=max(2**10, min(2**20, _MAX_WEIGHTS // len(classes))),
            binary=True,
            norm=None,
            alternate_sign=False,
        )

    def _indices(self, examples: Sequence[Example]) -> np.ndarray:
        """Returns the indices of the classes of examples."""
        return np.array([self._index[example.values["label"]] for example in examples])

    def batches(self, examples: Stream) -> Iterator[tuple[sparse.csr_matrix, np.ndarray]]:
        """Yields features (B, F) and targets of B texts."""
        for batch in examples.batches(_BATCH_SIZE, _BATCH_BYTES):
            texts = tf.constant([example.values["text"] for example in batch])
            words = split(texts)
            words = words.with_flat_values(case.lower(words.flat_values)).to_list()
            yield self._vectorizer.transform(words), self._targets(batch)

    def all(self, examples: Stream, sample: bool = True) -> tuple[sparse.csr_matrix, np.ndarray]:
        """Returns the features and targets of a part, or of a sample of `MAX_TEXTS` of it.

        The sample has at least one text of each class, however rare.
        """
        count = sum(1 for _ in examples) if sample else 0
        if count > MAX_TEXTS:
            share, classes = MAX_TEXTS / count, set()

            def is_sampled(example: Example) -> bool:
                label = example.values.get("label")
                if isinstance(label, str) and label not in classes:
                    classes.add(label)
                    return True
                return position(example.values["text"]) < share

            examples = examples.filter(is_sampled)
        features, targets = zip(*self.batches(examples), strict=True)
        return sparse.vstack(features, format="csr"), np.concatenate(targets)


def _words_and_pairs(words: list[bytes]) -> Iterator[bytes]:
    return itertools.chain(words, map(b" ".join, itertools.pairwise(words)))
