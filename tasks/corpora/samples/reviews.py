"""Embedded sample for sentiment: short reviews from a seeded grammar.

Nearly half of the reviews state their opinion plainly, which gives words a polarity. The
others reverse it by negation or doubt, by contrast ("but"), or after a long interruption.
Reviews of the test part combine words and constructions that are not combined in the
train part ("not" with "superb", say, although train has both). A bag of words therefore
fails, and a model that has learnt negation and contrast does not.
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
    """Returns the three parts; each is generated whenever it is read."""
    return {part: Stream(lambda part=part: _draw(part)) for part in SIZES}


def _draw(part: str) -> Iterator[Example]:
    rng, texts, count = random.Random(f"{SEED} {part}"), set(), 0
    while count < SIZES[part]:
        positive = count % 2 == 0
        review, combination = _review(rng, positive)
        text = f"{review} {rng.choice(ENDINGS)}"
        if _part_of(combination) == part and text not in texts:
            texts.add(text)
            count += 1
            label = "positive" if positive else "negative"
            yield Example({"text": text, "label": label}, f"sample:{part}:{count}")


def _part_of(combination: str) -> str:
    """Returns the part that a combination of words belongs to: eight tenths are for train."""
    tenth = int(hashlib.sha256(combination.encode()).hexdigest(), 16) % 10
    return {8: "valid", 9: "test"}.get(tenth, "train")


def _review(rng: random.Random, positive: bool) -> tuple[str, str]:
    """Returns a review, and the combination of words and construction that decides its label."""
    kind = rng.random()
    if kind < 0.45:
        return _plain(rng, positive)
    if kind < 0.65:
        return _negated(rng, positive)
    if kind < 0.75:
        doubted, combination = _clause(rng, not positive)
        doubt = rng.choice(DOUBTS)
        return doubt.format(doubted), f"{doubt} {combination}"
    turn, decides = rng.choice(TURNS)
    clauses = [_clause(rng, positive == (place == decides)) for place in (0, 1)]
    review = turn.format(*(text for text, _ in clauses))
    return review, " ".join((turn, *(combination for _, combination in clauses)))


def _clause(rng: random.Random, positive: bool) -> tuple[str, str]:
    return _negated(rng, positive) if rng.random() < 0.3 else _plain(rng, positive)


def _plain(rng: random.Random, positive: bool) -> tuple[str, str]:
    word, degree = rng.choice(GOOD if positive else BAD), _degree(rng)
    thing, subject = _subject(rng)
    return f"{subject} is {degree}{word}", f"{thing} {degree}{word}"


def _negated(rng: random.Random, positive: bool) -> tuple[str, str]:
    word, negation = rng.choice(BAD if positive else GOOD), rng.choice(NEGATIONS)
    _, subject = _subject(rng)
    return f"{subject} is {negation} {_degree(rng)}{word}", f"{negation} {word}"


def _degree(rng: random.Random) -> str:
    degree = rng.choice(DEGREES)
    return f"{degree} " if degree else ""


def _subject(rng: random.Random) -> tuple[str, str]:
    """Returns a thing, and a noun phrase for it that may contain a long interruption."""
    thing, kind = rng.choice(THINGS), rng.random()
    if kind < 0.7:
        return thing, f"the {thing}"
    person, place = rng.choice(PEOPLE), rng.choice(PLACES)
    word = rng.choice(GOOD + BAD)
    if kind < 0.85:
        return thing, f"the {thing} , which {person} called {word} {place} ,"
    return thing, f"the {thing} ( {person} , who saw a {word} film {place} , told me of it )"
