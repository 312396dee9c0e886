"""Embedded sample for language modelling: short stories from a seeded grammar.

What comes next often depends on words that are far away, which counts of adjacent words do not
see:

* a pronoun on the name in the first sentence;
* a tool on the trade of that person;
* what is in a place at the end, on what was put there, and the colour of the place on the first
  mention of it;
* the number of a verb on its noun, across other nouns: "the keys near the old mill were gone".

Each part has stories of its own.
"""

import random
from collections.abc import Iterator

from tasks.core.examples import Example, Stream, position

SEED = 2003
SIZES = {"train": 2400, "valid": 300, "test": 300}
_SHARES = {"train": (0.0, 0.7), "valid": (0.7, 0.85), "test": (0.85, 1.0)}  # of all texts

_NAMES = {
    "she": ["Anna", "Clara", "Edith", "Greta", "Ida", "Julia", "Martha", "Nora", "Olga", "Ruth"],
    "he": ["Albert", "Bruno", "Carl", "Erik", "Felix", "Hugo", "Ivan", "Jonas", "Oscar", "Paul"],
}
_POSSESSIVES = {"she": "her", "he": "his"}
# Trades, each with its tool and what is done with it.
_TRADES = {
    "baker": ("oven", "baked bread"),
    "fisher": ("net", "caught eels"),
    "painter": ("brush", "painted doors"),
    "smith": ("hammer", "made hinges"),
    "tailor": ("needle", "mended coats"),
    "gardener": ("spade", "planted beans"),
    "miller": ("wheel", "ground corn"),
    "writer": ("pen", "wrote letters"),
}
_THINGS = ["ring", "lamp", "coin", "map", "flute", "watch", "key", "mirror", "candle", "book"]
_PLACES = ["box", "chest", "bag", "drawer", "basket", "cupboard", "jar", "trunk"]
_COLOURS = ["red", "blue", "green", "black", "white", "yellow", "grey", "brown"]
_NOUNS = ["boat", "mill", "bridge", "garden", "tower", "cart", "well", "barn"]
_ADJECTIVES = ["old", "small", "quiet", "new", "broken", "tall", "narrow"]
_STATES = ["gone", "empty", "wet", "ready", "closed", "cold"]
_DAYS = ["Monday", "Tuesday", "Thursday", "Friday", "Sunday"]


def parts() -> dict[str, Stream]:
    """Returns the three parts; each is generated whenever it is read."""
    return {part: Stream(lambda part=part: _draw(part)) for part in SIZES}


def _draw(part: str) -> Iterator[Example]:
    rng, texts = random.Random(f"{SEED} {part}"), set()
    low, high = _SHARES[part]
    while len(texts) < SIZES[part]:
        text = _story(rng)
        if low <= position(text) < high and text not in texts:
            texts.add(text)
            yield Example({"text": text}, f"sample:{part}:{len(texts)}")


def _story(rng: random.Random) -> str:
    pronoun = rng.choice(("she", "he"))
    name, trade = rng.choice(_NAMES[pronoun]), rng.choice(list(_TRADES))
    tool, work = _TRADES[trade]
    thing, place, colour = rng.choice(_THINGS), rng.choice(_PLACES), rng.choice(_COLOURS)
    own = _POSSESSIVES[pronoun]
    middle = [
        f"With the {tool} {pronoun} {work} .",
        f"On {rng.choice(_DAYS)} {pronoun} {work} with {own} {tool} .",
        f"{pronoun.capitalize()} put a {thing} into the {place} .",
        *(_agreement(rng) for _ in range(2)),
    ]
    middle = rng.sample(middle, rng.randint(2, 4))
    if not any(thing in sentence for sentence in middle):
        middle.append(f"{pronoun.capitalize()} put a {thing} into the {place} .")
    first = f"{name} was a {trade} and had a {colour} {place} ."
    last = f"In the evening the {thing} was still in the {colour} {place} ."
    return " ".join([first, *middle, last])


def _agreement(rng: random.Random) -> str:
    """Returns a sentence whose verb agrees with a noun, and not with the nearest one."""
    plural = rng.random() < 0.5
    noun = rng.choice(_NOUNS) + ("s" if plural else "")
    between = " ".join(
        f"near the {rng.choice(_ADJECTIVES)} {rng.choice(_NOUNS)}{rng.choice(('', 's'))}"
        for _ in range(rng.randint(1, 2))
    )
    return f"The {noun} {between} {'were' if plural else 'was'} {rng.choice(_STATES)} ."
