"""BPE-dropout: algorithm 1 of Provilkov et al. (2020) in plain Python, with the same draws."""

import random

import numpy as np
import pytest
import tensorflow as tf

from models.text.subwords import FIRST, Subwords, words

SEED = [3, 5]
SYLLABLES = ["ba", "ße", "di", "ko", "lu", "mé", "na", "po", "ri", "sch", "tя", "好"]


def sentences(count, seed=0):
    draw = random.Random(seed)
    known = ["".join(draw.choices(SYLLABLES, k=draw.randint(1, 5))) for _ in range(100)]
    often = [1 / (n + 1) for n in range(len(known))]
    return [" ".join(draw.choices(known, often, k=draw.randint(1, 9))) + "." for _ in range(count)]


@pytest.fixture(scope="module")
def subwords(tmp_path_factory):
    path = tmp_path_factory.mktemp("subwords") / "subwords.txt"
    return Subwords.learn(path, sentences(1000), FIRST + 200)


@pytest.fixture(scope="module")
def texts():
    return [*sentences(60, seed=1), "", " ", "x€ \0\t", "bababababa" * 8, "ba" * 40 + " schsch"]


def spelled(subwords, symbols):
    """The ids of symbols; those that are not pieces by their bytes."""
    ids = {piece: FIRST + number for number, piece in enumerate(subwords.learnt)}
    return [
        number
        for symbol in symbols
        for number in ([ids[symbol]] if symbol in ids else [3 + byte for byte in symbol.encode()])
    ]


def reference(subwords, text, dropout):
    """The ids of texts, word by word and pair by pair, with the draws of the library's ops.

    Iteration i draws a number for each symbol that the batch has by then, in its order.
    """
    ranks = {piece: number for number, piece in enumerate(subwords.learnt)}
    segmented = [[list(word.decode()) for word in row] for row in words(text).to_list()]
    open_words = [word for row in segmented for word in row]
    every, iteration = list(open_words), 0
    while open_words:
        seed = tf.random.fold_in(SEED, iteration)
        draws = iter(tf.random.stateless_uniform([sum(map(len, every))], seed).numpy())
        going_on = []
        for word in every:
            own = [next(draws) for _ in word]
            if not any(word is other for other in open_words):
                continue
            merges = [
                (ranks[word[at] + word[at + 1]], at)
                for at in range(len(word) - 1)
                if word[at] + word[at + 1] in ranks and own[at] >= dropout
            ]
            if merges:
                _, at = min(merges)
                word[at : at + 2] = [word[at] + word[at + 1]]
                going_on.append(word)
        open_words, iteration = going_on, iteration + 1
    return [[n for word in row for n in spelled(subwords, word)] for row in segmented]


@pytest.mark.parametrize("dropout", [0.1, 0.6])
def test_segmentations_are_those_of_the_published_algorithm(subwords, texts, dropout):
    ids = subwords.encode_with_dropout(texts, dropout, SEED)
    assert ids.dtype == tf.int32
    assert ids.to_list() == reference(subwords, texts, dropout)
    assert ids.to_list() != subwords.encode(texts).to_list()


def test_without_dropout_the_segmentation_is_the_ordinary_one(subwords, texts):
    ids = subwords.encode_with_dropout(texts, 0.0, SEED)
    assert ids.to_list() == subwords.encode(texts).to_list()


def test_with_all_merges_dropped_the_segments_are_characters(subwords, texts):
    ids = subwords.encode_with_dropout(texts, 1.0, SEED)
    assert ids.to_list() == [spelled(subwords, text) for text in texts]


@pytest.mark.parametrize("dropout", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_the_pieces_are_the_text(subwords, texts, dropout):
    ids = subwords.encode_with_dropout(texts, dropout, SEED)
    assert [text.decode() for text in subwords.decode(ids).numpy()] == texts


def test_each_occurrence_is_drawn_by_itself_with_the_given_probability(subwords):
    assert len(subwords.encode(["ba"]).to_list()[0]) == 1
    ids = subwords.encode_with_dropout(["ba"] * 4000, 0.3, SEED)
    share = np.mean(ids.row_lengths().numpy() == 2)
    assert abs(share - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 4000)


def test_the_seed_decides(subwords, texts):
    first, again, other = (
        subwords.encode_with_dropout(texts, 0.3, seed).to_list() for seed in (SEED, SEED, [3, 6])
    )
    assert first == again != other
