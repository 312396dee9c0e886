"""Cells over trees: chains agree with sequences, Tree-LSTMs with equations written out here."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from app.serving import compatibility
from models import CELLS, GatedRNN, GatedTree
from models.cells.tree import valid_trees
from tests.support.cells import slow_except

UNITS, FEATURES = 3, 4
FIRST = {CELLS[name].equation: name for name in reversed(CELLS)}.values()
PLAIN = [name for name in CELLS if not CELLS[name].random]
# The root is not the last node; a chain; one node, with two that are none.
PARENTS = np.array([[3, 3, 1, -1, 1], [1, 2, 3, 4, -1], [-1, -1, 7, 2, 0]], "int32")
MASK = np.array([[1] * 5, [1] * 5, [0, 1, 0, 0, 0]], bool)


def inputs(shape=(3, 5, FEATURES), seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def built(*args, seed=1, **options):
    layer = GatedTree(UNITS, *args, **options)
    layer(inputs(), PARENTS, mask=MASK)
    rng = np.random.default_rng(seed)
    layer.set_weights([rng.normal(scale=0.7, size=w.shape) for w in layer.get_weights()])
    return layer


@pytest.mark.parametrize("cell", slow_except(FIRST, PLAIN))
def test_a_chain_is_a_sequence(cell):
    sequence = GatedRNN(UNITS, cell, return_sequences=True)
    xs = inputs()
    sequence(xs)
    rng = np.random.default_rng(2)
    sequence.set_weights([rng.normal(scale=0.5, size=w.shape) for w in sequence.get_weights()])
    order = np.array([2, 0, 4, 1, 3])  # nodes from the leaf to the root
    parents = np.full((3, 5), -1)
    parents[:, order[:-1]] = order[1:]
    layer = GatedTree(UNITS, cell, return_sequences=True)
    layer(xs, parents)
    layer.set_weights(sequence.get_weights())
    outputs = np.asarray(layer(xs, parents))
    expected = np.asarray(sequence(xs[:, order]))
    np.testing.assert_allclose(outputs[:, order], expected, atol=1e-5, rtol=1e-5)
    layer.return_sequences = False
    np.testing.assert_allclose(layer(xs, parents), expected[:, -1], atol=1e-5, rtol=1e-5)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def tree_lstm(layer, xs, parents, node, outputs):
    """Tai et al. (2015), of one node and those below it: (h, c)."""
    maps = (*layer.cell.spec.definition.gates, "candidate")
    kernel, *rest = (np.asarray(w, "float64") for w in layer.get_weights())
    kernels, bias = (rest[:1], rest[1]) if layer.arity is None else ([rest[0], *rest[2:]], rest[1])
    W = dict(zip(maps, np.split(kernel, len(maps), axis=1), strict=True))
    b = dict(zip(maps, np.split(bias, len(maps)), strict=True))
    U = [dict(zip(maps, np.split(u, len(maps), axis=1), strict=True)) for u in kernels]
    below = [
        tree_lstm(layer, xs, parents, child, outputs) for child in np.flatnonzero(parents == node)
    ]
    own = [U[place if layer.arity else 0] for place in range(len(below))]

    def z(name):
        products = [h @ u[name] for u, (h, _) in zip(own, below, strict=True)]
        return xs[node] @ W[name] + b[name] + sum(products)

    c = sigmoid(z("input")) * np.tanh(z("candidate"))
    for u, (h, cell_state) in zip(own, below, strict=True):
        c = c + sigmoid(xs[node] @ W["forget"] + h @ u["forget"] + b["forget"]) * cell_state
    outputs[node] = sigmoid(z("output")) * np.tanh(c)
    return outputs[node], c


@pytest.mark.parametrize("arity", [None, 2])
def test_it_agrees_with_tree_lstms_written_out(arity):
    layer, xs = built("lstm", arity, return_sequences=True), inputs()
    assert len(layer.weights) == 3 + (arity == 2)
    expected = np.zeros((3, 5, UNITS))
    for row in range(3):
        parents = np.where(MASK[row], PARENTS[row], -2)
        (root,) = np.flatnonzero(parents == -1)
        tree_lstm(layer, xs[row], parents, root, expected[row])
    np.testing.assert_allclose(layer(xs, PARENTS, mask=MASK), expected, atol=1e-5)


@pytest.mark.parametrize("cell", ["gru", "lstm_peephole", "janet", "rnn"])
def test_only_positions_distinguish_children(cell):
    """Swapping two children, with all below them, changes the root of an N-ary tree alone."""
    swapped = [1, 0, 2]
    parents, xs = np.array([[2, 2, -1]]), inputs((1, 3, FEATURES))
    for arity, alike in ((None, True), (2, False)):
        layer = built(cell, arity)
        root, other = (np.asarray(layer(x, parents)) for x in (xs, xs[:, swapped]))
        assert np.allclose(root, other, atol=1e-6) == alike


@pytest.mark.parametrize("cell", ["lstm", "gru_before", "greff_fgr"])
def test_gradients_are_finite_differences(cell):
    layer = GatedTree(UNITS, cell, 2, dtype="float64")
    xs = inputs().astype("float64")
    layer(xs, PARENTS, mask=MASK)
    rng = np.random.default_rng(3)
    layer.set_weights([rng.normal(scale=0.7, size=w.shape) for w in layer.get_weights()])

    @tf.function
    def loss():
        return tf.reduce_sum(layer(xs, PARENTS, mask=MASK) ** 2)

    with tf.GradientTape() as tape:
        value = loss()
    gradients = tape.gradient(value, [w.value for w in layer.weights])
    for weight, gradient in zip(layer.weights, gradients, strict=True):
        before = weight.numpy()
        direction, step = rng.normal(size=before.shape), 1e-6
        ends = []
        for way in (step, -step):
            weight.assign(before + way * direction)
            ends.append(float(loss()))
        weight.assign(before)
        slope = (ends[0] - ends[1]) / (2 * step)
        assert slope == pytest.approx(float(np.sum(gradient * direction)), rel=1e-5, abs=1e-7)


TREES = {
    "a chain": ([1, 2, -1], True),
    "children in any order": ([-1, 0, 0], True),
    "two roots": ([-1, -1, 0], False),
    "no root": ([1, 2, 0], False),
    "a cycle beside a root": ([-1, 2, 1], False),
    "its own parent": ([-1, 1, 0], False),
    "a parent beyond the nodes": ([3, -1, 1], False),
    "a negative parent": ([-2, -1, 1], False),
}


@pytest.mark.parametrize("tree", TREES)
def test_a_row_that_is_no_tree_is_an_error_or_zeros(tree):
    parents, valid = TREES[tree]
    both = np.array([parents, [2, 2, -1]])
    assert valid_trees(both).numpy().tolist() == [valid, True]
    layer, xs = built("lstm"), inputs((2, 3, FEATURES))
    served = tf.function(layer)(xs, tf.constant(both)).numpy()
    np.testing.assert_allclose(served[1:], layer(xs[1:], both[1:]), atol=1e-6)
    if valid:
        np.testing.assert_allclose(served, layer(xs, both), atol=1e-6)
        return
    assert not served[0].any()
    with pytest.raises(ValueError, match=r"each row of parents must be a tree.* rows: \[0\]"):
        layer(xs, both)


def test_more_children_than_the_arity_are_no_tree():
    parents = np.array([[3, 3, 3, -1], [3, 3, 0, -1]])
    assert valid_trees(parents, arity=2).numpy().tolist() == [False, True]
    assert valid_trees(parents, arity=3).numpy().all()
    with pytest.raises(ValueError, match="with at most 2 children"):
        built("lstm", 2)(inputs((2, 4, FEATURES)), parents)


def test_masked_nodes_and_empty_rows_have_no_part():
    layer, xs = built("lstm", return_sequences=True), inputs()
    outputs = layer(xs, PARENTS, mask=MASK)
    changed = np.where(MASK[..., None], xs, 99.0)
    np.testing.assert_array_equal(layer(changed, PARENTS, mask=MASK), outputs)
    assert not np.asarray(outputs)[~MASK].any()
    mask = np.zeros((1, 2), bool)
    assert not valid_trees([[-1, 0]], mask).numpy()
    assert not valid_trees([[-1, 0]], ~mask & [[False, True]]).numpy()  # its parent is none
    assert tf.function(layer)(xs[:1, :2], tf.constant([[-1, 0]]), mask=tf.constant(mask)).shape
    for rows, nodes in ((0, 5), (2, 0)):
        empty = np.zeros((rows, nodes), "int32")
        outputs = tf.function(layer)(np.zeros((rows, nodes, FEATURES), "float32"), empty)
        assert outputs.shape == (rows, nodes, UNITS)


def test_a_model_trains_is_saved_and_served_by_stock_ops(tmp_path):
    ids = keras.Input((None,), dtype="int32")
    parents = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(9, FEATURES, mask_zero=True)(ids)
    x = GatedTree(UNITS, "lstm", 2, return_sequences=True)(x, parents)
    outputs = keras.layers.Dense(2)(GatedTree(UNITS, "gru")(x, parents))
    model = keras.Model([ids, parents], outputs)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    rows = np.where(MASK, np.arange(1, 6), 0).astype("int32")
    history = model.fit([rows, PARENTS], np.array([0, 1, 0]), epochs=30, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    expected = model.predict([rows, PARENTS], verbose=0)
    # The layers read the mask that Keras has attached to the embedding.
    embedding, first, second, last = model.layers[1], *model.layers[3:]
    x = np.asarray(embedding(rows))
    written_out = last(second(first(x, PARENTS, mask=MASK), PARENTS, mask=MASK))
    np.testing.assert_allclose(expected, written_out, atol=1e-5)
    x = embedding(rows)
    assert (first(x, PARENTS)._keras_mask.numpy() == MASK).all()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict([rows, PARENTS], verbose=0), expected, atol=1e-6)

    specs = [tf.TensorSpec((None, None), tf.int32, name=name) for name in ("ids", "parents")]

    @tf.function(input_signature=specs)
    def serve(ids, parents):
        return {"logits": model([ids, parents]), "valid": valid_trees(parents, ids > 0)}

    tf.saved_model.save(model, tmp_path / "saved", {"serving_default": serve})
    compatibility.check(tmp_path / "saved")
    served = tf.saved_model.load(tmp_path / "saved").signatures["serving_default"]
    response = served(ids=tf.constant(rows), parents=tf.constant(PARENTS))
    np.testing.assert_allclose(response["logits"], expected, atol=1e-5)
    assert response["valid"].numpy().all()


@pytest.mark.parametrize("dtype", ["mixed_float16", "bfloat16"])
def test_other_float_types_stay_near_float32(dtype):
    layer, other = built("lstm", 2), GatedTree(UNITS, "lstm", 2, dtype=dtype)
    other(inputs(), PARENTS, mask=MASK)
    other.set_weights(layer.get_weights())
    outputs = other(inputs(), PARENTS, mask=MASK)
    assert outputs.dtype == dtype.removeprefix("mixed_")
    np.testing.assert_allclose(
        tf.cast(outputs, "float32"), layer(inputs(), PARENTS, mask=MASK), atol=0.05
    )


def test_invalid_arguments_are_an_error():
    with pytest.raises(ValueError, match="arity must be an integer of at least 1, got 0"):
        GatedTree(UNITS, "lstm", 0)
    with pytest.raises(ValueError, match="does not support zoneout and recurrent dropout"):
        GatedTree(UNITS, "lstm_zoneout")
    with pytest.raises(ValueError, match="unit"):
        GatedTree(UNITS, "lstm", unit=3)


def test_a_config_loses_nothing():
    layer = GatedTree(2, "gru", 3, True, use_bias=False, name="tree", recurrent_initializer="zeros")
    again = GatedTree.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert again.arity == 3 and again.return_sequences and not again.cell.use_bias
