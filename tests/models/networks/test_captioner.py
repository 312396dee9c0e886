"""The network of 1→N, and where its places are."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import models
from models.cells.recurrent import GatedRNN
from models.layers.grid import Sweep
from models.networks.captioner import ATTENTIONS, captioner
from tests.support.cells import PLAIN, slow_except

V, B, C, T, SIDE = 11, 2, 3, 4, 16


def network(**changes):
    keras.utils.set_random_seed(0)
    arguments = {
        "image": (SIDE, SIDE, 3),
        "vocabulary": V,
        "cell": "gru",
        "units": 6,
        "layers": 1,
        "embedding": 5,
        "filters": 2,
        "sweeps": 1,
    }
    return captioner(**arguments | changes)


def inputs(image=(SIDE, SIDE, 3)):
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (B, *image)).astype("uint8")
    before = random.integers(1, V, (B, C, T)).astype("int32")
    return {"image": pixels, "before": before}


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_each_caption_of_an_image_is_as_if_it_were_the_only_one(attention):
    model, given = network(attention=attention), inputs()
    logits = model(given)
    assert logits.shape == (B, C, T, V) and logits.dtype == tf.float32
    for row in range(B):
        for caption in range(C):
            alone = {
                "image": given["image"][row : row + 1],
                "before": given["before"][row : row + 1, caption : caption + 1],
            }
            np.testing.assert_allclose(model(alone)[0, 0], logits[row, caption], atol=1e-5)


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("input_feeding", [False, True])
def test_a_gradient_reaches_every_weight(attention, input_feeding):
    model, given = network(attention=attention, input_feeding=input_feeding, layers=2), inputs()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.sin(model(given, training=True)))
    for variable, gradient in zip(
        model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True
    ):
        assert np.abs(tf.convert_to_tensor(gradient)).max() > 0, variable.path


@pytest.mark.parametrize("cell", ["gru", "lstm_peephole", {"equation": "lstm", "projection": 2}])
@pytest.mark.parametrize("features", [5, 6])
def test_a_sweep_reads_each_row_or_column_by_itself_and_both_ways(cell, features):
    keras.utils.set_random_seed(0)
    grid = np.random.default_rng(0).normal(size=(B, 3, 4, features)).astype("float32")
    rows = Sweep(cell, "rows")
    swept = rows(grid).numpy()
    rnn = GatedRNN((features + 1) // 2, cell, direction="both", return_sequences=True)
    rnn.build((None, None, features))
    rnn.set_weights(rows.rnn.get_weights())
    for row in range(3):
        read = rnn(grid[:, row]).numpy()
        read = read if rows.fit is None else rows.fit(read).numpy()
        np.testing.assert_allclose(swept[:, row], grid[:, row] + read, atol=1e-6)
    assert (rows.fit is None) == (rnn.output_size == features)
    columns = Sweep(cell, "columns")
    columns.build(grid.shape)
    columns.set_weights(rows.get_weights())
    turned = columns(grid.transpose(0, 2, 1, 3)).numpy().transpose(0, 2, 1, 3)
    np.testing.assert_allclose(turned, swept, atol=1e-6)


def test_what_is_anywhere_reaches_every_place():
    model, given = network(image=(64, 64, 3)), inputs((64, 64, 3))
    memory = keras.Model(model.input["image"], model.get_layer("memory").output)
    other = given["image"].copy()
    other[:, :4, :4] = 255 - other[:, :4, :4]
    moved = np.abs(memory(other) - memory(given["image"])).max(axis=-1)
    assert moved.shape == (B, 64) and (moved > 0).all()


def test_an_unknown_axis_is_an_error():
    with pytest.raises(ValueError, match=r"along must be one of .*got 'diagonal'"):
        Sweep("gru", "diagonal")


def test_the_same_thing_elsewhere_is_something_else():
    model = network(image=(64, 64, 3), sweeps=0)
    memory = keras.Model(model.input["image"], model.get_layer("memory").output)
    places = memory(np.full((1, 64, 64, 3), 9, "uint8"))[0].numpy().reshape(8, 8, -1)
    inner = places[3:5, 3:5].reshape(4, -1)  # no edge of the image is near
    for one, other in itertools.combinations(inner, 2):
        assert np.abs(one - other).max() > 1e-3


@pytest.mark.parametrize("cell", slow_except(PLAIN))
def test_every_cell_writes_captions(cell):
    logits = network(cell=cell)(inputs(), training=True)
    assert np.isfinite(logits).all()


def test_features_of_another_network_are_read_as_they_are():
    model = network(image=(2, 3, 7), filters=0)
    given = {"image": np.ones((B, 2, 3, 7), "f"), "before": inputs()["before"]}
    assert model(given).shape == (B, C, T, V)
    assert model.get_layer("memory").output.shape == (None, 6, 6)


def test_it_is_saved_and_read_again(tmp_path):
    model, given = network(dropout=0.5), inputs()
    model.save(tmp_path / "model.keras")
    again = models.load(tmp_path / "model.keras")
    np.testing.assert_allclose(model(given), again(given), atol=1e-6)


def test_an_unknown_attention_is_an_error():
    with pytest.raises(ValueError, match="attention must be one of"):
        network(attention="additive")
