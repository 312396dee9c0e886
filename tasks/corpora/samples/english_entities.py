"""Embedded sample of named entities: generated sentences with people, places and products.

Names are made of syllables, and each part has names of its own, so that no name of the test part
has been seen. Three things tell what a name is:

* its neighbours: "Velmar said", "in Velmar", "the new Velmar 300";
* its ending, in a part of the names: "Velmouth" is a place, "Velotron" a product;
* other words of the same entity: "Dr. Velmar", "Port Velmar", "Velmar 300 Pro".

Entities may have several words, and may follow one another without a word between: "In Port Velmar
Anna Tark met ...", "they gave Anna Tark Velotron 300", "they call Anna Tark Lord Brun".
"""

import itertools
import random
from collections.abc import Callable, Iterator

from tasks.core.examples import Example, Stream, position

SEED = 2022
SIZES = {"train": 2000, "valid": 300, "test": 300}
_SHARES = {"train": (0.0, 0.7), "valid": (0.7, 0.85), "test": (0.85, 1.0)}  # of texts and names
PERSON, PLACE, PRODUCT = "PER", "LOC", "PROD"

# Weight and words of each sentence. PER, LOC and PROD stand for entities; others in capitals for
# a word of `WORDS`.
SENTENCES = """
4 PER VERB PER WHEN .
3 PER VERB the ADJ THING of LOC .
3 in LOC PER VERB PER .
3 in LOC , PER VERB the THING .
3 the ADJ PROD WAS sold in LOC .
3 the PERSON gave PER PROD .
2 the PERSON showed PER LOC .
2 they call PER PER .
3 PER and PER left LOC WHEN .
2 PER , the PERSON from LOC , VERB the THING .
2 the PERSON VERB the THING in the THING .
2 the ADJ PERSON left WHEN .
2 WHEN the PERSON VERB PER .
2 every PERSON in LOC has a PROD .
2 is PER in LOC ?
2 PER says that PROD is ADJ .
2 PROD , PROD and PROD were sold WHEN .
2 from LOC to LOC the THING was ADJ .
1 LOC PER VERB ; LOC PER left .
1 my PROD is ADJ , said PER .
1 PER bought PROD PROD and a THING .
1 the THING near LOC was ADJ .
"""
WORDS = {
    name: words.split()
    for name, words in {
        "VERB": "met saw visited called thanked praised knew liked followed",
        "ADJ": "old new small large quiet famous cheap broken heavy",
        "THING": "bridge market river museum station camera harbour letter machine",
        "PERSON": "teacher pilot doctor farmer minister painter engineer",
        "WHEN": "today yesterday again often later",
        "WAS": "was is",
    }.items()
}
TITLES = ("Dr.", "Mr.", "Mrs.", "Lord")
PARTICLES = ("van", "de")
BEFORE_PLACES = ("Port", "New", "Mount", "North")
AFTER_PLACES = ("Valley", "Bay", "Island")
PLACE_ENDINGS = ("mouth", "ford", "stad", "burg")
PRODUCT_ENDINGS = ("tron", "ix", "ify", "pad")
MODELS = ("300", "X2", "Pro", "Mini", "7")
_SYLLABLES = (
    ("b", "br", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "z"),
    ("a", "e", "i", "o", "u"),
    ("l", "lm", "n", "nd", "r", "rk", "s", "t", "x"),
)
_SECOND = ("a", "an", "ar", "e", "el", "en", "er", "i", "in", "o", "on", "us")


def parts() -> dict[str, Stream]:
    """Returns the three parts; each is generated whenever it is read."""
    return {part: Stream(lambda part=part: _draw(part)) for part in SIZES}


def _draw(part: str) -> Iterator[Example]:
    rng, texts = random.Random(f"{SEED} {part}"), set()
    stems = [stem for stem in _stems() if _belongs(stem, part)]
    weights, sentences = zip(
        *(line.split(maxsplit=1) for line in SENTENCES.strip().splitlines()), strict=True
    )
    weights = [int(weight) for weight in weights]
    while len(texts) < SIZES[part]:
        (sentence,) = rng.choices(sentences, weights)
        tokens, tags = zip(*_expand(sentence.split(), stems, rng), strict=True)
        tokens = (tokens[0][0].upper() + tokens[0][1:], *tokens[1:])
        text = " ".join(tokens)
        if _belongs(text, part) and text not in texts:
            texts.add(text)
            yield Example({"tokens": tokens, "tags": tags}, f"sample:entities:{part}:{len(texts)}")


def _belongs(text: str, part: str) -> bool:
    """Whether a text or stem belongs to a part; it belongs to exactly one."""
    low, high = _SHARES[part]
    return low <= position(text) < high


def _stems() -> Iterator[str]:
    return map("".join, itertools.product(*_SYLLABLES))


def _expand(symbols: list[str], stems: list[str], rng: random.Random) -> Iterator[tuple[str, str]]:
    """Expands a sentence into words with their tags."""
    names: dict[str, Callable] = {PERSON: _person, PLACE: _place, PRODUCT: _product}
    for symbol in symbols:
        if symbol in names:
            words = names[symbol](stems, rng)
            yield words[0], f"B-{symbol}"
            for word in words[1:]:
                yield word, f"I-{symbol}"
        else:
            yield rng.choice(WORDS.get(symbol, [symbol])), "O"


def _name(stems: list[str], rng: random.Random) -> str:
    """Returns a name that can be that of anything."""
    return rng.choice(stems).capitalize() + rng.choice(_SECOND)


def _person(stems: list[str], rng: random.Random) -> list[str]:
    first, last = _name(stems, rng), _name(stems, rng)
    kinds = [[last], [first, last], [rng.choice(TITLES), last]]
    kinds.append([first, rng.choice(PARTICLES), last])
    return rng.choices(kinds, (2, 4, 2, 1))[0]


def _place(stems: list[str], rng: random.Random) -> list[str]:
    name = _name(stems, rng)
    ending = rng.choice(stems).capitalize() + rng.choice(PLACE_ENDINGS)
    kinds = [[name], [ending], [rng.choice(BEFORE_PLACES), name], [name, rng.choice(AFTER_PLACES)]]
    return rng.choices(kinds, (3, 2, 1, 1))[0]


def _product(stems: list[str], rng: random.Random) -> list[str]:
    name = _name(stems, rng)
    ending = rng.choice(stems).capitalize() + rng.choice(PRODUCT_ENDINGS)
    models = rng.sample(MODELS, 2)
    kinds = [[name, models[0]], [ending], [ending, models[0]], [name, *models]]
    return rng.choices(kinds, (2, 2, 1, 1))[0]
