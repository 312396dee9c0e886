"""Conversion of strings to ids and back, in core TensorFlow ops, in training and serving.

Texts are split into words by these rules, in this order:

1. Bytes that are not UTF-8 become U+FFFD.
2. Every Unicode separator (category Z) and every control character separates words.
3. A character of a script written without blanks (Han, Hiragana, Katakana, Thai, Lao, Khmer,
   Myanmar) is a word by itself, with the marks that follow it.
4. Letters, marks, digits, underscores and joiners form words; apostrophes inside a word belong
   to it ("don't"), and runs of them outside a word are words.
5. Any other character (punctuation, symbols) is a word by itself.

Nothing is normalised: case, accents and widths remain.

Shapes: B texts, T words, N words of a batch, C characters.
"""

import collections
from collections.abc import Iterable, Mapping
from pathlib import Path

import tensorflow as tf

from . import case

PADDING, UNKNOWN = 0, 1  # ids without a word
_MAX_BYTES = 2**30  # of a text; in base64 fewer than an int32 can count
MAX_TOKEN_BYTES = 128  # a subword, of at most 32 characters, has no more

BLANK = r"[\s\p{Z}\p{Cc}]+"
ALONE = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]\p{M}*"
_INNER = r"\p{L}\p{M}\p{N}_\x{200C}\x{200D}"
_APOSTROPHE = "'’"
RULES = (  # patterns of RE2 and their replacements; the words are then between blanks
    (BLANK, " "),
    (f"({ALONE})", r" \1 "),
    (f"([^{_INNER}{_APOSTROPHE} ])", r" \1 "),
    (f"(^|[^{_INNER}{_APOSTROPHE}])([{_APOSTROPHE}]+)", r"\1 \2 "),
    (f"([{_APOSTROPHE}]+)($|[^{_INNER}{_APOSTROPHE}])", r" \1 \2"),
)


def split(text: tf.Tensor) -> tf.RaggedTensor:
    """Splits texts into words, by the rules of the module.

    Args:
        text: (B,) strings.

    Returns:
        (B, T) strings, ragged.

    Example:
        >>> split(["It's dull, isn't it?", "", "好 film"]).to_list()
        [[b"It's", b'dull', b',', b"isn't", b'it', b'?'], [], [b'\\xe5\\xa5\\xbd', b'film']]
    """
    text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace")
    for pattern, rewrite in RULES:
        text = tf.strings.regex_replace(text, pattern, rewrite)
    return tf.strings.split(text)


def truncate_bytes(text: tf.Tensor, tokens: int) -> tf.Tensor:
    """Truncates texts before the regular expressions, whose time grows with the bytes.

    A text is cut after `MAX_TOKEN_BYTES` bytes per token, so that nothing changes for texts of
    which the first tokens only are read, unless those tokens are longer on average.

    Args:
        text: (B,) strings.
        tokens: Tokens read per text.
    """
    return tf.strings.substr(text, 0, max_bytes(tokens))


def max_bytes(tokens: int) -> int:
    """Returns the bytes of a text that `truncate_bytes` leaves at most."""
    return min(tokens * MAX_TOKEN_BYTES, _MAX_BYTES)


def spell(words: tf.Tensor, longest: int) -> tf.RaggedTensor:
    """Splits words into characters; a long word keeps its head and tail only.

    Args:
        words: (N,) strings.
        longest: Maximum number of characters of a word.

    Returns:
        (N, C) strings, ragged.

    Example:
        >>> spell(["né", "", "spelling"], 5).to_list()
        [[b'n', b'\\xc3\\xa9'], [], [b's', b'p', b'e', b'n', b'g']]
    """
    # A character has at most four bytes. A string of each character of a long word would take
    # about a hundred times the memory of the word.
    enough = 4 * longest + 4
    length = tf.strings.length(words)
    end = tf.strings.substr(
        words, tf.maximum(length - enough, 0), tf.fill(tf.shape(length), enough)
    )
    ends = tf.strings.join([tf.strings.substr(words, 0, enough), end])
    words = tf.where(length > 2 * enough, ends, words)
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
    """Counts of words in bounded memory.

    When there are more than `MAX_WORDS` distinct words, the rarer half is removed, similar to lossy
    counting (Manku & Motwani, 2002). A count is then too low by the occurrences of its word
    before a removal; frequent words are not removed. Up to `MAX_WORDS` words, counts are exact.
    """

    MAX_WORDS = 2**18

    def update(
        self, iterable: Mapping[str, int] | Iterable[str] | None = None, /, **counts: int
    ) -> None:
        super().update(iterable, **counts)
        if len(self) > self.MAX_WORDS:
            common = self.most_common(self.MAX_WORDS // 2)
            self.clear()
            super().update(dict(common))


class _Lines(tf.lookup.TextFileInitializer):
    """Initializer of a table from the lines of a file, without a shared name.

    TensorFlow names a shared table by the string representation of its file, which for an
    asset is a memory address that an earlier asset may have had. A table without a shared name
    gets a unique one.
    """

    _shared_name = ""


class Vocabulary(tf.Module):
    """Vocabulary of words, stored in a text file with one word per line.

    By default words have ids from 2; id 0 is padding, and id 1 stands for every word that is
    not in the file. Neither has a line, so that no word of a text can be taken for them.

    Args:
        path: File of the words; an asset of exported models.
        first: Id of the first line. With 0, as for classes, there is no padding, and words
            that are not in the file have id -1.
        lower_unknown: Whether words that are not in the file are looked up in lower case.

    Raises:
        ValueError: The file is empty or contains a word twice.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = Path(folder.name, "words.txt")
        >>> Vocabulary.write(path, ["good", "film"])
        >>> Vocabulary(path).encode(tf.constant(["film", "bad"])).numpy().tolist()
        [3, 1]
    """

    def __init__(self, path: Path, first: int = 2, lower_unknown: bool = False):
        super().__init__()
        words = self.read(path)
        if not words or len(set(words)) < len(words):
            raise ValueError(f"{path}: a vocabulary needs words, each once, got {len(words)}.")
        self.words = tuple(words)
        self._first, self._lower_unknown = first, lower_unknown
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
    def read(path: Path) -> list[str]:
        """Returns the words of the file of a vocabulary, in the order of their ids.

        Raises:
            ValueError: A line ends with a carriage return, which TensorFlow drops.
        """
        with path.open(encoding="utf-8", newline="\n") as file:
            text = file.read()
        if "\r" in text:
            raise ValueError(f"{path}: the lines of a vocabulary must end with \\n, not \\r\\n.")
        return text.removesuffix("\n").split("\n") if text else []

    @staticmethod
    def write(path: Path, words: Iterable[str]) -> None:
        """Writes the file of a vocabulary, one word per line.

        Args:
            path: File to write.
            words: Words in the order of their ids.
        """
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{word}\n" for word in words)

    @property
    def lower_unknown(self) -> bool:
        """Whether words that are not in the file are looked up in lower case."""
        return self._lower_unknown

    def __len__(self) -> int:
        """One more than the largest id."""
        return self._first + len(self.words)

    def encode(self, words: tf.Tensor) -> tf.Tensor:
        """Returns the ids of words of any shape, possibly ragged: int32 of the same shape."""
        if isinstance(words, tf.RaggedTensor):
            return words.with_flat_values(self.encode(words.flat_values))
        lines = self._ids.lookup(words)
        if self._lower_unknown:
            lower = self._ids.lookup(case.lower(words))
            lines = tf.where(lines < 0, lower, lines)
        return tf.cast(lines + self._first, tf.int32)

    def decode(self, ids: tf.Tensor) -> tf.Tensor:
        """Returns the words of ids of any shape; "" for an id without a word."""
        return self._lines.lookup(tf.cast(ids, tf.int64) - self._first)
