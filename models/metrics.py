"""How answers are judged, from counts: plain NumPy.

A confusion matrix `counts` is (K, K) int: the row is the wanted class, the
column the given one.
"""

import numpy as np


def accuracy(counts: np.ndarray) -> float:
    """Share of the examples given the wanted class; 0 if there are none."""
    total = counts.sum()
    return float(np.trace(counts) / total) if total else 0.0


def per_class(counts: np.ndarray) -> np.ndarray:
    """Precision, recall and F1 of each class, (K, 3); 0 where one is undefined."""
    right = np.diagonal(counts).astype(float)
    precision = _ratio(right, counts.sum(axis=0))
    recall = _ratio(right, counts.sum(axis=1))
    f1 = _ratio(2 * precision * recall, precision + recall)
    return np.stack([precision, recall, f1], axis=1)


def macro_f1(counts: np.ndarray) -> float:
    """Mean F1 of the classes that were wanted or given at all."""
    seen = (counts.sum(axis=0) + counts.sum(axis=1)) > 0
    return float(per_class(counts)[seen, 2].mean()) if seen.any() else 0.0


def _ratio(above, below):
    return np.divide(above, below, out=np.zeros(len(above)), where=below > 0)
