"""Conversion of texts to subwords and back, in core TensorFlow ops, in training and serving.

Byte-pair encoding (Sennrich, Haddow & Birch, 2016) with bytes for unknown characters. A text is
encoded by these rules, in this order:

1. Bytes that are not UTF-8 become U+FFFD.
2. A word is a run of letters, marks and joiners, with the apostrophe if one follows ("don'" and
   "t", "l'" and "eau"); or a run of digits; or a run of other characters. A single blank
   (category Zs) directly before it belongs to it. Every other separator (Z) and every control
   character is a word by itself.
3. A word of more than 32 characters, including its blank, is split after every 32 characters.
   This includes sentences of scripts written without blanks.
4. Adjacent symbols of a word whose concatenation is a piece are merged, first those of the piece
   that was learnt earliest, the leftmost first, until no pair is a piece.
5. A character that is not a piece is encoded as its bytes.

Nothing is normalised and nothing is unknown: the concatenated pieces are the text, byte for
byte.

In training, rule 4 can be randomised by BPE-dropout (Provilkov, Emelianenko & Voita, 2020), so that
a network reads and writes a word in several segmentations.

Shapes: B texts, T ids of a text, W words, P pieces of a word.
"""

import collections
import io
import itertools
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import tensorflow as tf

from .words import PADDING, LossyCounter, Vocabulary

START, END = 1, 2  # of a sentence; like PADDING, ids that no text is encoded to
MARKS = ("", "<s>", "</s>")  # displayed for padding, start and end
_BYTES = 3  # id of byte 0
FIRST = _BYTES + 256  # id of the first piece

_LONGEST = 32  # characters of a word
_NEVER = tf.int32.max  # rank of a pair that is not a piece
_LETTER = r"\p{L}\p{M}\x{200C}\x{200D}"
_WORD = rf"(?s)\p{{Zs}}?(?:[{_LETTER}]+['’]?|\p{{N}}+|[^{_LETTER}\p{{N}}\p{{Z}}\p{{Cc}}]+)|."
_CUT = b"\xff"  # does not occur in UTF-8

BLANK = "▁"  # displayed for a blank; SentencePiece writes blanks so
_RESERVED = (BLANK, "▅")  # characters that SentencePiece reserves
_AT_ONCE = 1024  # texts counted per batch


def words(text: tf.Tensor) -> tf.RaggedTensor:
    """Splits texts into words, by rules 1 to 3 of the module; concatenated they are the text.

    Args:
        text: (B,) strings.

    Returns:
        (B, W) strings, ragged.

    Example:
        >>> words(["Don't  go, l'eau!", ""]).to_list()
        [[b"Don'", b't', b' ', b' go', b',', b" l'", b'eau', b'!'], []]
    """
    text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace")
    parts = _matches(text, _WORD)
    short = _matches(parts.flat_values, f"(?s).{{1,{_LONGEST}}}")
    return parts.with_flat_values(short).merge_dims(1, 2)


def _matches(text, pattern):
    """The matches (N, M) of a pattern in strings (N,), which it must match completely."""
    marked = tf.strings.regex_replace(text, pattern, _CUT + rb"\0")
    return tf.strings.split(marked, _CUT)[:, 1:]


class Subwords(tf.Module):
    """Subword vocabulary, stored in a text file with one piece per line.

    Ids 0, 1 and 2 are padding and the start and end of a sentence, which no text is encoded
    to. The 256 bytes follow, and then the pieces in the order of the file: single characters,
    then longer pieces in the order in which they were learnt. Blanks in pieces are literal.

    Args:
        path: File written by `learn`; an asset of exported models.

    Raises:
        ValueError: The file is empty or contains a piece twice.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = Path(folder.name, "subwords.txt")
        >>> subwords = Subwords.learn(path, ["low lower lowest", "new newer newest"], 280)
        >>> ids = subwords.encode(["the newest"])
        >>> subwords.decode(ids).numpy().tolist()
        [b'the newest']
    """

    def __init__(self, path: Path):
        super().__init__()
        self._pieces = Vocabulary(path, first=FIRST)

    @classmethod
    def learn(cls, path: Path, texts: Iterable[str | bytes], size: int) -> "Subwords":
        """Learns subwords from texts and writes their file; the order of texts has no effect.

        Texts are read once; only the counts of distinct words are kept, in the bounded memory
        of a `LossyCounter`. Texts of two languages give a joint vocabulary. Characters that
        occur more than once are pieces, except control characters; at most half of the pieces
        are characters, the most frequent ones.

        Args:
            path: File to write.
            texts: Texts in UTF-8.
            size: Maximum number of ids, including marks and bytes.

        Returns:
            The subwords of the file.

        Raises:
            ValueError: `size` leaves no room for pieces, or no character occurs twice.
        """
        cls._check_size(size, FIRST + 2)
        counts = _count(texts)
        alphabet = cls._alphabet_of(counts, (size - FIRST) // 2)
        Vocabulary.write(path, _learn(counts, alphabet, size - FIRST))
        return cls(path)

    @classmethod
    def learn_characters(cls, path: Path, texts: Iterable[str | bytes], size: int) -> "Subwords":
        """Writes a file whose pieces are single characters, so that each is a subword.

        Other characters are encoded as their bytes. See `learn` for the arguments, and for the
        characters that are pieces.

        Raises:
            ValueError: `size` leaves no room for pieces, or no character occurs twice.
        """
        cls._check_size(size, FIRST + 1)
        Vocabulary.write(path, cls._alphabet_of(_count(texts), size - FIRST))
        return cls(path)

    @staticmethod
    def _check_size(size: int, least: int) -> None:
        if size < least:
            raise ValueError(
                f"size must be at least {least}, because {FIRST} ids are marks and bytes, "
                f"got {size}."
            )

    @staticmethod
    def _alphabet_of(counts: dict[str, int], limit: int) -> list[str]:
        alphabet = _alphabet(counts, limit)
        if not alphabet:
            raise ValueError("subwords need texts in which a character occurs more than once.")
        return alphabet

    def __len__(self) -> int:
        """One more than the largest id."""
        return len(self._pieces)

    @property
    def learnt(self) -> tuple[str, ...]:
        """The pieces that were learnt, in the order of their ids."""
        return self._pieces.words

    # One function, because it is called for both sides of a corpus and by every signature.
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def encode(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Returns the ids of texts, (B, T) int32, ragged; an empty text has none.

        Args:
            text: (B,) strings.
        """
        text = words(text)
        distinct, place = tf.unique(text.flat_values)
        ids = tf.gather(self._segment(distinct), place)
        return text.with_flat_values(ids).merge_dims(1, 2)

    # Not a `tf.function`, which a SavedModel would contain.
    def encode_with_dropout(
        self, text: tf.Tensor, dropout: float, seed: tf.Tensor
    ) -> tf.RaggedTensor:
        """Returns the ids of texts in random segmentations, (B, T) int32, ragged.

        Before each merge of a word, every pair that could be merged is dropped with probability
        `dropout`, until the next merge; the segmentation of the word ends when all of its pairs
        are dropped at once (Provilkov et al. 2020, algorithm 1). Each occurrence of a word has its
        own draws.

        Args:
            text: (B,) strings.
            dropout: With 0 the ids are those of `encode`, with 1 those of single characters.
            seed: (2,) integers; the same seed draws the same segmentations.
        """

        def merge(symbols, rows):
            return self._merge_with_dropout(symbols, rows, dropout, seed)

        text = words(text)
        ids = self._segment(text.flat_values, merge)
        return text.with_flat_values(ids).merge_dims(1, 2)

    def decode(self, ids: tf.Tensor) -> tf.Tensor:
        """Returns the texts of ids, (B,) strings in UTF-8.

        Bytes that are not a character become U+FFFD. Padding, marks and ids beyond the
        vocabulary are skipped.

        Args:
            ids: (B, T) integers, ragged or padded.
        """
        if isinstance(ids, tf.RaggedTensor):
            ids = ids.to_tensor(PADDING)
        text = self._named(ids, [b""] * _BYTES + [bytes([byte]) for byte in range(256)])
        text = tf.strings.reduce_join(text, axis=-1)
        return tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace")

    def pieces(self, ids: tf.Tensor) -> tf.Tensor:
        """Returns displayable pieces of ids: strings of the same shape.

        A blank is "▁", a byte "<0xE2>", marks are "<s>" and "</s>", padding and ids beyond the
        vocabulary "".

        Args:
            ids: Integers of any shape, possibly ragged.
        """
        if isinstance(ids, tf.RaggedTensor):
            return ids.with_flat_values(self.pieces(ids.flat_values))
        named = self._named(ids, [*MARKS, *(f"<0x{byte:02X}>" for byte in range(256))])
        return tf.strings.regex_replace(named, " ", BLANK)

    def _named(self, ids, others):
        """The pieces of ids of any shape; ids below `FIRST` select from `others`."""
        ids = tf.cast(ids, tf.int32)
        other = tf.gather(others, tf.clip_by_value(ids, PADDING, FIRST - 1))
        return tf.where(ids < FIRST, other, self._pieces.decode(ids))

    def _segment(self, text, merge=None):
        """The ids (W, P) of words (W,); `merge` replaces `_merge`."""
        characters = tf.strings.unicode_split(text, "UTF-8")
        symbols, rows = (merge or self._merge)(characters.flat_values, characters.value_rowids())
        ids = self._pieces.encode(symbols)
        is_piece = ids >= FIRST
        spelled = tf.where(is_piece, "", symbols)
        in_bytes = tf.io.decode_raw(tf.strings.reduce_join(spelled), tf.uint8)
        in_bytes = tf.cast(in_bytes, tf.int32) + _BYTES
        ids = tf.concat(  # for each symbol its id, or those of its bytes
            [
                tf.RaggedTensor.from_row_lengths(ids[is_piece], tf.cast(is_piece, tf.int32)),
                tf.RaggedTensor.from_row_lengths(in_bytes, tf.strings.length(spelled)),
            ],
            axis=1,
        ).with_row_splits_dtype(tf.int64)
        ids = tf.RaggedTensor.from_value_rowids(ids, rows, characters.nrows())
        return ids.merge_dims(1, 2)

    def _merge(self, symbols, rows):
        """Merges symbols (N,) until no pair is a piece; returns symbols and their rows.

        Each iteration merges one pair per row, not all equal pairs, because the result may
        be half of a pair that was learnt earlier and is merged first.
        """
        symbols, rows, _ = tf.while_loop(
            lambda symbols, rows, ranks: tf.reduce_any(ranks < _NEVER),
            self._merge_best,
            (symbols, rows, self._ranks(tf.range(tf.size(rows, tf.int64)), symbols, rows)),
            shape_invariants=(tf.TensorShape([None]),) * 3,
        )
        return symbols, rows

    def _merge_with_dropout(self, symbols, rows, dropout, seed):
        """Does what `_merge` does, with pairs dropped at random in each iteration."""

        def merge(iteration, symbols, rows, ranks):
            draws = tf.random.stateless_uniform(tf.shape(ranks), tf.random.fold_in(seed, iteration))
            available = tf.where(draws < dropout, _NEVER, ranks)
            # A row without an available pair is segmented.
            goes_on = tf.gather(tf.math.segment_min(available, rows) < _NEVER, rows)
            ranks = tf.where(goes_on, ranks, _NEVER)
            return iteration + 1, *self._merge_best(symbols, rows, ranks, available)

        _, symbols, rows, _ = tf.while_loop(
            lambda iteration, symbols, rows, ranks: tf.reduce_any(ranks < _NEVER),
            merge,
            (0, symbols, rows, self._ranks(tf.range(tf.size(rows, tf.int64)), symbols, rows)),
            shape_invariants=(tf.TensorShape([]), *[tf.TensorShape([None])] * 3),
        )
        return symbols, rows

    def _ranks(self, first, symbols, rows):
        """The ids of the pairs that begin at positions `first`, or _NEVER."""
        second = tf.minimum(first + 1, tf.size(rows, tf.int64) - 1)
        ids = self._pieces.encode(tf.gather(symbols, first) + tf.gather(symbols, second))
        neighbours = (first < second) & (tf.gather(rows, first) == tf.gather(rows, second))
        return tf.where(neighbours & (ids >= FIRST), ids, _NEVER)

    def _merge_best(self, symbols, rows, ranks, available=None):
        """Merges the pair of lowest rank of each row; returns symbols, rows and ranks.

        Args:
            symbols: (N,) strings.
            rows: (N,) int64, ascending.
            ranks: Ranks of the pairs that begin at each symbol, (N,) int32.
            available: Ranks with _NEVER for pairs that are not merged now; None for `ranks`.
        """
        count = tf.size(rows, tf.int64)
        # The lowest rank of a row and the first position that has it, in one number.
        best = tf.cast(ranks if available is None else available, tf.int64)
        best = tf.math.segment_min(best * count + tf.range(count), rows)
        first = best[best < _NEVER * count] % count
        merged = tf.gather(symbols, first) + tf.gather(symbols, first + 1)
        symbols = tf.tensor_scatter_nd_update(symbols, first[:, None], merged)
        removed = tf.scatter_nd(first[:, None] + 1, tf.ones_like(first), [count])
        symbols, rows, ranks = (values[removed == 0] for values in (symbols, rows, ranks))
        first -= tf.range(tf.size(first, tf.int64))  # as many were removed before it
        changed = tf.concat([tf.maximum(first - 1, 0), first], 0)
        ranks = tf.tensor_scatter_nd_update(
            ranks, changed[:, None], self._ranks(changed, symbols, rows)
        )
        return symbols, rows, ranks


def _count(texts: Iterable[str | bytes]) -> dict[str, int]:
    """The number of occurrences of each word."""
    texts, counts = iter(texts), LossyCounter()
    while batch := list(itertools.islice(texts, _AT_ONCE)):
        distinct, _, times = tf.unique_with_counts(words(tf.constant(batch)).flat_values)
        counts.update(dict(zip(distinct.numpy(), times.numpy().tolist(), strict=True)))
    return {word.decode(): times for word, times in counts.items()}


def _alphabet(counts: dict[str, int], limit: int) -> list[str]:
    """The characters that are pieces, most frequent first."""
    characters = collections.Counter()
    for word, times in counts.items():
        for character in word:
            characters[character] += times
    # Lines of a file cannot contain control characters, and SentencePiece reserves two more.
    alphabet = [
        character
        for character, times in characters.items()
        if times > 1 and unicodedata.category(character) != "Cc" and character not in _RESERVED
    ]
    return sorted(alphabet, key=lambda character: (-characters[character], character))[:limit]


def _learn(counts: dict[str, int], alphabet: list[str], size: int) -> list[str]:
    """At most `size` pieces: characters, then longer ones in the order of learning."""
    import sentencepiece  # not required for encoding and serving

    separator = re.compile(f"[^{re.escape(''.join(alphabet))}]+")
    lines = (
        f"{part.replace(' ', BLANK)}\t{times}"
        for word, times in counts.items()
        for part in separator.split(word)  # nothing merges across a character without a piece
        if part
    )
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=lines,
        input_format="tsv",  # words and their counts
        model_writer=model,
        model_type="bpe",
        vocab_size=size + 1,  # including its unknown token
        hard_vocab_limit=False,
        # Words are taken literally: nothing else normalises or splits them.
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        split_by_unicode_script=False,
        split_by_number=False,
        max_sentencepiece_length=_LONGEST,
        character_coverage=1.0,
        bos_id=-1,
        eos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    learnt = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [learnt.id_to_piece(n).replace(BLANK, " ") for n in range(1, len(learnt))]
    return sorted(pieces, key=lambda piece: len(piece) > 1)
