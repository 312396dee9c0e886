"""Arguments, methods and wrappers that Keras's layers have; those layers are the oracle."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.cells.recurrent import MERGES, GatedRNN

B, T, D, H = 4, 5, 3, 2
RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(B, T, D)).astype("float32")
# Padded on the right, on the left, with a gap, and without padding.
MASK = np.array([[1, 1, 1, 0, 0], [0, 0, 1, 1, 1], [1, 0, 1, 0, 1], [1] * 5], bool)
TARGETS = RNG.normal(size=(B, 1)).astype("float32")
KINDS = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}
ORDERS = {
    "lstm": ("input", "forget", "candidate", "output"),
    "gru": ("update", "reset", "candidate"),
}
layers = keras.layers
every_kind = pytest.mark.parametrize("kind", KINDS)
every_merge = pytest.mark.parametrize("merge", MERGES)
sequences_or_last = pytest.mark.parametrize("return_sequences", [False, True])


def copy_weights(theirs, ours, kind):
    """Gives a cell of ours the weights of a cell of Keras."""
    order = ORDERS[kind]

    def blocks(array):
        return dict(zip(order, np.split(array, len(order), axis=-1), strict=True))

    parts = {variable.name: variable.numpy() for variable in theirs.weights}
    bias = parts.pop("bias", None)
    parts = {name: blocks(array) for name, array in parts.items()}
    if bias is not None and kind == "gru":  # Keras has a second bias for all maps
        parts["bias"], parts["recurrent_bias"] = map(blocks, bias)
        for gate in ("update", "reset"):
            parts["bias"][gate] = parts["bias"][gate] + parts["recurrent_bias"].pop(gate)
    elif bias is not None:
        parts["bias"] = blocks(bias)
    for variable in ours.weights:
        own = [name for name in ours.spec.maps if name in parts[variable.name]]
        variable.assign(np.concatenate([parts[variable.name][name] for name in own], axis=-1))


def pair(kind, ours=None, **options):
    """A layer of Keras and one of ours, built, with equal weights; `ours` differs in both."""
    theirs = KINDS[kind](H, **options)
    layer = GatedRNN(H, kind, **(options if ours is None else ours))
    for each in (theirs, layer):
        each.build((B, T, D))
    randomize(theirs)
    copy_weights(theirs.cell, layer.cells[0], kind)
    return theirs, layer


def randomize(layer):
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(0, 0.5, weight.shape) for weight in layer.get_weights()])


def bidirectional_pair(kind, merge, **options):
    """As `pair`, both wrapped in `keras.layers.Bidirectional`."""
    theirs = layers.Bidirectional(KINDS[kind](H, **options), merge_mode=merge)
    ours = layers.Bidirectional(GatedRNN(H, kind, **options), merge_mode=merge)
    for layer in (theirs, ours):
        layer.build((B, T, D))
    randomize(theirs)
    for name in ("forward_layer", "backward_layer"):
        copy_weights(getattr(theirs, name).cell, getattr(ours, name).cells[0], kind)
    return theirs, ours


def assert_equal_trees(ours, theirs):
    ours, theirs = keras.tree.flatten(ours), keras.tree.flatten(theirs)
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)


@every_kind
@every_merge
@sequences_or_last
@pytest.mark.parametrize("return_state", [False, True])
def test_keras_bidirectional_wraps_the_layer(kind, merge, return_sequences, return_state):
    options = {"return_sequences": return_sequences, "return_state": return_state}
    theirs, ours = bidirectional_pair(kind, merge, **options)
    for mask in (None, MASK):
        assert_equal_trees(ours(INPUTS, mask=mask), theirs(INPUTS, mask=mask))
    symbolic = keras.KerasTensor((B, T, D))
    shapes = [[x.shape for x in keras.tree.flatten(layer(symbolic))] for layer in (ours, theirs)]
    assert shapes[0] == shapes[1]


@every_kind
def test_keras_bidirectional_takes_an_initial_state(kind):
    theirs, ours = bidirectional_pair(kind, "concat", return_state=True)
    rng = np.random.default_rng(2)
    count = 2 * len(ours.forward_layer.state_size)
    state = [rng.normal(size=(B, H)).astype("float32") for _ in range(count)]
    assert_equal_trees(ours(INPUTS, initial_state=state), theirs(INPUTS, initial_state=state))


@every_kind
@every_merge
@sequences_or_last
def test_both_directions_are_merged_as_by_keras_bidirectional(kind, merge, return_sequences):
    theirs = layers.Bidirectional(
        KINDS[kind](H, return_sequences=return_sequences, return_state=True), merge_mode=merge
    )
    ours = GatedRNN(
        H,
        kind,
        direction="both",
        merge=merge,
        return_sequences=return_sequences,
        return_state=True,
        zero_output_for_mask=True,  # as Keras's wrapper
    )
    for layer in (theirs, ours):
        layer.build((B, T, D))
    randomize(theirs)
    for cell, name in zip(ours.cells, ("forward_layer", "backward_layer"), strict=True):
        copy_weights(getattr(theirs, name).cell, cell, kind)
    for mask in (None, MASK):
        assert_equal_trees(ours(INPUTS, mask=mask), theirs(INPUTS, mask=mask))
    declared = keras.tree.flatten(ours(keras.KerasTensor((B, T, D))))
    outputs = keras.tree.flatten(ours(INPUTS))
    assert [tuple(x.shape) for x in outputs] == [tuple(spec.shape) for spec in declared]


def test_directions_that_are_not_merged_carry_the_mask_and_may_be_time_major():
    layer = GatedRNN(H, direction="both", merge=None, return_sequences=True, time_major=True)
    plain = GatedRNN(H, direction="both", merge=None, return_sequences=True)
    for each in (layer, plain):
        each.build((None, None, D))
    plain.set_weights(layer.get_weights())
    outputs = layer(INPUTS.swapaxes(0, 1), mask=MASK.T)
    for output, expected in zip(outputs, plain(INPUTS, mask=MASK), strict=True):
        np.testing.assert_allclose(np.swapaxes(output, 0, 1), expected, atol=1e-6)
        np.testing.assert_array_equal(output._keras_mask, MASK.T)
    assert layer.output_size == H


def test_layers_on_top_need_merged_directions():
    with pytest.raises(ValueError, match=r"merge must be one of \['concat', .*\] with 2 layers"):
        GatedRNN(H, direction="both", merge=None, layers=2)
    assert GatedRNN(H, merge=None, layers=2).output_size == H  # one direction: nothing to merge


@every_kind
def test_masked_outputs_are_zero_if_asked_for_as_in_keras(kind):
    options = {"return_sequences": True, "zero_output_for_mask": True}
    theirs, ours = pair(kind, **options)
    outputs = ours(INPUTS, mask=MASK)
    np.testing.assert_allclose(outputs, theirs(INPUTS, mask=MASK), atol=2e-6)
    assert not np.any(np.asarray(outputs)[~MASK])
    backwards = GatedRNN(H, kind, go_backwards=True, **options)
    assert not np.any(np.asarray(backwards(INPUTS, mask=MASK))[:, ::-1][~MASK])


@every_kind
def test_a_stateful_layer_carries_its_states_as_in_keras(kind):
    theirs, ours = pair(kind, stateful=True, return_state=True)
    assert ours.state_size == theirs.state_size
    assert_equal_trees(ours.get_initial_state(B), theirs.get_initial_state(B))
    assert len(ours.weights) == len(ours.cells[0].weights)  # states are not weights
    first = ours(INPUTS)
    assert_equal_trees(first, theirs(INPUTS))
    for mask in (None, MASK):
        assert_equal_trees(ours(INPUTS, mask=mask), theirs(INPUTS, mask=mask))
        assert_equal_trees([s.value for s in ours.states], [s.value for s in theirs.states])
    state = [np.full((B, H), 0.5, "float32") for _ in ours.state_size]
    assert_equal_trees(ours(INPUTS, initial_state=state), theirs(INPUTS, initial_state=state))
    assert_equal_trees(ours(INPUTS), theirs(INPUTS))
    for layer in (ours, theirs):
        layer.reset_state()
    assert not any(np.any(state.value) for state in ours.states)
    assert_equal_trees(ours(INPUTS), first)


@every_kind
def test_two_stateful_batches_are_one_long_batch(kind):
    layer = GatedRNN(H, kind, layers=2, stateful=True, return_sequences=True)
    layer.build((B, None, D))
    whole = GatedRNN(H, kind, layers=2, return_sequences=True)
    whole.build((None, None, D))
    whole.set_weights(layer.get_weights())
    run = tf.function(layer)
    parts = [run(INPUTS[:, :2]), run(INPUTS[:, 2:])]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole(INPUTS), atol=1e-6)


def test_a_stateful_model_trains_as_with_keras():
    losses, predictions = [], []
    for layer in pair("lstm", stateful=True):
        inputs = keras.Input(batch_shape=(B, T, D))
        dense = layers.Dense(1, kernel_initializer="ones")
        model = keras.Model(inputs, dense(layer(inputs)))
        model.compile(keras.optimizers.SGD(0.1), "mse")
        losses.append([model.train_on_batch(INPUTS, TARGETS) for _ in range(4)])
        predictions.append([model.predict_on_batch(INPUTS) for _ in range(2)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    np.testing.assert_allclose(predictions[1], predictions[0], atol=1e-5)
    assert np.abs(predictions[0][0] - predictions[0][1]).max() > 1e-5


def test_a_stateful_bidirectional_layer_is_that_of_keras():
    theirs, ours = bidirectional_pair("lstm", "sum", stateful=True, return_sequences=True)
    for _ in range(2):
        assert_equal_trees(ours(INPUTS), theirs(INPUTS))
    assert_equal_trees([s.value for s in ours.states], [s.value for s in theirs.states])
    ours.reset_state()
    assert not any(np.any(state.value) for state in ours.states)


def test_a_stateful_layer_is_saved_and_loaded(tmp_path):
    model = keras.Sequential(
        [keras.Input(batch_shape=(B, T, D)), GatedRNN(H, stateful=True, direction="both")]
    )
    first = model(INPUTS)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.layers[0].stateful
    np.testing.assert_allclose(loaded(INPUTS), first, atol=1e-6)


def test_a_stateful_layer_needs_one_known_batch_size():
    with pytest.raises(ValueError, match=r"a stateful layer needs a known batch size.*\(None, 5"):
        GatedRNN(H, stateful=True).build((None, T, D))
    layer = GatedRNN(H, stateful=True, name="layer")
    layer(INPUTS)
    with pytest.raises(ValueError, match="layer: the batch size of a stateful layer must stay 4"):
        layer(INPUTS[:2])
    major = GatedRNN(H, stateful=True, time_major=True)
    major(INPUTS.swapaxes(0, 1))
    assert major.states[0].shape == (B, H)
    assert GatedRNN(H).states is None
    GatedRNN(H).reset_state()  # does nothing, as in Keras
