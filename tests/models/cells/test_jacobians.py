"""Jacobians of steps and their products: held against finite differences, powers and autodiff."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from models.cells import jacobians
from models.cells.cell import GatedCell
from models.cells.recurrent import GatedRNN
from models.cells.specs import CELLS, CellSpec
from tests.support.cells import slow_except

# Cells that differ in more than their first bias and what training drops.
KINDS = {
    json.dumps(dataclasses.replace(spec, bias={}, recurrent_dropout={}).to_json()): name
    for name, spec in CELLS.items()
}.values()
# Of each equation the first.
FIRST = {CELLS[name].equation: name for name in reversed(KINDS)}.values()
SIZE, FEATURES, BATCH, STEPS = 3, 2, 2, 4


def built(spec, units=SIZE):
    """A cell in float64 with weights that leave nothing at zero."""
    cell = GatedCell(units, spec, dtype="float64")
    cell.build((None, FEATURES))
    rng = np.random.default_rng(4)
    cell.set_weights([rng.normal(scale=0.7, size=w.shape) for w in cell.get_weights()])
    return cell


def read(seed=0, steps=STEPS):
    return np.random.default_rng(seed).normal(size=(BATCH, steps, FEATURES))


def after(cell, inputs, state):
    """All states side by side after one step, (B, S)."""
    parts = np.split(state, np.cumsum(cell.state_size)[:-1], axis=-1)
    return np.concatenate([np.asarray(s) for s in cell(inputs, list(parts))[1]], axis=-1)


@pytest.mark.parametrize("name", slow_except(FIRST, KINDS))
def test_each_step_has_the_jacobian_of_finite_differences(name):
    spec = CELLS[name]
    cell, inputs, epsilon = built(spec), read(), 1e-6
    found = jacobians.of_steps(cell, inputs)
    state = np.zeros((BATCH, sum(cell.state_size)))
    assert found.shape == (BATCH, STEPS, state.shape[1], state.shape[1])
    # One column of each step is enough of the wide ones.
    columns = range(0, state.shape[1], max(1, state.shape[1] // 6))
    for step in range(STEPS):
        x = inputs[:, step]
        for column in columns:
            away = np.zeros_like(state)
            away[:, column] = epsilon
            here = after(cell, x, state)
            ahead = (after(cell, x, state + away) - here) / epsilon
            behind = (here - after(cell, x, state - away)) / epsilon
            wanted = (ahead + behind) / 2
            if "relu" in (spec.input_activation, spec.output_activation):
                # At the kink of relu, where c is 0, the derivative is that of one side.
                kink = ~np.isclose(ahead, behind, atol=1e-3)
                given = found[:, step, :, column]
                nearer = np.where(abs(given - ahead) < abs(given - behind), ahead, behind)
                wanted = np.where(kink, nearer, wanted)
            np.testing.assert_allclose(found[:, step, :, column], wanted, atol=2e-7, rtol=1e-5)
        state = after(cell, x, state)


def test_of_a_linear_unit_the_norms_are_those_of_powers():
    cell = built("rnn_identity", units=5)
    norms = np.exp(jacobians.log_norms(jacobians.of_steps(cell, np.zeros((1, 30, FEATURES)))))
    matrix = np.asarray(cell.recurrent_kernel)
    wanted = [np.linalg.norm(np.linalg.matrix_power(matrix, k), 2) for k in range(31)]
    np.testing.assert_allclose(norms[0], wanted, rtol=1e-9)


@pytest.mark.parametrize("name", ["rnn", "lstm_peephole", "gru", "greff_fgr"])
def test_products_are_what_backpropagation_through_the_layer_gives(name):
    layer = GatedRNN(SIZE, name, return_state=True, dtype="float64")
    layer.build((None, None, FEATURES))
    layer.set_weights(built(name).get_weights())
    cell, inputs = layer.cells[0], read(1)
    norms = np.exp(jacobians.log_norms(jacobians.of_steps(cell, inputs)))
    states = [tf.zeros((BATCH, size), "float64") for size in cell.state_size]
    for step in range(STEPS):
        rest, flat = tf.constant(inputs[:, step:]), tf.concat(states, -1)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(flat)
            _, *last = layer(rest, initial_state=tf.split(flat, cell.state_size, axis=-1))
            last = tf.concat(last, -1)
        whole = tape.batch_jacobian(last, flat, experimental_use_pfor=False).numpy()
        wanted = np.linalg.svd(whole, compute_uv=False)[:, 0]
        np.testing.assert_allclose(norms[:, STEPS - step], wanted, rtol=1e-9)
        _, *states = layer(tf.constant(inputs[:, step : step + 1]), initial_state=states)
    np.testing.assert_allclose(norms[:, 0], 1.0)


def test_norms_beyond_floats_are_given_as_logarithms():
    twice = np.broadcast_to(2.0 * np.eye(3), (1, 3000, 3, 3))
    np.testing.assert_allclose(jacobians.log_norms(twice)[0, -1], 3000 * np.log(2.0))
    np.testing.assert_allclose(jacobians.log_norms(twice / 4)[0, -1], -3000 * np.log(2.0))
    assert jacobians.log_norms(np.zeros((1, 3, 2, 2))).tolist() == [[0.0, *[-np.inf] * 3]]


@pytest.mark.parametrize("name", CELLS)
def test_matrices_are_named_and_are_all_that_a_step_multiplies_the_step_before_by(name):
    cell = built(CELLS[name])
    found = jacobians.recurrent_matrices(cell)
    matrices = cell.matrices(cell.inference_noise())
    projection = matrices.pop("projection", None)
    weights = list(map(np.asarray, matrices.values()))
    if projection is not None:
        weights[-1] = np.asarray(projection) @ weights[-1]
    numbers = np.concatenate([np.zeros(0), *(np.ravel(each) for each in found.values())])
    wanted = np.concatenate([np.zeros(0), *(np.ravel(each) for each in weights)])
    np.testing.assert_allclose(np.sort(numbers), np.sort(wanted), rtol=1e-12)
    assert all(each.shape == (SIZE, SIZE) for each in found.values())
    assert {each.split(" of ")[0] for each in found} == set(cell.spec.maps) - _alone(cell.spec)


def _alone(spec: CellSpec) -> set[str]:
    """The maps that see nothing of the step before."""
    seen = {name for maps in spec.products.values() for name in maps}
    return set(spec.maps) - set(spec.recurrent_maps) - seen
