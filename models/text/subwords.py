"""Texts to subwords and back, in core TensorFlow ops: the same in training and in serving.

Byte-pair encoding (Sennrich, Haddow & Birch, 2016) with bytes for what it does not know.
A text is read by these rules, in this order:

1. Bytes that are not UTF-8 become U+FFFD.
2. A word is a run of letters, marks and joiners, with the apostrophe if one follows
   ("don'" and "t", "l'" and "eau"); or a run of digits; or a run of other characters. One
   blank (category Zs) right before it belongs to it. Every other separator (Z) and every
   control character is a word by itself.
3. A word of more than 32 characters, its blank among them, is cut after each 32: so is a
   sentence of a script written without blanks.
4. Of a word's characters two neighbours that together make a known piece become one: first
   those of the piece learnt earliest, of several the leftmost, until there are none.
5. A character that is no piece is read as its bytes.

Nothing is normalised and nothing is unknown: joined, the pieces are the text again, byte
for byte.
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

START, END = 1, 2  # of a sentence: beside PADDING the ids that no text is encoded to
MARKS = ("", "<s>", "</s>")  # how those three are shown
_BYTES = 3  # the id of byte 0
FIRST = _BYTES + 256  # the id of the first piece

_LONGEST = 32  # characters of a word
_NEVER = tf.int32.max  # the rank of a pair that makes no piece
_LETTER = r"\p{L}\p{M}\x{200C}\x{200D}"
_WORD = rf"(?s)\p{{Zs}}?(?:[{_LETTER}]+['’]?|\p{{N}}+|[^{_LETTER}\p{{N}}\p{{Z}}\p{{Cc}}]+)|."
_CUT = b"\xff"  # no byte of UTF-8

BLANK = "▁"  # how the library that learns writes a blank, and how one is shown
_RESERVED = (BLANK, "▅")  # characters that the library keeps for itself
_AT_ONCE = 1024  # texts that are counted together


def words(text: tf.Tensor) -> tf.RaggedTensor:
    """Cuts texts (B,) into words (B, W), by the rules above: joined they are the text again.

    >>> words(["Don't  go, l'eau!", ""]).to_list()
    [[b"Don'", b't', b' ', b' go', b',', b" l'", b'eau', b'!'], []]
    """
    text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace")
    parts = _matches(text, _WORD)
    short = _matches(parts.flat_values, f"(?s).{{1,{_LONGEST}}}")
    return parts.with_flat_values(short).merge_dims(1, 2)


def _matches(text, pattern):
    """The matches (N, M) of a pattern that leaves out nothing of strings (N,)."""
    marked = tf.strings.regex_replace(text, pattern, _CUT + rb"\0")
    return tf.strings.split(marked, _CUT)[:, 1:]


class Subwords(tf.Module):
    """Pieces of words and the ids they go by, held in a text file with a piece a line.

    Ids 0, 1 and 2 are padding and the start and end of a sentence, which no text is
    encoded to; then come the 256 bytes, then the pieces in the order of the file: single
    characters, then longer pieces as they were learnt. A blank stands in them as itself.

    Args:
        path: The file, as `learn` writes it; it becomes an asset of what is exported.

    Raises:
        ValueError: The file is empty or a piece is in it twice.
    """

    def __init__(self, path: Path):
        super().__init__()
        self._pieces = Vocabulary(path, first=FIRST)

    @classmethod
    def learn(cls, path: Path, texts: Iterable[str | bytes], size: int) -> "Subwords":
        """Learns subwords from texts, and writes their file; the same for any order of texts.

        Texts are read once, and of them only distinct words are held, no more than
        `models.text.LossyCounter` does. For a joint vocabulary give it those of both languages. A
        character that comes more than once is a piece, but for control characters; if such
        take more than half of the pieces, the commonest are.

        Args:
            path: The file to write.
            texts: In UTF-8.
            size: How many ids there are to be; fewer where the texts have fewer pieces.

        Raises:
            ValueError: There is no room for a piece, or nothing to learn one from.
        """
        if size < FIRST + 2:
            raise ValueError(
                f"size must be {FIRST + 2} or more, as {FIRST} are marks and bytes, got {size}."
            )
        counts = _count(texts)
        alphabet = _alphabet(counts, (size - FIRST) // 2)
        if not alphabet:
            raise ValueError("subwords need texts in which a character comes more than once.")
        Vocabulary.write(path, _learn(counts, alphabet, size - FIRST))
        return cls(path)

    def __len__(self):
        """One more than the largest id."""
        return len(self._pieces)

    # One function, because it is called for both sides of a corpus and by every signature.
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def encode(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Reads texts (B,) as int32 ids (B, T); of an empty text there are none."""
        text = words(text)
        distinct, place = tf.unique(text.flat_values)
        ids = tf.gather(self._segment(distinct), place)
        return text.with_flat_values(ids).merge_dims(1, 2)

    def decode(self, ids: tf.Tensor) -> tf.Tensor:
        """Joins ids (B, T), ragged or padded, to texts (B,).

        Always in UTF-8: bytes that make no character become U+FFFD. Padding, marks and ids
        that there are not add nothing.
        """
        if isinstance(ids, tf.RaggedTensor):
            ids = ids.to_tensor(PADDING)
        text = self._named(ids, [b""] * _BYTES + [bytes([byte]) for byte in range(256)])
        text = tf.strings.reduce_join(text, axis=-1)
        return tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace")

    def pieces(self, ids: tf.Tensor) -> tf.Tensor:
        """What ids of any shape, ragged too, stand for, to be shown: strings of that shape.

        A blank is shown as "▁", a byte as "<0xE2>", marks as "<s>" and "</s>", and padding
        and ids that there are not as "".
        """
        if isinstance(ids, tf.RaggedTensor):
            return ids.with_flat_values(self.pieces(ids.flat_values))
        named = self._named(ids, [*MARKS, *(f"<0x{byte:02X}>" for byte in range(256))])
        return tf.strings.regex_replace(named, " ", BLANK)

    def _named(self, ids, others):
        """The pieces of ids of any shape, and of those that are no piece's the others'."""
        ids = tf.cast(ids, tf.int32)
        other = tf.gather(others, tf.clip_by_value(ids, PADDING, FIRST - 1))
        return tf.where(ids < FIRST, other, self._pieces.decode(ids))

    def _segment(self, distinct):
        """The ids (W, P) of words (W,)."""
        characters = tf.strings.unicode_split(distinct, "UTF-8")
        symbols, rows = self._merge(characters.flat_values, characters.value_rowids())
        ids = self._pieces.encode(symbols)
        is_piece = ids >= FIRST
        spelled = tf.where(is_piece, "", symbols)
        in_bytes = tf.io.decode_raw(tf.strings.reduce_join(spelled), tf.uint8)
        in_bytes = tf.cast(in_bytes, tf.int32) + _BYTES
        ids = tf.concat(  # of each symbol: its id, or those of its bytes
            [
                tf.RaggedTensor.from_row_lengths(ids[is_piece], tf.cast(is_piece, tf.int32)),
                tf.RaggedTensor.from_row_lengths(in_bytes, tf.strings.length(spelled)),
            ],
            axis=1,
        ).with_row_splits_dtype(tf.int64)
        ids = tf.RaggedTensor.from_value_rowids(ids, rows, characters.nrows())
        return ids.merge_dims(1, 2)

    def _merge(self, symbols, rows):
        """Symbols (N,) and their rows when nothing is left to merge: fewer, and longer.

        A turn merges one pair in every row, not all that are alike: what that makes may be
        half of a pair that was learnt earlier, and so comes first.
        """

        def ranks_of(first, symbols, rows):
            """The ids of the pairs that begin at `first`, or _NEVER."""
            second = tf.minimum(first + 1, tf.size(rows, tf.int64) - 1)
            ids = self._pieces.encode(tf.gather(symbols, first) + tf.gather(symbols, second))
            neighbours = (first < second) & (tf.gather(rows, first) == tf.gather(rows, second))
            return tf.where(neighbours & (ids >= FIRST), ids, _NEVER)

        def turn(symbols, rows, ranks):
            count = tf.size(rows, tf.int64)
            # The lowest rank of a row and the first place that has it, in one number.
            best = tf.cast(ranks, tf.int64) * count + tf.range(count)
            best = tf.math.segment_min(best, rows)
            first = best[best < _NEVER * count] % count
            made = tf.gather(symbols, first) + tf.gather(symbols, first + 1)
            symbols = tf.tensor_scatter_nd_update(symbols, first[:, None], made)
            gone = tf.scatter_nd(first[:, None] + 1, tf.ones_like(first), [count])
            symbols, rows, ranks = (values[gone == 0] for values in (symbols, rows, ranks))
            first -= tf.range(tf.size(first, tf.int64))  # as many are gone before it
            changed = tf.concat([tf.maximum(first - 1, 0), first], 0)
            ranks = tf.tensor_scatter_nd_update(
                ranks, changed[:, None], ranks_of(changed, symbols, rows)
            )
            return symbols, rows, ranks

        symbols, rows, _ = tf.while_loop(
            lambda symbols, rows, ranks: tf.reduce_any(ranks < _NEVER),
            turn,
            (symbols, rows, ranks_of(tf.range(tf.size(rows, tf.int64)), symbols, rows)),
            shape_invariants=(tf.TensorShape([None]),) * 3,
        )
        return symbols, rows


def _count(texts: Iterable[str | bytes]) -> dict[str, int]:
    """How often each word comes."""
    texts, counts = iter(texts), LossyCounter()
    while batch := list(itertools.islice(texts, _AT_ONCE)):
        distinct, _, times = tf.unique_with_counts(words(tf.constant(batch)).flat_values)
        counts.update(dict(zip(distinct.numpy(), times.numpy().tolist(), strict=True)))
    return {word.decode(): times for word, times in counts.items()}


def _alphabet(counts: dict[str, int], most: int) -> list[str]:
    """The characters that are pieces, commonest first."""
    characters = collections.Counter()
    for word, times in counts.items():
        for character in word:
            characters[character] += times
    # Lines of a file hold no control characters, and the library keeps two for itself.
    alphabet = [
        character
        for character, times in characters.items()
        if times > 1 and unicodedata.category(character) != "Cc" and character not in _RESERVED
    ]
    return sorted(alphabet, key=lambda character: (-characters[character], character))[:most]


def _learn(counts: dict[str, int], alphabet: list[str], size: int) -> list[str]:
    """At most `size` pieces: characters, then longer ones as they were learnt."""
    import sentencepiece  # which who only reads or serves does not need

    between = re.compile(f"[^{re.escape(''.join(alphabet))}]+")
    lines = (
        f"{part.replace(' ', BLANK)}\t{times}"
        for word, times in counts.items()
        for part in between.split(word)  # nothing merges across a character that is no piece
        if part
    )
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=lines,
        input_format="tsv",  # words and how often they come
        model_writer=model,
        model_type="bpe",
        vocab_size=size + 1,  # one is what is unknown to it
        hard_vocab_limit=False,
        # Words are taken as they are: nothing else normalises or cuts them.
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
