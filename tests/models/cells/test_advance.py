"""A layer that reads a sequence in pieces returns what it returns for the whole sequence."""

import itertools

import keras
import numpy as np
import pytest

from models.cells.recurrent import GatedRNN
from models.cells.specs import CELLS
from tests.support.cells import slow_except

LAYERS, UNITS, STEPS, LENGTHS = 2, 4, 9, [9, 4, 0]
CUTS = ([0, 9], [0, 1, 2, 5, 9], [0, 8, 9])


# One cell for each layout of states.
FIRST = {spec.definition.states: name for name, spec in reversed(CELLS.items())}


@pytest.mark.parametrize("cell", slow_except(FIRST.values()))
def test_pieces_have_the_outputs_and_states_of_the_whole(cell):
    keras.utils.set_random_seed(0)
    layer = GatedRNN(
        UNITS,
        cell,
        layers=LAYERS,
        return_sequences=True,
        return_state=True,
        implementation="portable",
        bias_initializer=keras.initializers.RandomUniform(seed=1),
    )
    inputs = np.random.default_rng(0).normal(size=(3, STEPS, 5)).astype("float32")
    mask = np.arange(STEPS)[None] < np.array(LENGTHS)[:, None]
    whole, *finals = layer(inputs, mask=mask)
    for cuts in CUTS:
        states, outputs = layer.get_initial_state(3), []
        for start, end in itertools.pairwise(cuts):
            output, states = layer.advance(inputs[:, start:end], states, mask[:, start:end])
            outputs.append(output)
        joined = np.where(mask[..., None], np.concatenate(outputs, axis=1), 0)
        np.testing.assert_allclose(joined, np.where(mask[..., None], whole, 0), atol=1e-5)
        for state, final in zip(states, finals, strict=True):
            np.testing.assert_allclose(state, final, atol=1e-5)


def test_every_cell_has_a_finite_initial_state():
    for cell in CELLS:
        for state in GatedRNN(2, cell).get_initial_state(1):
            assert np.isfinite(state).all(), cell


def test_only_a_forward_layer_advances():
    inputs = np.ones((1, 2, 3), "float32")
    for options in ({"direction": "both"}, {"direction": "backward"}, {"go_backwards": True}):
        layer = GatedRNN(2, **options)
        layer(inputs)
        with pytest.raises(ValueError, match="only a layer of direction 'forward'"):
            layer.advance(inputs, layer.get_initial_state(1))
