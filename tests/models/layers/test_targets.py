"""Losses, metrics and thresholds of labels and numbers, next to those of scikit-learn and Keras."""

import keras
import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from models import metrics
from models.layers.losses import ScaledHuber
from models.layers.macro_f1 import LabelF1
from models.layers.mixture import fit_share_of_values
from models.layers.threshold import Threshold, f1_threshold

RNG = np.random.default_rng(0)
LABELS = RNG.random((60, 5)) < [0.5, 0.3, 0.1, 0.05, 0]
LOGITS = RNG.normal(size=(60, 5)).astype(np.float32) + LABELS


def counts(labels, predictions):
    return np.stack([(labels & predictions).sum(0), predictions.sum(0), labels.sum(0)])


def test_scores_of_labels_are_those_of_scikit_learn():
    predictions = LOGITS > 0
    sums = counts(LABELS, predictions)
    assert metrics.micro_f1(sums) == pytest.approx(
        sklearn.metrics.f1_score(LABELS, predictions, average="micro")
    )
    assert metrics.macro_f1_of_labels(sums) == pytest.approx(
        sklearn.metrics.f1_score(LABELS, predictions, average="macro", zero_division=0)
    )
    precision, recall, f1, _ = sklearn.metrics.precision_recall_fscore_support(
        LABELS, predictions, zero_division=0
    )
    np.testing.assert_allclose(metrics.per_label(sums), np.stack([precision, recall, f1], 1))
    nothing = np.zeros((3, 2))
    assert metrics.micro_f1(nothing) == metrics.macro_f1_of_labels(nothing) == 0


@pytest.mark.parametrize("average", ["micro", "macro"])
def test_the_metric_counts_rows_of_all_batches(average):
    metric = LabelF1(5, average)
    for rows in (slice(0, 20), slice(20, 60)):
        weights = np.r_[0.0, np.ones(len(LABELS[rows]) - 1)]
        metric.update_state(LABELS[rows].astype("float32"), LOGITS[rows], weights)
    rows = np.delete(np.arange(60), [0, 20])
    expected = sklearn.metrics.f1_score(LABELS[rows], LOGITS[rows] > 0, average=average)
    assert float(metric.result()) == pytest.approx(expected, abs=1e-6)
    copy = LabelF1.from_config(metric.get_config())
    assert (copy.labels, copy.average) == (5, average)
    with pytest.raises(ValueError, match="'micro' or 'macro', got 'none'"):
        LabelF1(5, "none")


def test_the_threshold_has_the_highest_f1():
    for positive, probability in zip(LABELS.T[:4], 1 / (1 + np.exp(-LOGITS.T)), strict=False):
        fitted = f1_threshold(probability, positive)
        scores = [sklearn.metrics.f1_score(positive, probability >= t) for t in probability]
        score = sklearn.metrics.f1_score(positive, probability >= fitted)
        assert score == pytest.approx(max(scores))


def test_thresholds_without_positives_and_with_ties():
    assert f1_threshold(np.array([0.2, 0.9]), np.zeros(2)) == 0.5
    assert f1_threshold(np.zeros(0), np.zeros(0)) == 0.5
    equal = np.array([0.8, 0.8, 0.8, 0.1])
    assert f1_threshold(equal, np.array([1, 0, 1, 0])) == pytest.approx(0.45)


def test_a_layer_keeps_a_threshold_of_each_label(tmp_path):
    model = keras.Sequential([keras.Input((3,)), Threshold([3], name="thresholds")])
    model.get_layer("thresholds").threshold.assign([0.1, 0.2, 0.3])
    model.save(tmp_path / "model.keras")
    layer = keras.saving.load_model(tmp_path / "model.keras").get_layer("thresholds")
    np.testing.assert_allclose(layer.threshold.numpy(), [0.1, 0.2, 0.3])


def test_the_loss_is_that_of_huber_in_units_of_the_scale():
    values, predictions = RNG.normal(size=(2, 30, 1)).astype("float32") * 8
    expected = keras.losses.Huber()(values / 4, predictions / 4)
    loss = ScaledHuber(4.0)
    assert float(loss(values, predictions)) == pytest.approx(float(expected), rel=1e-5)
    assert ScaledHuber.from_config(loss.get_config()).scale == 4.0


def test_scores_of_numbers_are_those_of_scikit_learn_and_scipy():
    references = RNG.integers(0, 6, 50) + 100.0
    predictions = references + RNG.normal(size=50).round(1)
    sums = metrics.value_sums(references, predictions).sum(0)
    assert metrics.mean_absolute_error(sums) == pytest.approx(
        sklearn.metrics.mean_absolute_error(references, predictions)
    )
    assert metrics.r_squared(sums) == pytest.approx(
        sklearn.metrics.r2_score(references, predictions)
    )
    expected = scipy.stats.spearmanr(references, predictions).statistic
    assert metrics.rank_correlation(sums) == pytest.approx(expected)
    constant = metrics.value_sums(np.ones(3), np.arange(3.0)).sum(0)
    assert np.isnan(metrics.r_squared(constant)) and np.isnan(metrics.rank_correlation(constant))


def test_the_share_of_a_better_model_is_larger():
    values = RNG.normal(size=40)
    noise = RNG.normal(size=40)
    assert fit_share_of_values(values, noise, values) == 0
    assert fit_share_of_values(noise, values, values) == 1
    assert fit_share_of_values(noise, noise, values) == 0.5
