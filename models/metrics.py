"""Metrics of classes, labels and values, and confidence intervals, in plain NumPy.

A confusion matrix `counts` is (K, K) int: rows are reference classes, columns predictions.
Decisions on labels are counted in (3, K): correct, predicted and reference labels. Sums of
values are (8,), see `value_sums`.
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
    # It contains the share; rounding could exclude a share of 0 or 1.
    return max(0.0, min(low, share)), min(1.0, max(high, share))


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
    rows = np.asarray(rows, float)
    if not len(rows):
        return math.nan, math.nan
    return _percentiles([score(sums) for sums in _resampled_sums(rows, seed)])


def paired_bootstrap(
    first: np.ndarray, second: np.ndarray, score: Callable[[np.ndarray], float], seed: int = 0
) -> float:
    """Returns the p-value of a difference of scores, by a paired bootstrap over examples.

    It is NaN if the score of the examples is undefined. An undefined score of a resample counts
    as an extreme difference.

    The share of resamples whose difference is at least as far from the observed one as that is
    from 0 (Riezler & Maxwell 2005); two-sided. sacreBLEU's test folds the differences first, so
    that its p-values of small differences are lower.

    Args:
        first: Sufficient statistics of N examples, (N, S).
        second: Those of another system for the same examples.
        score: Returns the score of the sums (S,) of the statistics over examples.
        seed: Seed of the resamples.

    Raises:
        ValueError: There are no examples, or the shapes differ.
    """
    first, second = np.asarray(first, float), np.asarray(second, float)
    if first.shape != second.shape or not len(first):
        raise ValueError(
            f"first and second must have equal shapes (N, S), got {first.shape} and {second.shape}."
        )
    size = first.shape[1]

    def difference(sums):
        return score(sums[size:]) - score(sums[:size])

    pairs = np.concatenate([first, second], axis=1)
    observed = difference(pairs.sum(axis=0))
    resampled = np.array([difference(sums) for sums in _resampled_sums(pairs, seed)])
    if np.isnan(observed):
        return math.nan
    extreme = np.sum(~(np.abs(resampled - observed) < abs(observed) - 1e-12))
    return float((extreme + 1) / (len(resampled) + 1))


def _resampled_sums(rows: np.ndarray, seed: int) -> np.ndarray:
    """Returns the sums of statistics (N, S) over resampled examples, (RESAMPLES, S)."""
    rng = np.random.default_rng(seed)
    if len(rows) > _MAX_ROWS:  # sums of random groups have the variance of their examples
        groups = rng.permutation(len(rows)) % _MAX_ROWS
        merged = np.zeros((_MAX_ROWS, rows.shape[1]))
        np.add.at(merged, groups, rows)
        rows = merged
    weights = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), RESAMPLES)
    return weights @ rows


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


def micro_f1(counts: np.ndarray) -> float:
    """Returns the F1 of the decisions on all labels together; 0 if no label occurs.

    Args:
        counts: Correct, predicted and reference labels, (3, K).
    """
    correct, predicted, references = np.asarray(counts, float).sum(axis=1)
    return float(2 * correct / (predicted + references)) if predicted + references else 0.0


def per_label(counts: np.ndarray) -> np.ndarray:
    """Returns precision, recall and F1 of each label, (K, 3); 0 where undefined.

    Args:
        counts: Correct, predicted and reference labels, (3, K).
    """
    correct, predicted, references = np.asarray(counts, float)
    return np.stack(
        [
            _ratio(correct, predicted),
            _ratio(correct, references),
            _ratio(2 * correct, predicted + references),
        ],
        axis=1,
    )


def macro_f1_of_labels(counts: np.ndarray) -> float:
    """Returns the mean F1 over the labels that occur in references or predictions.

    Args:
        counts: Correct, predicted and reference labels, (3, K).
    """
    occurs = counts[1] + counts[2] > 0
    return float(per_label(counts)[occurs, 2].mean()) if occurs.any() else 0.0


def value_sums(references: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Returns what the scores of N predicted values are computed from, (N, 8).

    The columns are 1, the absolute and the squared error, the deviation of the reference from
    the mean and its square, and for the ranks of references and predictions (means of ties,
    from -1 to 1) both squares and the product.
    """
    references, predictions = np.asarray(references, float), np.asarray(predictions, float)
    errors = predictions - references
    deviations = references - references.mean() if len(references) else references
    first, second = _ranks(references), _ranks(predictions)
    columns = (
        *(np.ones(len(errors)), np.abs(errors), errors**2, deviations, deviations**2),
        *(first**2, second**2, first * second),
    )
    return np.stack(columns, axis=1)


def mean_absolute_error(sums: np.ndarray) -> float:
    """Returns the mean absolute error of sums of `value_sums`, (8,)."""
    return float(sums[1] / sums[0])


def r_squared(sums: np.ndarray) -> float:
    """Returns the coefficient of determination; NaN if all references are equal."""
    total = sums[4] - sums[3] ** 2 / sums[0]
    return float(1 - sums[2] / total) if total > 1e-12 * max(sums[4], 1e-300) else math.nan


def rank_correlation(sums: np.ndarray) -> float:
    """Returns Spearman's correlation; NaN if all references or all predictions are equal."""
    product = sums[5] * sums[6]
    return float(sums[7] / math.sqrt(product)) if product > 0 else math.nan


def _ranks(values: np.ndarray) -> np.ndarray:
    """Returns ranks from -1 to 1 with mean 0, of equal values their mean, (N,)."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return ((2 * ends - counts) / max(len(values), 1) - 1)[inverse.reshape(-1)]


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
