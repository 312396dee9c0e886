"""Embedded sample for translation: contents, grammar and difficulty."""

import collections
import hashlib
import json
import random

import pytest

from tasks.core.examples import PARTS
from tasks.corpora.parallel_text import ParallelSentences
from tasks.corpora.samples import english_german

# Written by hand, independently of the module under test: nouns by gender; forms of "der",
# "dieser" and "ein" by gender and case; forms of verbs.
GENDERS = {
    "m": "Mann Maler Lehrer König Jäger Turm Tisch Schlüssel Garten Ring",
    "f": "Frau Königin Schwester Tochter Brücke Lampe Tür Uhr Tasche",
    "n": "Kind Mädchen Haus Boot Bild Buch Fenster",
    "p": "Männer Maler Lehrer Könige Jäger Frauen Königinnen Schwestern Töchter Kinder Mädchen "
    "Türme Tische Schlüssel Gärten Ringe Brücken Lampen Türen Uhren Taschen Häuser Boote Bilder "
    "Bücher Fenster",
    "datives": "Männern Malern Lehrern Königen Jägern Frauen Königinnen Schwestern Töchtern "
    "Kindern Mädchen Türmen Tischen Schlüsseln Gärten Ringen Brücken Lampen Türen Uhren Taschen "
    "Häusern Booten Bildern Büchern Fenstern",
}
BEFORE = {
    "m": "der den dem dieser diesen diesem jeder jeden jedem ein einen einem",
    "f": "die der diese dieser jede jeder eine einer",
    "n": "das dem dieses diesem jedes jedem ein einem",
    "p": "die diese zwei drei sieben",
    "datives": "den diesen zwei drei sieben",
}
# Endings of adjectives after determiners that show gender and case themselves.
ENDINGS = {
    "e": "der die das diese dieser dieses jede jeder jedes eine",
    "en": "dem den diesem diesen jedem jeden einem einen einer",
}
PAST = {  # English forms that do not show number: German singular and plural
    "saw": ("sah", "sahen"),
    "found": ("fand", "fanden"),
    "painted": ("malte", "malten"),
    "loved": ("liebte", "liebten"),
    "bought": ("kaufte", "kauften"),
    "slept": ("schlief", "schliefen"),
    "sang": ("sang", "sangen"),
    "said": ("sagte", "sagten"),
    "knew": ("wusste", "wussten"),
    "will": ("wird", "werden"),
}


@pytest.fixture(scope="module")
def sample():
    splits = ParallelSentences().open()
    assert not splits.notes
    return {
        part: [(e.values["text"], e.values["translation"]) for e in getattr(splits, part)]
        for part in PARTS
    }


def split(sample, part):
    return [(text.split(), translation.split()) for text, translation in sample[part]]


def test_the_sample_is_the_same_on_every_machine(sample):
    digest = hashlib.sha256(json.dumps(sample).encode()).hexdigest()
    assert digest[:16] == "009529b52ba4ac9e"


def test_the_sample_has_the_stated_sizes_and_no_duplicates(sample):
    assert {part: len(pairs) for part, pairs in sample.items()} == english_german.SIZES
    texts = [text for pairs in sample.values() for text, _ in pairs]
    assert len(set(texts)) == len(texts)
    words = {word for sides in split(sample, "train") for side in sides for word in side}
    assert len(words) < 500
    for part in PARTS[1:]:
        assert {word for sides in split(sample, part) for side in sides for word in side} <= words


@pytest.fixture
def few_words(monkeypatch):
    """Reduces the vocabulary so far that sentences recur, by different derivations too."""
    few = {"PERSONS": 2, "THINGS": 1, "SEE": 1, "BUY": 1, "GIVE": 1, "SLEEP": 1, "SAY": 1}
    few |= {"ADJECTIVES": 1, "OF_PERSONS": 0, "OF_THINGS": 0, "NEAR": 1, "BECAUSE": 1, "NUMBERS": 1}
    for name, count in few.items():
        rows = getattr(english_german, name).strip().split("\n")
        monkeypatch.setattr(english_german, name, "".join(f"{row}\n" for row in rows[::-1][:count]))


def test_a_sentence_has_one_translation(few_words):
    generator, translations, repeated = english_german.SentenceGenerator(random.Random(1)), {}, 0
    for _ in range(10_000):
        text, translation = generator.sentence()
        repeated += text in translations
        assert translations.setdefault(text, translation) == translation
    assert repeated > 300


def test_parts_are_disjoint(few_words):
    texts = {
        part: {e.values["text"] for e in stream} for part, stream in english_german.parts().items()
    }
    assert not texts["train"] & texts["valid"]
    assert not texts["train"] & texts["test"]
    assert not texts["valid"] & texts["test"]


@pytest.mark.parametrize(
    ("text", "translation"),
    [
        (
            "the bag was big , but it was green .",
            "die Tasche war groß , aber sie war grün .",
        ),
        (
            "a tower will be new , but two hunters will find it .",
            "ein Turm wird neu sein , aber zwei Jäger werden ihn finden .",
        ),
        (
            "a house that will be big was strange , but a small child cleaned it .",
            "ein Haus , das groß sein wird , war seltsam , aber ein kleines Kind putzte es .",
        ),
        (
            "because seven daughters will sing , two young hunters will see two kings .",
            "weil sieben Töchter singen werden , werden zwei junge Jäger zwei Könige sehen .",
        ),
        (
            "the painters that the men seek said that a beautiful queen bought two lamps "
            "that are old .",
            "die Maler , die die Männer suchen , sagten , dass eine schöne Königin zwei Lampen , "
            "die alt sind , kaufte .",
        ),
        (
            "a queen who seeks these sisters loved the books and gave three proud men the book .",
            "eine Königin , die diese Schwestern sucht , liebte die Bücher und gab drei stolzen "
            "Männern das Buch .",
        ),
        (
            "yesterday the sisters that a small sister found were not beside the picture .",
            "gestern waren die Schwestern , die eine kleine Schwester fand , nicht neben dem "
            "Bild .",
        ),
        (
            "the beautiful men who sold a garden did not dance although two queens loved "
            "this boat .",
            "die schönen Männer , die einen Garten verkauften , tanzten nicht , obwohl zwei "
            "Königinnen dieses Boot liebten .",
        ),
    ],
)
def test_sentences_of_the_sample_match_human_translations(sample, text, translation):
    assert (text, translation) in sample["train"]


def test_determiners_and_adjectives_agree_with_their_noun(sample):
    genders = collections.defaultdict(set)
    for gender, nouns in GENDERS.items():
        for noun in nouns.split():
            genders[noun].add(gender)
    pairs = {(word, gender) for gender, words in BEFORE.items() for word in words.split()}
    determiners = {word for word, _ in pairs}
    agreeing = set()
    for part in PARTS:
        for _, words in split(sample, part):
            for i, noun in enumerate(words):
                if not noun[0].isupper():
                    continue
                before = words[i - 1]
                if before not in determiners:
                    adjective, before = before, words[i - 2]
                    endings = [e for e, after in ENDINGS.items() if before in after.split()]
                    endings.append("en")
                    if before in ("ein", "zwei", "drei", "sieben"):
                        endings = ["er", "es"] if before == "ein" else ["e", "en"]
                    assert adjective.endswith(tuple(endings)), " ".join(words)
                fits = {gender for gender in genders[noun] if before in BEFORE[gender].split()}
                assert fits, " ".join(words)
                agreeing |= {(before, gender) for gender in fits}
    assert agreeing == pairs


# --- Difficulty ------------------------------------------------------------------


def dictionary(pairs):
    """Returns for each word the translation with the largest Dice coefficient."""
    sources, targets, together = (collections.Counter() for _ in range(3))
    for text, translation in pairs:
        sources.update(set(text))
        targets.update(set(translation))
        together.update((s, t) for s in set(text) for t in set(translation))
    best = {}
    for (source, target), count in sorted(together.items()):
        score = 2 * count / (sources[source] + targets[target])
        best[source] = max(best.get(source, (0, "")), (score, target))
    return {source: target for source, (_, target) in best.items()}


def test_a_dictionary_fails_on_the_sample(sample):
    # Without punctuation.
    pairs = {
        part: [[[w for w in side if w.isalpha()] for side in pair] for pair in split(sample, part)]
        for part in PARTS
    }
    words = dictionary(pairs["train"])
    expected = {
        "the": "die",
        "tower": "Turm",
        "women": "Frauen",
        "because": "weil",
        "sings": "singt",
    }
    assert {word: words[word] for word in expected} == expected
    ordered = unordered = correct = total = 0
    for text, translation in pairs["test"]:
        prediction = [words[word] for word in text]
        ordered += prediction == translation
        unordered += sorted(prediction) == sorted(translation)
        overlap = collections.Counter(prediction) & collections.Counter(translation)
        correct += sum(overlap.values())
        total += len(translation)
    count = len(pairs["test"])
    assert 0.5 < correct / total < 0.75  # many words, but hardly any sentence
    assert ordered < 0.03 * count
    assert unordered < 0.07 * count


def window_of(sentence, index, reach):
    padded = [""] * reach + sentence + [""] * reach
    return tuple(padded[index : index + 2 * reach + 1])


def accuracy_of_neighbours(sample, forms, reach):
    """Returns the accuracy of the commonest German form for the widest window that is in train."""
    counts, correct = collections.defaultdict(collections.Counter), []
    for part in PARTS:
        for text, translation in split(sample, part):
            for i, word in enumerate(text):
                present = [form for form in forms.get(word, ()) if form in translation]
                if len(present) != 1 or text.count(word) > 1:
                    continue
                windows = [window_of(text, i, width) for width in range(reach + 1)]
                if part == "train":
                    for window in windows:
                        counts[window].update(present)
                else:
                    widest = [window for window in windows if window in counts][-1]
                    correct.append(counts[widest].most_common(1)[0][0] == present[0])
    assert len(correct) > 40
    return sum(correct) / len(correct)


def test_neighbours_do_not_determine_number_and_gender(sample):
    for reach in (1, 2, 3, 4):
        assert accuracy_of_neighbours(sample, PAST, reach) < 0.7
        assert accuracy_of_neighbours(sample, {"it": ("er", "sie", "es", "ihn")}, reach) < 0.5


def nouns():
    """Returns rows of gender, English singular and plural, German singular and plural."""
    return [
        row.split()
        for row in (english_german.PERSONS + english_german.THINGS).split("\n")
        if row.strip()
    ]


def test_a_verb_agrees_with_its_subject_and_not_with_the_preceding_noun(sample):
    number = {singular: 0 for _, singular, *_ in nouns()}
    number |= {plural: 1 for _, _, plural, *_ in nouns()}
    counts = collections.Counter()
    for part in PARTS:
        for text, translation in split(sample, part):
            indices = [i for i, word in enumerate(text) if word in number][:2]
            if len(indices) == 2 and text[indices[0] + 1] in ("near", "behind", "in", "beside"):
                subject, before = (number[text[i]] for i in indices)
                verb = text[indices[1] + 1]
                if verb in PAST and text.count(verb) == 1:
                    assert PAST[verb][subject] in translation, " ".join(translation)
                    counts[subject, before] += 1
    assert len(counts) == 4 and min(counts.values()) > 20


def test_pronouns_agree_with_the_subject_of_the_preceding_clause(sample):
    genders = {singular: gender for gender, singular, *_ in nouns()}
    subjects = {"m": "er", "f": "sie", "n": "es"}
    objects = {"m": "ihn", "f": "sie", "n": "es"}
    counts = collections.Counter()
    for part in PARTS:
        for text, translation in split(sample, part):
            if "it" not in text:
                continue
            first = next(word for word in text if word in genders)
            is_subject = text[text.index("it") - 1] == "but"
            clause = translation[translation.index("aber") + 1 :]
            if is_subject:
                assert clause[0] == subjects[genders[first]], " ".join(translation)
            else:
                assert objects[genders[first]] in clause, " ".join(translation)
            counts[genders[first], is_subject] += 1
    assert len(counts) == 6 and min(counts.values()) > 20
