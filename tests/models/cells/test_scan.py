"""Cells whose states are linear have the values and gradients of the definition by `scan`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.cells.implementations import scan
from models.cells.linearity import NotLinear, is_linear, scan_order
from models.cells.recurrent import GatedRNN
from models.cells.specs import CELLS, CellSpec
from tests.models.cells.test_recurrent import (
    MASK,
    SPECS,
    B,
    D,
    H,
    initial_state,
    inputs,
    made,
    values_and_gradients,
)
from tests.support.cells import slow_except
from tests.support.close import assert_close

LINEAR = [name for name in SPECS if scan.runs(SPECS[name], "cpu", "float32")]
# One for each form of states: h alone, a denominator, h that is read from c, a matrix for a state
# that is solved, and random masks.
DISTINCT = ["mingru", "minlstm", "sru_no_peephole", "tlstm", "mingru, noisy"]


@pytest.mark.parametrize("mask", [None, MASK], ids=["unmasked", "masked"])
@pytest.mark.parametrize("name", slow_except(DISTINCT, LINEAR))
def test_values_and_gradients_are_those_of_the_definition(name, mask, monkeypatch):
    """With chunks of 2 steps, and so chunks of chunks."""
    monkeypatch.setattr(scan, "CHUNK", 2)
    found = []
    for implementation in ("reference", "scan"):
        layer = made(name, implementation=implementation, dtype="float64")
        states = [state.astype("float64") for state in initial_state(layer)]
        xs = inputs().astype("float64")
        found.append(values_and_gradients(layer, xs, states, mask, training=True, graph=False))
    for ours, theirs in zip(*found, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-10, rtol=1e-10)


def step_of(layers):
    """A function of inputs, a mask and states to values and gradients of several layers.

    It is traced once for any number of steps.
    """
    states = [[tf.TensorSpec([B, n]) for n in layer.state_size] for layer in layers]
    specs = [tf.TensorSpec([B, None, D]), tf.TensorSpec([B, None], "bool"), states]

    @tf.function(input_signature=specs, autograph=False)
    def step(xs, mask, states):
        results = []
        for layer, initial in zip(layers, states, strict=True):
            with tf.GradientTape() as tape:
                tape.watch([xs, initial])
                outputs = layer(xs, initial_state=initial, mask=mask)
                loss = sum(tf.reduce_sum(tf.sin(y + i)) for i, y in enumerate(outputs))
            weights = [weight.value for weight in layer.trainable_weights]
            results.append((outputs, tape.gradient(loss, [xs, initial, weights])))
        return results

    return step


@pytest.mark.parametrize(
    "names",
    [
        ["mingru", "sru_no_peephole"],
        pytest.param([name for name in LINEAR if name in CELLS], marks=pytest.mark.slow),
    ],
    ids=["two", "all"],
)
def test_any_number_of_steps_gives_the_values_of_the_definition(names):
    pairs = [
        [made(name, implementation=way, direction="both") for name in names]
        for way in ("scan", "reference")
    ]
    steps, rng = [step_of(layers) for layers in pairs], np.random.default_rng(3)
    states = [initial_state(layer) for layer in pairs[0]]
    for time in (0, 1, 3, 15, 16, 17, 40, 300):
        mask = rng.random((B, time)) < 0.6  # gaps
        position = np.arange(time)
        mask[0], mask[1], mask[2], mask[3] = False, True, position < time // 2, position > time // 2
        ours, theirs = (step(inputs(time=time), mask, states) for step in steps)
        assert_close_each(ours, theirs)


def assert_close_each(ours, theirs):
    for one, other in zip(tf.nest.flatten(ours), tf.nest.flatten(theirs), strict=True):
        assert_close(one, other, 1e-5)


@pytest.mark.parametrize("time", [1, 16, 17, 40])
def test_known_numbers_of_steps_give_the_values_of_the_definition(time):
    ours, theirs = (made("qrnn_ifo", implementation=way) for way in ("scan", "reference"))
    assert_close_each(ours(inputs(time=time)), theirs(inputs(time=time)))


def test_a_stateful_layer_continues():
    options = {"implementation": "scan", "return_state": False}
    whole, stateful = (
        made("sru_no_peephole", **options),
        GatedRNN(H, "sru_no_peephole", stateful=True, return_sequences=True, implementation="scan"),
    )
    stateful.build((B, None, D))
    stateful.set_weights(whole.get_weights())
    xs = inputs(time=40)
    parts = [stateful(xs[:, :17]), stateful(xs[:, 17:])]
    np.testing.assert_allclose(tf.concat(parts, 1), whole(xs), atol=1e-6)


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_states_stay_in_float32_under_half_precision(dtype):
    xs = inputs(time=40)
    ours = made("mingru", implementation="scan", dtype=dtype)(xs)
    plain = made("mingru", implementation="reference", dtype=dtype)(xs)
    assert keras.backend.standardize_dtype(ours[1].dtype) == "float32"
    np.testing.assert_allclose(ours[1], plain[1], atol=1e-5)


def test_many_steps_are_as_exact_as_few():
    """Of float32 compared with float64."""
    single, double = (
        made("mingru", implementation="scan", dtype=d) for d in ("float32", "float64")
    )
    xs = inputs(time=1000)
    ours, exact = np.asarray(single(xs)[0]), np.asarray(double(xs.astype("float64"))[0])
    assert np.linalg.norm(ours - exact) <= 1e-6 * np.linalg.norm(exact)


def test_linear_cells_are_scanned_by_default():
    for name in ("mingru", "minlstm", "trnn", "sru_no_peephole", "qrnn_fo", "qrnn_ifo", "tgru"):
        assert GatedRNN(H, name).implementation_for("cpu") == "scan"
    assert {name for name in CELLS if is_linear(CELLS[name])} <= {*LINEAR}


@pytest.mark.parametrize(
    ("rows", "time", "training", "loops"),
    [
        (B, 100, False, False),
        (B, 40, False, True),  # few steps
        (2000, 100, False, True),  # arrays that do not fit the cache
        (B, 40, True, False),
        (B, 16, True, True),
        (None, None, True, True),  # over the chunks, whose number is unknown
    ],
)
def test_it_is_selected_where_it_is_faster(rows, time, training, loops):
    layer = made("mingru", implementation="auto")
    call = tf.function(lambda xs: layer(xs, training=training), autograph=False)
    graph = call.get_concrete_function(tf.TensorSpec([rows, time, D])).graph
    assert any("While" in op.type for op in graph.get_operations()) == loops


def test_sizes_that_are_unknown_are_compared_when_served():
    layer = made("sru_no_peephole", implementation="auto")
    signature = [tf.TensorSpec([None, None, D])]
    call = tf.function(layer, input_signature=signature, autograph=False)
    for time in (0, 5, 100):
        expected = made("sru_no_peephole", implementation="reference")(inputs(time=time))
        assert_close_each(call(inputs(time=time)), expected)


@pytest.mark.parametrize(
    ("name", "time"),
    [
        ("mingru", None),
        pytest.param("mingru", 40, marks=pytest.mark.slow),
        pytest.param("sru_no_peephole", None, marks=pytest.mark.slow),
    ],
)
def test_xla_compiles_it(name, time):
    layer = made(name, implementation="auto", dtype="float64")

    def run(xs):
        with tf.GradientTape() as tape:
            outputs = layer(xs, training=True)
            loss = sum(tf.reduce_sum(tf.sin(output)) for output in outputs)
        return outputs, tape.gradient(loss, [weight.value for weight in layer.trainable_weights])

    xs = tf.cast(inputs(time=40), "float64")
    signature = [tf.TensorSpec([B, time, D], "float64")]
    assert_close_each(tf.function(run, jit_compile=True, input_signature=signature)(xs), run(xs))


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("gru", "h is multiplied by a matrix in update, reset, candidate"),
        ("cfn", "h is multiplied by a matrix in input, forget"),
        (
            {"equation": "cfn", "blind": {"input": "h", "forget": "h"}},
            "tanh is applied to a term with h",
        ),
        ("sru", "sigmoid is applied to a term with c"),
        ("lstm_memory_controller", "a matrix is applied to a term with v"),
    ],
)
def test_a_cell_that_is_not_linear_is_refused_with_the_term(cell, reason):
    with pytest.raises(ValueError, match=f"got 'scan', whose states are not linear: {reason}"):
        GatedRNN(H, cell, implementation="scan")(inputs())


@pytest.mark.parametrize(
    ("cell", "order"),
    [
        (CellSpec("mingru"), [0]),
        (CellSpec("sru", cell_clip=1.0), None),
        (CellSpec("sru"), [1, 0]),
        (CELLS["tlstm"], [2, 1, 0]),
        # The output need not be linear in the cell state.
        (
            CellSpec("lstm", blind=dict.fromkeys(("input", "forget", "output", "candidate"), "h")),
            [1, 0],
        ),
    ],
)
def test_states_are_solved_after_those_that_they_read(cell, order):
    if order is None:
        with pytest.raises(NotLinear, match="clip is applied to a term with c"):
            scan_order(cell)
    else:
        assert scan_order(cell) == order
