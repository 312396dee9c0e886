"""The cost of a request is bounded, and bounds change nothing for requests within them."""

import random

import numpy as np
import pytest
import tensorflow as tf

import tasks
from models.text.words import split
from tasks.core.errors import UserError
from tasks.core.examples import Example
from tasks.shapes.sequence_labelling import task as labelling
from tasks.shapes.sequence_labelling.requests import RequestFormat
from tests.support import untrained

SMALL = {"units": 4, "embedding": 4}


def learnt(name, folder, **settings):
    """A task that knows the words of its sample."""
    cls = tasks.find(name)
    return cls.learn(cls.Config(**SMALL, **settings), untrained.examples(name), folder)


@pytest.fixture(scope="module")
def tagging(tmp_path_factory):
    """A small tagging task, and its traced signature."""
    folder = tmp_path_factory.mktemp("tagging")
    task = learnt("tagging", folder, max_tokens=20, max_length=8, characters=4)
    model = task.build("serving")
    return task, model, task.signatures(model)["serving_default"]


def texts(lengths):
    drawn = random.Random(0)
    vocabulary = ["the", "old", "man", "saw", "a", "tower", "and", "women", "slept"]
    return [" ".join(drawn.choices(vocabulary, k=length)) for length in lengths]


def test_a_sentence_has_at_most_max_tokens_tags_and_its_true_length(tagging):
    _, _, serving_default = tagging
    long, short = texts([33, 5])
    outputs = serving_default(tf.constant([long, short, ""]))
    assert outputs["lengths"].numpy().tolist() == [33, 5, 0]
    assert outputs["tokens"].shape == outputs["tags"].shape == (3, 20)
    assert outputs["tokens"][0].numpy().tolist() == [w.encode() for w in long.split()[:20]]
    alone = serving_default(tf.constant([short]))
    for name in ("tags", "tokens"):
        assert outputs[name][1, :5].numpy().tolist() == alone[name][0].numpy().tolist()


def test_small_chunks_change_nothing_and_large_responses_are_rejected(tagging, monkeypatch):
    task, model, together = tagging
    monkeypatch.setattr(labelling, "_CHUNK_TOKENS", 17)
    monkeypatch.setattr(labelling, "_MAX_CELLS", 180)
    in_chunks = task.signatures(model)["serving_default"]
    request = tf.constant(texts([0, 1, 20, 7, 0, 19, 8, 3, 0]))
    outputs = in_chunks(request)
    for name, expected in together(request).items():
        if name == "probability":
            np.testing.assert_allclose(outputs[name], expected, atol=1e-6)
        else:
            assert outputs[name].numpy().tolist() == expected.numpy().tolist()
    with pytest.raises(tf.errors.InvalidArgumentError, match="must be at most 180"):
        in_chunks(tf.constant(texts([0, 1, 20, 7, 0, 19, 8, 3, 0, 0])))


def test_sentences_that_are_not_tagged_whole_are_reported(tagging):
    task, *_ = tagging
    words = ("a",) * 21
    example = Example({"tokens": words, "tags": words}, "file: line 1")
    assert task.rejection_reason(example) == "sentences of more than 20 tokens (--max-tokens)"
    example = Example({"tokens": words[:20], "tags": words[:20]}, "file: line 1")
    assert task.rejection_reason(example) is None
    response = {"tokens": ["a"] * 20, "tags": ["X"] * 20, "lengths": 21}
    for format_ in ("words", "conllu"):
        with pytest.raises(UserError, match="has 21 tokens, of which this version tags 20"):
            RequestFormat(format=format_).show(None, response)


@pytest.mark.parametrize("text", ["good film. ", "a" * 31 + " ", "é'", "\U0001d11e", "好 "])
def test_classification_reads_the_same_words_of_truncated_texts(text, tmp_path):
    task = learnt("sentiment", tmp_path, max_length=6)
    request = tf.constant([text * 4000])
    expected = task.words.encode(split(request)[:, :6])
    assert task.ids(request).to_list() == expected.to_list()
    assert task.ids(tf.constant(["x" * 10**6 + " good"])).row_lengths().numpy().tolist() == [1]


@pytest.mark.parametrize("start", ["", "a", "ab", "abc"])
@pytest.mark.parametrize("text", ["\U0001d11e", "\U0001d11e" * 31 + " ", "go ", b"\xff"])
def test_translation_reads_the_same_subwords_of_truncated_texts(text, start, subwords):
    text = text if isinstance(text, bytes) else text.encode()
    request = tf.constant([start.encode() + text * 4000])
    expected = subwords.subwords.encode(request)[:, : subwords.config.max_length]
    assert subwords.source_ids(request).numpy().tolist() == expected.numpy().tolist()


@pytest.fixture(scope="module")
def subwords(tmp_path_factory):
    """A translation task with a piece of as many characters as a piece can have."""
    folder = tmp_path_factory.mktemp("translation")
    task = learnt("translation", folder, max_length=5, vocabulary=300)
    with (folder / "subwords.txt").open("a", encoding="utf-8") as file:
        for count in (2, 4, 8, 16, 32):
            file.write("\U0001d11e" * count + "\n")
    return tasks.find("translation")(task.config, folder)
