"""Baselines of classification: naive Bayes and logistic regression of scikit-learn.

Both count which words and pairs of adjacent words a text contains. They share the rules of words
with the model, but read lower-cased texts as a whole, and no code that learns.
"""

import itertools
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf
from scipy import sparse

from models.text.words import split
from tasks.core.examples import Splits, Stream, position

MAX_TEXTS = 50_000  # of the train part; of more, a sample
_PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0)  # C of scikit-learn; the validation part chooses
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


class _Bags:
    """Texts as the sets of their words and pairs of words, hashed.

    Args:
        classes: Names of the classes.
    """

    def __init__(self, classes: Sequence[str]):
        from sklearn.feature_extraction.text import HashingVectorizer

        self._index = {label: number for number, label in enumerate(classes)}
        self._vectorizer = HashingVectorizer(
            analyzer=lambda words: itertools.chain(
                words, map(b" ".join, itertools.pairwise(words))
            ),
            n_features=max(2**10, min(2**20, _MAX_WEIGHTS // len(classes))),
            binary=True,
            norm=None,
            alternate_sign=False,
        )

    def batches(self, examples: Stream) -> Iterator[tuple[sparse.csr_matrix, np.ndarray]]:
        """Yields features (B, F) and indices of classes (B,)."""
        for batch in examples.batches(_BATCH_SIZE, _BATCH_BYTES):
            texts = tf.constant([example.values["text"] for example in batch])
            words = split(texts)
            words = words.with_flat_values(tf.strings.lower(words.flat_values, "utf-8")).to_list()
            labels = [self._index[example.values["label"]] for example in batch]
            yield self._vectorizer.transform(words), np.array(labels)

    def all(self, examples: Stream) -> tuple[sparse.csr_matrix, np.ndarray]:
        """Returns the features and classes of a part, or of a sample of `MAX_TEXTS` of it."""
        count = sum(1 for _ in examples)
        if count > MAX_TEXTS:
            share = MAX_TEXTS / count
            examples = examples.filter(lambda example: position(example.values["text"]) < share)
        features, labels = zip(*self.batches(examples), strict=True)
        return sparse.vstack(features, format="csr"), np.concatenate(labels)


def _words_and_pairs(words: list[bytes]) -> Iterator[bytes]:
    return itertools.chain(words, map(b" ".join, itertools.pairwise(words)))
