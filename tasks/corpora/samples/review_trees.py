"""Embedded sample of labelled trees: short reviews from a seeded grammar.

Labels are those of the Stanford Sentiment Treebank, 0 (very negative) to 4 (very positive), at each
node of a binary tree. Degrees ("truly") move a label away from 2, negations reverse it, and of two
clauses that "but" joins the second one decides.
"""

import random
from collections.abc import Iterator

from tasks.core.examples import Example, Stream

SEED = 2013
SIZES = {"train": 2000, "valid": 250, "test": 250}
NEUTRAL = 2

_WORDS = {
    4: ("superb", "brilliant", "gripping", "thrilling"),
    3: ("funny", "warm", "honest", "vivid", "charming", "fresh"),
    1: ("dull", "clumsy", "bland", "silly", "cold", "messy"),
    0: ("awful", "dreadful", "unbearable", "lifeless"),
}
_THINGS = ("plot", "acting", "music", "camera", "ending", "cast", "script", "story", "humour")
_VERBS = ("is", "was", "seems", "remains")
_DEGREES = ("truly", "really", "so")
_NEGATIONS = ("not", "never", "hardly")
_MAX_CLAUSES = 3


def parts() -> dict[str, Stream]:
    """Returns the three parts, which share no text; each is generated whenever it is read."""
    return {part: Stream(lambda part=part: _draw(part)) for part in SIZES}


def _draw(part: str) -> Iterator[Example]:
    rng, texts = random.Random(SEED), set()
    for name, size in SIZES.items():
        for number in range(1, size + 1):
            label, content = _review(rng)
            while (text := _text(label, content)) in texts:
                label, content = _review(rng)
            texts.add(text)
            if name == part:
                yield Example({"text": text, "label": str(label)}, f"sample:{part}:{number}")
        if name == part:
            return


def _text(label: int, content: str) -> str:
    return f"({label} {content})"


def _review(rng: random.Random, clauses: int = _MAX_CLAUSES) -> tuple[int, str]:
    """Returns the label of a review, and what follows it in the brackets of its node."""
    first = _clause(rng)
    if clauses == 1 or rng.random() < 0.4:
        return first
    second = _review(rng, clauses - 1)
    joined = second[0], f"({NEUTRAL} but) {_text(*second)}"
    return second[0], f"{_text(*first)} {_text(*joined)}"


def _clause(rng: random.Random) -> tuple[int, str]:
    """Returns the label of a clause such as "the plot is not so dull", and what follows it."""
    subject = f"({NEUTRAL} the) ({NEUTRAL} {rng.choice(_THINGS)})"
    label, predicate = _predicate(rng)
    verb = f"({NEUTRAL} {rng.choice(_VERBS)}) {_text(label, predicate)}"
    return label, f"{_text(NEUTRAL, subject)} {_text(label, verb)}"


def _predicate(rng: random.Random) -> tuple[int, str]:
    label = rng.choice(list(_WORDS))
    content = rng.choice(_WORDS[label])
    if rng.random() < 0.4:
        content = f"({NEUTRAL} {rng.choice(_DEGREES)}) {_text(label, content)}"
        label = 4 if label > NEUTRAL else 0
    if rng.random() < 0.4:
        content = f"({NEUTRAL} {rng.choice(_NEGATIONS)}) {_text(label, content)}"
        label = 1 if label > NEUTRAL else 3
    return label, content
