"""Embedded sample for tagging: sentences from a seeded grammar, with the tags of Universal
Dependencies.

Most words have more than one tag, and context decides: "the old man the boats", "the king
knew that the man that saw the mill can fish". Where the neighbouring words allow two tags,
one of two clues decides:

* The number of a noun that may be far away. The verb of "the farmer near the old mill
  plants fish" is plants, that of "the farmers near the old mill plants fish" is fish.
* The ending of an unknown word. "The farmers delistily fish" and "the farmers
  delistize fish" differ in nothing else. Each part has stems of its own.

A word's most frequent tag is therefore not sufficient and its neighbours help only in part;
a model that remembers the subject and reads characters can get every tag right.
"""

import itertools
import random
from collections.abc import Iterator

from tasks.core.examples import Example, Stream, position

SEED = 2021
SIZES = {"train": 2000, "valid": 300, "test": 300}
_SHARES = {"train": (0.0, 0.7), "valid": (0.7, 0.85), "test": (0.85, 1.0)}  # of all texts

# Words by class. Those in BOTH and MASS are nouns as well as verbs; BOTHS contains the
# plural and third person of BOTH; MASS has no plural and needs no object.
WORDS = {
    name: words.split()
    for name, words in {
        "PERSON": "farmer sailor man woman child hunter painter pilot king teacher",
        "PEOPLE": "farmers sailors men women children hunters painters pilots kings teachers",
        "THING": "boat river mill house garden harbour bridge school field tower",
        "THINGS": "boats rivers mills houses gardens harbours bridges schools fields towers",
        "BOTH": "walk plant duck watch guard cook train ship hand play",
        "BOTHS": "walks plants ducks watches guards cooks trains ships hands plays",
        "MASS": "fish smoke drink paint work trade dust rest",
        "SEEN": "found saw left painted liked watched guarded moved met",
        "DONE": "found left painted liked watched guarded moved met",
        "SAID": "said knew believed feared heard",
        "ADJECTIVE": "old young small quiet tall grey proud distant",
        "ADJECTIVE_OR_NOUN": "light cold secret novel square sweet",
        "ADJECTIVE_OR_VERB": "clean dry warm open empty clear",
        "MODAL": "can will might must should",
        "MODAL_OR_NOUN": "can will might",
        "NUMBER": "two three seven twelve forty",
        "DIGITS": " ".join(map(str, range(2, 1000))),
        "NEAR": "near by behind beyond under in",
        "WHEN": "today again often there soon",
        "BECAUSE": "because while after before since",
        "AFTER": "after before since",
    }.items()
}
# Grammar rules. Each alternative is a weight followed by words with tags, word classes with
# the tag that applies, or other rules; rules with a question mark are optional. ~ stands for
# a stem, and is followed by its ending.
RULES = """
sentence
    8 clause stop
    2 clause and/CCONJ clause stop
    1 clause but/CCONJ clause stop
    1 clause BECAUSE/SCONJ past stop
    1 clause AFTER/ADP thing stop
    1 AFTER/SCONJ past ,/PUNCT clause stop
    1 AFTER/ADP thing ,/PUNCT clause stop
    1 oh/INTJ ,/PUNCT clause stop
stop
    4 ./PUNCT
    1 !/PUNCT
clause
    8 agreement
    6 ending
    3 described
    3 manning
    3 past
    2 person SAID/VERB that/SCONJ said
    3 auxiliary
    3 purpose
    1 order
said
    1 past
    1 auxiliary
    1 agreement

agreement
    1 one between BOTHS/VERB MASS/NOUN end?
    1 many between BOTHS/NOUN MASS/VERB end?
between
    2 near
    1 near near
    2 who SEEN/VERB the/DET adjective? THING/NOUN

ending
    1 many ~ily/ADV MASS/VERB end?
    1 many ~ize/VERB MASS/NOUN end?
    2 thing was/AUX unmet
    1 ~/PROPN ~ily/ADV rested/VERB
    1 ~/PROPN ~ized/VERB it/PRON
    1 person SEEN/VERB the/DET unmet BOTHS/NOUN
unmet
    1 ~ness/NOUN
    1 ~ful/ADJ
    1 ~ous/ADJ
    1 ~ed/VERB
    1 ~ing/VERB

described
    1 the/DET ADJECTIVE_OR_NOUN/NOUN near was/AUX being
    1 person SEEN/VERB the/DET ADJECTIVE_OR_NOUN/ADJ THING/NOUN
    1 person SEEN/VERB the/DET ADJECTIVE_OR_NOUN/NOUN near
    1 thing was/AUX being
being
    2 degree? ADJECTIVE/ADJ
    2 degree? ADJECTIVE_OR_NOUN/ADJ
    2 degree? ADJECTIVE_OR_VERB/ADJ
degree
    1 very/ADV
    1 so/ADV
    1 not/PART

manning
    2 the/DET ADJECTIVE/ADJ man/VERB object
    1 the/DET ADJECTIVE/ADJ BOTH/VERB object
    2 the/DET ADJECTIVE/ADJ man/NOUN near? SEEN/VERB object
    1 the/DET ADJECTIVE/ADJ BOTH/NOUN near? SEEN/VERB object

past
    1 that/DET PERSON/NOUN SEEN/VERB object
    1 that/PRON was/AUX being
    1 person SEEN/VERB the/DET saw/NOUN
    1 person SEEN/VERB the/DET left/ADJ BOTH/NOUN
    4 person between? SEEN/VERB object near?

auxiliary
    1 one near? has/VERB object
    1 many near? have/VERB object
    1 one near? has/AUX not? DONE/VERB object
    1 many near? have/AUX not? DONE/VERB object
    1 one near? does/AUX not/PART base
    1 many near? do/AUX not/PART base
    1 one near? does/VERB the/DET MASS/NOUN
    1 many near? do/VERB the/DET MASS/NOUN
    4 person between? MODAL/AUX not? base
    2 the/DET adjective? MODAL_OR_NOUN/NOUN near was/AUX being
not
    1 not/PART
base
    1 MASS/VERB
    1 BOTH/VERB object
    1 ADJECTIVE_OR_VERB/VERB object

purpose
    2 person went to/PART base
    1 person went to/ADP object
went
    1 went/VERB
    1 came/VERB
    1 ran/VERB

order
    1 ADJECTIVE_OR_VERB/VERB object end
    1 ADJECTIVE_OR_VERB/ADJ THINGS/NOUN were/AUX being

person
    1 one
    1 many
one
    1 the/DET adjective? PERSON/NOUN
many
    3 the/DET adjective? PEOPLE/NOUN
    1 number PEOPLE/NOUN
number
    2 NUMBER/NUM
    1 DIGITS/NUM
who
    1 who/PRON
    1 that/PRON
adjective
    1 ADJECTIVE/ADJ
    1 ADJECTIVE_OR_VERB/ADJ
thing
    1 the/DET adjective? THING/NOUN
    1 the/DET adjective? BOTH/NOUN
object
    1 thing
    1 number BOTHS/NOUN
    1 the/DET adjective? THINGS/NOUN
    1 them/PRON
    1 it/PRON
near
    1 NEAR/ADP the/DET adjective? THING/NOUN
end
    1 WHEN/ADV
    1 near
"""
_OPTIONAL_PROBABILITY = 0.4
# Stems consist of one element from each tuple.
_SYLLABLES = (
    ("b", "br", "d", "dr", "f", "fl", "g", "gl", "k", "kr", "m", "n", "p", "pl", "t", "v"),
    ("a", "e", "i", "o", "u"),
    ("l", "n", "r", "s", "t"),
    ("ab", "ag", "am", "ant", "eb", "ell", "erd", "est", "ib", "im", "ist", "od", "om", "orn"),
)


def parts() -> dict[str, Stream]:
    """Returns the three parts; each is generated whenever it is read."""
    return {part: Stream(lambda part=part: _draw(part)) for part in SIZES}


def _draw(part: str) -> Iterator[Example]:
    rng, rules, texts = random.Random(f"{SEED} {part}"), _rules(), set()
    stems = [stem for stem in _stems() if _belongs(stem, part)]
    while len(texts) < SIZES[part]:
        tokens, tags = zip(*_expand("sentence", rules, stems, rng), strict=True)
        text = " ".join(tokens)
        if _belongs(text, part) and text not in texts:
            texts.add(text)
            yield Example({"tokens": tokens, "tags": tags}, f"sample:{part}:{len(texts)}")


def _belongs(text: str, part: str) -> bool:
    """Whether a text or stem belongs to a part; it belongs to exactly one."""
    low, high = _SHARES[part]
    return low <= position(text) < high


def _stems() -> Iterator[str]:
    """Yields stems, none of which is an English word."""
    return map("".join, itertools.product(*_SYLLABLES))


def _rules() -> dict[str, tuple[list[list[str]], list[int]]]:
    """Parses `RULES`: {name: (alternatives, weights)}."""
    rules = {}
    for line in filter(None, RULES.splitlines()):
        if not line.startswith(" "):
            alternatives, weights = rules[line] = [], []
        else:
            weight, *symbols = line.split()
            alternatives.append(symbols)
            weights.append(int(weight))
    return rules


def _expand(
    name: str,
    rules: dict[str, tuple[list[list[str]], list[int]]],
    stems: list[str],
    rng: random.Random,
) -> Iterator[tuple[str, str]]:
    """Expands a rule into random words with their tags."""
    (symbols,) = rng.choices(*rules[name])
    for symbol in symbols:
        word, slash, tag = symbol.rpartition("/")
        if slash:
            if word in WORDS:
                word = rng.choice(WORDS[word])
            elif word.startswith("~"):
                word = rng.choice(stems) + word[1:]
            yield word.capitalize() if tag == "PROPN" else word, tag
        elif not symbol.endswith("?") or rng.random() < _OPTIONAL_PROBABILITY:
            yield from _expand(symbol.rstrip("?"), rules, stems, rng)
