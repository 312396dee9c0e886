"""The linear classifier of words and pairs, and its mixture with another."""

import keras
import numpy as np
import pytest

from models.layers.bag_of_words import BagOfWords
from models.layers.mixture import Mixture, fit_share
from models.text.pairs import pair_buckets
from tests.support.close import assert_close

WORDS, CLASSES, BUCKETS = 12, 3, 29
TEXTS = [[5, 3, 5, 5, 3], [2], [], [1, 1, 1], [11, 4, 7, 4, 7, 2, 9]]


def layer(rng):
    bag = BagOfWords(WORDS, CLASSES, BUCKETS)
    bag.set_weights([rng.normal(size=weight.shape) for weight in bag.get_weights()])
    return bag


def padded(texts, width=9):
    batch = np.zeros((len(texts), width), "int32")
    for row, text in zip(batch, texts, strict=True):
        row[: len(text)] = text
    return batch


def test_logits_are_sums_over_distinct_words_and_pairs():
    bag = layer(np.random.default_rng(0))
    words, pairs, bias = bag.get_weights()
    given = np.asarray(bag(padded(TEXTS)))
    for text, logits in zip(TEXTS, given, strict=True):
        following = {
            (previous % 32749 * 40503 + word) % BUCKETS
            for previous, word in zip([0, *text], text, strict=False)
        }
        expected = bias + sum(words[word] for word in set(text))
        expected = expected + sum(pairs[bucket] for bucket in following)
        assert_close(logits, expected, 1e-5)


def test_logits_do_not_depend_on_the_batch():
    bag = layer(np.random.default_rng(1))
    together = np.asarray(bag(padded(TEXTS, 40)))
    for text, logits in zip(TEXTS[1:], together[1:], strict=True):
        assert_close(np.asarray(bag(padded([text], max(1, len(text)))))[0], logits, 1e-6)


def test_buckets_of_the_largest_ids_are_in_range():
    ids = np.full((1, 4), 2**31 - 1, "int32")
    buckets = np.asarray(pair_buckets(ids, 2**20))
    assert ((buckets >= 0) & (buckets < 2**20)).all()


def test_a_saved_layer_has_the_same_logits(tmp_path):
    ids = keras.Input((None,), dtype="int32")
    bag = layer(np.random.default_rng(2))
    first = keras.layers.Dense(CLASSES)(keras.layers.Embedding(WORDS, 4)(ids)[:, 0])
    mixture = Mixture()
    model = keras.Model(ids, mixture(first, bag(ids)))
    mixture.share.assign(0.25)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(model(padded(TEXTS)), loaded(padded(TEXTS)))


def test_a_mixture_is_the_first_alone_in_training():
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=(2, 5, 3)).astype("float32")
    mixture = Mixture()
    np.testing.assert_array_equal(mixture(first, second), first)
    mixture.share.assign(0.75)
    assert_close(mixture(first, second), 0.25 * first + 0.75 * second, 1e-6)
    np.testing.assert_array_equal(mixture(first, second, training=True), first)


@pytest.mark.parametrize("good", [0, 1])
def test_the_share_of_a_random_classifier_is_small(good):
    rng = np.random.default_rng(4)
    classes = rng.integers(0, 3, 400)
    logits = [rng.normal(size=(400, 3)) for _ in range(2)]
    logits[good][np.arange(400), classes] += 3
    share = fit_share(*logits, classes)
    assert (share if good == 0 else 1 - share) <= 0.15


def test_independent_classifiers_of_equal_quality_share_evenly():
    rng = np.random.default_rng(5)
    classes = rng.integers(0, 2, 4000)
    logits = [rng.normal(size=(4000, 2)) for _ in range(2)]
    for values in logits:
        values[np.arange(4000), classes] += 1
    assert 0.4 <= fit_share(*logits, classes) <= 0.6


def test_equal_classifiers_and_no_rows_share_evenly():
    logits = np.random.default_rng(6).normal(size=(9, 4))
    assert fit_share(logits, logits, np.zeros(9, int)) == 0.5
    assert fit_share(logits[:0], logits[:0], np.zeros(0, int)) == 0.5
