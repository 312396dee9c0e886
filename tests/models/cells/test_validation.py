"""Arguments that do not fit are rejected before any op runs, and what Keras accepts is accepted."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.cells.cell import GatedCell
from models.cells.recurrent import GatedRNN
from models.cells.specs import CellSpec
from models.layers.crf import CRF

B, T, D, H = 2, 3, 4, 5
INPUTS = np.random.default_rng(0).normal(size=(B, T, D)).astype("float32")


def built(**options):
    layer = GatedRNN(H, name="layer", **options)
    layer.build((None, None, D))
    return layer


def symbolic(array):
    return keras.KerasTensor(array.shape, keras.backend.standardize_dtype(array.dtype))


def traced(layer):
    """The layer in a `tf.function` that knows all shapes."""
    return tf.function(layer)


MODES = {"eager": lambda layer: layer, "symbolic": None, "graph": traced}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("inputs", "arguments", "message"),
    [
        (INPUTS[0], {}, "expected ndim=3, found ndim=2"),
        (INPUTS[None], {}, "expected ndim=3, found ndim=4"),
        (INPUTS[..., 1:], {}, "expected axis -1 of input shape to have value 4"),
        (
            INPUTS,
            {"mask": np.ones((B, T + 1), bool)},
            r"layer: mask must have the first two axes of the inputs, \(2, 3\), got \(2, 4\)\.",
        ),
        (INPUTS, {"mask": np.ones((B + 1, T), bool)}, r"\(2, 3\), got \(3, 3\)"),
        (INPUTS, {"mask": np.ones((B, T, 1), bool)}, r"\(2, 3\), got \(2, 3, 1\)"),
        (
            INPUTS,
            {"initial_state": [np.zeros((B, H), "f"), np.zeros((B, H + 1), "f")]},
            r"layer: initial_state must have the shapes \[\(2, 5\), \(2, 5\)\], where a batch of 1 "
            r"is repeated, got \[\(2, 5\), \(2, 6\)\]\.",
        ),
        (
            INPUTS,
            {"initial_state": [np.zeros((B + 1, H), "f")] * 2},
            r"got \[\(3, 5\), \(3, 5\)\]",
        ),
        (INPUTS, {"initial_state": [np.zeros((B, H), "f")] * 3}, "a list of 2 states .*got 3"),
        (INPUTS, {"initial_state": np.zeros((B, H), "f")}, "a list of 2 states .*got 1"),
    ],
)
def test_shapes_that_do_not_fit_are_rejected(mode, inputs, arguments, message):
    layer = built()
    with pytest.raises(ValueError, match=message):
        if mode == "symbolic":
            layer(symbolic(inputs), **keras.tree.map_structure(symbolic, arguments))
        else:
            MODES[mode](layer)(inputs, **arguments)


def test_time_major_shapes_are_checked_in_their_own_order():
    layer = built(time_major=True)
    xs, mask, states = INPUTS.swapaxes(0, 1), np.ones((T, B), bool), [np.zeros((B, H), "f")] * 2
    assert layer(xs, mask=mask, initial_state=states).shape == (B, H)
    with pytest.raises(ValueError, match=r"\(3, 2\), got \(2, 3\)"):
        layer(xs, mask=mask.T)
    with pytest.raises(ValueError, match=r"initial_state must have the shapes \[\(2, 5\)"):
        layer(xs, initial_state=[np.zeros((T, H), "f")] * 2)


def test_unknown_shapes_are_accepted():
    layer = built()
    shapes = ([None, None, D], "float32"), ([None, None], "bool"), ([None, None], "float32")
    unknown = [tf.TensorSpec(*shape) for shape in shapes]

    @tf.function(input_signature=unknown)
    def run(inputs, mask, state):
        return layer(inputs, mask=mask, initial_state=[state, state])

    outputs = run(INPUTS, np.ones((B, T), bool), np.zeros((B, H), "float32"))
    np.testing.assert_allclose(outputs, layer(INPUTS), atol=1e-6)


def test_a_ragged_tensor_is_rejected_with_what_to_do():
    ragged = tf.RaggedTensor.from_row_lengths(tf.ones((3, D)), [1, 2])
    layer = built()
    with pytest.raises(ValueError, match=r"inputs must be a dense tensor, .*row_lengths\(\)\)"):
        layer(ragged)
    mask = tf.sequence_mask(ragged.row_lengths())
    assert layer(ragged.to_tensor(), mask=mask).shape == (2, H)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_state_of_batch_1_is_repeated_as_in_keras(cell):
    theirs = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}[cell](H)
    ours = built(cell=cell)
    rng = np.random.default_rng(1)
    states = [rng.normal(size=(1, H)).astype("float32") for _ in ours.state_size]
    repeated = [np.repeat(state, B, axis=0) for state in states]
    np.testing.assert_allclose(
        ours(INPUTS, initial_state=states), ours(INPUTS, initial_state=repeated), atol=1e-6
    )
    np.testing.assert_allclose(
        theirs(INPUTS, initial_state=states), theirs(INPUTS, initial_state=repeated), atol=1e-6
    )


def test_a_cell_checks_its_inputs_and_states():
    cell = GatedCell(H, "lstm", name="cell")
    x, state = INPUTS[:, 0], np.zeros((B, H), "float32")
    cell(x, [state, state])
    with pytest.raises(ValueError, match="expected ndim=2, found ndim=3"):
        cell(INPUTS, [state, state])
    with pytest.raises(ValueError, match="expected axis -1 of input shape to have value 4"):
        cell(x[:, 1:], [state, state])
    expected = r"cell: states must be a list of tensors of the shapes \[\(None, 5\), \(None, 5\)\]"
    with pytest.raises(ValueError, match=expected + r", got \[\(2, 5\)\]\."):
        cell(x, [state])
    with pytest.raises(ValueError, match=expected + r", got \[\(2, 5\), \(2, 4\)\]\."):
        cell(x, [state, state[:, 1:]])


def test_numpy_numbers_are_accepted_and_stored_as_plain_ones():
    layer = GatedRNN(np.int64(3), layers=np.int32(2), dropout=np.float32(0.25))
    assert layer(INPUTS).shape == (B, 3)
    config = json.loads(json.dumps(layer.get_config()))
    assert (config["units"], config["layers"], config["dropout"]) == (3, 2, 0.25)
    assert GatedCell(np.uint8(3)).get_config()["units"] == 3
    assert CRF(np.int64(3)).get_config()["classes"] == 3
    spec = CellSpec(
        "lstm",
        bias={"forget": np.float32(0.5)},
        pinned={"input": np.float64(0.5)},
        projection=np.int64(2),
        zoneout={"h": np.float32(0.5)},
    )
    assert CellSpec(**json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize("units", [0, -1, 2.5, np.float64(3), True, np.bool_(True), "3", None])
def test_anything_but_a_positive_integer_is_rejected(units):
    for make in (GatedRNN, GatedCell):
        with pytest.raises(ValueError, match="units must be an integer of at least 1, got"):
            make(units)
    with pytest.raises(ValueError, match="layers must be an integer of at least 1, got"):
        GatedRNN(3, layers=units)


def test_an_initializer_may_be_a_function_as_in_keras():
    shapes = []

    @keras.saving.register_keras_serializable(package="tests")
    def quarters(shape, dtype=None):
        shapes.append(tuple(shape))
        return keras.ops.full(shape, 0.25, dtype=dtype)

    layer = built(kernel_initializer=quarters, recurrent_initializer=quarters)
    assert shapes == [(D, H)] * 4 + [(H, H)] * 4  # a block for each map
    for name in ("kernel", "recurrent_kernel"):
        np.testing.assert_array_equal(getattr(layer.cells[0], name), 0.25)
    again = GatedRNN.from_config(layer.get_config())
    assert again.cells[0].kernel_initializer is quarters
    assert built(kernel_initializer=lambda shape, dtype=None: keras.ops.ones(shape, dtype)).built
