"""Strings to numbers and back, in core TensorFlow ops: the same in training and in serving.

Words are what lies between blanks, with these rules, in this order:

1. Bytes that are not UTF-8 become U+FFFD.
2. Every blank of Unicode (category Z) and every control character separates.
3. A character of a script written without blanks (Han, Hiragana, Katakana, Thai,
   Lao, Khmer, Myanmar) is a word by itself, with the marks that follow it.
4. Letters, marks, digits, underscores and joiners hold together; so do
   apostrophes inside a word ("don't"), and runs of them outside one.
5. Any other character (punctuation, symbols) is a word by itself.

Nothing is normalised: case, accents and widths stay as they were written.
"""

import collections
from collections.abc import Iterable
from pathlib import Path

import tensorflow as tf

PADDING, UNKNOWN = 0, 1  # the ids that are no word's

BLANK = r"[\s\p{Z}\p{Cc}]+"
ALONE = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]\p{M}*"
_INNER = r"\p{L}\p{M}\p{N}_\x{200C}\x{200D}"
_APOSTROPHE = "'’"


def split(text: tf.Tensor) -> tf.RaggedTensor:
    """Splits strings (B,) into words (B, T), by the rules above.

    >>> split(["It's dull, isn't it?", "", "好 film"]).to_list()
    [[b"It's", b'dull', b',', b"isn't", b'it', b'?'], [], [b'\\xe5\\xa5\\xbd', b'film']]
    """
    text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace")
    for pattern, rewrite in (
        (BLANK, " "),
        (f"({ALONE})", r" \1 "),
        (f"([^{_INNER}{_APOSTROPHE} ])", r" \1 "),
        (f"(^|[^{_INNER}{_APOSTROPHE}])([{_APOSTROPHE}]+)", r"\1 \2 "),
        (f"([{_APOSTROPHE}]+)($|[^{_INNER}{_APOSTROPHE}])", r" \1 \2"),
    ):
        text = tf.strings.regex_replace(text, pattern, rewrite)
    return tf.strings.split(text)


def spell(words: tf.Tensor, longest: int) -> tf.RaggedTensor:
    """Splits words (N,) into characters (N, C); of one with more than `longest` head and tail stay.

    >>> spell(["né", "", "spelling"], 5).to_list()
    [[b'n', b'\\xc3\\xa9'], [], [b's', b'p', b'e', b'n', b'g']]
    """
    characters = tf.strings.unicode_split(words, "UTF-8", errors="replace")
    head = longest - longest // 2
    tail = characters[:, head:]
    tail = tf.gather(
        tail.flat_values,
        tf.ragged.range(
            tf.maximum(tail.row_limits() - longest // 2, tail.row_starts()), tail.row_limits()
        ),
    )
    return tf.concat([characters[:, :head], tail], axis=1)


class LossyCounter(collections.Counter):
    """Counts of words that take no more than a bounded memory, whatever is counted.

    Where there are more than `MOST` different ones, the rarer half is forgotten, as by lossy
    counting (Manku & Motwani, 2002): a count is too low by what its word had when it was
    forgotten, which a common word never is. As long as there are fewer, all are exact.
    """

    MOST = 2**18

    def update(self, iterable=None, /, **counts):
        super().update(iterable, **counts)
        if len(self) > self.MOST:
            common = self.most_common(self.MOST // 2)
            self.clear()
            super().update(dict(common))


class _Lines(tf.lookup.TextFileInitializer):
    """The lines of a file, for a table that no other shares.

    TensorFlow names a table, and finds it again, by its file as Python prints
    it: for an asset that is an address, where another asset may have been
    before. A table whose file gives it no name gets one of its own.
    """

    _shared_name = ""


class Vocabulary(tf.Module):
    """Words and the ids they go by, held in a text file with a word a line.

    Words are numbered from 2: id 0 is padding and id 1 any word that is not in
    the file. Neither has a line, so no word of a user's is taken for one of them.

    Args:
        path: The file; it becomes an asset of what is exported.
        first: The id of the first line. From 0, for classes, ids have no
            padding, and what is not in the file is -1.

    Raises:
        ValueError: The file is empty or a word is in it twice.
    """

    def __init__(self, path: Path, first: int = 2):
        super().__init__()
        words = path.read_text(encoding="utf-8").split("\n")[:-1]
        if not words or len(set(words)) < len(words):
            raise ValueError(f"{path}: a vocabulary needs words, each once, got {len(words)}.")
        self.words = tuple(words)
        self._first = first
        self._file = tf.saved_model.Asset(str(path))
        index = tf.lookup.TextFileIndex
        self._ids = tf.lookup.StaticHashTable(
            _Lines(self._file, tf.string, index.WHOLE_LINE, tf.int64, index.LINE_NUMBER),
            default_value=-1,
        )
        self._lines = tf.lookup.StaticHashTable(
            _Lines(self._file, tf.int64, index.LINE_NUMBER, tf.string, index.WHOLE_LINE),
            default_value="",
        )

    @staticmethod
    def write(path: Path, words: Iterable[str]) -> None:
        """Writes the file of a vocabulary: a word a line, in the order given."""
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{word}\n" for word in words)

    def __len__(self):
        """One more than the largest id."""
        return self._first + len(self.words)

    def encode(self, words: tf.Tensor) -> tf.Tensor:
        """Maps words of any shape, ragged too, to int32 ids of that shape."""
        if isinstance(words, tf.RaggedTensor):
            return words.with_flat_values(self.encode(words.flat_values))
        return tf.cast(self._ids.lookup(words) + self._first, tf.int32)

    def decode(self, ids: tf.Tensor) -> tf.Tensor:
        """Maps ids of any shape to words of that shape; "" where an id is no word's."""
        return self._lines.lookup(tf.cast(ids, tf.int64) - self._first)
