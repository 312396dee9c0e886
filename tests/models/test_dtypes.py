"""Every layer returns the dtypes that it declares, under every dtype policy."""

import keras
import numpy as np
import pytest

from models.cells.recurrent import GatedRNN
from models.layers.attention import Attention
from models.layers.bag_of_words import BagOfWords
from models.layers.characters import CharacterReader
from models.layers.crf import CRF
from models.layers.decoder import Decoder
from models.layers.evidence import Evidence
from models.layers.grid import Places, Sweep
from models.layers.mixture import Mixture
from models.layers.pooling import MaskedPooling
from models.layers.word_dropout import RareWordDropout, WordDropout
from models.layers.word_vectors import WordVectors

B, T, D = 2, 4, 5
VALUES = np.ones((B, T, D), "float32")
IDS = np.ones((B, 3), "int32")
GRID = np.ones((B, 3, T, D), "float32")
MASK = np.ones((B, T), "bool")

# By name: the layer, its arguments and the inputs of a call.
LAYERS = {
    "rnn": (GatedRNN, {"units": 3}, [VALUES]),
    "rnn, both": (GatedRNN, {"units": 3, "direction": "both", "layers": 2}, [VALUES]),
    "rnn, sequences": (GatedRNN, {"units": 3, "return_sequences": True}, [VALUES]),
    "rnn, state": (GatedRNN, {"units": 3, "return_state": True}, [VALUES]),
    "attention": (Attention, {}, [VALUES, VALUES]),
    "attention, additive": (Attention, {"kind": "additive", "units": 3}, [VALUES, VALUES]),
    "decoder": (Decoder, {"vocabulary": 9, "embedding": 4, "units": 5}, [IDS, VALUES]),
    "decoder, input feeding": (
        Decoder,
        {"vocabulary": 9, "embedding": 4, "units": 5, "input_feeding": True},
        [IDS, VALUES],
    ),
    "decoder, no attention": (
        Decoder,
        {"vocabulary": 9, "embedding": 4, "units": 5, "attention": "none"},
        [np.stack([IDS, IDS], 1), VALUES],
    ),
    "crf": (CRF, {"classes": D}, [VALUES]),
    "evidence": (Evidence, {"vocabulary": 9, "classes": 3, "buckets": 7}, [IDS]),
    "bag of words": (BagOfWords, {"vocabulary": 9, "classes": 3, "buckets": 7}, [IDS]),
    "word vectors": (
        WordVectors,
        {"vocabulary": 5, "rest": 4, "dimensions": 3, "mode": "both"},
        [IDS],
    ),
    "mixture": (Mixture, {}, [VALUES, VALUES]),
    "characters": (
        CharacterReader,
        {"alphabet": 9, "embedding": 4, "units": 3, "affixes": 2},
        [np.ones((B, 3, T), "int32")],
    ),
    "sweep": (Sweep, {}, [GRID]),
    "places": (Places, {}, [GRID]),
    "pooling": (MaskedPooling, {}, [VALUES, MASK]),
    "word dropout": (WordDropout, {"rate": 0.5}, [IDS]),
    "rare word dropout": (RareWordDropout, {"vocabulary": 9, "strength": 1.0}, [IDS]),
}


def dtype_of(tensor):
    return keras.backend.standardize_dtype(tensor.dtype)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16", "float64"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_returns_the_shapes_and_dtypes_that_it_declares(name, policy):
    layer_class, options, inputs = LAYERS[name]
    layer = layer_class(**options, dtype=policy)
    symbolic = [keras.KerasTensor(x.shape, dtype_of(x)) for x in inputs]
    declared = keras.tree.flatten(layer(*symbolic))
    training = {"training": True} if "dropout" in name else {}
    outputs = keras.tree.flatten(layer(*inputs, **training))
    assert len(outputs) == len(declared)
    for output, spec in zip(outputs, declared, strict=True):
        assert dtype_of(output) == spec.dtype
        assert tuple(output.shape) == tuple(spec.shape)


def test_pooling_without_a_mask_reads_all_steps_or_the_mask_that_keras_attached():
    ids = np.array([[3, 4, 0], [1, 0, 0]])
    x = keras.layers.Embedding(9, D, mask_zero=True)(ids)
    pooling = MaskedPooling()
    np.testing.assert_array_equal(pooling(x), pooling(np.asarray(x), mask=ids > 0))
    plain = pooling(np.asarray(x))
    np.testing.assert_array_equal(plain, pooling(np.asarray(x), mask=np.ones_like(ids, bool)))


def trained(layer):
    """Returns the variables of a layer that a model around it would train."""
    return [variable for variable in layer.variables if variable.trainable]


@pytest.mark.parametrize("name", LAYERS)
def test_a_frozen_layer_has_no_trained_weights_and_stays_frozen(name):
    layer_class, options, inputs = LAYERS[name]
    frozen = layer_class(**options, trainable=False)
    frozen(*inputs)
    toggled = layer_class(**options)
    toggled(*inputs)
    count = len(trained(toggled))
    toggled.trainable = False
    restored = layer_class.from_config(toggled.get_config())
    restored(*inputs)
    for layer in (frozen, toggled, restored):
        assert trained(layer) == [] and len(layer.weights) == len(frozen.weights)
    restored.trainable = True
    assert len(trained(restored)) == count


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_counts_and_sums_are_not_those_of_half_precision(policy):
    evidence = Evidence(6, 2, 8, dtype=policy)
    evidence.words.assign(3000 + np.arange(12).reshape(6, 2))
    evidence.documents.assign([1e5, 1.5e5])
    bag = BagOfWords(2000, 1, 8, dtype=policy)
    bag.words.assign(np.where(np.arange(2000) % 2, 1.003, -1.0)[:, None])
    ids = np.array([[2, 3, 4]])
    left_out = np.array([[1.0, 0.0]], "float32")
    for layer, inputs in ((evidence, (ids, left_out)), (bag, (np.arange(1, 2000)[None],))):
        single = type(layer).from_config(layer.get_config() | {"dtype": "float32"})
        single(*inputs)
        single.set_weights(layer.get_weights())
        outputs, expected = (np.array(each(*inputs), "float32") for each in (layer, single))
        np.testing.assert_allclose(outputs, expected, rtol=0.01)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("return_sequences", [False, True])
def test_outputs_have_the_compute_dtype_and_states_that_of_the_weights(policy, return_sequences):
    layer = GatedRNN(
        3, dtype=policy, return_state=True, direction="both", return_sequences=return_sequences
    )
    output, *states = layer(VALUES)
    assert dtype_of(output) == layer.compute_dtype
    assert {dtype_of(state) for state in states} == {"float32"}


OPTIONS = {
    "lstm": {"cell": "lstm"},
    "gru, state": {"cell": "gru", "return_sequences": True, "return_state": True},
    "both, two layers": {"cell": "lstm", "direction": "both", "layers": 2},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_the_layer_passes_the_layer_test_of_keras(name):
    """Config, build, symbolic and eager call, training and mixed precision."""
    testing = pytest.importorskip("keras.src.testing")
    options = {"units": 3, **OPTIONS[name]}
    layer = GatedRNN(**options)
    shape = layer.compute_output_shape((2, 4, 5))
    layer.build((2, 4, 5))
    # The training step of the test sums all outputs, which is one tensor or a list.
    testing.TestCase().run_layer_test(
        GatedRNN,
        init_kwargs=options,
        input_shape=(2, 4, 5),
        expected_output_shape=shape if not layer.return_state else None,
        expected_num_trainable_weights=len(layer.weights),
        expected_num_non_trainable_weights=0,
        supports_masking=True,
        run_training_check=not layer.return_state,
    )
