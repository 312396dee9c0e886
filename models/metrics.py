"""Metrics of classification from confusion matrices, in plain NumPy.

A confusion matrix `counts` is (K, K) int: rows are reference classes, columns predictions.
"""

import numpy as np


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


def _ratio(above, below):
    return np.divide(above, below, out=np.zeros(len(above)), where=below > 0)
