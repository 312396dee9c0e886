"""The embedded sample of sentiment: short reviews from a seeded grammar.

Nearly half of them say plainly what they think, so that words get a tone. The others
turn it round: what counts there is what is negated or doubted, what follows
"but", and what a long interruption comes back to. A review of the test part
combines words and construction as none of the train part does ("not" with
"superb", say, though train has both). So a bag of words fails on it, and whoever
has learnt how negation and contrast work does not.
"""

import hashlib
import random
from collections.abc import Iterator

from tasks.core.examples import Example, Stream

SEED = 2017
SIZES = {"train": 4000, "valid": 500, "test": 500}

GOOD = (
    "superb", "moving", "funny", "clever", "gripping", "warm", "elegant", "honest",
    "thrilling", "charming", "witty", "brilliant", "tender", "vivid", "fresh", "graceful",
)  # fmt: skip
BAD = (
    "dull", "clumsy", "tedious", "shallow", "bland", "awful", "lifeless", "silly",
    "noisy", "cold", "predictable", "stale", "messy", "hollow", "forced", "dreary",
)  # fmt: skip
THINGS = (
    "plot", "acting", "music", "camera", "dialogue", "ending", "cast", "script",
    "opening", "villain", "heroine", "pace", "story", "film", "second half", "humour",
)  # fmt: skip
PEOPLE = ("the director", "my neighbour", "the studio", "a friend", "the author", "the audience")
PLACES = ("in Venice", "last winter", "on the train", "at the festival", "years ago", "in the book")
DEGREES = ("", "really", "rather", "truly", "so")
NEGATIONS = ("not", "never", "hardly", "by no means", "far from", "anything but")
DOUBTS = (
    "i cannot say that {}",
    "nobody could claim that {}",
    "it is not true that {}",
    "do not believe that {}",
)
TURNS = (
    ("{} at first , but {}", 1),
    ("although {} , {}", 1),
    ("{} , even though {}", 0),
    ("{} ; still , {}", 1),
    ("{} , and that makes up for it when {}", 0),
    ("people told me that {} . in truth {}", 1),
)
ENDINGS = (".", "!", "...", ". that is all .", ". go and see for yourself .")


def parts() -> dict[str, Stream]:
    """The three parts, each drawn anew whenever it is read."""
    return {part: Stream(lambda part=part: _draw(part)) for part in SIZES}


def _draw(part: str) -> Iterator[Example]:
    source, met, count = random.Random(f"{SEED} {part}"), set(), 0
    while count < SIZES[part]:
        positive = count % 2 == 0
        told, combination = _review(source, positive)
        text = f"{told} {source.choice(ENDINGS)}".replace(" .", " .")
        if _part_of(combination) == part and text not in met:
            met.add(text)
            count += 1
            label = "positive" if positive else "negative"
            yield Example({"text": text, "label": label}, f"sample:{part}:{count}")


def _part_of(combination: str) -> str:
    """Which part a combination of words belongs to: eight tenths are for train."""
    tenth = int(hashlib.sha256(combination.encode()).hexdigest(), 16) % 10
    return {8: "valid", 9: "test"}.get(tenth, "train")


def _review(source: random.Random, positive: bool) -> tuple[str, str]:
    """A review of that tone, and the combination that makes it what it is."""
    kind = source.random()
    if kind < 0.45:
        return _plain(source, positive)
    if kind < 0.65:
        return _negated(source, positive)
    if kind < 0.75:
        doubted, combination = _clause(source, not positive)
        doubt = source.choice(DOUBTS)
        return doubt.format(doubted), f"{doubt} {combination}"
    turn, decides = source.choice(TURNS)
    clauses = [_clause(source, positive == (place == decides)) for place in (0, 1)]
    told = turn.format(*(text for text, _ in clauses))
    return told, " ".join((turn, *(combination for _, combination in clauses)))


def _clause(source, positive):
    return _negated(source, positive) if source.random() < 0.3 else _plain(source, positive)


def _plain(source, positive):
    word, degree = source.choice(GOOD if positive else BAD), _degree(source)
    thing, told = _subject(source)
    return f"{told} is {degree}{word}", f"{thing} {degree}{word}"


def _negated(source, positive):
    word, negation = source.choice(BAD if positive else GOOD), source.choice(NEGATIONS)
    _, told = _subject(source)
    return f"{told} is {negation} {_degree(source)}{word}", f"{negation} {word}"


def _degree(source):
    degree = source.choice(DEGREES)
    return f"{degree} " if degree else ""


def _subject(source):
    """A thing, and how it is told: perhaps with a long interruption before what is said of it."""
    thing, drawn = source.choice(THINGS), source.random()
    if drawn < 0.7:
        return thing, f"the {thing}"
    person, place = source.choice(PEOPLE), source.choice(PLACES)
    word = source.choice(GOOD + BAD)
    if drawn < 0.85:
        return thing, f"the {thing} , which {person} called {word} {place} ,"
    return thing, f"the {thing} ( {person} , who saw a {word} film {place} , told me of it )"
