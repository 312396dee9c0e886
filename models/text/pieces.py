"""Texts that arrive in pieces, cut anywhere, in core TensorFlow ops.

The tokenisers of `words` and of `ud_tokenizer` split each chunk of a text, the characters between
two blanks, by itself; a character of a script written without blanks begins a chunk, too. A chunk
is complete once the next one begins. `complete` returns the complete chunks of a text and what
remains, which is to precede the next piece: fewer than `MAX_CHUNK` characters, and up to three
bytes of an incomplete character. A longer chunk is cut after `MAX_CHUNK` characters, so that
an endless one takes bounded memory; `chunks` cuts a whole text in the same way.

Shapes: B texts.
"""

import tensorflow as tf

from .words import ALONE, BLANK

MAX_CHUNK = 256  # characters
CHUNK_RULES = (  # patterns of RE2 and their replacements
    (BLANK, " "),
    # Before and after, but no space follows the last character, which marks may follow.
    (f"({ALONE})", r" \1"),
    (rf"({ALONE})([^\p{{M}} ])", r"\1 \2"),
    (f"([^ ]{{{MAX_CHUNK}}})", r"\1 "),
)
_LEAD = (0xC2, 0xE0, 0xF0)  # first bytes of characters of at least 2, 3 and 4 bytes


def chunks(text: tf.Tensor) -> tf.Tensor:
    """Returns texts (B,) with a space between chunks; tokenisers split them as the texts.

    Bytes that are not UTF-8 become U+FFFD.
    """
    text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace")
    for pattern, rewrite in CHUNK_RULES:
        text = tf.strings.regex_replace(text, pattern, rewrite)
    return text


def complete(text: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Divides texts into their complete chunks and the rest.

    Args:
        text: (B,) strings: what remained of the previous pieces, and the next piece.

    Returns:
        Chunks, each followed by a space, and the bytes that remain, both (B,).

    Example:
        >>> [each.numpy() for each in complete(tf.constant([b"a dull fi"]))]
        [array([b'a dull '], dtype=object), array([b'fi'], dtype=object)]
    """
    whole, partial = whole_characters(text)
    spaced = chunks(whole)
    last = tf.strings.regex_replace(spaced, "^.* ", "")
    length = tf.strings.length(spaced) - tf.strings.length(last)
    done = tf.strings.substr(spaced, tf.zeros_like(length), length)
    return done, tf.strings.join([last, partial])


def whole_characters(text: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Divides texts before the bytes of an incomplete character at their end, (B,) both."""
    end = tf.strings.substr(tf.strings.join(["\0\0\0", text]), -3, 3)
    # The last byte first. A first byte is at least 0xC2, a continuation below that.
    last = tf.cast(tf.io.decode_raw(end, tf.uint8), tf.int32)[:, ::-1]
    last = tf.reshape(last, [-1, 3])
    held = tf.zeros_like(last[:, 0])
    continued = tf.ones_like(held, tf.bool)
    for count, lead in enumerate(_LEAD, start=1):
        byte = last[:, count - 1]
        held = tf.where(continued & (byte >= lead), count, held)
        continued &= (byte >= 0x80) & (byte < 0xC0)
    length = tf.strings.length(text) - held
    whole = tf.strings.substr(text, tf.zeros_like(length), length)
    return whole, tf.strings.substr(text, length, held)
