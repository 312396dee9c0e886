"""A text cut anywhere has the tokens of the whole text."""

import itertools

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from models.text import ud_tokenizer, words
from models.text.pieces import MAX_CHUNK, chunks, complete

TOKENIZERS = {"words": words.split, "ud_tokenizer": ud_tokenizer.tokenize}
every_tokenizer = pytest.mark.parametrize("tokenize", TOKENIZERS.values(), ids=TOKENIZERS)
FRAGMENTS = [
    *["a", "B", "'", "’", " ", "\n", "\0", "\x85", "\u3000", ".", ",", "-", "(", "$5", "\u200d"],
    *["好", "ก", "\u0301", "🙂", "é", "n't", "U.S.", "can't", "http://x.com/a", "ab" * 70],
]
BYTES = [fragment.encode() for fragment in FRAGMENTS]
BYTES += [b"\xff", b"\xc3", b"\xe5", b"\xe5\xa5", b"\xf0\x9f\x99", b"\xed\xa0\x80", b"\xc0\x80"]
TEXTS = st.lists(st.sampled_from(BYTES), max_size=30).map(b"".join)
SETTINGS = hypothesis.settings(max_examples=100, deadline=None, derandomize=True, database=None)


def strings(values):
    return tf.constant(np.array(values, object), tf.string)


def tokens_of_pieces(tokenize, pieces):
    tokens, rest = [], b""
    for piece in pieces:
        done, rest = (each.numpy()[0] for each in complete(strings([rest + piece])))
        assert len(rest.decode("utf-8", "replace")) < MAX_CHUNK + 3
        tokens += tokenize(strings([done])).to_list()[0]
    return tokens + tokenize(chunks(strings([rest]))).to_list()[0]


@every_tokenizer
def test_pieces_have_the_tokens_of_the_whole_text(tokenize):
    @SETTINGS
    @hypothesis.given(TEXTS, st.lists(st.integers(0, 400), max_size=12))
    def check(text, cuts):
        cuts = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
        pieces = [text[a:b] for a, b in itertools.pairwise(cuts)]
        [whole] = tokenize(chunks(strings([text]))).to_list()
        assert tokens_of_pieces(tokenize, pieces) == whole

    check()


@every_tokenizer
def test_chunks_do_not_change_tokens(tokenize):
    @SETTINGS
    @hypothesis.given(TEXTS.filter(lambda text: len(text) < MAX_CHUNK))
    def check(text):
        assert tokenize(chunks(strings([text]))).to_list() == tokenize(strings([text])).to_list()

    check()


@every_tokenizer
def test_every_cut_into_bytes_has_the_same_tokens(tokenize):
    text = "Mr. X can't (好看\u0301) pay $50… 🙂\u3000é".encode() + b"\xf0\x9f end"
    [whole] = tokenize(strings([text])).to_list()
    pieces = [text[i : i + 1] for i in range(len(text))]
    assert tokens_of_pieces(tokenize, pieces) == whole
    for cut in range(len(text)):
        assert tokens_of_pieces(tokenize, [text[:cut], text[cut:]]) == whole


def test_an_endless_chunk_is_cut_at_the_limit():
    text = "é" * (2 * MAX_CHUNK + 3)
    for size in (1, 7, 10_000):
        data = text.encode()
        pieces = [data[i : i + size] for i in range(0, len(data), size)]
        if size > 1 or len(data) < 2000:
            lengths = [len(t.decode()) for t in tokens_of_pieces(words.split, pieces)]
            assert lengths == [MAX_CHUNK, MAX_CHUNK, 3]


def test_rows_do_not_affect_each_other():
    rows = [b"a dull fi", b"", b"\xe5\xa5", "好看".encode(), b"x \xf0\x9f", b" " * 9]
    together = [each.numpy().tolist() for each in complete(strings(rows))]
    alone = [[each.numpy()[0] for each in complete(strings([row]))] for row in rows]
    assert [list(pair) for pair in zip(*together, strict=True)] == alone
