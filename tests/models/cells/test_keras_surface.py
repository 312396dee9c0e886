"""Arguments, methods and wrappers that Keras's layers have; those layers are the oracle."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.cells import convert
from models.cells.cell import GatedCell
from models.cells.recurrent import MERGES, GatedRNN, implementations_of
from models.cells.specs import CELLS
from tests.support.cells import PLAIN

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


@every_kind
def test_regularizers_add_the_losses_of_keras(kind):
    options = {
        "kernel_regularizer": keras.regularizers.L2(0.1),
        "recurrent_regularizer": "l1",
        "bias_regularizer": keras.regularizers.L1L2(0.2, 0.3),
        "activity_regularizer": keras.regularizers.L2(0.4),
    }
    theirs, ours = pair(kind, **options)
    if kind == "gru":  # Keras has a second bias for all gates, which would count on its own
        bias = theirs.cell.bias.numpy()
        bias[1, : 2 * H] = 0
        theirs.cell.bias.assign(bias)
        copy_weights(theirs.cell, ours.cells[0], kind)
    for layer in (theirs, ours):
        layer(INPUTS)
    np.testing.assert_allclose(sum(ours.losses), sum(theirs.losses), rtol=1e-5)
    plain = GatedRNN(H, kind)
    plain(INPUTS)
    assert plain.losses == []


def test_every_weight_matrix_is_regularized_and_constrained():
    """Also the products of an equation of their own, the projection and each direction."""
    for cell in ("gru_before", "mut1", "greff_fgr", "lstm_projected"):
        layer = GatedRNN(
            H,
            cell,
            direction="both",
            kernel_regularizer="l2",
            recurrent_regularizer="l2",
            kernel_constraint="non_neg",
            recurrent_constraint="non_neg",
        )
        layer(INPUTS)
        matrices = [weight for weight in layer.weights if len(weight.shape) == 2]
        assert all(weight.regularizer and weight.constraint for weight in matrices)
        vectors = [weight for weight in layer.weights if len(weight.shape) == 1]
        assert not any(weight.regularizer or weight.constraint for weight in vectors)
        assert len(layer.losses) == len(matrices)


def test_training_with_regularizers_and_constraints_is_that_of_keras():
    options = {
        "kernel_constraint": keras.constraints.MaxNorm(0.5),
        "recurrent_constraint": keras.constraints.UnitNorm(axis=0),
        "bias_constraint": "non_neg",
        "kernel_regularizer": "l2",
        "recurrent_regularizer": keras.regularizers.L2(0.05),
        "bias_regularizer": "l1",
    }
    losses, (theirs, ours) = [], pair("lstm", **options)
    for layer in (theirs, ours):
        inputs = keras.Input((T, D))
        model = keras.Model(inputs, layers.Dense(1, kernel_initializer="ones")(layer(inputs)))
        model.compile(keras.optimizers.SGD(0.1), "mse")
        losses.append([model.train_on_batch(INPUTS, TARGETS) for _ in range(4)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    expected = GatedRNN(H, "lstm")
    expected.build((B, T, D))
    copy_weights(theirs.cell, expected.cells[0], "lstm")
    assert_equal_trees(ours.get_weights(), expected.get_weights())


IMPLEMENTATIONS = [
    (kind, name) for kind in KINDS for name in implementations_of(CELLS[kind], "cpu")
]


@pytest.mark.parametrize(("kind", "implementation"), IMPLEMENTATIONS)
@pytest.mark.parametrize("mask", [None, MASK], ids=["unmasked", "masked"])
def test_a_layer_without_biases_is_that_of_keras(kind, implementation, mask):
    options = {"use_bias": False, "return_sequences": True}
    theirs, ours = pair(kind, ours={"implementation": implementation, **options}, **options)
    gradients = []
    for layer in (theirs, ours):
        with tf.GradientTape() as tape:
            inputs = tf.constant(INPUTS)
            tape.watch(inputs)
            outputs = layer(inputs, mask=mask, training=True)
            loss = tf.reduce_sum(tf.sin(outputs))
        gradients.append((outputs, *tape.gradient(loss, [inputs, layer.trainable_weights])[:1]))
    assert_equal_trees(gradients[1], gradients[0])
    assert [weight.name for weight in ours.weights] == ["kernel", "recurrent_kernel"]


@pytest.mark.parametrize("spec", [*PLAIN, "lstm_layer_norm_maps", "gru_layer_norm", "lstm_zoneout"])
def test_a_cell_without_biases_is_that_with_biases_of_zero(spec):
    options = {"return_sequences": True, "dtype": "float64"}  # 2 normalised units round coarsely
    ours = GatedRNN(H, spec, use_bias=False, **options)
    oracle = GatedRNN(H, spec, implementation="reference", **options)
    for layer in (ours, oracle):
        layer.build((B, T, D))
    weights = {weight.name: weight.numpy() for weight in ours.weights}
    assert not {"bias", "recurrent_bias"} & set(weights)
    for weight in oracle.weights:
        weight.assign(weights.get(weight.name, np.zeros(weight.shape)))
    results = []
    for layer in (ours, oracle):
        with tf.GradientTape() as tape:
            outputs = layer(INPUTS, mask=MASK)
            loss = tf.reduce_sum(tf.sin(outputs))
        kept = [weight for weight in layer.weights if weight.name in weights]
        results.append((outputs, tape.gradient(loss, [weight.value for weight in kept])))
    assert_equal_trees(*results)


def test_weights_of_a_layer_without_biases_are_converted_with_biases_of_zero():
    ours = GatedRNN(H, "gru", use_bias=False, return_sequences=True)
    ours.build((B, T, D))
    exported = convert.to_keras(ours)
    theirs = keras.layers.GRU(return_sequences=True, **exported.arguments)
    theirs.build((B, T, D))
    theirs.set_weights(exported.weights)
    np.testing.assert_allclose(ours(INPUTS), theirs(INPUTS), atol=2e-6)
    convert.from_keras(ours, exported.weights)
    kernel, recurrent, bias = exported.weights
    with pytest.raises(ValueError, match=r"represent the bias weights .*cells without biases"):
        convert.from_keras(ours, [kernel, recurrent, bias + 1])


def test_biases_start_as_the_initializer_says_unless_the_cell_does():
    ours = GatedRNN(H, "lstm", bias_initializer=keras.initializers.Constant(0.5))
    theirs = keras.layers.LSTM(H, bias_initializer=keras.initializers.Constant(0.5))
    for layer in (ours, theirs):
        layer.build((B, T, D))
    expected = GatedRNN(H, "lstm")
    expected.build((B, T, D))
    copy_weights(theirs.cell, expected.cells[0], "lstm")
    np.testing.assert_array_equal(ours.cells[0].bias, expected.cells[0].bias)
    gru = GatedRNN(H, "gru", bias_initializer="ones")
    gru.build((B, T, D))
    assert np.all(np.asarray(gru.cells[0].bias) == 1)
    assert np.all(np.asarray(gru.cells[0].recurrent_bias) == 1)
    drawn = GatedRNN(50, "gru", bias_initializer=keras.initializers.RandomNormal(seed=3))
    drawn.build((B, T, D))
    blocks = np.split(np.asarray(drawn.cells[0].bias), 3)
    assert not any(np.array_equal(blocks[0], other) for other in blocks[1:])


def test_a_seed_reproduces_everything_random():
    options = {"cell": "lstm_zoneout", "layers": 2, "dropout": 0.5, "direction": "both"}

    def outputs(seed):
        layer = GatedRNN(H, seed=seed, **options)
        layer.build((B, T, D))
        randomize(layer)
        assert GatedRNN.from_config(layer.get_config()).seed == seed
        return [np.asarray(layer(INPUTS, training=True)) for _ in range(2)]

    first, again, other, unseeded = outputs(7), outputs(7), outputs(8), outputs(None)
    assert_equal_trees(first, again)
    for different in (other, unseeded):
        assert np.abs(first[0] - different[0]).max() > 1e-3
    assert np.abs(first[0] - first[1]).max() > 1e-3
    layer = GatedRNN(H, seed=7, **options)
    seeds = [int(np.asarray(cell._seed.state)[0]) for cell in layer.cells]
    seeds += [int(np.asarray(dropout.seed_generator.state)[0]) for dropout in layer._dropouts]
    assert len(set(seeds)) == len(seeds)


def test_every_new_argument_is_stored_and_restored(tmp_path):
    options = {
        "direction": "both",
        "merge": "ave",
        "zero_output_for_mask": True,
        "use_bias": True,
        "bias_initializer": "ones",
        "kernel_regularizer": keras.regularizers.L2(0.25),
        "recurrent_regularizer": "l1",
        "bias_regularizer": "l2",
        "kernel_constraint": keras.constraints.MaxNorm(2.0),
        "recurrent_constraint": "unit_norm",
        "bias_constraint": "non_neg",
        "seed": np.int64(3),
        "return_sequences": True,
    }
    layer = GatedRNN(H, "gru", **options)
    again = GatedRNN.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert again.get_config()["kernel_regularizer"]["config"]["l2"] == 0.25
    model = keras.Sequential([keras.Input((T, D)), layer, layers.Dense(1)])
    expected = model(INPUTS)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(INPUTS), expected, atol=1e-6)
    np.testing.assert_allclose(sum(loaded.losses), sum(model.losses), rtol=1e-6)


def test_a_config_of_before_these_arguments_is_read():
    config = GatedRNN(H, "gru").get_config()
    new = (
        "stateful",
        "zero_output_for_mask",
        "seed",
        "use_bias",
        "bias_initializer",
        "input_dropout",
    )
    for name in [name for name in config if name in new or "_regularizer" in name]:
        if name != "activity_regularizer":
            del config[name]
    for name in [name for name in config if "_constraint" in name]:
        del config[name]
    expected = GatedRNN(H, "gru", name=config["name"]).get_config()
    assert GatedRNN.from_config(config).get_config() == expected


@every_kind
@pytest.mark.parametrize("mask", [None, MASK], ids=["unmasked", "masked"])
def test_dropout_of_the_inputs_is_that_of_keras(kind, mask):
    """With equal seeds even the dropped features are the same."""
    options = {"seed": 5, "return_sequences": True}
    theirs, ours = pair(
        kind, ours={"input_dropout": 0.5, **options}, dropout=0.5, use_cudnn=False, **options
    )
    for _ in range(2):
        outputs = ours(INPUTS, mask=mask, training=True)
        np.testing.assert_allclose(outputs, theirs(INPUTS, mask=mask, training=True), atol=2e-6)
    np.testing.assert_allclose(ours(INPUTS, mask=mask), theirs(INPUTS, mask=mask), atol=2e-6)
    assert np.abs(np.asarray(outputs) - ours(INPUTS, mask=mask)).max() > 1e-3


def test_dropout_of_the_inputs_drops_features_of_whole_sequences_at_its_rate():
    layer = GatedRNN(
        1,
        "rnn_identity",
        input_dropout=0.25,
        use_bias=False,
        kernel_initializer="ones",
        recurrent_initializer="zeros",
        return_sequences=True,
    )
    ones = np.ones((2000, 3, 1), "float32")
    outputs = np.asarray(layer(ones, training=True))[..., 0]
    assert np.array_equal(outputs, np.repeat(outputs[:, :1], 3, axis=1))
    np.testing.assert_allclose(np.unique(outputs), [0, 1 / 0.75], rtol=1e-6)
    assert abs(np.mean(outputs[:, 0] == 0) - 0.25) < 0.05
    np.testing.assert_array_equal(layer(ones), ones)


def test_dropout_of_the_inputs_works_with_every_option_and_is_stored(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((T, D)),
            layers.Masking(),
            GatedRNN(H, layers=2, direction="both", dropout=0.5, input_dropout=0.5, seed=1),
            layers.Dense(1),
        ]
    )
    model.compile("sgd", "mse")
    model.fit(INPUTS, TARGETS, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.layers[1].input_dropout == loaded.layers[1].dropout == 0.5
    np.testing.assert_allclose(loaded(INPUTS), model(INPUTS), atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_a_cell_works_in_the_rnn_of_keras_under_a_mixed_policy(kind, policy):
    x = np.random.default_rng(0).normal(size=(4, 5, 3)).astype("float32")
    mask = np.arange(5) < np.array([5, 3, 1, 0])[:, None]
    layer = keras.layers.RNN(GatedCell(4, kind, dtype=policy), dtype=policy)
    outputs = layer(x, mask=mask)
    single = keras.layers.RNN(GatedCell(4, kind))
    single.build(x.shape)
    single.set_weights(layer.get_weights())
    assert outputs.dtype == keras.dtype_policies.get(policy).compute_dtype
    np.testing.assert_allclose(np.asarray(outputs, "float32"), single(x, mask=mask), atol=0.05)
    model = keras.Sequential([keras.Input((5, 3)), layer, keras.layers.Dense(1, dtype=policy)])
    model.compile("sgd", "mse")
    assert np.isfinite(model.fit(x, x[:, 0, :1], verbose=0).history["loss"]).all()


def test_dropout_between_layers_has_the_dtype_of_the_layer():
    before = keras.config.dtype_policy()
    x = np.random.default_rng(0).normal(size=(4, 5, 3))
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        layer = GatedRNN(4, layers=2, dropout=0.5, dtype="float64")
        outputs = np.asarray(layer(x))
    finally:
        keras.config.set_dtype_policy(before)
    plain = GatedRNN(4, layers=2, dtype="float64")
    plain.build(x.shape)
    plain.set_weights([weight for weight in layer.get_weights() if weight.ndim and weight.size > 2])
    np.testing.assert_allclose(outputs, plain(x), atol=1e-12)


@pytest.mark.parametrize("direction", ["forward", "both"])
def test_a_row_without_valid_steps_has_outputs_of_zero_whatever_its_state(direction):
    x = np.random.default_rng(0).normal(size=(3, 4, 3)).astype("float32")
    mask = np.arange(4) < np.array([0, 2, 4])[:, None]
    states = [np.ones((3, 5), "float32")] * (2 if direction == "forward" else 4)
    options = {"direction": direction, "return_state": True}
    last, *finals = GatedRNN(5, "lstm", **options)(x, initial_state=states, mask=mask)
    assert not np.asarray(last)[0].any() and np.asarray(last)[1:].all()
    oracle = keras.layers.LSTM(5)(x, initial_state=states[:2], mask=mask)
    assert not np.asarray(oracle)[0].any()
    for state in finals:
        np.testing.assert_array_equal(np.asarray(state)[0], 1)


def test_dropout_between_layers_that_do_not_exist_is_reported():
    with pytest.warns(UserWarning, match=r"dropout=0.5 is ignored: .* input_dropout drops"):
        layer = GatedRNN(H, dropout=0.5)
    assert layer.dropout == 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GatedRNN(H, dropout=0.5, layers=2)
        config = {**GatedRNN(H).get_config(), "dropout": 0.5}  # as in older files
        assert GatedRNN.from_config(config).dropout == 0.0
        two = {**GatedRNN(H, layers=2).get_config(), "dropout": 0.5}
        assert GatedRNN.from_config(two).dropout == 0.5


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_a_rate_out_of_range_is_rejected(rate):
    for name in ("dropout", "input_dropout"):
        with pytest.raises(ValueError, match=f"^{name} must be at least 0 and below 1"):
            GatedRNN(H, **{name: rate})
