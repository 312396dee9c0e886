"""Word vectors as a layer: which are trained, and words that training does not see."""

import keras
import numpy as np
import pytest
from keras import ops

from models.layers.word_vectors import WordVectors, countable_ids, embed_words
from tests.support.close import assert_close

TABLE = np.arange(1, 19, dtype="float32").reshape(6, 3)  # four words of the training part
TABLE[[0, 1]] = 0
IDS = np.array([[2, 3, 1, 5], [4, 0, 0, 0]], "int32")


def layer(mode, rest=2):
    made = WordVectors(6 - rest, rest, 3, mode)
    made.set_vectors(TABLE)
    return made


@pytest.mark.parametrize("rest", [0, 2])
@pytest.mark.parametrize("mode", ["tuned", "frozen", "both"])
def test_vectors_are_looked_up_in_both_tables(mode, rest):
    given = np.asarray(layer(mode, rest)(IDS))
    expected = TABLE[IDS]
    present = expected.any(axis=-1)
    assert given.shape == (2, 4, 6 if mode == "both" else 3)
    for channel in np.split(given, 2, axis=-1) if mode == "both" else [given]:
        assert_close(channel[present], expected[present], 1e-6)


def test_only_vectors_of_words_of_the_training_part_are_tuned():
    for mode, trained in (
        ("tuned", {"tuned"}),
        ("frozen", {"unknown"}),
        ("both", {"tuned", "unknown"}),
    ):
        assert {weight.name for weight in layer(mode).trainable_weights} == trained


def test_words_without_a_vector_share_a_trained_one_or_have_their_own():
    frozen = layer("frozen")
    frozen.unknown.assign([7.0, 8.0, 9.0])
    assert_close(np.asarray(frozen(IDS))[0, 2], [7, 8, 9], 0)
    tuned = layer("tuned")
    missing = ops.convert_to_numpy(tuned.tuned)[:2]
    assert not missing[0].any() and missing[1].all()  # padding, the unknown word
    again = layer("tuned")
    assert_close(ops.convert_to_numpy(again.tuned)[1], missing[1], 0)


def test_a_layer_is_restored_from_its_configuration():
    made = layer("both")
    restored = WordVectors.from_config(made.get_config())
    assert [w.shape for w in restored.weights] == [w.shape for w in made.weights]
    assert restored.compute_output_shape((None, None)) == (None, None, 6)
    with pytest.raises(ValueError, match="mode must be one of"):
        WordVectors(2, 2, 3, "thawed")


def test_other_layers_see_the_unknown_word():
    vectors = {"rest": 2, "dimensions": 3, "mode": "tuned"}
    assert np.asarray(countable_ids(IDS, 4, vectors)).tolist() == [[2, 3, 1, 1], [1, 0, 0, 0]]
    assert countable_ids(IDS, 4, None) is IDS
    assert isinstance(embed_words(4, 3, None, "float32"), keras.layers.Embedding)
