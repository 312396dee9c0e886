"""Tokens of a language model: words, subwords or characters, with a start and an end of text.

A text is a sequence of tokens, with an end after the last. Blanks at its start are skipped, so
that a text of blanks has no tokens. `complete` returns the tokens of a text that what follows
cannot change, and what remains of it; a text can thus be read in pieces that are cut anywhere.

Words are split as in `words`; blanks between them are no tokens, and words that are not in the
vocabulary are one token, "<unk>". Subwords and characters are those of `subwords`: together
they are the text, byte for byte, and nothing is unknown.

Shapes: B texts, T tokens.
"""

import abc
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import tensorflow as tf

from . import pieces, subwords
from .subwords import Subwords
from .words import BLANK, MAX_TOKEN_BYTES, PADDING, UNKNOWN, Vocabulary, split, truncate_bytes

START_MARK, END_MARK = subwords.MARKS[1:]
UNKNOWN_MARK = "<unk>"
_LONE_APOSTROPHE = "['’]"


class Tokens(tf.Module, abc.ABC):
    """Conversion of texts to ids and back.

    Class attributes:
        start: Id before the first token of a text.
        end: Id after the last.
        excluded: Ids that never follow.
        unwritten: Ids that no text is generated with.
    """

    start: ClassVar[int]
    end: ClassVar[int]
    excluded: ClassVar[tuple[int, ...]]
    unwritten: ClassVar[tuple[int, ...]]

    @abc.abstractmethod
    def __len__(self) -> int:
        """One more than the largest id."""

    @abc.abstractmethod
    def encode(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Returns the ids of texts (B,), as they are: (B, T) int32, without start and end."""

    def whole(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Returns the ids of whole texts (B,), without the blanks at their start."""
        return self.encode(without_first_blanks(text))

    @abc.abstractmethod
    def complete(self, text: tf.Tensor) -> tuple[tf.RaggedTensor, tf.Tensor]:
        """Divides texts into tokens that what follows cannot change, and the rest.

        Args:
            text: (B,) strings, valid UTF-8 or not: the rest of what was read, and the next piece.

        Returns:
            Ids (B, T) int32, and the bytes that remain (B,).
        """

    @abc.abstractmethod
    def pieces(self, ids: tf.Tensor) -> tf.Tensor:
        """Returns tokens for people: strings of the shape of the ids, "" at padding."""

    @abc.abstractmethod
    def decode(self, ids: tf.Tensor) -> tf.Tensor:
        """Returns the texts of ids (B, T), padded with 0: (B,) strings."""

    def first(self, text: tf.Tensor, count: int) -> tuple[tf.RaggedTensor, tf.Tensor]:
        """Returns the first tokens of texts (B,), and whether there are more.

        Args:
            text: (B,) strings.
            count: Most tokens of a text.

        Returns:
            Ids (B, T) int32, T <= `count`; and (B,) bool.
        """
        read = truncate_bytes(text, count + 1)  # one more, since the last may have been cut
        ids = self.whole(read)
        has_more = tf.strings.length(read) < tf.strings.length(text)
        has_more |= tf.cast(ids.row_lengths(), tf.int32) > count
        return ids[:, :count], has_more

    def last(self, text: tf.Tensor, count: int) -> tf.RaggedTensor:
        """Returns the last tokens of texts (B,), at most `count` of each: (B, T) int32."""
        length = tf.strings.length(text)
        # One more, since the first may have been cut.
        begin = tf.maximum(length - (count + 1) * MAX_TOKEN_BYTES, 0)
        tokens = self.whole(tf.strings.substr(text, begin, length - begin))
        return tokens[:, -count:] if count else tokens[:, :0]


class WordTokens(Tokens):
    """Words of a vocabulary.

    Args:
        path: File of the words, as `write` writes it.
    """

    # Lines of the file that no text has as words, since "<" is one by itself.
    start, end = 2, 3
    excluded, unwritten = (PADDING, 2), (PADDING, UNKNOWN, 2)

    def __init__(self, path: Path):
        super().__init__()
        self.vocabulary = Vocabulary(path)

    @staticmethod
    def write(path: Path, words: Iterable[str]) -> None:
        """Writes the file of a vocabulary, one word per line, in the order of their ids."""
        Vocabulary.write(path, [START_MARK, END_MARK, *words])

    def __len__(self) -> int:
        return len(self.vocabulary)

    def encode(self, text: tf.Tensor) -> tf.RaggedTensor:
        return self.vocabulary.encode(split(pieces.chunks(text)))

    def complete(self, text: tf.Tensor) -> tuple[tf.RaggedTensor, tf.Tensor]:
        done, rest = pieces.complete(text)
        return self.vocabulary.encode(split(done)), rest

    def pieces(self, ids: tf.Tensor) -> tf.Tensor:
        return tf.where(ids == UNKNOWN, UNKNOWN_MARK, self.vocabulary.decode(ids))

    def decode(self, ids: tf.Tensor) -> tf.Tensor:
        text = tf.strings.reduce_join(self.pieces(ids), axis=1, separator=" ")
        return tf.strings.regex_replace(text, " +$", "")  # of padding


class SubwordTokens(Tokens):
    """Subwords, or characters where the file has no longer pieces.

    Args:
        path: File of the pieces, as `Subwords.learn` or `learn_characters` writes it.
        characters: Whether the file has single characters only.
    """

    start, end = subwords.START, subwords.END
    excluded = unwritten = (PADDING, subwords.START)

    def __init__(self, path: Path, characters: bool):
        super().__init__()
        self.subwords, self._characters = Subwords(path), characters

    def __len__(self) -> int:
        return len(self.subwords)

    def encode(self, text: tf.Tensor) -> tf.RaggedTensor:
        return self.subwords.encode(text)

    def complete(self, text: tf.Tensor) -> tuple[tf.RaggedTensor, tf.Tensor]:
        whole, partial = pieces.whole_characters(text)
        if self._characters:
            return self.subwords.encode(whole), partial
        whole = tf.strings.unicode_transcode(whole, "UTF-8", "UTF-8", errors="replace")
        words = subwords.words(whole)
        # The last word may go on. An apostrophe that was cut off a long word belongs to it.
        last, last_two = (
            tf.strings.reduce_join(words[:, -count:].to_tensor(), axis=1) for count in (1, 2)
        )
        rest = tf.where(tf.strings.regex_full_match(last, _LONE_APOSTROPHE), last_two, last)
        length = tf.strings.length(whole) - tf.strings.length(rest)
        done = tf.strings.substr(whole, tf.zeros_like(length), length)
        return self.subwords.encode(done), tf.strings.join([rest, partial])

    def pieces(self, ids: tf.Tensor) -> tf.Tensor:
        return self.subwords.pieces(ids)

    def decode(self, ids: tf.Tensor) -> tf.Tensor:
        return self.subwords.decode(ids)


def without_first_blanks(text: tf.Tensor) -> tf.Tensor:
    """Returns texts (B,) without the blanks at their start."""
    return tf.strings.regex_replace(text, f"^{BLANK}", "")
