"""A temperature that is fitted on held-out logits."""

import keras
import numpy as np
import pytest

from models.layers.temperature import Temperature, fit_temperature


def drawn(temperature, count=20_000, classes=4):
    """Logits, and classes drawn from their softmax at a temperature."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(count, classes), scale=3.0)
    noise = rng.gumbel(size=logits.shape)
    return logits.astype("float32"), np.argmax(logits / temperature + noise, axis=1)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_temperature_of_drawn_classes_is_recovered(temperature):
    assert fit_temperature(*drawn(temperature)) == pytest.approx(temperature, rel=0.05)


def test_it_has_the_lowest_negative_log_likelihood():
    logits, classes = drawn(1.7, count=400)
    fitted = fit_temperature(logits, classes)

    def loss(temperature):
        scaled = logits / temperature
        log_sum = np.log(np.exp(scaled).sum(axis=1))
        return (log_sum - scaled[np.arange(len(classes)), classes]).mean()

    assert loss(fitted) <= min(loss(fitted * factor) for factor in (0.9, 1.1))


def test_few_rows_that_are_all_correct_do_not_ask_for_certainty():
    logits = np.array([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
    probability = 1 / (1 + np.exp(-2 / fit_temperature(logits, np.array([0, 1, 0]))))
    assert probability == pytest.approx(1 - 1 / 5, abs=1e-3)


def test_where_it_changes_nothing_it_is_one():
    assert fit_temperature(np.zeros([0, 3]), np.zeros([0], int)) == 1.0
    assert fit_temperature(np.full([4, 3], 7.0), np.zeros([4], int)) == 1.0


def test_the_layer_divides_and_is_saved(tmp_path):
    model = keras.Sequential([keras.Input((3,)), Temperature(name="calibration")])
    logits = np.array([[1.0, 2.0, -1.0]], "float32")
    np.testing.assert_array_equal(model(logits), logits)
    assert not model.trainable_weights
    model.get_layer("calibration").temperature.assign(2.0)
    np.testing.assert_array_equal(model(logits), logits / 2)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        keras.models.load_model(tmp_path / "model.keras")(logits), logits / 2
    )
