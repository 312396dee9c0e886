"""Training steps are timed, and the choice changes which implementation runs, but no value."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.cells import tuning
from models.cells.implementations import block
from models.cells.recurrent import GatedRNN
from models.cells.tuning import Sizes, Tuning
from models.networks.tagger import tagger
from tests.support.close import assert_close

pytestmark = pytest.mark.skipif(
    bool(tf.config.get_visible_devices("GPU")), reason="on a GPU a rule selects"
)
CHOICE = Tuning("block", {"loop": 2.0, "block": 1.0}, 4, 8)


@pytest.mark.parametrize(
    ("milliseconds", "chosen"),
    [
        ({"loop": 2.0, "block": 1.0}, "block"),
        ({"loop": 1.0, "block": 2.0}, "loop"),
        ({"loop": 1.0, "block": 0.95}, "loop"),  # within the noise
        ({"scan": 3.0, "loop": 1.0, "block": 2.0}, "loop"),
        ({"scan": 1.0, "loop": 3.0}, "scan"),
    ],
)
def test_the_fastest_is_chosen_if_it_is_clearly_faster_than_the_rule(milliseconds, chosen):
    assert tuning.choose(milliseconds, Sizes(4, 8, 3, True)).implementation == chosen


@pytest.mark.parametrize(
    ("arguments", "time", "names"),
    [
        ({"cell": "lstm"}, 50, ["loop", "block"]),
        ({"cell": "lstm_peephole"}, 50, ["loop", "block"]),
        ({"cell": "lstm", "dtype": "mixed_bfloat16"}, 50, ["loop"]),
        ({"cell": "gru"}, 50, ["loop"]),
        ({"cell": "mingru"}, 50, ["scan", "loop"]),
        ({"cell": "mingru"}, 10, ["loop", "scan"]),
        ({"cell": "lstm", "implementation": "portable"}, 50, []),
        ({"cell": "lstm", "implementation": "block"}, 50, []),
    ],
)
def test_candidates_compute_the_cell_and_begin_with_that_of_the_rule(arguments, time, names):
    assert tuning.candidates(GatedRNN(8, **arguments), time) == names


def test_steps_are_timed_and_nothing_else_changes():
    layer = GatedRNN(4, recurrent_initializer="glorot_normal")
    layer.build((None, None, 3))
    weights, state = layer.get_weights(), random.getstate()
    result = tuning.tune(layer, batch=2, time=5)
    assert result is layer.tuning and list(result.milliseconds) == ["loop", "block"]
    assert (result.batch, result.time) == (2, 5)
    assert all(value > 0 for value in result.milliseconds.values())
    assert random.getstate() == state
    for before, after in zip(weights, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    config = layer.get_config()
    assert config["implementation"] == "auto"
    assert GatedRNN.from_config(config).tuning is None


def test_there_is_nothing_to_time_without_a_choice():
    layer = GatedRNN(4, "gru")
    layer.build((None, None, 3))
    assert tuning.tune(layer, batch=2, time=5) is None
    assert layer.implementation_for("cpu", training=True) == "portable"


def gradients(layer, inputs, mask):
    @tf.function
    def step(inputs, mask):
        with tf.GradientTape() as tape:
            outputs = layer(inputs, mask=mask, training=True)
            loss = tf.reduce_sum(tf.square(outputs))
        return outputs, tape.gradient(loss, layer.trainable_variables)

    return step(inputs, mask)


def test_the_choice_runs_in_training_alone_and_computes_the_same(monkeypatch):
    numbers = np.random.default_rng(0)
    inputs = numbers.normal(size=(4, 8, 3)).astype("float32")
    mask = np.arange(8) < np.array([8, 5, 0, 1])[:, None]
    mask[1, 2] = False  # a gap
    layer = GatedRNN(5, "lstm_peephole", direction="both", return_sequences=True)
    definition = GatedRNN.from_config({**layer.get_config(), "implementation": "reference"})
    layer.build(inputs.shape), definition.build(inputs.shape)
    definition.set_weights(layer.get_weights())
    calls = []
    run = block.run

    def counted(cell, inputs, mask, states, noise, training, concurrent=1):
        calls.append(training)
        return run(cell, inputs, mask, states, noise, training, concurrent)

    monkeypatch.setattr(block, "run", counted)
    untuned, _ = gradients(layer, inputs, mask)
    assert calls == []
    layer.tuning = CHOICE
    outputs, ours = gradients(layer, inputs, mask)
    assert calls == [True, True]  # both directions
    expected, theirs = gradients(definition, inputs, mask)
    assert_close(outputs, expected, 1e-5)
    assert_close(outputs, untuned, 1e-5)
    for gradient, other in zip(ours, theirs, strict=True):
        assert_close(gradient, other, 1e-5)


def test_the_choice_is_explained():
    layer = GatedRNN(8, "lstm")
    assert layer.explain_implementation("cpu") == "portable, by rule"
    layer.tuning = CHOICE
    explained = layer.explain_implementation("cpu")
    assert "block" in explained and "loop 2" in explained and "block 1" in explained
    assert "portable, by rule" in explained
    assert layer.implementation_for("cpu", training=True) == "block"
    assert layer.implementation_for("cpu") == "portable"
    assert GatedRNN(8, implementation="loop").explain_implementation() == (
        "loop, as the argument says"
    )


def test_xla_has_no_op_of_block_and_runs_the_loop():
    layer = GatedRNN(4, return_sequences=True)
    inputs = np.ones((2, 3, 3), "float32")
    expected = layer(inputs)
    layer.tuning = CHOICE
    compiled = tf.function(lambda x: layer(x, training=True), jit_compile=True)
    assert_close(compiled(inputs), expected, 1e-5)


def test_sizes_are_those_that_each_layer_reads():
    network = tagger(
        vocabulary=9,
        tags=3,
        cell="lstm",
        units=4,
        layers=2,
        embedding=5,
        alphabet=7,
        characters=6,
        character_embedding=2,
    )
    inputs = {
        "ids": np.ones((3, 4), "int32"),
        "characters": np.random.default_rng(0).integers(1, 7, (3, 4, 8), "int32"),
    }
    sizes = tuning.input_sizes(network, inputs)
    layers = tuning.layers_of(network)
    assert set(sizes) == set(layers)
    assert sizes["encoder"] == Sizes(3, 4, 5 + 2 * 6, True)
    (reader,) = (value for path, value in sizes.items() if path != "encoder")
    assert (reader.batch, reader.time, reader.features) == (3 * 4, 8, 2)
    assert all(isinstance(layer, GatedRNN) and not layer._tracer for layer in layers.values())


@pytest.mark.parametrize(("size", "rounded"), [(1, 1), (2, 2), (3, 4), (20, 16), (48, 64)])
def test_classes_of_sizes_are_powers_of_two(size, rounded):
    assert Sizes(size, size, 7, False).rounded() == Sizes(rounded, rounded, 7, False)


def test_the_steps_of_a_candidate_that_is_far_slower_are_few(monkeypatch):
    seconds = {"loop": 1.0, "block": 3.0}
    counts = dict.fromkeys(seconds, 0)

    def step(layer, name, sizes):
        def call():
            counts[name] += 1
            return seconds[name]

        return call

    monkeypatch.setattr(tuning, "_training_step", step)
    monkeypatch.setattr(tuning, "_seconds", lambda call: call())
    layer = GatedRNN(4)
    times = tuning.measure(layer, ["loop", "block"], Sizes(2, 3, 4, True))
    assert times == {"loop": 1000.0, "block": 3000.0}
    assert counts["block"] == 2  # to trace it, and to time it


def test_a_model_that_is_saved_has_no_choice(tmp_path):
    inputs = keras.Input((None, 3))
    model = keras.Model(inputs, GatedRNN(4)(inputs))
    model.layers[1].tuning = CHOICE
    model.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").layers[1].tuning is None
