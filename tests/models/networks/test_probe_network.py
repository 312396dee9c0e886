"""The network of probes answers where it is asked, whatever its cell."""

import keras
import numpy as np
import pytest

from models.cells.specs import CELLS
from models.networks.probe_network import reader
from tests.support.cells import PLAIN, slow_except


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("embedding", [0, 4])
def test_padding_at_the_end_changes_no_answer(each, embedding):
    keras.utils.set_random_seed(0)
    model = reader(
        features=5, outputs=3, cell="lstm", units=6, embedding=embedding, return_sequences=each
    )
    rng = np.random.default_rng(0)
    ids = rng.integers(1, 5, (2, 7)).astype("int32")
    steps = ids if embedding else np.eye(5, dtype="float32")[ids]
    padded = np.pad(steps, [(0, 0), (0, 3), (0, 0)][: steps.ndim])
    alone, concurrent = np.array(model(steps)), np.array(model(padded))
    assert alone.shape == ((2, 7, 3) if each else (2, 3))
    if each or embedding:  # steps that are no symbols have no padding to be known by
        np.testing.assert_allclose(concurrent[:, :7] if each else concurrent, alone, atol=1e-6)


def test_an_answer_after_the_last_step_is_the_last_of_those_after_each():
    arguments = {"features": 2, "outputs": 3, "cell": "gru", "units": 4}
    one, each = reader(**arguments), reader(**arguments, return_sequences=True)
    each.set_weights(one.get_weights())
    steps = np.random.default_rng(0).normal(size=(3, 6, 2)).astype("float32")
    np.testing.assert_allclose(np.array(each(steps))[:, -1], np.array(one(steps)), atol=1e-6)


@pytest.mark.parametrize("cell", slow_except(PLAIN))
def test_it_can_be_built_with_any_cell(cell):
    units = max(4, CELLS[cell].projection)
    model = reader(features=2, outputs=3, cell=cell, units=units)
    assert model.output_shape == (None, 3) and model.count_params()
