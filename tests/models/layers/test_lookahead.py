"""Each step has the features of the next valid steps, and zeros after the last."""

import keras
import numpy as np
import pytest

from models.layers.lookahead import Lookahead


@pytest.mark.parametrize("steps", [0, 1, 3, 9])
def test_it_appends_the_next_valid_steps(steps):
    random = np.random.default_rng(0)
    inputs = random.normal(size=(3, 5, 2)).astype("float32")
    lengths = [5, 3, 0]
    mask = np.arange(5)[None] < np.array(lengths)[:, None]
    outputs = Lookahead(steps)(inputs, mask=mask).numpy()
    assert outputs.shape == (3, 5, 2 * (steps + 1))
    for row, length in enumerate(lengths):
        for step in range(length):
            for offset in range(steps + 1):
                later = step + offset
                expected = inputs[row, later] if later < length else [0, 0]
                np.testing.assert_array_equal(
                    outputs[row, step, 2 * offset : 2 * offset + 2], expected
                )
    np.testing.assert_array_equal(Lookahead(steps)(inputs).numpy()[:1], outputs[:1])  # all valid


def test_it_is_saved_and_keeps_the_mask(tmp_path):
    inputs = keras.Input((None, 4))
    keras.Model(inputs, Lookahead(2, name="lookahead")(inputs)).save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.get_layer("lookahead").steps == 2
    assert loaded.output_shape == (None, None, 12)
    mask = np.array([[True, False]])
    assert Lookahead(2).compute_mask(None, mask) is mask
