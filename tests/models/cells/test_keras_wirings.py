"""GatedRNN and CRF in models wired as Keras allows; `keras.layers.LSTM` is the oracle."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.cells.convert import from_keras
from models.cells.recurrent import GatedRNN
from models.layers.crf import CRF, CRFLoss
from tests.support.cells import slow_except

WORDS, FEATURES, UNITS = 9, 4, 3
# Padded on the right, on the left, with a gap, without padding, and nothing but padding.
IDS = np.array([[2, 3, 0, 0, 0], [0, 0, 4, 5, 6], [7, 0, 8, 0, 1], [1, 2, 3, 4, 5], [0] * 5])
LABELS = np.arange(len(IDS), dtype="float32")[:, None]
layers = keras.layers


def embedding():
    return layers.Embedding(WORDS, FEATURES, mask_zero=True)


def sequential(rnn):
    return keras.Sequential(
        [keras.Input((None,), dtype="int32"), embedding(), rnn(), layers.Dense(1)]
    )


def sequential_without_input(rnn):
    return keras.Sequential([embedding(), rnn(), layers.Dense(1)])


def functional(rnn):
    ids = keras.Input((None,), dtype="int32")
    return keras.Model(ids, layers.Dense(1)(rnn()(embedding()(ids))))


def layers_between(rnn):
    ids = keras.Input((None,), dtype="int32")
    x = layers.Dense(FEATURES)(layers.Dropout(0.0)(embedding()(ids)))
    return keras.Model(ids, layers.Dense(1)(rnn()(layers.LayerNormalization()(x))))


def masking(rnn):
    ids = keras.Input((None,), dtype="int32")
    x = layers.Masking(0.0)(keras.ops.one_hot(ids, WORDS)[..., 1:])
    return keras.Model(ids, layers.Dense(1)(rnn()(x)))


def stacked(rnn):
    return keras.Sequential([embedding(), rnn(return_sequences=True), rnn(), layers.Dense(1)])


def nested(rnn):
    x = keras.Input((None, FEATURES))
    inner = keras.Model(x, layers.Dropout(0.0)(rnn(return_sequences=True)(x)))
    ids = keras.Input((None,), dtype="int32")
    return keras.Model(ids, layers.Dense(1)(rnn()(inner(embedding()(ids)))))


def shared(rnn):
    ids, layer, embed = keras.Input((None,), dtype="int32"), rnn(), embedding()
    x = layers.Concatenate()([layer(embed(ids)), layer(layers.Dropout(0.0)(embed(ids)))])
    return keras.Model(ids, layers.Dense(1)(x))


def initial_state(rnn):
    """With an initial state, Keras's layer does not see an attached mask; ours does."""
    ids = keras.Input((None,), dtype="int32")
    x, mask = embedding()(ids), keras.ops.not_equal(ids, 0)
    _, *state = rnn(return_state=True)(x)
    return keras.Model(ids, layers.Dense(1)(rnn()(x, initial_state=state, mask=mask)))


def explicit_mask(rnn):
    """The explicit mask differs from the one attached to the inputs, and takes precedence."""
    ids = keras.Input((None,), dtype="int32")
    x = rnn(return_sequences=True)(embedding()(ids), mask=keras.ops.greater(ids, 2))
    return keras.Model(ids, layers.Dense(1)(rnn()(x)))


def subclassed(rnn):
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.embedding, self.rnn, self.dense = embedding(), rnn(), layers.Dense(1)

        def call(self, ids):
            return self.dense(self.rnn(self.embedding(ids)))

    return Model()


def time_distributed(rnn):
    ids = keras.Input((5,), dtype="int32")
    x = layers.Reshape((1, 5, FEATURES))(embedding()(ids))
    return keras.Model(ids, layers.Dense(1)(layers.Flatten()(layers.TimeDistributed(rnn())(x))))


def bidirectional(rnn):
    x = keras.Input((None,), dtype="int32")
    wrapped = layers.Bidirectional(rnn(return_sequences=True), merge_mode="ave")
    return keras.Sequential([x, embedding(), wrapped, layers.Bidirectional(rnn()), layers.Dense(1)])


WIRINGS = [
    sequential,
    sequential_without_input,
    functional,
    layers_between,
    masking,
    stacked,
    nested,
    shared,
    initial_state,
    explicit_mask,
    subclassed,
    time_distributed,
    bidirectional,
]
every_wiring = pytest.mark.parametrize("wiring", WIRINGS, ids=lambda wiring: wiring.__name__)
# One for each way in which Keras calls the layer and hands on its mask; the others are slow where
# a graph of the whole model is made.
DISTINCT = (sequential, initial_state, subclassed, bidirectional)
distinct_wiring = pytest.mark.parametrize(
    "wiring",
    [
        pytest.param(
            wiring, marks=() if wiring in DISTINCT else pytest.mark.slow, id=wiring.__name__
        )
        for wiring in WIRINGS
    ],
)


def both(wiring):
    """Returns the same model with Keras's layer and with ours, with equal weights."""
    theirs = wiring(lambda **options: layers.LSTM(UNITS, **options))
    ours = wiring(lambda **options: GatedRNN(UNITS, "lstm", **options))
    for model in (theirs, ours):
        model(IDS)
    rng = np.random.default_rng(0)
    theirs.set_weights([rng.normal(0, 0.5, weight.shape) for weight in theirs.get_weights()])
    pairs = zip(leaves(theirs), leaves(ours), strict=True)
    for their_layer, our_layer in pairs:
        if isinstance(our_layer, GatedRNN):
            copy_weights(their_layer, our_layer)
        else:
            our_layer.set_weights(their_layer.get_weights())
    return theirs, ours


def copy_weights(theirs, ours):
    """Gives a layer of ours the weights of an LSTM of Keras, also one that reverses its inputs."""
    forward = GatedRNN(UNITS, "lstm")
    forward.build((None, None, ours.cells[0].features))
    from_keras(forward, theirs.get_weights())
    ours.set_weights(forward.get_weights())


def leaves(model):
    """Returns the layers of a model that have weights of their own, in their order."""
    found = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found += leaves(layer)
        elif isinstance(layer, layers.TimeDistributed):
            found.append(layer.layer)
        elif isinstance(layer, layers.Bidirectional):
            found += [layer.forward_layer, layer.backward_layer]
        else:
            found.append(layer)
    return found


@every_wiring
def test_a_model_computes_what_it_computes_with_the_lstm_of_keras(wiring):
    theirs, ours = both(wiring)
    expected = theirs.predict(IDS, verbose=0)
    for outputs in (
        ours(IDS),
        ours.predict(IDS, verbose=0),
        tf.function(ours)(tf.constant(IDS)),
        np.concatenate([ours.predict_on_batch(IDS[row : row + 1]) for row in range(len(IDS))]),
    ):
        np.testing.assert_allclose(outputs, expected, atol=1e-5)


@pytest.mark.parametrize("wiring", [functional, bidirectional])
def test_xla_compiles_a_model(wiring):
    theirs, ours = both(wiring)
    compiled = tf.function(ours, jit_compile=True)
    np.testing.assert_allclose(
        compiled(tf.constant(IDS)), theirs.predict(IDS, verbose=0), atol=1e-5
    )


@distinct_wiring
def test_a_model_trains_as_with_the_lstm_of_keras(wiring):
    assert_trains_as_with_keras(wiring, eager=False)


@every_wiring
def test_a_model_trains_eagerly_as_with_the_lstm_of_keras(wiring):
    assert_trains_as_with_keras(wiring, eager=True)


def assert_trains_as_with_keras(wiring, eager):
    losses = []
    for model in both(wiring):
        model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=eager)
        losses.append([model.train_on_batch(IDS, LABELS) for _ in range(3)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    assert losses[0][2] < losses[0][0]


@distinct_wiring
def test_a_model_can_be_exported_and_reloaded(wiring, tmp_path):
    _, model = both(wiring)
    expected = model.predict(IDS, verbose=0)
    model.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    (spec,) = exported.serve.concrete_functions[0].structured_input_signature[0]
    served = exported.serve(tf.constant(IDS, spec.dtype))
    np.testing.assert_allclose(served, expected, atol=1e-5)
    if wiring is not subclassed:  # Keras reloads classes that are registered only
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_allclose(loaded.predict(IDS, verbose=0), expected, atol=1e-5)


def crf_after(*between):
    def build(ids):
        x = embedding()(ids)
        for layer in between:
            x = layer()(x)
        return layers.Dense(3)(x)

    return build


CRF_WIRINGS = {
    "embedding": crf_after(),
    "dropout": crf_after(lambda: layers.Dropout(0.0), layers.LayerNormalization),
    "rnn": crf_after(lambda: GatedRNN(UNITS, return_sequences=True)),
    "lstm": crf_after(lambda: layers.LSTM(UNITS, return_sequences=True)),
}


@pytest.mark.parametrize("wiring", slow_except(["dropout", "rnn"], CRF_WIRINGS))
def test_a_crf_uses_the_mask_that_keras_propagates(wiring):
    """The model with an explicit mask and without one have the same loss, tags and training."""
    ids = keras.Input((None,), dtype="int32")
    logits, crf = CRF_WIRINGS[wiring](ids), CRF(3)
    tags, results = IDS % 3, []
    for options in ({}, {"mask": keras.ops.not_equal(ids, 0)}):
        model = keras.Model(ids, crf(logits, **options))
        decoder = keras.Model(ids, crf(logits, decode=True, **options))
        if not results:
            weights = [
                0.5 * np.cos(np.arange(w.size)).reshape(w.shape) for w in model.get_weights()
            ]
        model.set_weights(weights)
        model.compile(keras.optimizers.SGD(0.1), CRFLoss(crf))
        predicted = decoder.predict(IDS, verbose=0)
        assert not predicted[IDS == 0].any()
        losses = [model.train_on_batch(IDS, tags) for _ in range(2)]
        results.append((losses, predicted, model.predict(IDS, verbose=0)))
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_an_explicit_mask_of_a_crf_takes_precedence():
    ids = keras.Input((None,), dtype="int32")
    logits, crf = layers.Dense(3)(embedding()(ids)), CRF(3)
    mask = keras.ops.greater(ids, 2)
    attached = keras.Model(ids, crf(logits, mask=mask, decode=True)).predict(IDS, verbose=0)
    values = keras.Model(ids, logits).predict(IDS, verbose=0)
    np.testing.assert_array_equal(attached, crf.decode(values, IDS > 2)[0])
