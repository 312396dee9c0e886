"""Fitting of the linear path: logistic or ridge regression of words and word pairs.

The logistic regression of classes and labels starts from naive Bayes.

Naive Bayes is the better classifier for few texts, logistic regression for many (Ng & Jordan
2001). Here the weights of words and word pairs are `scale * ratios + strengths * weights`: the
log-probability ratios of multinomial naive Bayes, and free weights with an L2 penalty. With a large
penalty this is naive Bayes, with a small one logistic regression; the validation part chooses. The
strength of a feature is the size of its ratios, so that the free weight of a word may be large if
the word distinguishes classes and is not rare (Wang & Manning 2012). While it is fitted, the ratios
of a text are computed from all other texts, since each rare word would otherwise reveal the class
of its text. Each of several labels has a logistic regression of its own; they share the penalty and
the scale. Numbers have no ratios, which leaves a ridge regression.

Shapes: N texts, F features, K classes or labels, or 1 for numbers.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import expit, log_softmax

from models.layers.bag_of_words import BagOfWords
from models.text.pairs import pair_buckets
from models.text.words import PADDING

PENALTIES = (300.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1)  # tried in this order
MAX_FEATURES = 2**25  # of all texts together; of more texts, a random sample is fitted
MAX_WEIGHTS = 2**23  # of words, and of pairs
_ITERATIONS = 25  # for each penalty, from the result of the one before
_PATIENCE = 2  # penalties without improvement before the search ends
_SMOOTHING = 1.0  # added to each count of naive Bayes

Batches = Iterable[tuple[np.ndarray, np.ndarray]]


def buckets(setting: int, vocabulary: int, classes: int) -> int:
    """Returns the number of buckets of word pairs that bounds the memory of fitting.

    Args:
        setting: The largest number.
        vocabulary: One more than the largest id of a word.
        classes: Number of classes.

    Returns:
        The number; 0, for no linear path, if the weights of words alone are too many.
    """
    if vocabulary * classes > MAX_WEIGHTS:
        return 0
    return min(setting, MAX_WEIGHTS // classes)


class Fitted(NamedTuple):
    """The penalty that was chosen, and the mean negative log-likelihood of the valid part."""

    penalty: float
    valid_loss: float


class ClassLikelihood:
    """Likelihood of one class per text; targets are indices of classes, (N,)."""

    dtype = int

    def naive_bayes(
        self, texts: sparse.csr_matrix, classes: np.ndarray, count: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the log-probability ratios of features, (F, K), and of classes, (K,)."""
        return _naive_bayes(texts, classes, count)

    def leave_one_out(
        self, texts: sparse.csr_matrix, classes: np.ndarray, count: int
    ) -> np.ndarray:
        """Returns the logits of each text by naive Bayes counted on all others, (N, K)."""
        return _leave_one_out(texts, classes, count)

    def loss_and_error(self, logits: np.ndarray, classes: np.ndarray) -> tuple[float, np.ndarray]:
        """Returns the negative log-likelihood, and its derivatives by the logits."""
        rows = np.arange(len(classes))
        logits = log_softmax(logits, axis=1)
        error = np.exp(logits)
        error[rows, classes] -= 1
        return -logits[rows, classes].sum(), error

    def valid_loss(self, logits: np.ndarray, classes: np.ndarray) -> float:
        """Returns the mean negative log-likelihood."""
        return -float(log_softmax(logits, axis=1)[np.arange(len(classes)), classes].mean())


class LabelLikelihood:
    """Likelihood of several labels per text; targets are 1 for the labels of a text, (N, K)."""

    dtype = np.float32

    def naive_bayes(
        self, texts: sparse.csr_matrix, labels: np.ndarray, count: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the log-probability ratios of features, (F, K), and of labels, (K,)."""
        ratios, priors = 0.0, 0.0
        for sign, of_label in ((1, labels), (-1, 1 - labels)):
            counts, documents = texts.T @ of_label + _SMOOTHING, of_label.sum(axis=0)
            ratios = ratios + sign * (np.log(counts) - np.log(counts.sum(axis=0)))
            priors = priors + sign * np.log(np.maximum(documents, 1))
        return ratios, priors

    def leave_one_out(self, texts: sparse.csr_matrix, labels: np.ndarray, count: int) -> np.ndarray:
        """Returns the logits of each text by naive Bayes counted on all others, (N, K)."""
        sizes = np.diff(texts.indptr)[:, None]
        logits = np.zeros(labels.shape, np.float32)
        for sign, of_label in ((1, labels), (-1, 1 - labels)):
            counts, documents = texts.T @ of_label + _SMOOTHING, of_label.sum(axis=0)
            totals = counts.sum(axis=0)
            # A text is among the documents of one of both sides.
            others = texts @ np.log(counts) - sizes * np.log(totals)
            others += np.log(np.maximum(documents, 1))
            own = texts @ np.log(np.maximum(counts - 1, _SMOOTHING))
            own -= sizes * np.log(np.maximum(totals - sizes, _SMOOTHING))
            own += np.log(np.maximum(documents - 1, 1))
            logits += sign * np.where(of_label > 0, own, others).astype(np.float32)
        return logits

    def loss_and_error(self, logits: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
        """Returns the negative log-likelihood, and its derivatives by the logits."""
        return float(_negative_log_likelihood(logits, labels).sum()), expit(logits) - labels

    def valid_loss(self, logits: np.ndarray, labels: np.ndarray) -> float:
        """Returns the mean negative log-likelihood of a text."""
        return float(_negative_log_likelihood(logits, labels).sum(axis=1).mean())


class ValueLikelihood:
    """Squared error of a number per text; targets are numbers of variance 1, (N,)."""

    dtype = np.float32

    def naive_bayes(
        self, texts: sparse.csr_matrix, values: np.ndarray, count: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns zeros, because nothing is counted by class."""
        return np.zeros((texts.shape[1], count), np.float32), np.zeros(count, np.float32)

    def leave_one_out(self, texts: sparse.csr_matrix, values: np.ndarray, count: int) -> np.ndarray:
        """Returns zeros, (N, 1)."""
        return np.zeros((len(values), count), np.float32)

    def loss_and_error(
        self, predictions: np.ndarray, values: np.ndarray
    ) -> tuple[float, np.ndarray]:
        """Returns half the squared error, and its derivatives by the predictions."""
        error = predictions - values[:, None]
        return float(np.vdot(error, error)) / 2, error

    def valid_loss(self, predictions: np.ndarray, values: np.ndarray) -> float:
        """Returns half the mean squared error."""
        return float(((predictions[:, 0] - values) ** 2).mean()) / 2


Likelihood = ClassLikelihood | LabelLikelihood | ValueLikelihood
_CLASSES = ClassLikelihood()


def fit(
    layer: BagOfWords,
    train: Batches,
    valid: Batches,
    seed: int = 0,
    likelihood: Likelihood = _CLASSES,
) -> Fitted:
    """Assigns the weights of a layer.

    Args:
        layer: The layer.
        train: Pairs of ids, (B, T) and 0 at padding, and targets of B texts.
        valid: The same of the part that selects the penalty.
        seed: Seed of the sample of very many texts.
        likelihood: What is maximised.
    """
    texts, targets = _matrix(layer, train, seed, likelihood.dtype)
    valid_texts, valid_targets = _matrix(layer, valid, seed, likelihood.dtype)
    used = np.unique(texts.indices)  # a feature that never occurred has no weight
    texts, valid_texts = texts[:, used].tocsr(), valid_texts[:, used].tocsr()
    ratios, prior = likelihood.naive_bayes(texts, targets, layer.classes)
    offset = likelihood.leave_one_out(texts, targets, layer.classes)
    strengths = _strengths(ratios)
    texts.data *= strengths[texts.indices]
    best, waited = None, 0
    for penalty, weights, bias, scale in _path(texts, targets, offset, likelihood):
        weights = scale * ratios + strengths[:, None] * weights
        bias = bias + scale * prior
        loss = likelihood.valid_loss(valid_texts @ weights + bias, valid_targets)
        if best is None or loss < best[0].valid_loss:
            best, waited = (Fitted(penalty, loss), weights, bias), 0
        else:
            waited += 1
        if waited == _PATIENCE:
            break
    fitted, weights, bias = best
    table = np.zeros([layer.vocabulary + layer.buckets, layer.classes], np.float32)
    table[used] = weights
    layer.words.assign(table[: layer.vocabulary])
    layer.pairs.assign(table[layer.vocabulary :])
    layer.bias.assign(bias)
    return fitted


def _matrix(
    layer: BagOfWords, batches: Batches, seed: int, dtype: type = int
) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Returns the distinct features of texts, (N, F) of ones, and their targets."""
    rng = np.random.default_rng(seed)
    share, count, sample = 1.0, 0, []  # random keys, features, targets
    for ids, targets in batches:
        pairs = layer.vocabulary + np.asarray(pair_buckets(ids, layer.buckets))
        for words, following, label in zip(ids, pairs, targets, strict=True):
            key, mask = rng.random(), words != PADDING
            if key >= share:
                continue
            features = np.concatenate([np.unique(words[mask]), np.unique(following[mask])])
            sample.append((key, features.astype(np.int32), label))
            count += len(features)
        if count > MAX_FEATURES:
            share *= 0.9 * MAX_FEATURES / count
            sample = [text for text in sample if text[0] < share]
            count = sum(len(features) for _, features, _ in sample)
    indices = np.concatenate([np.zeros(0, np.int32), *(features for _, features, _ in sample)])
    ends = np.cumsum([0, *(len(features) for _, features, _ in sample)])
    shape = len(sample), layer.vocabulary + layer.buckets
    ones = np.ones(len(indices), np.float32)
    return sparse.csr_matrix((ones, indices, ends), shape), np.array(
        [t for _, _, t in sample], dtype
    )


def _counts(texts, classes, count) -> tuple[np.ndarray, np.ndarray]:
    """Returns the texts of each class with each feature, (F, K), and those of each class, (K,)."""
    one_hot = np.eye(count, dtype=np.float32)[classes]
    return texts.T @ one_hot, one_hot.sum(axis=0)


def _centred(logits: np.ndarray) -> np.ndarray:
    return logits - logits.mean(axis=-1, keepdims=True)


def _naive_bayes(texts, classes, count) -> tuple[np.ndarray, np.ndarray]:
    """Returns the log-probability ratios of features, (F, K), and of classes, (K,)."""
    counts, documents = _counts(texts, classes, count)
    ratios = np.log(counts + _SMOOTHING) - np.log((counts + _SMOOTHING).sum(axis=0))
    return _centred(ratios), _centred(np.log(np.maximum(documents, 1)))


def _leave_one_out(texts, classes, count) -> np.ndarray:
    """Returns the logits of each text by naive Bayes counted on all others, (N, K)."""
    counts, documents = _counts(texts, classes, count)
    totals, rows = (counts + _SMOOTHING).sum(axis=0), np.arange(len(classes))
    logits = texts @ (np.log(counts + _SMOOTHING) - np.log(totals))
    logits += np.log(np.maximum(documents, 1))
    sizes, own = np.diff(texts.indptr), np.log(np.maximum(counts - 1, 0) + _SMOOTHING)
    logits[rows, classes] = (
        (texts @ own)[rows, classes]
        - sizes * np.log(np.maximum(totals[classes] - sizes, _SMOOTHING))
        + np.log(np.maximum(documents[classes] - 1, 1))
    )
    return _centred(logits).astype(np.float32)


def _strengths(ratios: np.ndarray) -> np.ndarray:
    """Returns how much each feature distinguishes classes or labels, (F,).

    It is the root mean square of its ratios, relative to that of all features.
    """
    squares = np.square(ratios).mean(axis=1)
    if not squares.any():
        return np.ones(len(ratios), np.float32)
    return np.sqrt(squares / squares.mean()).astype(np.float32)


def _negative_log_likelihood(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, logits) - labels * logits


def _path(
    texts, targets, offset, likelihood: Likelihood = _CLASSES
) -> Iterator[tuple[float, np.ndarray, np.ndarray, float]]:
    """Minimises the penalised loss for each penalty.

    Yields:
        The penalty, free weights (F, K), bias (K,), and scale of the offset.
    """
    count = offset.shape[1]
    columns = texts.T.tocsr()
    values = np.concatenate([[0.5], np.zeros(count + texts.shape[1] * count)])
    for penalty in PENALTIES:

        def objective(values, penalty=penalty):
            scale, bias, weights = _unpack(values.astype(np.float32), count)
            logits = texts @ weights + scale * offset + bias
            loss, error = likelihood.loss_and_error(logits, targets)
            loss = penalty / 2 * np.vdot(weights, weights) + loss
            gradients = np.vdot(error, offset), error.sum(axis=0), columns @ error
            gradients = *gradients[:2], gradients[2] + np.float32(penalty) * weights
            return float(loss), np.concatenate([np.ravel(g).astype(float) for g in gradients])

        options = {"maxiter": _ITERATIONS, "maxcor": 6}
        values = minimize(objective, values, jac=True, method="L-BFGS-B", options=options).x
        scale, bias, weights = _unpack(values.astype(np.float32), count)
        yield penalty, weights, bias, float(scale)


def _unpack(values: np.ndarray, count: int) -> tuple[np.float32, np.ndarray, np.ndarray]:
    return values[0], values[1 : 1 + count], values[1 + count :].reshape(-1, count)
