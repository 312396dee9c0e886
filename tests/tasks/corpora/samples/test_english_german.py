"""The embedded sample of translation: what it holds, and what it takes to translate it."""

import collections
import hashlib
import json
import random

import pytest

from tasks.core.examples import PARTS
from tasks.corpora.parallel_text import ParallelSentences
from tasks.corpora.samples import english_german

# Written by hand, not by the grammar: a noun and its gender; the endings of "der", "dieser"
# and "ein" by gender and case; the forms of verbs.
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
# The endings of adjectives after words that show gender and case themselves.
ENDINGS = {
    "e": "der die das diese dieser dieses jede jeder jedes eine",
    "en": "dem den diesem diesen jedem jeden einem einen einer",
}
PAST = {  # English, where number does not show: what one did and what many did
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
    """A language so small that sentences come again, by other ways too."""
    few = {"PERSONS": 2, "THINGS": 1, "SEE": 1, "BUY": 1, "GIVE": 1, "SLEEP": 1, "SAY": 1}
    few |= {"ADJECTIVES": 1, "OF_PERSONS": 0, "OF_THINGS": 0, "NEAR": 1, "BECAUSE": 1, "NUMBERS": 1}
    for name, count in few.items():
        rows = getattr(english_german, name).strip().split("\n")
        monkeypatch.setattr(english_german, name, "".join(f"{row}\n" for row in rows[::-1][:count]))


def test_a_sentence_has_one_translation(few_words):
    generator, known, again = english_german.SentenceGenerator(random.Random(1)), {}, 0
    for _ in range(10_000):
        text, translation = generator.sentence()
        again += text in known
        assert known.setdefault(text, translation) == translation
    assert again > 300


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
    met = set()
    for part in PARTS:
        for _, words in split(sample, part):
            for at, noun in enumerate(words):
                if not noun[0].isupper():
                    continue
                before = words[at - 1]
                if before not in {b for each in BEFORE.values() for b in each.split()}:
                    adjective, before = before, words[at - 2]
                    endings = [e for e, each in ENDINGS.items() if before in each.split()] + ["en"]
                    if before in ("ein", "zwei", "drei", "sieben"):
                        endings = ["er", "es"] if before == "ein" else ["e", "en"]
                    assert adjective.endswith(tuple(endings)), " ".join(words)
                fits = {gender for gender in genders[noun] if before in BEFORE[gender].split()}
                assert fits, " ".join(words)
                met |= {(before, gender) for gender in fits}
    assert met == {(b, gender) for gender, each in BEFORE.items() for b in each.split()}


# --- What it takes ---------------------------------------------------------------


def dictionary(pairs):
    """For each word the one that goes with it most: the largest Dice coefficient."""
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
    # Of words only: which marks there are it need not know.
    pairs = {
        part: [[[w for w in side if w.isalpha()] for side in pair] for pair in split(sample, part)]
        for part in PARTS
    }
    words = dictionary(pairs["train"])
    known = {"the": "die", "tower": "Turm", "women": "Frauen", "because": "weil", "sings": "singt"}
    assert {word: words[word] for word in known} == known
    ordered = unordered = told = wanted = 0
    for text, translation in pairs["test"]:
        given = [words[word] for word in text]
        ordered += given == translation
        unordered += sorted(given) == sorted(translation)
        told += sum((collections.Counter(given) & collections.Counter(translation)).values())
        wanted += len(translation)
    count = len(pairs["test"])
    assert 0.5 < told / wanted < 0.75  # a good part of the words, and hardly a sentence
    assert ordered < 0.03 * count
    assert unordered < 0.07 * count


def near_words(sentence, at, reach):
    padded = [""] * reach + sentence + [""] * reach
    return tuple(padded[at : at + 2 * reach + 1])


def by_neighbours(sample, forms, reach):
    """How often the German form is right that went most with the widest window train knows."""
    seen, right = collections.defaultdict(collections.Counter), []
    for part in PARTS:
        for text, translation in split(sample, part):
            for at, word in enumerate(text):
                met = [form for form in forms.get(word, ()) if form in translation]
                if len(met) != 1 or text.count(word) > 1:
                    continue
                windows = [near_words(text, at, near) for near in range(reach + 1)]
                if part == "train":
                    for window in windows:
                        seen[window].update(met)
                else:
                    widest = [window for window in windows if window in seen][-1]
                    right.append(seen[widest].most_common(1)[0][0] == met[0])
    assert len(right) > 40
    return sum(right) / len(right)


def test_neighbours_do_not_determine_number_and_gender(sample):
    for reach in (1, 2, 3, 4):
        assert by_neighbours(sample, PAST, reach) < 0.7
        assert by_neighbours(sample, {"it": ("er", "sie", "es", "ihn")}, reach) < 0.5


def nouns():
    """Gender; one and many, in English and in German."""
    return [
        row.split()
        for row in (english_german.PERSONS + english_german.THINGS).split("\n")
        if row.strip()
    ]


def test_a_verb_agrees_with_its_subject_and_not_with_the_preceding_noun(sample):
    many = {one: 0 for _, one, *_ in nouns()} | {many: 1 for _, _, many, *_ in nouns()}
    met = collections.Counter()
    for part in PARTS:
        for text, translation in split(sample, part):
            places = [at for at, word in enumerate(text) if word in many][:2]
            if len(places) == 2 and text[places[0] + 1] in ("near", "behind", "in", "beside"):
                subject, before = (many[text[at]] for at in places)
                verb = text[places[1] + 1]
                if verb in PAST and text.count(verb) == 1:
                    wanted = PAST[verb][subject]
                    assert wanted in translation, " ".join(translation)
                    met[subject, before] += 1
    assert len(met) == 4 and min(met.values()) > 20


def test_pronouns_agree_with_the_subject_of_the_preceding_clause(sample):
    genders = {one: gender for gender, one, *_ in nouns()}
    subjects = {"m": "er", "f": "sie", "n": "es"}
    objects = {"m": "ihn", "f": "sie", "n": "es"}
    met = collections.Counter()
    for part in PARTS:
        for text, translation in split(sample, part):
            if "it" not in text:
                continue
            first = next(word for word in text if word in genders)
            is_subject = text[text.index("it") - 1] == "but"
            wanted = (subjects if is_subject else objects)[genders[first]]
            it = translation[translation.index("aber") + 1 :]
            assert (it[0] == wanted) if is_subject else (wanted in it), " ".join(translation)
            met[genders[first], is_subject] += 1
    assert len(met) == 6 and min(met.values()) > 20
