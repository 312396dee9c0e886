"""Losses and metrics of steps, against plain counting."""

import keras
import numpy as np
import pytest

from models.layers.losses import (
    JointAccuracy,
    JointCrossEntropy,
    SmoothedCrossEntropy,
    StepAccuracy,
)

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


SIZES = (3, 2, 4)


def joint_batches():
    """Batches of three annotations: ids, some of them unknown, logits side by side and weights."""
    random = np.random.default_rng(1)
    for time in (2, 9):
        lengths = random.integers(1, time + 1, 6)
        weights = (np.arange(time) < lengths[:, None]).astype("float32")
        ids = np.stack([random.integers(-1, size, (6, time)) for size in SIZES], -1)
        yield ids, random.normal(size=(6, time, sum(SIZES))).astype("float32"), weights


def columns(logits):
    return np.split(logits, np.cumsum(SIZES)[:-1], axis=-1)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_of_several_annotations_is_the_sum_of_theirs(smoothing):
    loss = JointCrossEntropy(SIZES, smoothing)
    for ids, logits, weights in joint_batches():
        every = np.zeros(weights.shape)
        for index, own in enumerate(columns(logits)):
            logs = own - np.log(np.exp(own).sum(-1, keepdims=True))
            wanted = np.eye(SIZES[index])[ids[..., index]] * (1 - smoothing)
            losses = -((wanted + smoothing / SIZES[index]) * logs).sum(-1)
            every += np.where(ids[..., index] < 0, 0, losses)
        wanted = (every * weights).sum() / weights.sum()
        assert float(loss(ids, logits, weights)) == pytest.approx(wanted, abs=1e-5)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.get_config() == loss.get_config()


@pytest.mark.parametrize("annotation", [None, 0, 2])
def test_accuracy_of_several_annotations_is_that_of_plain_counting(annotation):
    metric, right, total = JointAccuracy(SIZES, annotation), 0, 0
    for ids, logits, weights in joint_batches():
        metric.update_state(ids, logits, weights)
        hits = np.stack([own.argmax(-1) for own in columns(logits)], -1) == ids
        hits = hits.all(-1) if annotation is None else hits[..., annotation]
        right += (hits * weights).sum()
        total += weights.sum()
    assert 0 < right < total
    assert float(metric.result()) == pytest.approx(right / total, abs=1e-6)
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert again.get_config() == metric.get_config()
