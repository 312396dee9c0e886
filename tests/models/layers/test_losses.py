"""Losses and metrics of steps, against plain counting."""

import keras
import numpy as np
import pytest

from models.layers.losses import SmoothedCrossEntropy, StepAccuracy

V = 5


def batches():
    """Batches padded to different lengths: classes, logits and weights, junk where those are 0."""
    random = np.random.default_rng(0)
    for time in (2, 9, 4):
        lengths = random.integers(1, time + 1, 6)
        weights = (np.arange(time) < lengths[:, None]).astype("float32")
        yield random.integers(0, V, (6, time)), random.normal(size=(6, time, V)), weights


def test_every_step_counts_alike_whatever_its_batch_was_padded_to():
    metric, right, total = StepAccuracy("accuracy"), 0, 0
    for classes, logits, weights in batches():
        metric.update_state(classes, logits.astype("float32"), weights)
        right += ((logits.argmax(-1) == classes) * weights).sum()
        total += weights.sum()
    assert float(metric.result()) == pytest.approx(right / total, abs=1e-6)


def test_without_weights_all_steps_count():
    classes, logits, _ = next(batches())
    metric = StepAccuracy("accuracy")
    metric.update_state(classes, logits.astype("float32"))
    assert float(metric.result()) == pytest.approx((logits.argmax(-1) == classes).mean(), abs=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_part_of_the_cross_entropy_is_against_the_uniform_distribution(smoothing):
    loss = SmoothedCrossEntropy(smoothing)
    for classes, logits, weights in batches():
        logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        wanted = np.eye(V)[classes] * (1 - smoothing) + smoothing / V
        every = -(wanted * logs).sum(-1)
        given = loss(classes, logits.astype("float32"), weights)
        assert float(given) == pytest.approx((every * weights).sum() / weights.sum(), abs=1e-5)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.smoothing == smoothing


def test_a_smoothing_that_is_no_share_is_refused():
    with pytest.raises(ValueError, match="smoothing must be at least 0 and below 1, got 1"):
        SmoothedCrossEntropy(1.0)
