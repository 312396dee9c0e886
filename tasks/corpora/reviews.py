"""The embedded sample of sentiment: short reviews from a seeded grammar.

No word tells the label by itself. Each review makes its point through one of
the constructions below, whose words are as often in a positive as in a negative
one: what counts is what is negated, what follows "but", and what a long
interruption comes back to. A test review combines words and construction as no
train review does ("not" with "superb", say, though train has both), so a bag of
words fails on it, and whoever has learnt how negation works does not.
"""

import hashlib
import random
from collections.abc import Iterator

from tasks.corpora import Example, Stream

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
    kind = source.randrange(10)
    if kind < 1:
        return _plain(source, positive)
    if kind < 4:
        return _negated(source, positive)
    if kind < 6:
        doubted, combination = _clause(source, not positive)
        doubt = source.choice(DOUBTS)
        return doubt.format(doubted), f"{doubt} {combination}"
    turn, decides = source.choice(TURNS)
    clauses = [_clause(source, positive == (place == decides)) for place in (0, 1)]
    told = turn.format(*(text for text, _ in clauses))
    return told, " ".join((turn, *(combination for _, combination in clauses)))


def _clause(source, positive):
    return _negated(source, positive) if source.random() < 0.4 else _plain(source, positive)


def _plain(source, positive):
    word = source.choice(GOOD if positive else BAD)
    return f"{_subject(source)} is {_degree(source)}{word}", f"is {word}"


def _negated(source, positive):
    word, negation = source.choice(BAD if positive else GOOD), source.choice(NEGATIONS)
    return f"{_subject(source)} is {negation} {_degree(source)}{word}", f"{negation} {word}"


def _degree(source):
    degree = source.choice(DEGREES)
    return f"{degree} " if degree else ""


def _subject(source):
    """A thing, perhaps with a long interruption between it and what is said of it."""
    thing, drawn = source.choice(THINGS), source.random()
    if drawn < 0.6:
        return f"the {thing}"
    person, place = source.choice(PEOPLE), source.choice(PLACES)
    word = source.choice(GOOD + BAD)
    if drawn < 0.8:
        return f"the {thing} , which {person} called {word} {place} ,"
    return f"the {thing} ( {person} , who saw a {word} film {place} , told me of it )"
