"""What is fitted on the validation part after training."""

import keras
import numpy as np
import pytest

import tasks
from app.training.batches import Batches
from app.training.example_cache import EncodedExamples
from models.layers.mixture import fit_share
from tasks.core import calibration
from tests.support import untrained


@pytest.fixture(scope="module", params=["tagging", "sentiment"])
def fitted(request, tmp_path_factory):
    """A task, a network with weights as a seed gives them, and its encoded examples."""
    folder = tmp_path_factory.mktemp("assets")
    task_class = tasks.find(request.param)
    examples = untrained.examples(request.param)
    task = task_class.learn(task_class.Config(**untrained.SMALL), examples, folder)
    keras.utils.set_random_seed(0)
    cache = tmp_path_factory.mktemp("cache") / "valid"
    return task, task.build(), EncodedExamples.write(task, examples, cache)


def batches(encoded):
    return Batches(encoded, 256).one_pass()


def test_logits_are_those_of_rows_and_steps_that_count(fitted):
    task, model, encoded = fitted
    logits, classes = calibration.logits_and_classes(task, model, batches(encoded))
    is_tagging = hasattr(task, "tags")
    names = task.tags.words if is_tagging else task.labels.words
    count = sum(length * number for length, number in encoded.lengths.items())
    assert logits.shape == (count if is_tagging else untrained.EXAMPLES, len(names))
    key = "tags" if is_tagging else "label"
    expected = np.concatenate([np.ravel(batch[key]) for batch in batches(encoded)])
    if not is_tagging:
        assert sorted(classes) == sorted(expected)


def test_of_many_logits_a_sample_is_returned(fitted, monkeypatch):
    task, model, encoded = fitted
    monkeypatch.setattr(calibration, "_MAX_VALUES", 60)
    logits, classes = calibration.logits_and_classes(task, model, batches(encoded))
    assert logits.size <= 60 and len(logits) == len(classes) > 1


def test_the_temperature_is_fitted_and_asked_of_no_other_weight(fitted):
    task, model, encoded = fitted
    layer = model.get_layer("calibration")
    names = {"temperature", "share"}
    others = [weight for weight in model.weights if weight.name not in names]
    before = [weight.numpy() for weight in others]
    assert layer.temperature.numpy() == 1
    task.fit_on_valid(model, batches(encoded))
    first = layer.temperature.numpy()
    assert first != 1
    layer.temperature.assign(1.0)
    task.fit_on_valid(model, batches(encoded))
    assert layer.temperature.numpy() == first
    after = [weight.numpy() for weight in others]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
    assert "calibrated by a temperature" in " ".join(task.limits())


@pytest.mark.parametrize("fitted", ["sentiment"], indirect=True)
def test_the_share_of_the_linear_path_is_fitted_and_applied(fitted):
    task, _, encoded = fitted
    keras.utils.set_random_seed(1)
    model = task.build()  # its own, since others expect neutral weights
    linear = model.get_layer("linear_path")
    words = np.zeros(linear.words.shape, np.float32)
    for batch in batches(encoded):  # a classifier that knows the examples
        np.add.at(words, (batch["ids"], batch["label"][:, None]), 1)
    linear.words.assign(words)
    parts = []
    for name in ("logits", "linear_path"):
        network = keras.Model(model.input, model.get_layer(name).output)
        parts.append(calibration.logits_and_classes(task, network, batches(encoded)))
    (first, classes), (second, _) = parts
    task.fit_on_valid(model, batches(encoded))
    reported = task.fitted_on_valid(model)
    share, temperature = reported["linear_path_share"], reported["temperature"]
    assert share == pytest.approx(fit_share(first, second, classes)) and share > 0.5
    assert model.get_layer("mixture").share.numpy() == pytest.approx(share)
    outputs, _ = calibration.logits_and_classes(task, model, batches(encoded))
    expected = ((1 - share) * first + share * second) / temperature
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)
