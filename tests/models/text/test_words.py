"""The rules by which text becomes words, and words numbers."""

import unicodedata

import numpy as np
import pytest
import tensorflow as tf

from models.text.words import PADDING, UNKNOWN, LossyCounter, Vocabulary, spell, split

ALONE = ("CJK UNIFIED", "HIRAGANA", "KATAKANA LETTER", "THAI", "LAO", "KHMER", "MYANMAR")


def plainly(text: str) -> list[str]:
    """The rules of `models.text` a character at a time, by Python's Unicode tables."""
    words, word = [], ""

    def inner(char):
        return char in "_\u200c\u200d" or unicodedata.category(char)[0] in "LMN"

    def end():
        nonlocal word
        if word:
            stripped = word.strip("'’") if any(map(inner, word)) else word
            start = word.index(stripped)
            stop = start + len(stripped)
            words.extend(part for part in (word[:start], stripped, word[stop:]) if part)
        word = ""

    alone = False
    for char in text:
        category = unicodedata.category(char)
        if alone and category[0] == "M":
            words[-1] += char
            continue
        alone = False
        if category[0] == "Z" or category == "Cc":
            end()
        elif any(unicodedata.name(char, "").startswith(name) for name in ALONE):
            end()
            words.append(char)
            alone = True
        elif inner(char) or char in "'’":
            word += char
        else:
            end()
            words.append(char)
    end()
    return words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ""),
        (" \t\n\u00a0\u3000 ", ""),
        ("It's dull , isn't it ?", "It's dull , isn't it ?"),
        ("'quoted' ''twice'' rock'n'roll don’t", "' quoted ' '' twice '' rock'n'roll don’t"),
        ("well-made, 3.5 stars!", "well - made , 3 . 5 stars !"),
        ("好电影!テスト", "好 电 影 ! テ ス ト"),
        ("@user_1 #fun", "@ user_1 # fun"),
        ("Ça été À", "Ça été À"),
    ],
)
def test_text_is_split_by_the_rules(text, words):
    assert [w.decode() for w in split([text]).to_list()[0]] == words.split()
    assert plainly(text) == words.split()


def test_any_text_is_split_as_character_by_character():
    alphabet = [*list("ab Éñ_1.,!?'’-\t\n\xa0\u2028\u3000好的カの😀👍"), "é", "\x00", "\x85"]
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(alphabet, rng.integers(0, 30))) for _ in range(500)]
    for text, words in zip(texts, split(texts).to_list(), strict=True):
        assert [w.decode() for w in words] == plainly(text), repr(text)


def test_bytes_that_are_no_utf8_become_words_that_are():
    words = split([b"a\xff\xfeb \xe5\xa5", bytes(range(256))]).flat_values.numpy()
    assert len(words) > 5
    for word in words:
        word.decode("utf-8")


def test_a_text_does_not_depend_on_its_batch():
    texts = ["one two", "", "three", " ".join(["many"] * 1000)]
    together = split(texts).to_list()
    assert together == [split([text]).to_list()[0] for text in texts]


def spelled(word, longest):
    """The characters of a word by Python, those in its middle left out if it is too long."""
    characters = list(word.decode("utf-8", "replace"))
    while len(characters) > longest:
        characters.pop((longest + 1) // 2)
    return [character.encode() for character in characters]


@pytest.mark.parametrize("longest", [1, 2, 3, 4, 7, 40])
def test_a_word_is_spelled_by_its_head_and_its_tail(longest):
    rng = np.random.default_rng(longest)
    alphabet = [*"abcdefÉñßя好ดี👍", "e\u0301", "\u200d", "\x00", " ", "\n", "\ufeff"]
    words = ["".join(rng.choice(alphabet, rng.integers(0, 20))).encode() for _ in range(300)]
    words += [b"", b"\xff", b"a\xffb\xfe", b"\xe5\xa5", b"ab\xe5\xa5cd\x80efgh", bytes(range(256))]
    for count in range(4 * longest, 12 * longest):
        word = "".join(rng.choice(alphabet, count)).encode()
        words += [
            word,
            word[1:-1],
            rng.bytes(count),
            bytes(rng.choice([*b"\xf0\x9f\x91", 65], count)),
        ]
    given = spell(tf.constant(words), longest).to_list()
    assert given == [spelled(word, longest) for word in words]
    assert max(map(len, given)) == min(longest, 256)
    assert given == spell(tf.constant(words[::-1]), longest).to_list()[::-1]


@pytest.mark.parametrize("longest", [1, 5])
def test_no_word_and_words_without_characters_are_spelled(longest):
    assert spell(tf.constant([], tf.string), longest).to_list() == []
    assert spell(tf.constant(["", ""]), longest).to_list() == [[], []]


def test_the_characters_of_a_word_are_those_of_unicode():
    """Marks stand by themselves, whatever they are written over."""
    assert [c.decode() for c in spell(["né", "ne\u0301"], 9).flat_values.numpy()] == [
        *("n", "é"),
        *("n", "e", "\u0301"),
    ]
    assert [c.decode() for c in spell(["abcdefg"], 4).to_list()[0]] == ["a", "b", "f", "g"]
    assert [c.decode() for c in spell(["abcdefg"], 3).to_list()[0]] == ["a", "b", "g"]


@pytest.fixture
def vocabulary(tmp_path):
    Vocabulary.write(tmp_path / "words.txt", ["the", "film", "ü"])
    return Vocabulary(tmp_path / "words.txt")


def test_words_go_by_ids_and_back(vocabulary):
    ids = vocabulary.encode(tf.constant([["film", "ü", "unheard"], ["the", "", "film"]]))
    assert ids.dtype == tf.int32
    np.testing.assert_array_equal(ids, [[3, 4, UNKNOWN], [2, UNKNOWN, 3]])
    back = vocabulary.decode([2, 3, 4, PADDING, UNKNOWN, -5, 99]).numpy()
    assert [w.decode() for w in back] == ["the", "film", "ü", "", "", "", ""]
    assert len(vocabulary) == 5


def test_no_word_of_a_user_is_taken_for_padding(vocabulary):
    words = ["", "[PAD]", "[UNK]", "<pad>", "0", "\n"]
    np.testing.assert_array_equal(vocabulary.encode(tf.constant(words)), [UNKNOWN] * len(words))


def test_classes_begin_at_0_and_others_are_none(tmp_path):
    Vocabulary.write(tmp_path / "labels.txt", ["bad", "good"])
    labels = Vocabulary(tmp_path / "labels.txt", first=0)
    np.testing.assert_array_equal(labels.encode(tf.constant(["good", "bad", "odd"])), [1, 0, -1])
    assert labels.decode([0, 1]).numpy().tolist() == [b"bad", b"good"]


@pytest.mark.parametrize("words", [[], ["twice", "twice"]])
def test_a_malformed_vocabulary_is_an_error(tmp_path, words):
    Vocabulary.write(tmp_path / "words.txt", words)
    with pytest.raises(ValueError, match=r"words.txt: a vocabulary needs words, each once"):
        Vocabulary(tmp_path / "words.txt")


def test_a_vocabulary_never_answers_from_another_ones_file(tmp_path):
    """Each is gone before the next is made, and may leave it its address in memory."""
    for n in range(200):
        path = tmp_path / f"{n}.txt"
        Vocabulary.write(path, [f"word{n}", "other"])
        assert Vocabulary(path).encode(tf.constant([f"word{n}"])).numpy().tolist() == [2]


# --- Counting ----------------------------------------------------------------


def test_counts_are_exact_while_there_is_room(monkeypatch):
    monkeypatch.setattr(LossyCounter, "MAX_WORDS", 100)
    words = [f"word{n}" for n in range(100) for _ in range(n + 1)]
    counts = LossyCounter()
    for at in range(0, len(words), 7):
        counts.update(words[at : at + 7])
    assert counts == {f"word{n}": n + 1 for n in range(100)}


@pytest.mark.parametrize("given", ["words", "counts"])
def test_what_is_common_is_counted_right_among_words_without_end(monkeypatch, given):
    monkeypatch.setattr(LossyCounter, "MAX_WORDS", 100)
    rng = np.random.default_rng(0)
    common = [f"common{n}" for n in range(20)]
    counts, most, wanted = LossyCounter(), 0, dict.fromkeys(common, 0)
    for turn in range(500):
        drawn = [*rng.choice(common, 30), *(f"rare{turn}.{n}" for n in range(30))]
        drawn += common if turn == 0 else []
        for word in drawn:
            wanted[word] = wanted.get(word, 0) + 1
        counts.update(drawn if given == "words" else {w: drawn.count(w) for w in set(drawn)})
        most = max(most, len(counts))
    assert most <= 100
    assert {word: counts[word] for word in common} == {word: wanted[word] for word in common}


def test_a_vocabulary_has_the_words_of_its_lines_alone(tmp_path):
    path = tmp_path / "words.txt"
    for text in ("a\nb\nc", "a\nb\nc\n"):
        path.write_text(text, encoding="utf-8", newline="")
        vocabulary = Vocabulary(path)
        ids = vocabulary.encode(tf.constant(["a", "b", "c", "d"])).numpy().tolist()
        assert ids == [2, 3, 4, UNKNOWN] and vocabulary.words == ("a", "b", "c")
        assert max(ids) < len(vocabulary)
    path.write_text("a\r\nb\n", encoding="utf-8", newline="")
    with pytest.raises(ValueError, match="must end with"):
        Vocabulary(path)
