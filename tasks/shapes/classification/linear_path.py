"""Fitting of the linear path: logistic regression that starts from naive Bayes.

Naive Bayes is the better classifier for few texts, logistic regression for many (Ng & Jordan
2001). Here the weights of words and word pairs are `scale * ratios + weights`: the log-probability
ratios of multinomial naive Bayes, and free weights with an L2 penalty. With a large penalty this
is naive Bayes, with a small one logistic regression; the validation part chooses. While it is
fitted, the ratios of a text are computed from all other texts, since each rare word would
otherwise reveal the class of its text.

Shapes: N texts, F features, K classes.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import log_softmax

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


def fit(layer: BagOfWords, train: Batches, valid: Batches, seed: int = 0) -> Fitted:
    """Assigns the weights of a layer.

    Args:
        layer: The layer.
        train: Pairs of ids, (B, T) and 0 at padding, and classes, (B,).
        valid: The same of the part that selects the penalty.
        seed: Seed of the sample of very many texts.
    """
    texts, classes = _matrix(layer, train, seed)
    valid_texts, valid_classes = _matrix(layer, valid, seed)
    used = np.unique(texts.indices)  # a feature that never occurred has no weight
    texts, valid_texts = texts[:, used].tocsr(), valid_texts[:, used].tocsr()
    ratios, prior = _naive_bayes(texts, classes, layer.classes)
    offset = _leave_one_out(texts, classes, layer.classes)
    best, waited = None, 0
    for penalty, weights, bias, scale in _path(texts, classes, offset):
        weights, bias = weights + scale * ratios, bias + scale * prior
        loss = _loss(valid_texts @ weights + bias, valid_classes)
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


def _matrix(layer: BagOfWords, batches: Batches, seed: int) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Returns the distinct features of texts, (N, F) of ones, and their classes, (N,)."""
    rng = np.random.default_rng(seed)
    share, count, sample = 1.0, 0, []  # random keys, features, classes
    for ids, classes in batches:
        pairs = layer.vocabulary + np.asarray(pair_buckets(ids, layer.buckets))
        for words, following, label in zip(ids, pairs, classes, strict=True):
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
    return sparse.csr_matrix((ones, indices, ends), shape), np.array([c for _, _, c in sample], int)


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


def _path(texts, classes, offset) -> Iterator[tuple[float, np.ndarray, np.ndarray, float]]:
    """Minimises the penalised loss for each penalty.

    Yields:
        The penalty, free weights (F, K), bias (K,), and scale of the ratios.
    """
    count, rows = offset.shape[1], np.arange(len(classes))
    columns = texts.T.tocsr()
    values = np.concatenate([[0.5], np.zeros(count + texts.shape[1] * count)])
    for penalty in PENALTIES:

        def objective(values, penalty=penalty):
            scale, bias, weights = _unpack(values.astype(np.float32), count)
            logits = log_softmax(texts @ weights + scale * offset + bias, axis=1)
            loss = penalty / 2 * np.vdot(weights, weights) - logits[rows, classes].sum()
            error = np.exp(logits)
            error[rows, classes] -= 1
            gradients = np.vdot(error, offset), error.sum(axis=0), columns @ error
            gradients = *gradients[:2], gradients[2] + np.float32(penalty) * weights
            return float(loss), np.concatenate([np.ravel(g).astype(float) for g in gradients])

        options = {"maxiter": _ITERATIONS, "maxcor": 6}
        values = minimize(objective, values, jac=True, method="L-BFGS-B", options=options).x
        scale, bias, weights = _unpack(values.astype(np.float32), count)
        yield penalty, weights, bias, float(scale)


def _unpack(values: np.ndarray, count: int) -> tuple[np.float32, np.ndarray, np.ndarray]:
    return values[0], values[1 : 1 + count], values[1 + count :].reshape(-1, count)


def _loss(logits: np.ndarray, classes: np.ndarray) -> float:
    """Returns the mean negative log-likelihood of the classes."""
    return -float(log_softmax(logits, axis=1)[np.arange(len(classes)), classes].mean())
