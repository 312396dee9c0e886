"""Where tokens are in a text, in characters and in bytes, in core TensorFlow ops.

Characters are Unicode code points, as in Python's `str`; a line feed after a carriage return, an
accent that is a character of its own and each part of an emoji count.

Shapes: B texts, N tokens of all texts, one after the other.
"""

from typing import NamedTuple

import tensorflow as tf

from .words import BLANK

_SPACE = 32  # code point that blanks are replaced with
_BLANK_CHARACTER = BLANK.removesuffix("+")


class Offsets(NamedTuple):
    """Offsets of tokens into their texts, each (N,) int32.

    Attributes:
        starts: Characters before the token.
        ends: Characters before its end.
        byte_starts: Bytes before the token.
        byte_ends: Bytes before its end.
    """

    starts: tf.Tensor
    ends: tf.Tensor
    byte_starts: tf.Tensor
    byte_ends: tf.Tensor


def token_offsets(text: tf.Tensor, tokens: tf.RaggedTensor) -> Offsets:
    """Returns where the tokens of texts are.

    Args:
        text: (B,) strings; each invalid byte sequence is one character.
        tokens: (B, T) strings, ragged: the characters of the texts without blanks, in order, such
            as `tokenize` returns, or the first of these.

    Example:
        >>> from models.text.ud_tokenizer import tokenize
        >>> text = ["Zoë's  café."]
        >>> starts, ends, byte_starts, byte_ends = token_offsets(text, tokenize(text))
        >>> starts.numpy().tolist(), ends.numpy().tolist()
        ([0, 3, 7, 11], [3, 5, 11, 12])
        >>> byte_starts.numpy().tolist(), byte_ends.numpy().tolist()
        ([0, 4, 8, 13], [4, 6, 13, 14])
    """
    text = tf.convert_to_tensor(text)
    characters, offsets = tf.strings.unicode_decode_with_offsets(text, "UTF-8", errors="replace")
    blanked = tf.strings.regex_replace(
        tf.strings.unicode_encode(characters, "UTF-8"), _BLANK_CHARACTER, " "
    )
    codes = tf.strings.unicode_decode(blanked, "UTF-8")  # as many in each text
    visible = codes.flat_values != _SPACE
    places = tf.cast(tf.where(visible)[:, 0], tf.int32)  # of the characters that are no blanks

    row_starts = tf.cast(codes.row_starts(), tf.int32)
    row_limits = tf.cast(codes.row_limits(), tf.int32)
    visible_before = tf.cumsum(tf.concat([[0], tf.cast(visible, tf.int32)], 0))
    first_visible = tf.gather(visible_before, row_starts)

    rows = tokens.value_rowids()
    lengths = tf.strings.length(tokens.flat_values, unit="UTF8_CHAR")
    ends = tf.cumsum(lengths)
    before = tf.gather(tf.concat([[0], ends], 0), tokens.row_starts())  # tokens of earlier texts
    start = ends - lengths + tf.gather(first_visible - before, rows)
    first, last = tf.gather(places, start), tf.gather(places, start + lengths - 1)

    byte_offsets = tf.cast(offsets.flat_values, tf.int32)
    byte_ends = tf.concat([byte_offsets[1:], byte_offsets[:1]], 0)  # of each character
    is_last = last + 1 == tf.gather(row_limits, rows)
    byte_lengths = tf.strings.length(text)
    return Offsets(
        first - tf.gather(row_starts, rows),
        last + 1 - tf.gather(row_starts, rows),
        tf.gather(byte_offsets, first),
        tf.where(is_last, tf.gather(byte_lengths, rows), tf.gather(byte_ends, last)),
    )
