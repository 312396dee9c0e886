"""Metrics from counts are those of the answers themselves."""

import numpy as np
import pytest

from models import metrics


@pytest.mark.parametrize("seed", range(5))
def test_counts_say_what_the_answers_say(seed):
    rng = np.random.default_rng(seed)
    wanted, given = rng.integers(0, 4, 50), rng.integers(0, 5, 50) % 4
    counts = np.zeros((5, 5), int)  # the fifth class is neither wanted nor given
    np.add.at(counts, (wanted, given), 1)
    f1 = []
    for k in range(4):
        right = sum(1 for w, g in zip(wanted, given, strict=True) if w == g == k)
        precision, recall = right / max(1, (given == k).sum()), right / max(1, (wanted == k).sum())
        f1.append(2 * precision * recall / (precision + recall) if right else 0.0)
        np.testing.assert_allclose(metrics.per_class(counts)[k], [precision, recall, f1[-1]])
    assert metrics.accuracy(counts) == pytest.approx((wanted == given).mean())
    assert metrics.macro_f1(counts) == pytest.approx(np.mean(f1))


def test_an_empty_evaluation_is_no_error():
    counts = np.zeros((3, 3), int)
    assert metrics.accuracy(counts) == metrics.macro_f1(counts) == 0.0
