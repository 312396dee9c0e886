"""Metrics from counts are those of the answers themselves."""

import math

import numpy as np
import pytest
import scipy.stats

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


@pytest.mark.parametrize(("correct", "total"), [(0, 1), (0, 20), (7, 20), (20, 20), (866, 1000)])
def test_the_wilson_interval_is_that_of_scipy(correct, total):
    expected = scipy.stats.binomtest(correct, total).proportion_ci(0.95, method="wilson")
    assert metrics.wilson_interval(correct, total) == pytest.approx(tuple(expected), abs=1e-9)


def test_the_wilson_interval_contains_the_share_exactly():
    for total in range(1, 400):
        for correct in range(total + 1):
            low, high = metrics.wilson_interval(correct, total)
            assert 0 <= low <= correct / total <= high <= 1, (correct, total)


def test_intervals_of_nothing_are_no_error():
    assert metrics.wilson_interval(0, 0) == (0, 1)
    assert np.isnan(metrics.bootstrap_interval(np.zeros((0, 2)), np.sum)).all()
    assert np.isnan(metrics.macro_f1_interval(np.zeros((2, 2), int))).all()


@pytest.mark.parametrize("count", [60, 9000])  # 9000 rows are merged
def test_the_bootstrap_agrees_with_that_of_scipy(count):
    rng = np.random.default_rng(1)
    words = rng.integers(1, 30, count)
    rows = np.stack([rng.binomial(words, rng.uniform(0.6, 1, count)), words], axis=1)
    low, high = metrics.bootstrap_interval(rows, lambda sums: sums[0] / sums[1])
    expected = scipy.stats.bootstrap(
        (rows[:, 0], rows[:, 1]), lambda a, b: a.sum() / b.sum(), paired=True, vectorized=False,
        n_resamples=1000, method="percentile", rng=np.random.default_rng(2),
    ).confidence_interval  # fmt: skip
    width = expected.high - expected.low
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.15 * width)


def test_the_interval_of_macro_f1_is_that_of_resampled_examples():
    rng = np.random.default_rng(3)
    references = rng.integers(0, 3, 200)
    predictions = np.where(rng.random(200) < 0.7, references, rng.integers(0, 4, 200))
    counts = np.zeros((5, 5), int)
    np.add.at(counts, (references, predictions), 1)
    scores = []
    for _ in range(1000):
        drawn = rng.integers(0, 200, 200)
        resampled = np.zeros((5, 5), int)
        np.add.at(resampled, (references[drawn], predictions[drawn]), 1)
        scores.append(metrics.macro_f1(resampled))
    expected = np.percentile(scores, [2.5, 97.5])
    interval = metrics.macro_f1_interval(counts)
    assert interval == pytest.approx(tuple(expected), abs=0.15 * np.ptp(expected))
    assert interval == metrics.macro_f1_interval(counts)  # seeded


def test_intervals_cover_the_true_score_as_often_as_they_say():
    rng = np.random.default_rng(4)
    covered = np.zeros(2)
    for _ in range(300):
        correct = rng.random(100) < 0.8
        rows = np.stack([correct, np.ones(100)], axis=1)
        intervals = (
            metrics.wilson_interval(int(correct.sum()), 100),
            metrics.bootstrap_interval(rows, lambda sums: sums[0] / sums[1]),
        )
        covered += [low <= 0.8 <= high for low, high in intervals]
    assert (np.abs(covered / 300 - 0.95) < 0.04).all()


def test_reliability_has_bins_of_equal_size():
    confidence = np.array([0.9, 0.5, 0.7, 0.6, 0.8])
    rows = metrics.reliability(confidence, np.array([1, 0, 1, 0, 0]), bins=2)
    np.testing.assert_allclose(rows, [[0.6, 1 / 3, 3], [0.85, 0.5, 2]])
    assert metrics.calibration_error(rows) == pytest.approx((3 * (0.6 - 1 / 3) + 2 * 0.35) / 5)
    assert metrics.calibration_error(metrics.reliability(np.zeros(0), np.zeros(0))) == 0
    assert len(metrics.reliability(confidence, confidence)) == 5  # fewer predictions than bins


@pytest.mark.parametrize("shift", [0.0, 0.15, -0.25, 1.0])
def test_the_paired_bootstrap_of_a_mean_agrees_with_the_t_test(shift):
    rng = np.random.default_rng(3)
    first = rng.normal(size=200)
    second = first + rng.normal(shift, 1, 200)
    rows = [np.stack([values, np.ones(200)], axis=1) for values in (first, second)]
    p_value = metrics.paired_bootstrap(*rows, lambda sums: sums[0] / sums[1])
    assert p_value == pytest.approx(scipy.stats.ttest_rel(first, second).pvalue, abs=0.03)
    assert metrics.paired_bootstrap(rows[0], rows[0], np.sum) == 1


def test_an_undefined_score_is_no_significant_difference():
    def share(sums):
        return sums[0] / sums[1] if sums[1] else math.nan

    empty = np.zeros((5, 2))
    assert math.isnan(metrics.paired_bootstrap(empty, empty, share))
    # Of six examples only one counts, and it is in 1 - (5/6)^6 = 0.67 of the resamples.
    one, two = np.zeros((6, 2)), np.zeros((6, 2))
    one[0], two[0] = (0, 1), (1, 1)
    assert metrics.paired_bootstrap(one, two, share) == pytest.approx((5 / 6) ** 6, abs=0.05)


def test_the_paired_bootstrap_needs_pairs():
    with pytest.raises(ValueError, match=r"equal shapes \(N, S\), got \(2, 1\) and \(3, 1\)"):
        metrics.paired_bootstrap(np.ones([2, 1]), np.ones([3, 1]), np.sum)
