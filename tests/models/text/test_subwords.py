"""Subwords: cut as plain Python cuts, merged as the library merges, and never a byte lost."""

import collections
import gzip
import itertools
import random
import shutil
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
import sentencepiece
import tensorflow as tf

from models.text.subwords import END, FIRST, START, Subwords, words
from models.text.words import PADDING

LONGEST = 32
SYLLABLES = ["ba", "ße", "di", "ko", "lu", "mé", "na", "po", "ri", "sch", "tя", "好"]
KEPT_BY_THE_LIBRARY = "▁▅"


def plainly(text: str) -> list[str]:
    """The words of a text a character at a time, by Python's Unicode tables."""

    def kind(char):
        category = unicodedata.category(char)
        if category[0] in "LM" or char in "\u200c\u200d":
            return "letter"
        return None if category[0] == "Z" or category == "Cc" else category[0] == "N"

    found, start = [], 0
    while start < len(text):
        end = start + (unicodedata.category(text[start]) == "Zs")
        if end < len(text) and kind(text[end]) is not None:
            first = kind(text[end])
            while end < len(text) and kind(text[end]) == first:
                end += 1
            end += first == "letter" and text[end : end + 1] in ("'", "’")
        else:
            end = start + 1
        found += [text[n : min(n + LONGEST, end)] for n in range(start, end, LONGEST)]
        start = end
    return found


class Library:
    """What the library itself makes of texts, with the very model that it learnt."""

    def __init__(self, path, texts, size):
        train = sentencepiece.SentencePieceTrainer.train
        with pytest.MonkeyPatch.context() as patch:

            def spy(**options):
                train(**options)
                self.model = sentencepiece.SentencePieceProcessor(
                    model_proto=options["model_writer"].getvalue()
                )

            patch.setattr(sentencepiece.SentencePieceTrainer, "train", spy)
            self.subwords = Subwords.learn(path, texts, size)
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        self.ids = {line: FIRST + n for n, line in enumerate(lines)}

    def segment(self, word: str) -> list[int]:
        """The ids of one word; what the library does not know by its bytes."""
        ids = []
        for piece in self.model.encode(word, out_type=str):
            known = self.ids.get(piece.replace("▁", " "))
            ids += [known] if known else [3 + byte for byte in piece.encode()]
        return ids

    def encode(self, text: str) -> list[int]:
        return [number for word in plainly(text) for number in self.segment(word)]


def sentences(count, seed=0):
    """Sentences of words that a few syllables make, some of them often."""
    draw = random.Random(seed)
    known = ["".join(draw.choices(SYLLABLES, k=draw.randint(1, 5))) for _ in range(300)]
    often = [1 / (n + 1) for n in range(len(known))]
    return [" ".join(draw.choices(known, often, k=draw.randint(1, 9))) + "." for _ in range(count)]


def any_text(seed, count, most=40):
    """Texts of any characters, those of few kinds often, so that runs are long."""
    draw = random.Random(seed)
    blanks = [*" \t\n\r\0\x85\u00a0\u202f\u2009\u2028\u3000\ufeff", "  "]
    signs = [*"'’.,!?-_…«»€😀👍🏽\u200b\u200d\u0301\ufe0f\ufffd\ufffe\U0010ffff"]
    letters = [*"abcdeéÉßñяЖωאبहि好的カのไทย한\U00020000", "e\u0301", "l'", *SYLLABLES]
    alphabets = [blanks, signs, letters, letters, [*"0123456789٣½"], SYLLABLES]
    return [
        "".join(
            "".join(draw.choices(draw.choice(alphabets), k=draw.randint(1, 12)))
            for _ in range(draw.randint(0, most // 6))
        )
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    path = tmp_path_factory.mktemp("subwords") / "subwords.txt"
    return Library(path, sentences(2000), FIRST + 300)


@pytest.fixture(scope="module")
def subwords(library):
    return library.subwords


@pytest.fixture(scope="module")
def multi30k(tmp_path_factory, data_dir):
    """The library on the English and German of Multi30k, and sentences it has not learnt."""

    def read(part):
        for language in ("en", "de"):
            path = data_dir / f"translation/multi30k/{part}.{language}.gz"
            with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
                yield from (line.rstrip("\n") for line in file)

    path = tmp_path_factory.mktemp("multi30k") / "subwords.txt"
    unseen = [*read("val"), *read("test_2016_flickr")]
    return Library(path, read("train"), 8000), list(read("train")), unseen


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("Don't go, l’eau!", ["Don'", "t", " go", ",", " l’", "eau", "!"]),
        ("'tis 'quoted''", ["'", "tis", " '", "quoted'", "'"]),
        (" a  b \t c\n", [" a", " ", " b", " ", "\t", " c", "\n"]),
        ("12.50€ 3rd", ["12", ".", "50", "€", " 3", "rd"]),
        ("Quoi\u202f?!\u00a0»", ["Quoi", "\u202f?!", "\u00a0»"]),
        ("e\u0301te\u0301 می\u200cخواهم", ["e\u0301te\u0301", " می\u200cخواهم"]),
        (
            "a\u2028\u2029b\0\0c\ufeffd",
            ["a", "\u2028", "\u2029", "b", "\0", "\0", "c", "\ufeff", "d"],
        ),
        ("好" * 70, ["好" * 32, "好" * 32, "好" * 6]),
        ("a " + "é" * 32 + "b", ["a", " " + "é" * 31, "éb"]),
    ],
)
def test_texts_are_cut_by_the_rules(text, found):
    assert [word.decode() for word in words([text]).to_list()[0]] == found
    assert plainly(text) == found


def test_any_text_is_cut_as_character_by_character():
    texts = any_text(0, 1000, most=100)
    for text, found in zip(texts, words(texts).to_list(), strict=True):
        assert [word.decode() for word in found] == plainly(text), repr(text)


def segmented(subwords, texts):
    encode = tf.function(subwords.encode, input_signature=[tf.TensorSpec([None], tf.string)])
    return [row for n in range(0, len(texts), 500) for row in encode(texts[n : n + 500]).to_list()]


def test_texts_are_segmented_as_the_library_segments_them(library):
    texts = sentences(300, seed=1)
    texts += [text for text in any_text(1, 1500) if not set(text) & set(KEPT_BY_THE_LIBRARY)]
    for text, ids in zip(texts, segmented(library.subwords, texts), strict=True):
        assert ids == library.encode(text), repr(text)


def test_repeats_and_overlaps_are_segmented_as_the_library_segments_them(library):
    draw = random.Random(0)
    texts = ["".join(draw.choices(["ba", "b", "a", "sch", "s", "c"], k=20)) for _ in range(1000)]
    texts += [part * n for part in ("a", "ba", "bab", "sch", "好") for n in range(1, 40)]
    for text, ids in zip(texts, segmented(library.subwords, texts), strict=True):
        assert ids == library.encode(text), repr(text)


def test_ten_thousand_words_seen_and_unseen_are_segmented_as_the_library_does(multi30k):
    library, seen, unseen = multi30k
    draw = random.Random(0)
    known = {word for text in seen for word in plainly(text)}
    words_drawn = draw.sample(sorted(known), 8000)
    words_drawn += sorted({word for text in unseen for word in plainly(text)} - known)
    words_drawn += ["".join(draw.sample(word, len(word))) for word in words_drawn[:2000]]
    assert len(words_drawn) > 10_000
    for word, ids in zip(words_drawn, segmented(library.subwords, words_drawn), strict=True):
        assert ids == library.encode(word), repr(word)
    for text, ids in zip(unseen, segmented(library.subwords, unseen), strict=True):
        assert ids == library.encode(text), repr(text)
        assert min(ids) >= FIRST  # every character was seen


def test_the_same_is_learnt_from_any_order_of_texts(library, tmp_path):
    texts = sentences(2000)
    random.Random(0).shuffle(texts)
    Subwords.learn(tmp_path / "a.txt", texts, FIRST + 300)
    Subwords.learn(tmp_path / "b.txt", (text.encode() for text in texts), FIRST + 300)
    want = "".join(f"{piece}\n" for piece in library.ids)
    for name in ("a.txt", "b.txt"):
        assert (tmp_path / name).read_text(encoding="utf-8") == want


def test_each_piece_learnt_is_a_commonest_pair(tmp_path):
    """The example of Sennrich et al. (2016), by plain counting; ties may go either way."""
    counts = {"low": 5, "lower": 2, "newest": 6, "widest": 3}
    texts = [word for word, times in counts.items() for _ in range(times)]
    Subwords.learn(tmp_path / "subwords.txt", texts, FIRST + 20)
    pieces = (tmp_path / "subwords.txt").read_text(encoding="utf-8").split("\n")[:-1]
    assert set(pieces[:10]) == set("lowernstid")
    spelled = {word: list(word) for word in counts}
    for piece in pieces[10:]:
        pairs = collections.Counter()
        for word, parts in spelled.items():
            for pair in itertools.pairwise(parts):
                pairs["".join(pair)] += counts[word]
        assert pairs[piece] == max(pairs.values())
        for parts in spelled.values():
            for n in range(len(parts) - 1, 0, -1):
                if parts[n - 1] + parts[n] == piece:
                    parts[n - 1 : n + 1] = [piece]


def test_texts_are_read_once_and_not_held(tmp_path):
    alive = collections.Counter()

    class Text(str):
        def __new__(cls, text):
            alive.update(now=1, ever=1)
            alive["most"] = max(alive["most"], alive["now"])
            return super().__new__(cls, text)

        def __del__(self):
            alive.update(now=-1)

    Subwords.learn(tmp_path / "subwords.txt", (Text(t) for t in sentences(8000)), FIRST + 50)
    assert alive["ever"] == 8000
    assert alive["most"] <= 2100  # two batches


def test_what_is_a_piece(tmp_path):
    """Characters that come twice, the commonest if there are many, and what they make."""
    path = tmp_path / "subwords.txt"

    def learnt(texts, size):
        Subwords.learn(path, texts, FIRST + size)
        return path.read_text(encoding="utf-8").split("\n")[:-1]

    assert learnt(["xay", "xaq"], 50) == ["a", "x", "xa"]
    assert learnt(["aéx", "aüx", "aöx", "a\0x"], 50) == ["a", "x"]  # they never meet
    assert {"unk", "</"} <= {*learnt(["<unk></unk>"] * 9, 50)}
    assert [len(piece) for piece in learnt(["aaaa bbb cc d"], 7)[:4]] == [1, 1, 1, 2]  # no "c"
    # Lines hold no control character, and the library keeps two characters for itself.
    assert learnt(["\t\t\n\n\r\r\x85\x85▁▁▅▅b▅b▁a▁a"], 50) == ["a", "b"]


def test_a_size_is_not_exceeded_and_may_be_too_much(library, tmp_path):
    assert len(library.subwords) == FIRST + 300 == FIRST + len(library.ids)
    few = Subwords.learn(tmp_path / "subwords.txt", ["to be or not to be"] * 2, 30_000)
    assert len(few) < FIRST + 60
    assert few.encode(["to be"]).row_lengths().numpy().tolist() == [2]


@pytest.mark.parametrize("size", [0, FIRST, FIRST + 1])
def test_a_size_without_room_for_pieces_is_an_error(size, tmp_path):
    with pytest.raises(ValueError, match=rf"size must be at least {FIRST + 2}.*got {size}"):
        Subwords.learn(tmp_path / "subwords.txt", ["to be"], size)


@pytest.mark.parametrize("texts", [[], [""], ["abc"], ["\n\n"]])
def test_texts_without_repeated_characters_are_an_error(texts, tmp_path):
    with pytest.raises(ValueError, match="a character occurs more than once"):
        Subwords.learn(tmp_path / "subwords.txt", texts, 1000)
    assert not (tmp_path / "subwords.txt").exists()


def test_nothing_is_lost(subwords):
    texts = [
        *("", " ", "  ", "a ", " a", "a  b", "\ta\n", "\r\n", "a\0b\0", "\0", "\u00a0", "\u202f?"),
        *("▁a▁▁b▅", "a ▁", "<s>", "</s>", "<unk>", "<0x0A>", "\ufeffa\ufeff", "e\u0301", "👩🏽‍💻"),
        *any_text(2, 1000),
        *sentences(100, seed=2),
    ]
    ids = subwords.encode(texts)
    assert ids.dtype == tf.int32
    for answer in (subwords.decode(ids), subwords.decode(ids.to_tensor())):
        assert [text.decode() for text in answer.numpy()] == texts
    assert ids.flat_values.numpy().min() >= 3
    assert ids.flat_values.numpy().max() < len(subwords)


def test_no_character_of_unicode_is_lost(subwords):
    every = [chr(n) for n in range(0x110000) if not 0xD800 <= n < 0xE000]
    texts = ["".join(every[n : n + 2000]) for n in range(0, len(every), 2000)]
    for n in range(0, len(texts), 100):
        answer = subwords.decode(subwords.encode(texts[n : n + 100])).numpy()
        assert [text.decode() for text in answer] == texts[n : n + 100]


def test_bytes_that_are_no_utf8_are_read_as_replaced(subwords):
    texts = [b"a\xff\xfeb \xe5\xa5", bytes(range(256)), b"\xed\xa0\x80", b"\xc0\x80", b"\xff"]
    for text, answer in zip(texts, subwords.decode(subwords.encode(texts)).numpy(), strict=True):
        assert answer.decode() == text.decode("utf-8", "replace")


def test_any_ids_make_text(library):
    pieces = [b""] * 3 + [bytes([byte]) for byte in range(256)] + [*map(str.encode, library.ids)]
    rng = np.random.default_rng(0)
    ids = rng.integers(-5, len(pieces) + 5, (500, 12))
    ids[::2] = rng.integers(0, FIRST, (250, 12))  # bytes alone
    lengths = rng.integers(0, 13, 500)
    for given, rows in (
        (tf.constant(ids, tf.int32), ids),
        (tf.RaggedTensor.from_tensor(ids, lengths), map(np.resize, ids, lengths)),
    ):
        for text, row in zip(library.subwords.decode(given).numpy(), rows, strict=True):
            want = b"".join(pieces[n] for n in row if 0 <= n < len(pieces))
            assert text.decode() == want.decode("utf-8", "replace")


def test_marks_and_padding_add_nothing(subwords):
    ids = subwords.encode(["ba di ko"]).to_list()[0]
    assert (PADDING, START, END) == (0, 1, 2)
    rows = [[START, *ids, END, 0, 0], [START, *ids[:1], START, 0, *ids[1:], END], ids]
    assert set(subwords.decode(tf.ragged.constant(rows)).numpy()) == {b"ba di ko"}


def test_pieces_are_shown(subwords, library):
    ids = [START, *subwords.encode(["ba di\t€"]).to_list()[0], END, PADDING, -7, len(subwords)]
    want = ["<s>", "ba", "▁di", "<0x09>", "<0xE2>", "<0x82>", "<0xAC>", "</s>", "", "", ""]
    assert [piece.decode() for piece in subwords.pieces(ids).numpy()] == want
    assert [p.decode() for p in subwords.pieces([[START], [END]]).numpy()[:, 0]] == ["<s>", "</s>"]
    ragged = subwords.pieces(tf.ragged.constant([[], [START, END]]))
    assert ragged.to_list() == [[], [b"<s>", b"</s>"]]
    pieces = subwords.pieces(tf.range(FIRST, len(subwords))).numpy()
    assert [piece.decode().replace("▁", " ") for piece in pieces] == list(library.ids)


def test_a_text_does_not_depend_on_its_batch(subwords):
    texts = [*any_text(3, 50), *sentences(50, seed=3), "", "好" * 1000]
    together = subwords.encode(texts).to_list()
    assert together == subwords.encode(texts[::-1]).to_list()[::-1]
    encode = tf.function(subwords.encode, input_signature=[tf.TensorSpec([None], tf.string)])
    assert together == [encode(tf.constant([text])).to_list()[0] for text in texts]


def test_no_texts_and_empty_texts(subwords):
    none = subwords.encode(tf.constant([], tf.string))
    assert none.shape.as_list() == [0, None] and none.dtype == tf.int32
    assert subwords.decode(none).numpy().tolist() == []
    assert subwords.decode(tf.zeros([0, 5], tf.int32)).numpy().tolist() == []
    assert subwords.encode(["", ""]).to_list() == [[], []]
    assert subwords.decode(subwords.encode(["", ""])).numpy().tolist() == [b"", b""]
    assert subwords.pieces(tf.constant([], tf.int32)).numpy().tolist() == []


def test_it_is_served_without_this_project(subwords, tmp_path):
    class SavedModelSession(tf.Module):
        def __init__(self):
            super().__init__()
            self.subwords = subwords

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
        def __call__(self, text):
            ids = self.subwords.encode(text)
            return {
                "text": self.subwords.decode(ids),
                "ids": ids.to_tensor(),
                "pieces": self.subwords.pieces(ids).to_tensor(),
            }

    served = SavedModelSession()
    tf.saved_model.save(served, tmp_path / "made", signatures=served.__call__)
    shutil.move(tmp_path / "made", tmp_path / "elsewhere")
    texts = ["ba di ko", "", "  never\tseen\u202f! ▁", *sentences(20, seed=4)]
    script = f"""
import sys
import tensorflow as tf
answer = tf.saved_model.load("elsewhere").signatures["serving_default"]
empty, several = answer(tf.constant([], tf.string)), answer(tf.constant({texts!r}))
assert not {{"models", "sentencepiece"}} & set(sys.modules)
print([text.decode() for text in several["text"].numpy()] == {texts!r}, empty["text"].shape[0])
print(several["ids"].numpy().tolist())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    want = subwords.encode(texts).to_tensor().numpy().tolist()
    assert done.stdout == f"True 0\n{want}\n", done.stderr
