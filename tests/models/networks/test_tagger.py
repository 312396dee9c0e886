"""The network of N→N, what reads the characters of its words, and what drops rare ones."""

import collections
import itertools
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.layers.characters import CharacterReader
from models.layers.crf import CRFLoss
from models.layers.word_dropout import RareWordDropout
from models.networks.tagger import tagger
from models.text.words import PADDING, UNKNOWN
from tests.support import textbook
from tests.support.cells import PLAIN, slow_except

WORDS, ALPHABET, TAGS, LONGEST = 30, 12, 4, 6

KINDS = {
    "characters": {"characters": 3},
    "characters, crf": {"characters": 3, "crf": True},
    "affixes": {"characters": 3, "affixes": 2, "affix_embedding": 4},
    "words": {"characters": 0},
    "words, crf": {"characters": 0, "crf": True},
    "several annotations": {"characters": 3, "tags": {"upos": 3, "feats": 1}},
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def made(**options):
    """A network with random weights, those that begin at zero among them."""
    keras.utils.set_random_seed(0)
    sizes = {
        "vocabulary": WORDS,
        "alphabet": ALPHABET,
        "tags": TAGS,
        "cell": "gru",
        "units": 5,
        "layers": 1,
        "embedding": 4,
        "characters": 3,
        "character_embedding": 4,
    }
    model, rng = tagger(**{**sizes, **options}), np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(rng.normal(size=weight.shape, scale=0.5))
    return model


def drawn(*lengths, seed=0):
    """Sentences of such lengths: the ids of their words, and of the characters of each."""
    rng = np.random.default_rng(seed)
    return [
        [
            (int(rng.integers(1, WORDS)), rng.integers(1, ALPHABET, rng.integers(1, LONGEST)))
            for _ in range(length)
        ]
        for length in lengths
    ]


def batch(model, sentences, time=None, longest=LONGEST):
    """Sentences as the inputs of a model, padded."""
    time = time or max(map(len, sentences))
    inputs = {
        "ids": np.zeros((len(sentences), time), "int32"),
        "characters": np.zeros((len(sentences), time, longest), "int32"),
    }
    for row, sentence in enumerate(sentences):
        for at, (word, characters) in enumerate(sentence):
            inputs["ids"][row, at] = word
            inputs["characters"][row, at, : len(characters)] = characters
    return {name: inputs[name] for name in model.input}


# --- The network -------------------------------------------------------------------


@every_kind
def test_it_maps_its_inputs_to_logits(kind):
    model = made(**KINDS[kind])
    assert sorted(model.input) == sorted(["ids"] + ["characters"] * (KINDS[kind]["characters"] > 0))
    inputs = batch(model, drawn(3, 5))
    assert model(inputs).shape == (2, 5, TAGS)
    encoder = keras.Model(model.input, model.get_layer("encoder").output)
    assert encoder(inputs).shape == (2, 5, 2 * 5)
    assert any(layer.name == "crf" for layer in model.layers) == KINDS[kind].get("crf", False)


def check_company(model, atol=1e-5):
    """Sentences alone, and padded beside one another, have the same logits."""
    sentences = drawn(1, 7, 3, 12)
    together = model(batch(model, [*sentences, []], time=14, longest=LONGEST + 3))
    for sentence, logits in zip(sentences, together.numpy(), strict=False):
        alone = model(batch(model, [sentence]))
        np.testing.assert_allclose(alone[0], logits[: len(sentence)], atol=atol)
    assert np.isfinite(together).all()
    assert np.abs(together[1, :7] - together[3, :7]).max() > 1e-3


@every_kind
def test_an_answer_does_not_depend_on_padding_or_on_who_shares_the_batch(kind):
    check_company(made(**KINDS[kind], layers=2))


@pytest.mark.parametrize(
    "cell",
    slow_except(["lstm_peephole"], ["lstm", "lstm_peephole", "greff_fgr", "mgu", "gru_layer_norm"]),
)
def test_nor_does_it_whatever_the_cell(cell):
    check_company(made(cell=cell))


def test_an_answer_depends_on_characters_and_on_words_before_and_after():
    model, sentences = made(), drawn(6)
    want = model(batch(model, sentences)).numpy()[0]
    for at in (0, 5):
        for other in (
            (sentences[0][at][0] % (WORDS - 1) + 1, sentences[0][at][1]),
            (sentences[0][at][0], sentences[0][at][1][::-1] % (ALPHABET - 1) + 1),
        ):
            changed = [*sentences[0]]
            changed[at] = other
            given = model(batch(model, [changed])).numpy()[0]
            assert (np.abs(given - want).max(axis=-1) > 1e-6).all()  # at every word


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind].get("crf")])
def test_padding_is_no_step_of_the_field(kind):
    model, sentences = made(**KINDS[kind]), drawn(1, 7, 3)
    loss = CRFLoss(model.get_layer("crf"))
    inputs = batch(model, sentences, time=9)
    together = loss(np.ones_like(inputs["ids"]), model(inputs))
    alone = [
        loss(np.ones((1, len(sentence))), model(batch(model, [sentence]))) for sentence in sentences
    ]
    np.testing.assert_allclose(together, np.mean(alone), rtol=1e-5)


@every_kind
@pytest.mark.parametrize("shape", [(0, 3), (2, 1), (0, 0)])
def test_any_batch_has_logits(kind, shape):
    model = made(**KINDS[kind])
    inputs = {"ids": np.ones(shape, "int32"), "characters": np.ones((*shape, 2), "int32")}
    given = model({name: inputs[name] for name in model.input})
    assert given.shape == (*shape, TAGS)
    assert np.isfinite(given).all()


@every_kind
def test_a_saved_network_is_the_same_network(kind, tmp_path):
    options = {"dropout": 0.2, "word_dropout": 0.5, "cell": "lstm_peephole", "layers": 2}
    model = made(**KINDS[kind], **options)
    model.get_layer("word_dropout").adapt([np.arange(WORDS), np.arange(5, 9)])
    inputs = batch(model, drawn(3, 5))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(inputs), model(inputs))
    assert json.loads(again.to_json()) == json.loads(model.to_json())
    np.testing.assert_array_equal(
        again.get_layer("word_dropout").counts, model.get_layer("word_dropout").counts
    )
    if KINDS[kind].get("crf"):
        for ours, theirs in zip(
            again.get_layer("crf").decode(again(inputs)),
            model.get_layer("crf").decode(model(inputs)),
            strict=True,
        ):
            np.testing.assert_array_equal(ours, theirs)


def test_a_program_that_knows_only_the_package_loads_it(tmp_path):
    made(crf=True, word_dropout=0.5).save(tmp_path / "model.keras")
    script = f"import models; print(models.load({str(tmp_path / 'model.keras')!r}).name)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )
    assert done.stdout == "tagger\n", done.stderr


@every_kind
def test_mixed_precision_gives_float32_logits_near_those_of_float32(kind):
    given, want = made(**KINDS[kind], dtype="mixed_bfloat16"), made(**KINDS[kind])
    given.set_weights(want.get_weights())
    inputs = batch(want, drawn(3, 5))
    assert given(inputs).dtype == want(inputs).dtype == "float32"
    assert {w.dtype for w in given.trainable_weights} == {"float32"}
    np.testing.assert_allclose(given(inputs), want(inputs), atol=0.06)
    assert np.abs(given(inputs) - want(inputs)).max() > 1e-5  # it did compute in another type


@every_kind
@pytest.mark.parametrize("dtype", slow_except(["mixed_bfloat16"], ["float32", "mixed_bfloat16"]))
def test_a_gradient_reaches_every_trainable_weight(kind, dtype):
    options = {"dropout": 0.1, "word_dropout": 0.1, "cell": "lstm_peephole", "layers": 2}
    model = made(**KINDS[kind], **options, dtype=dtype)
    model.get_layer("word_dropout").adapt([np.repeat(np.arange(WORDS), 50)])
    inputs = batch(model, drawn(8, 5, 6))
    mask = inputs["ids"] != PADDING
    tags = np.where(mask, np.arange(mask.size).reshape(mask.shape) % TAGS, 0)
    with tf.GradientTape() as tape:
        logits = model(inputs, training=True)
        if KINDS[kind].get("crf"):
            loss = CRFLoss(model.get_layer("crf"))(tags, logits)
        else:
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(tags, logits, mask)
    weights = model.trainable_weights
    gradients = tape.gradient(loss, [weight.value for weight in weights])
    for weight, gradient in zip(weights, gradients, strict=True):
        assert gradient is not None, weight.path
        assert np.isfinite(tf.convert_to_tensor(gradient)).all(), weight.path
        assert np.abs(tf.convert_to_tensor(gradient)).max() > 0, weight.path


def test_several_annotations_share_all_but_their_heads():
    joint, single = made(tags={"upos": 3, "feats": 4}), made(tags=4)
    paths = [weight.path.replace("_feats", "") for weight in joint.weights]
    for weight in single.weights:
        weight.assign(joint.weights[paths.index(weight.path)])
    inputs = batch(single, drawn(3, 5))
    np.testing.assert_allclose(joint(inputs)[..., 3:], single(inputs), atol=1e-6)
    assert len(joint.weights) - len(single.weights) == 3  # kernel, bias and temperature
    with pytest.raises(ValueError, match="a CRF has the tags of one annotation"):
        made(tags={"upos": 3, "feats": 4}, crf=True)


# --- Characters ----------------------------------------------------------------------

# Words twice in a sentence and in two; without characters; with holes; one the end of another.
READ = np.array(
    [
        [[3, 1, 4, 1, 5], [9, 2, 6, 0, 0], [3, 1, 4, 1, 5], [0, 0, 0, 0, 0]],
        [[7, 0, 0, 0, 0], [9, 2, 6, 0, 0], [2, 6, 0, 0, 0], [0, 9, 0, 2, 0]],
    ],
    "int32",
)
UNITS = 3


def reader(cell="gru", **options):
    layer = CharacterReader(ALPHABET, 4, UNITS, cell, **options)
    layer(READ)
    rng = np.random.default_rng(0)
    layer.set_weights([rng.normal(size=w.shape, scale=0.7) for w in layer.get_weights()])
    return layer


def read_alone(layer, characters):
    """What the textbook makes of each word by itself, forward and backward."""
    table = np.asarray(layer.embedding.embeddings, "float64")
    forward, backward = layer.reader.cells
    found = np.zeros((*characters.shape[:2], forward.output_size + backward.output_size))
    for place in np.ndindex(characters.shape[:2]):
        if word := [table[character] for character in characters[place] if character != PADDING]:
            ends = []
            for cell, xs in ((forward, word), (backward, word[::-1])):
                states = [np.zeros((1, size)) for size in cell.state_size]
                outputs, _ = textbook.run(cell, np.array([xs]), None, states)
                ends.append(outputs[0, -1])
            found[place] = np.concatenate(ends)
    return found


@pytest.mark.parametrize("cell", slow_except(PLAIN))
def test_a_word_is_read_as_if_it_were_the_only_one(cell):
    layer = reader(cell)
    given = layer(READ)
    np.testing.assert_allclose(given, read_alone(layer, READ), atol=5e-6, rtol=1e-5)
    assert given.shape == (2, 4, layer.output_size) == layer.compute_output_shape(READ.shape)
    np.testing.assert_array_equal(given[0, 0], given[0, 2])
    np.testing.assert_array_equal(given[0, 1], given[1, 1])
    np.testing.assert_array_equal(given[0, 3], 0)
    assert np.abs(given[0, 1] - given[1, 2]).max() > 1e-3


@pytest.mark.parametrize("implementation", ["auto", "reference", "loop"])
def test_gradients_are_finite_differences_of_words_read_alone(implementation):
    layer = reader("gru", implementation=implementation, dtype="float64")
    mix = np.random.default_rng(1).normal(size=(2, 4, 2 * UNITS))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(READ) * mix)
    weights = layer.trainable_weights
    gradients = tape.gradient(loss, [weight.value for weight in weights])
    rng = np.random.default_rng(2)
    for weight, gradient in zip(weights, gradients, strict=True):
        value, gradient = weight.numpy(), tf.convert_to_tensor(gradient).numpy()
        direction, ends = rng.normal(size=value.shape), []
        for step in (1e-5, -1e-5):
            weight.assign(value + step * direction)
            ends.append(np.sum(read_alone(layer, READ) * mix))
        weight.assign(value)
        slope = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(
            np.sum(gradient * direction), slope, rtol=1e-6, err_msg=weight.path
        )
        assert abs(slope) > 1e-5
    table = tf.convert_to_tensor(gradients[0]).numpy()
    unread = np.setdiff1d(np.arange(ALPHABET), READ[READ != PADDING])
    np.testing.assert_array_equal(table[unread], 0)  # padding among them


@pytest.mark.parametrize("more", [1, 7])
def test_columns_of_padding_change_nothing(more):
    layer, trimmed = reader(), READ[..., :5]
    wide = np.pad(trimmed, [(0, 0), (0, 0), (0, more)])
    found = []
    for characters in (trimmed, wide):
        with tf.GradientTape() as tape:
            given = layer(characters)
            loss = tf.reduce_sum(tf.sin(given))
        gradients = tape.gradient(loss, [weight.value for weight in layer.trainable_weights])
        found.append([given, *map(tf.convert_to_tensor, gradients)])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_word_costs_once_however_often_it_is_met():
    layer, read = reader(), []
    rest = layer.reader.call
    layer.reader.call = lambda inputs, **flags: read.append(inputs.shape) or rest(inputs, **flags)
    layer(np.tile(READ, (50, 1, 1)))
    different = len(np.unique(READ.reshape(-1, READ.shape[-1]), axis=0))
    assert read == [(different, 5, 4)]
    layer(READ[:, 1:3])  # none with more than three characters in the second
    assert read[1:] == [(3, 5, 4)]
    layer(READ[1:, :3])
    assert read[2:] == [(3, 3, 4)]


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
def test_no_word_at_all_is_read_too(graph):
    layer = reader()

    def run(characters):
        with tf.GradientTape() as tape:
            given = layer(characters)
            loss = tf.reduce_sum(given)
        return given, tape.gradient(loss, [weight.value for weight in layer.trainable_weights])

    if graph:
        run = tf.function(run, input_signature=[tf.TensorSpec([None, None, None], tf.int32)])
    for shape in [(0, 3, 4), (2, 0, 4), (0, 0, 4), (0, 0, 1), (1, 1, 1), (2, 3, 4)]:
        for character in (PADDING, 1):
            given, gradients = run(tf.fill(shape, character))
            assert given.shape == (*shape[:2], 2 * UNITS)
            nothing = character == PADDING or not np.prod(shape)
            assert np.any(given) != nothing
            for gradient in map(tf.convert_to_tensor, gradients):
                assert np.isfinite(gradient).all()
                assert not (nothing and np.any(gradient))


SPELLED = ["", "a", "b", "ab", "ba", "abc", "abd", "cab", "dab", "abcab", "aab", "abcdcab", "aa"]


def test_affixes_are_alike_where_and_only_where_words_begin_or_end_alike():
    """They stand behind what cells read: of prefixes, of one character, of two, then of suffixes.

    Of a word that is shorter than an affix that is the word, whatever others begin with it.
    """
    count, size, words = 3, 4, SPELLED[1:]
    rows = [[" abcd".index(c) for c in word.ljust(9)] for word in SPELLED]
    layer = reader(affixes=count, affix_embedding=size)
    given = np.asarray(layer(np.array([rows], "int32")))[0]
    assert given.shape[-1] == layer.output_size == 2 * UNITS + 2 * count * size
    np.testing.assert_array_equal(given[0], 0)
    parts = given[1:, 2 * UNITS :].reshape(-1, 2, count, size)
    for side, at in np.ndindex(2, count):
        features = [(word[-at - 1 :] if side else word[: at + 1], len(word) > at) for word in words]
        for one, other in itertools.combinations(range(len(words)), 2):
            alike = np.array_equal(parts[one, side, at], parts[other, side, at])
            assert alike == (features[one] == features[other]), (words[one], words[other], side, at)


def test_gradients_of_affixes_are_those_of_counting():
    layer = reader(affixes=2, affix_embedding=1)
    characters = np.array([[[3, 1], [3, 2], [0, 0], [3, 1]]], "int32")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(characters)[..., 2 * UNITS :])
    gradient = tf.convert_to_tensor(tape.gradient(loss, layer.table.embeddings.value)).numpy()
    # Of three words: 3- (3), 31- (2), 32- (1), -1 (2), -2 (1), -31 (2), -32 (1).
    assert sorted(gradient[gradient != 0]) == [1, 1, 1, 2, 2, 2, 3]


@pytest.mark.parametrize("affixes", [0, 2])
def test_the_config_of_a_reader_loses_nothing(affixes):
    layer = reader(
        {"equation": "lstm", "peepholes": ["forget"]},
        implementation="loop",
        name="r",
        affixes=affixes,
        affix_embedding=3,
        buckets=100,
    )
    again = CharacterReader.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    again(READ)
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(READ), layer(READ))


# --- Rare words ------------------------------------------------------------------------


def adapted(strength, counts):
    keras.utils.set_random_seed(0)
    layer = RareWordDropout(len(counts), strength)
    layer.adapt([np.repeat(np.arange(len(counts)), counts)])
    return layer


@pytest.mark.parametrize("strength", [0.25, 1.0, 20.0])
def test_a_word_is_unknown_as_often_as_it_is_rare(strength):
    counts = [1000, 3, 0, 1, 2, 5, 20, 100]
    layer, draws = adapted(strength, counts), 20_000
    ids = np.tile(np.arange(len(counts)), (draws, 1))
    given = np.asarray(layer(ids, training=True))
    assert given.dtype == ids.dtype
    np.testing.assert_array_equal(given[:, PADDING], PADDING)
    for word in range(2, len(counts)):
        share = (given[:, word] == UNKNOWN).mean()
        wanted = strength / (strength + counts[word])
        assert abs(share - wanted) < 5 * np.sqrt(wanted * (1 - wanted) / draws) + 1e-9, word
    assert ((given == ids) | (given == UNKNOWN)).all()
    assert (given != np.asarray(layer(ids, training=True))).any()  # drawn anew
    assert (given != given[0]).any()


def test_nothing_is_unknown_when_it_does_not_train():
    ids = np.arange(8)[None].astype("int32")
    for training in (False, None):
        np.testing.assert_array_equal(adapted(5.0, [0] * 8)(ids, training=training), ids)
    np.testing.assert_array_equal(adapted(5.0, [0] * 8)(ids), ids)
    np.testing.assert_array_equal(adapted(0.0, [0] * 8)(ids, training=True), ids)
    assert (np.asarray(adapted(5.0, [0] * 8)(ids, training=True))[0, 2:] == UNKNOWN).all()


def test_counts_are_those_of_plain_counting_and_add_up():
    rng, plain = np.random.default_rng(0), collections.Counter()
    layer = RareWordDropout(WORDS, 0.5)
    for _ in range(3):
        batches = [rng.integers(0, WORDS - 3, rng.integers(0, 9, 2)) for _ in range(4)]
        layer.adapt(iter(batches))
        plain.update(int(word) for ids in batches for word in ids.ravel())
        counts = np.asarray(layer.counts)
        np.testing.assert_array_equal(counts[1:], [plain[word] for word in range(1, WORDS)])
    layer.adapt([])
    np.testing.assert_array_equal(layer.counts, counts)
    assert not layer.trainable_weights


def test_the_config_of_word_dropout_loses_nothing():
    layer = RareWordDropout(9, 0.75, name="rare")
    again = RareWordDropout.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert (again.vocabulary, again.strength, again.name) == (9, 0.75, "rare")


@pytest.mark.parametrize("strength", [-0.1, float("nan")])
def test_an_invalid_strength_is_an_error(strength):
    with pytest.raises(ValueError, match="strength must be at least 0"):
        RareWordDropout(9, strength)
