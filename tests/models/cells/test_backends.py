"""The definition runs on every backend of Keras: each in a process of its own."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

BACKENDS = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch"}

SCRIPT = """
import sys
import keras
import numpy as np
from models.cells.recurrent import GatedRNN
from models.cells.specs import CELLS
from tests.support import textbook
from tests.support.cells import random_states

assert keras.backend.backend() == sys.argv[1]
of_equations = {spec.equation: name for name, spec in CELLS.items()}
names = list(CELLS) if sys.argv[2] == "all" else list(of_equations.values())
rng = np.random.default_rng(0)
xs = rng.normal(size=(3, 5, 4)).astype("float32")
mask = np.array([[1, 1, 1, 0, 0], [0, 1, 0, 1, 1], [1, 1, 1, 1, 1]], bool)
for name in names:
    layer = GatedRNN(3, name, return_sequences=True, return_state=True)
    layer.build(xs.shape)
    layer.set_weights([rng.normal(size=w.shape, scale=0.7) for w in layer.get_weights()])
    states = random_states(layer.cells, 3, 1)
    given = layer(xs, initial_state=states, mask=mask)
    outputs, lasts = textbook.run(layer.cells[0], xs, mask, states)
    for ours, theirs in zip(given, [outputs, *lasts], strict=True):
        ours = keras.ops.convert_to_numpy(ours)
        np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=1e-5, err_msg=name)
    wrapped = keras.layers.Bidirectional(keras.layers.RNN(layer.cells[0], return_sequences=True))
    assert wrapped(xs).shape == (3, 5, 2 * layer.output_size)
stacked = keras.layers.RNN(keras.layers.StackedRNNCells([GatedRNN(3, c).cells[0] for c in names]))
assert stacked(xs).shape == (3, 3)
if sys.argv[1] != "tensorflow":
    assert layer.implementation_for() == "reference"
    try:
        GatedRNN(3, implementation="loop")(xs)
    except ValueError as error:
        assert "must be one of ['auto', 'reference']" in str(error), error
    else:
        raise AssertionError("what needs TensorFlow ran without it")
print("all cells agree")
"""


@pytest.mark.parametrize(
    "cells", ["one of each equation", pytest.param("all", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_cell_agrees_with_the_textbook_on_every_backend(backend, cells):
    if importlib.util.find_spec(BACKENDS[backend]) is None:
        pytest.skip(f"{backend} is not installed")
    answer = subprocess.run(
        [sys.executable, "-c", SCRIPT, backend, cells],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert answer.stdout == "all cells agree\n", answer.stderr
