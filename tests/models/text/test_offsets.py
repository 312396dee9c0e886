"""Offsets of tokens, against slices of Python's strings and bytes."""

import random
import unicodedata

import pytest
import tensorflow as tf

from models.text.offsets import token_offsets
from models.text.ud_tokenizer import tokenize

TEXTS = [
    "The old man's boats sank.",
    "",
    " \t\u00a0 ",
    "\u3000two\u2003blanks\u2028and a line\r\nbreak\r\n\r\n",
    "👩‍👩‍👧 met Ana🙂, e\u0301te\u0301 \u0301 x",
    "我在Paris看了电影。 ภาษาไทย",
    "\0NUL\x1f and\x85 controls",
    "\u202eabc Straße ﬁn İstanbul",
    "http://example.com/a,b don't e-mail x-y/z 24/7",
    "\U0010ffff\ufeff x \ufffd \u200b.",
]


def is_blank(character):
    return unicodedata.category(character)[0] == "Z" or unicodedata.category(character) == "Cc"


def drawn_texts(count=120):
    rng = random.Random(3)
    alphabet = [*"ab.'-/,$5 \t\r\né好🙂ß\u200d\u00a0\0", "e\u0301"]
    return ["".join(rng.choices(alphabet, k=rng.randrange(25))) for _ in range(count)]


def check(texts, limit=None):
    tokens = tokenize(texts)[:, :limit]
    offsets = [
        iter(values.numpy().tolist()) for values in token_offsets(tf.constant(texts), tokens)
    ]
    for text, row in zip(texts, tokens.to_list(), strict=True):
        position = 0
        for token in row:
            start, end, byte_start, byte_end = (next(values) for values in offsets)
            assert text[start:end] == token.decode()
            assert text.encode()[byte_start:byte_end] == token
            assert all(map(is_blank, text[position:start]))  # nothing is left out
            position = end
        assert limit or all(map(is_blank, text[position:]))
    assert all(next(values, None) is None for values in offsets)


@pytest.mark.parametrize("limit", [None, 2])
def test_slices_of_a_text_are_its_tokens(limit):
    check([*TEXTS, *drawn_texts()], limit)


def test_bytes_that_are_not_utf8_are_one_character_each_sequence():
    texts = [b"\xff a\xc3 b\xed\xa0\x80c", b"x"]
    tokens = tokenize(texts)
    starts, ends, byte_starts, byte_ends = (x.numpy() for x in token_offsets(texts, tokens))
    rows = tokens.value_rowids().numpy()
    for token, row, span in zip(
        tokens.flat_values.numpy(), rows, zip(byte_starts, byte_ends, strict=True), strict=True
    ):
        part = texts[row][slice(*span)]
        transcoded = tf.strings.unicode_transcode(part, "UTF-8", "UTF-8", errors="replace")
        assert transcoded.numpy() == token
    characters = tf.strings.length(tokens.flat_values, unit="UTF8_CHAR").numpy()
    assert (ends - starts == characters).all()


def test_without_texts_there_are_no_offsets():
    offsets = token_offsets(tf.zeros([0], tf.string), tokenize(tf.zeros([0], tf.string)))
    assert [tuple(values.shape) for values in offsets] == [(0,)] * 4
