"""Metrics of classification from confusion matrices, and confidence intervals, in plain NumPy.

A confusion matrix `counts` is (K, K) int: rows are reference classes, columns predictions.
"""

import math
from collections.abc import Callable

import numpy as np

RESAMPLES = 1000  # of a bootstrap
_MAX_ROWS = 4000  # of a bootstrap; more are merged, which bounds its time
_QUANTILE = 1.959963984540054  # of the normal distribution, at 0.975


def accuracy(counts: np.ndarray) -> float:
    """Returns the share of correct predictions; 0 if there are no examples."""
    total = counts.sum()
    return float(np.trace(counts) / total) if total else 0.0


def per_class(counts: np.ndarray) -> np.ndarray:
    """Returns precision, recall and F1 of each class, (K, 3); 0 where undefined."""
    right = np.diagonal(counts).astype(float)
    precision = _ratio(right, counts.sum(axis=0))
    recall = _ratio(right, counts.sum(axis=1))
    f1 = _ratio(2 * precision * recall, precision + recall)
    return np.stack([precision, recall, f1], axis=1)


def macro_f1(counts: np.ndarray) -> float:
    """Returns the mean F1 over the classes that occur in references or predictions."""
    occurs = (counts.sum(axis=0) + counts.sum(axis=1)) > 0
    return float(per_class(counts)[occurs, 2].mean()) if occurs.any() else 0.0


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """Returns the 95 % Wilson interval of a share of independent examples; (0, 1) if total is 0.

    Unlike the normal approximation it stays within [0, 1], and has a width at shares of 0 and 1.

    Args:
        correct: Number of correct examples.
        total: Number of examples.
    """
    if not total:
        return 0.0, 1.0
    share, z2 = correct / total, _QUANTILE**2
    centre = share + z2 / (2 * total)
    margin = _QUANTILE * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    low, high = ((centre + sign * margin) / (1 + z2 / total) for sign in (-1, 1))
    return max(0.0, low), min(1.0, high)


def bootstrap_interval(
    rows: np.ndarray, score: Callable[[np.ndarray], float], seed: int = 0
) -> tuple[float, float]:
    """Returns the 95 % percentile bootstrap interval of a score over examples.

    Args:
        rows: Sufficient statistics of N examples, (N, S).
        score: Returns the score of the sums (S,) of the statistics over examples; NaN where it
            is undefined.
        seed: Seed of the resamples.

    Returns:
        The bounds; (NaN, NaN) if there are no rows or all scores are undefined.
    """
    rng, rows = np.random.default_rng(seed), np.asarray(rows, float)
    if not len(rows):
        return math.nan, math.nan
    if len(rows) > _MAX_ROWS:  # sums of random groups have the variance of their examples
        groups = rng.permutation(len(rows)) % _MAX_ROWS
        merged = np.zeros((_MAX_ROWS, rows.shape[1]))
        np.add.at(merged, groups, rows)
        rows = merged
    weights = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), RESAMPLES)
    return _percentiles([score(sums) for sums in weights @ rows])


def macro_f1_interval(counts: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Returns the 95 % percentile bootstrap interval of `macro_f1` over examples.

    Examples in the same cell of the matrix are equal, so that cells are drawn instead of examples.
    """
    total = int(counts.sum())
    if not total:
        return math.nan, math.nan
    references, predictions = np.nonzero(counts)
    rng, is_correct = np.random.default_rng(seed), references == predictions
    shares = counts[references, predictions] / total
    scores = []
    for _ in range(RESAMPLES):
        drawn = rng.multinomial(total, shares)
        right = np.bincount(references[is_correct], drawn[is_correct], len(counts))
        occurs = np.bincount(references, drawn, len(counts))
        occurs += np.bincount(predictions, drawn, len(counts))
        scores.append((2 * right[occurs > 0] / occurs[occurs > 0]).mean())
    return _percentiles(scores)


def reliability(confidence: np.ndarray, correct: np.ndarray, bins: int = 15) -> np.ndarray:
    """Returns how often predictions of similar confidence are correct.

    Args:
        confidence: Probabilities of N predictions, (N,).
        correct: Whether they are correct, (N,).
        bins: Number of bins, which hold equally many predictions.

    Returns:
        Mean confidence, share of correct predictions and number of predictions of each bin,
        (B, 3), in ascending order of confidence; without empty bins.
    """
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    rows = [(confidence[part].mean(), correct[part].mean(), len(part)) for part in parts]
    return np.array(rows, float).reshape(-1, 3)


def calibration_error(rows: np.ndarray) -> float:
    """Returns the expected calibration error of the rows of `reliability`; 0 if there are none.

    It is the mean distance of confidence and accuracy, over all predictions (Naeini et al. 2015).
    """
    confidence, accuracy_of_bin, count = rows.T
    total = count.sum()
    return float((np.abs(confidence - accuracy_of_bin) * count).sum() / total) if total else 0.0


def _percentiles(scores):
    scores = np.asarray(scores, float)
    scores = scores[~np.isnan(scores)]
    if not len(scores):
        return math.nan, math.nan
    low, high = np.percentile(scores, [2.5, 97.5])
    return float(low), float(high)


def _ratio(above, below):
    return np.divide(above, below, out=np.zeros(len(above)), where=below > 0)
