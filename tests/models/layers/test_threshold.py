"""Thresholds that are fitted on held-out probabilities."""

import keras
import numpy as np
import pytest

from models.layers.threshold import Threshold, coverage_threshold, precision_threshold

PROBABILITY = np.array([0.5, 0.9, 0.7, 0.8, 0.7, 0.6])
CORRECT = np.array([0, 1, 1, 1, 0, 1])  # from high to low: 1 1 (1 0) 1 0


@pytest.mark.parametrize(
    ("coverage", "threshold"),
    [(1.0, 0.0), (0.9, 0.0), (5 / 6, 0.55), (0.5, 0.65), (1 / 3, 0.75), (0.01, 0.85)],
)
def test_at_least_the_share_is_covered(coverage, threshold):
    fitted = coverage_threshold(PROBABILITY, coverage)
    assert fitted == pytest.approx(threshold)
    assert (fitted <= PROBABILITY).mean() >= coverage


@pytest.mark.parametrize(
    ("precision", "threshold"), [(1.0, 0.75), (0.8, 0.55), (0.75, 0.55), (0.6, 0.0)]
)
def test_the_threshold_is_the_lowest_with_that_precision(precision, threshold):
    fitted = precision_threshold(PROBABILITY, CORRECT, precision)
    assert fitted == pytest.approx(threshold)
    assert CORRECT[fitted <= PROBABILITY].mean() >= precision


def test_without_such_a_threshold_none_is_confident():
    assert precision_threshold(PROBABILITY, np.zeros(6), 0.5) > 1
    assert precision_threshold(np.zeros(0), np.zeros(0), 0.5) > 1
    assert coverage_threshold(np.zeros(0), 0.5) == 0


def test_the_layer_returns_its_inputs_and_is_saved(tmp_path):
    model = keras.Sequential([keras.Input((3,)), Threshold(name="confidence")])
    model.get_layer("confidence").threshold.assign(0.5)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    inputs = np.array([[1.0, 2.0, -1.0]], "float32")
    np.testing.assert_array_equal(loaded(inputs), inputs)
    assert loaded.get_layer("confidence").threshold.numpy() == 0.5
