"""The decoder, step by step and at once; attention against plain NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import models.layers.decoder  # noqa: F401 - registers the layer
from models.cells.specs import CELLS
from models.layers.attention import ATTENTIONS, Attention
from models.layers.decoder import KINDS, Decoder
from tests.support.cells import PLAIN, slow_except
from tests.support.close import assert_close

V, S, M = 11, 5, 6


def decoder(**changes):
    keras.utils.set_random_seed(1)
    arguments = {"vocabulary": V, "embedding": 7, "units": 7, "layers": 2, **changes}
    layer = Decoder(**arguments)
    layer.build((None, None), (None, None, M))
    for weight in layer.weights:  # no weight is to be without effect because it begins as zeros
        weight.assign(np.random.default_rng(len(weight.path)).normal(0, 0.4, weight.shape))
    return layer


def inputs(rows=3, time=4):
    random = np.random.default_rng(0)
    tokens = tf.constant(random.integers(1, V, (rows, time)), tf.int32)
    memory = tf.constant(random.normal(0, 1, (rows, S, M)), tf.float32)
    mask = tf.constant(np.arange(S) < [[5], [2], [0]])[:rows]
    return tokens, memory, mask


def stepwise(layer, tokens, memory, mask):
    memory = layer.prepare_memory(memory, mask)
    states, logits, weights = layer.initial_states(memory), [], []
    for at in range(tokens.shape[1]):
        now, looked, states = layer.step(tokens[:, at], memory, states)
        logits.append(now)
        weights.append(looked)
    return tf.stack(logits, 1), tf.stack(weights, 1)


def assert_steps_agree(layer):
    given = inputs()
    for one, other in zip(layer(*given), stepwise(layer, *given), strict=True):
        assert_close(one, other, 1e-5)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("input_feeding", [False, True])
@pytest.mark.parametrize("attention", KINDS)
def test_at_once_is_step_by_step(attention, input_feeding, tied):
    assert_steps_agree(decoder(attention=attention, input_feeding=input_feeding, tied=tied))


@pytest.mark.parametrize("cell", slow_except(PLAIN))
def test_every_cell_decodes(cell):
    assert_steps_agree(decoder(cell=cell, units=64 if CELLS[cell].projection else 7))


def test_the_mask_that_keras_attached_to_the_memory_is_read():
    ids = np.array([[3, 4, 0, 0], [1, 2, 3, 0]])
    memory = keras.layers.Embedding(9, 4, mask_zero=True)(ids)
    attention, query = Attention(), np.ones((2, 1, 4), "float32")
    layer, tokens = Decoder(9, 4, 5), np.array([[1, 2], [3, 4]])
    plain = np.asarray(memory)
    for outputs, expected in (
        (attention(query, memory), attention(query, plain, mask=ids > 0)),
        (layer(tokens, memory), layer(tokens, plain, mask=ids > 0)),
    ):
        for output, value in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(output, value, atol=1e-6)
        assert not np.asarray(outputs[1])[ids[:, None].repeat(outputs[1].shape[1], 1) == 0].any()
    everything = attention(query, memory, mask=np.ones_like(ids, bool))
    assert np.asarray(everything[1]).all()  # an explicit mask takes precedence


@pytest.mark.parametrize("input_feeding", [False, True])
@pytest.mark.parametrize("attention", KINDS)
def test_what_a_mask_leaves_out_changes_nothing(attention, input_feeding):
    layer = decoder(attention=attention, input_feeding=input_feeding)
    tokens, memory, mask = inputs()
    junk = tf.where(mask[..., None], memory, np.nan)
    longer = tf.pad(junk, [[0, 0], [0, 3], [0, 0]], constant_values=7.0)
    logits, weights = layer(tokens, memory, mask)
    others, looked = layer(tokens, longer, tf.pad(mask, [[0, 0], [0, 3]]))
    np.testing.assert_allclose(logits, others, atol=1e-5)
    np.testing.assert_allclose(weights, looked[:, :, :S], atol=1e-6)
    assert np.isfinite(logits).all()
    if attention != "none":
        np.testing.assert_allclose(tf.reduce_sum(weights, -1)[:2], 1, atol=1e-5)
        assert (weights.numpy()[2] == 0).all()


@pytest.mark.parametrize("input_feeding", [False, True])
def test_several_sequences_of_a_memory_are_as_if_each_had_it_alone(input_feeding):
    layer, (tokens, memory, mask) = decoder(input_feeding=input_feeding), inputs()
    some = tf.stack([tokens, V - tokens], axis=1)
    for at, found in enumerate(zip(*layer(some, memory, mask), strict=True)):
        for sequence in range(2):
            row = [each[at : at + 1] for each in (some[:, sequence], memory, mask)]
            for one, other in zip(found, layer(*row), strict=True):
                np.testing.assert_allclose(one[sequence], other[0], atol=1e-5)


@pytest.mark.parametrize("input_feeding", [False, True])
def test_a_token_is_predicted_from_those_before_it_alone(input_feeding):
    layer = decoder(input_feeding=input_feeding)
    tokens, memory, mask = inputs()
    changed = tf.concat([tokens[:, :2], V - tokens[:, 2:]], axis=1)
    logits, others = (layer(each, memory, mask)[0].numpy() for each in (tokens, changed))
    np.testing.assert_allclose(logits[:, :2], others[:, :2], atol=1e-6)
    assert np.abs(logits[:, 2:] - others[:, 2:]).max() > 1e-3


@pytest.mark.parametrize("input_feeding", [False, True])
@pytest.mark.parametrize("attention", KINDS)
def test_a_gradient_reaches_every_weight(attention, input_feeding):
    layer = decoder(attention=attention, input_feeding=input_feeding, tied=False)
    tokens, memory, mask = inputs()
    with tf.GradientTape() as tape:
        tape.watch(memory)
        loss = tf.reduce_sum(tf.sin(layer(tokens, memory, mask, training=True)[0]))
    gradients = tape.gradient(loss, [*layer.trainable_variables, memory])
    for variable, gradient in zip([*layer.trainable_variables, memory], gradients, strict=True):
        assert gradient is not None, variable
        assert np.abs(tf.convert_to_tensor(gradient)).max() > 0, variable


def by_hand(layer, tokens, memory, noises):
    """Logits with input feeding and without attention, step by step."""
    *states, attentional = layer.initial_states(layer.prepare_memory(memory))
    logits = []
    for t in range(tokens.shape[1]):
        x = tf.concat([layer.embedding(tokens[:, t]), attentional], axis=-1)
        before, states = iter(states), []
        for number, (rnn, noise) in enumerate(zip(layer.layers, noises, strict=True)):
            cell = rnn.cells[0]
            after = cell.step(x, [next(before) for _ in cell.state_size], noise.at_step(t))
            x = x + after[0] if number else after[0]
            states += after
        attentional = layer.mix(x)
        logits.append(layer.logits(attentional))
    return tf.stack(logits, axis=1)


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("cell", [name for name in CELLS if CELLS[name].random])
def test_with_input_feeding_a_cell_draws_once_for_a_sequence(cell, graph):
    layer, (tokens, memory, _) = decoder(cell=cell, input_feeding=True, attention="none"), inputs()
    noises = []
    for number, rnn in enumerate(layer.layers):
        keras.utils.set_random_seed(number)
        noises.append(rnn.cells[0].draw(*tokens.shape[:1], tokens.shape[1] + 1))
        rnn.cells[0].draw = lambda batch, steps, number=number: noises[number]

    def run(training):
        with tf.GradientTape() as tape:
            logits, _ = layer(tokens, memory, training=training)
            loss = tf.reduce_sum(tf.sin(logits))
        return logits, tape.gradient(loss, layer.trainable_variables)

    def run_by_hand():
        with tf.GradientTape() as tape:
            logits = by_hand(layer, tokens, memory, noises)
            loss = tf.reduce_sum(tf.sin(logits))
        return logits, tape.gradient(loss, layer.trainable_variables)

    logits, gradients = (tf.function(run) if graph else run)(True)
    expected, wanted = run_by_hand()
    assert_close(logits, expected, 1e-5)
    for variable, one, other in zip(layer.trainable_variables, gradients, wanted, strict=True):
        assert_close(*map(tf.convert_to_tensor, (one, other)), 1e-5, variable.path)
    assert np.abs(layer(tokens, memory)[0] - expected).max() > 1e-3
    assert_steps_agree(layer)


def test_a_translator_with_input_feeding_and_a_random_cell_trains():
    tokens = keras.Input((None,), dtype="int32")
    memory = keras.Input((None, M))
    options = {"cell": "lstm_zoneout", "layers": 1, "dtype": "mixed_bfloat16"}
    layer = decoder(input_feeding=True, **options)
    model = keras.Model([tokens, memory], layer(tokens, memory)[0])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    given = [np.asarray(each) for each in inputs()[:2]]
    losses = [model.train_on_batch(given, given[0]) for _ in range(3)]
    assert np.isfinite(losses).all()


def test_it_is_saved_and_read_again(tmp_path):
    tokens = keras.Input((None,), dtype="int32")
    memory = keras.Input((None, M))
    model = keras.Model([tokens, memory], decoder(input_feeding=True)(tokens, memory))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    given = inputs()[:2]
    for one, other in zip(model(given), again(given), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_half_precision_gives_logits_in_full():
    logits, weights = decoder(dtype="mixed_bfloat16")(*inputs())
    assert logits.dtype == weights.dtype == tf.float32


@pytest.mark.parametrize("units", [None, 4])
@pytest.mark.parametrize("kind", ATTENTIONS)
def test_attention_is_what_its_papers_say(kind, units):
    keras.utils.set_random_seed(0)
    layer = Attention(kind, units)
    random = np.random.default_rng(0)
    query, memory = random.normal(size=(2, 3, 7)), random.normal(size=(2, S, M))
    lengths = (5, 3)
    mask = np.arange(S) < np.array(lengths)[:, None]
    context, weights = layer(query.astype("f"), memory.astype("f"), mask)
    by_name = {weight.name: weight.numpy() for weight in layer.weights}
    for row, length in enumerate(lengths):
        for step in range(3):
            q = query[row, step]
            q = q @ by_name["query"] if "query" in by_name else q
            scores = []
            for place in range(length):
                k = memory[row, place] @ by_name["key"]
                if kind == "additive":
                    scores.append((np.tanh(q + k) @ by_name["score"])[0])
                else:
                    scores.append(q @ k / np.sqrt(len(q)))
            shares = np.exp(scores) / np.exp(scores).sum()
            np.testing.assert_allclose(weights[row, step, :length], shares, atol=1e-5)
            assert (weights[row, step, length:].numpy() == 0).all()
            want = shares @ memory[row, :length]
            np.testing.assert_allclose(context[row, step], want, atol=1e-5)


def test_what_is_no_choice_is_refused():
    with pytest.raises(ValueError, match=r"attention must be one of \['mult.*'cosine'"):
        decoder(attention="cosine")
    with pytest.raises(ValueError, match=r"kind must be one of .* got 'none'"):
        Attention("none")


def test_places_that_fit_badly_are_weighed_all_the_same_where_others_are_left_out():
    layer = Attention()
    query, memory = tf.fill([1, 1, 2], 30.0), tf.constant([[[-9.0, -9.0], [-9.1, -9.1], [0, 0]]])
    layer.build(query.shape, memory.shape)
    layer.set_weights([np.eye(2)])
    _, weights = layer(query, memory, tf.constant([[True, True, False]]))
    apart = 0.1 * 60 / 2**0.5
    wanted = 1 / (1 + np.exp(-apart))
    np.testing.assert_allclose(weights[0, 0], [wanted, 1 - wanted, 0], atol=1e-4)
