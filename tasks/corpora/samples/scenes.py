"""Embedded sample for captioning: seeded scenes of coloured shapes with true captions.

A caption has one of the forms

    two small red circles                 a phrase: number, optional size, colour, shape
    a small red circle on the left        also: on the right, at the top, at the bottom,
                                          in the middle
    a red circle above a blue square      also: below, left of, right of
    two red circles and a blue square

and is true, not only well-formed, by these rules:

* A phrase counts everything in the scene that it describes. "a red circle" is true if
  there is exactly one, "two red circles" if there are two, of any size.
* Places and relations are stated only of single things, not of two or three.
* The left is the left third of the picture, the top the upper third, and the middle is
  the middle third both horizontally and vertically.
* One thing is left of another if its horizontal distance to it exceeds the vertical one.
* The things joined by "and" are different: one red circle is not "a red circle and a small
  red circle".

Captions of the sample keep a margin, `CLEAR`, from these boundaries, and all describe the first
thing of a scene. In test, the first thing of a scene is a combination of size, colour and shape
that never occurs in train, where only pairs of these attributes occur together; valid has
held-out combinations of its own. Each attribute must therefore be learnt separately. No caption
is true of many scenes.
"""

import dataclasses
import functools
import io
import itertools
import json
import math
import random
from collections.abc import Iterator

import numpy as np

from tasks.core.examples import Example, Stream

SEED = 2018
SIZES = {"train": 15000, "valid": 400, "test": 400}
SIDE = 64  # of a picture, in pixels
COLOURS = {
    "red": (235, 40, 45),
    "orange": (255, 140, 20),
    "yellow": (255, 235, 60),
    "green": (40, 190, 70),
    "cyan": (70, 225, 235),
    "blue": (50, 95, 245),
    "purple": (175, 60, 215),
    "white": (250, 250, 250),
}
# Outline of each shape in a box from -1 to 1, with y pointing down.
_ARM = 1 / 3
_CORNER = ((_ARM, -1), (_ARM, -_ARM), (1, -_ARM))
SHAPES = {
    "circle": [(math.sin(a * math.tau / 48), math.cos(a * math.tau / 48)) for a in range(48)],
    "square": [(-1, -1), (1, -1), (1, 1), (-1, 1)],
    "triangle": [(0, -1), (1, 1), (-1, 1)],
    "diamond": [(0, -1), (1, 0), (0, 1), (-1, 0)],
    "cross": [
        *_CORNER,
        *((x, -y) for x, y in reversed(_CORNER)),
        *((-x, -y) for x, y in _CORNER),
        *((-x, y) for x, y in reversed(_CORNER)),
    ],
    "star": [
        (r * math.sin(a * math.tau / 10), -r * math.cos(a * math.tau / 10))
        for a, r in enumerate((1.1, 0.48) * 5)
    ],
}
DIAMETERS = {"small": (13, 15), "large": (25, 27)}  # pixels; odd, so that edges are sharp
# Combinations that occur in no part but their own: one eighth of all combinations of size,
# colour and shape.
HELD_OUT = {
    "valid": (
        "small red cross",
        "large yellow circle",
        "small blue diamond",
        "large purple star",
    ),
    "test": (
        "small red circle",
        "large orange square",
        "small yellow triangle",
        "large green diamond",
        "small cyan cross",
        "large blue star",
        "small purple square",
        "large white triangle",
    ),
}
NUMBERS = ("a", "two", "three")
PLACES = ("on the left", "on the right", "at the top", "at the bottom", "in the middle")
RELATIONS = ("left of", "right of", "above", "below")
# Margins of captions: the distance in pixels from the boundary of a place, and the ratio of
# the distances along and across the axis of a relation.
CLEAR = {"pixels": 3, "ratio": 1.5}
_GAP = 3  # pixels between things
_SUPERSAMPLING = 8  # factor of the resolution at which shapes are drawn


Kind = tuple[str, str, str]  # size, colour and shape


@dataclasses.dataclass(frozen=True)
class Thing:
    """Thing in a scene.

    Attributes:
        shape: One of `SHAPES`.
        colour: One of `COLOURS`.
        size: One of `DIAMETERS`.
        x: Column of its centre, from the left.
        y: Row of its centre, from the top.
        across: Its width and height, in pixels.
    """

    shape: str
    colour: str
    size: str
    x: int
    y: int
    across: int

    def is_at(self, place: str, margin: float = 0) -> bool:
        """Whether the thing is in one of `PLACES`, by more than `margin` pixels."""
        low, high = SIDE / 3, 2 * SIDE / 3
        return {
            "on the left": low - self.x,
            "on the right": self.x - high,
            "at the top": low - self.y,
            "at the bottom": self.y - high,
            "in the middle": min(self.x - low, high - self.x, self.y - low, high - self.y),
        }[place] > margin

    def is_related(self, relation: str, other: "Thing", ratio: float = 1) -> bool:
        """Whether one of `RELATIONS` holds.

        The distance along its axis must exceed `ratio` times the distance across it.
        """
        right, down = self.x - other.x, self.y - other.y
        along, across = {
            "left of": (-right, down),
            "right of": (right, down),
            "above": (-down, right),
            "below": (down, right),
        }[relation]
        return along > ratio * abs(across)

    def is_apart(self, other: "Thing") -> bool:
        """Whether there is a gap between the bounding boxes of the two things."""
        distance = max(abs(self.x - other.x), abs(self.y - other.y))
        return distance >= (self.across + other.across) / 2 + _GAP


@dataclasses.dataclass(frozen=True)
class Phrase:
    """Number and description of things: "two small red circles".

    Attributes:
        number: Number of things, from 1.
        size: One of `DIAMETERS`, or "" for any size.
        colour: One of `COLOURS`.
        shape: One of `SHAPES`.
    """

    number: int
    size: str
    colour: str
    shape: str

    def __str__(self) -> str:
        shape, number = self.shape, NUMBERS[self.number - 1]
        if self.number > 1:
            shape += "es" if shape.endswith("s") else "s"
        elif (self.size or self.colour)[0] in "aeiou":
            number = "an"
        return " ".join(filter(None, (number, self.size, self.colour, shape)))

    def described(self, things: list[Thing]) -> list[Thing]:
        """Returns the things that fit the description, whatever their number."""
        return [
            thing
            for thing in things
            if (thing.colour, thing.shape) == (self.colour, self.shape)
            and self.size in ("", thing.size)
        ]


def parts() -> dict[str, Stream]:
    """Returns the three parts; each is generated whenever it is read."""
    return {part: Stream(lambda part=part: _draw(part)) for part in SIZES}


def is_true(caption: str, scene: str) -> bool:
    """Whether a text is a well-formed caption that is true of a scene.

    Args:
        caption: Any text.
        scene: The scene as JSON, as in the examples.
    """
    things = [Thing(**thing) for thing in json.loads(scene)]
    if _counted(caption, things):
        return True
    for place in PLACES:
        if caption.endswith(f" {place}"):
            placed = _counted(caption.removesuffix(f" {place}"), things)
            return len(placed) == 1 and placed[0].is_at(place)
    for relation in RELATIONS:
        text, separator, other_text = caption.partition(f" {relation} ")
        if separator:
            first, second = _counted(text, things), _counted(other_text, things)
            both_single = len(first) == len(second) == 1
            return both_single and first[0].is_related(relation, second[0])
    text, _, other_text = caption.partition(" and ")
    first, second = _counted(text, things), _counted(other_text, things)
    return bool(first and second) and not any(thing in first for thing in second)


def _counted(text: str, things: list[Thing]) -> list[Thing]:
    """Returns the things that a phrase describes; [] if it is not a phrase, or not true."""
    phrase = _phrases().get(text)
    if phrase is None:
        return []
    described = phrase.described(things)
    return described if len(described) == phrase.number else []


@functools.cache
def _phrases() -> dict[str, Phrase]:
    """Returns all phrases, by their texts."""
    numbers = range(1, len(NUMBERS) + 1)
    choices = itertools.product(numbers, ("", *DIAMETERS), COLOURS, SHAPES)
    return {str(phrase): phrase for phrase in itertools.starmap(Phrase, choices)}


# --- Generation ----------------------------------------------------------------


def _draw(part: str) -> Iterator[Example]:
    held_out = [tuple(kind.split()) for kinds in HELD_OUT.values() for kind in kinds]
    common = [
        kind for kind in itertools.product(DIAMETERS, COLOURS, SHAPES) if kind not in held_out
    ]
    first_kinds = [tuple(kind.split()) for kind in HELD_OUT.get(part, ())] or common
    for number in range(1, SIZES[part] + 1):
        rng = random.Random(f"{SEED} {part} {number}")
        things = _things(first_kinds[number % len(first_kinds)], common, rng)
        values = {
            "image_bytes": _picture(things, rng),
            "captions": _captions(things, rng),
            "scene": json.dumps([vars(thing) for thing in things]),
        }
        yield Example(values, f"sample:{part}:{number}")


def _things(first: Kind, common: list[Kind], rng: random.Random) -> list[Thing]:
    """Returns one to three things that do not touch.

    Args:
        first: Kind of the first thing. Others have its colour and shape, or another colour.
        common: Kinds to choose the others from.
        rng: Source of random decisions.
    """
    (count,) = rng.choices((1, 2, 3), (1, 2, 2))
    similar_count = rng.randint(1, count)
    similar = [first, *(kind for kind in common if kind[1:] == first[1:])]
    kinds = [first, *(rng.choice(similar) for _ in range(similar_count - 1))]
    others = [kind for kind in common if kind[1] != first[1]]
    kinds += [rng.choice(others) for _ in range(count - similar_count)]
    while True:
        things = []
        for size, colour, shape in kinds:
            across = rng.choice(DIAMETERS[size])
            margin = across // 2 + 1
            x, y = (rng.randrange(margin, SIDE - margin) for _ in "xy")
            thing = Thing(shape, colour, size, x, y, across)
            if not all(map(thing.is_apart, things)):
                break
            things.append(thing)
        else:
            return things


def _captions(things: list[Thing], rng: random.Random) -> tuple[str, ...]:
    """Returns one to three captions of different forms."""
    forms = [captions for captions in _true_captions(things) if captions]
    forms = rng.sample(forms, min(len(forms), rng.choice((1, 2, 3, 3))))
    return tuple(rng.choice(captions) for captions in forms)


def _true_captions(things: list[Thing]) -> tuple[list[str], ...]:
    """Returns the true captions of the first thing: numbers, places, relations and pairs."""
    numbers, places, relations, pairs = [], [], [], []
    first, *others = things
    for phrase in _phrases_of(first, things):
        if not others or phrase.number > 1:
            numbers.append(str(phrase))
        if phrase.number == 1:
            places += [
                f"{phrase} {place}" for place in PLACES if first.is_at(place, CLEAR["pixels"])
            ]
        for thing in others:
            for other in _phrases_of(thing, things):
                if phrase.number == other.number == 1:
                    relations += _relations(phrase, first, other, thing)
                    relations += _relations(other, thing, phrase, first)
                if thing not in phrase.described(things) and first not in other.described(things):
                    pairs += [f"{phrase} and {other}", f"{other} and {phrase}"]
    return numbers, places, relations, pairs


def _relations(phrase: Phrase, thing: Thing, other_phrase: Phrase, other_thing: Thing) -> list[str]:
    """Returns the captions that relate a thing to another, given their phrases."""
    return [
        f"{phrase} {relation} {other_phrase}"
        for relation in RELATIONS
        if thing.is_related(relation, other_thing, CLEAR["ratio"])
    ]


def _phrases_of(thing: Thing, things: list[Thing]) -> Iterator[Phrase]:
    """Yields the phrases that describe a thing, with and without its size."""
    for size in ("", thing.size):
        number = len(Phrase(1, size, thing.colour, thing.shape).described(things))
        yield Phrase(number, size, thing.colour, thing.shape)


def _picture(things: list[Thing], rng: random.Random) -> bytes:
    """Draws things on a dark background, as a PNG of `SIDE` by `SIDE` pixels."""
    from PIL import Image

    tint = [rng.randint(28, 60) for _ in "rgb"]
    grain = np.frombuffer(rng.randbytes(SIDE * SIDE), np.uint8).reshape(SIDE, SIDE, 1) % 8
    picture = np.array(tint, np.float32) + grain
    for thing in things:
        coverage = _coverage(thing.shape, thing.across)
        side = len(coverage)
        row, column = thing.y - side // 2, thing.x - side // 2
        box = picture[row : row + side, column : column + side]
        box += coverage * (np.array(COLOURS[thing.colour], np.float32) - box)
    png = io.BytesIO()
    Image.fromarray(np.rint(picture).astype(np.uint8)).save(png, "png", compress_level=1)
    return png.getvalue()


@functools.cache
def _coverage(shape: str, across: int) -> np.ndarray:
    """Returns the fraction of each pixel that a shape covers, in its box and one pixel around.

    The result has the shape (across + 2, across + 2, 1).
    """
    from PIL import Image, ImageDraw

    side = _SUPERSAMPLING * (across + 2)
    mask = Image.new("L", (side, side))
    # Pillow includes the pixels at both ends, so polygons are drawn one pixel too large.
    extent = _SUPERSAMPLING * across - 1
    outline = [
        tuple((side - 1 + extent * coordinate) / 2 for coordinate in point)
        for point in SHAPES[shape]
    ]
    ImageDraw.Draw(mask).polygon(outline, fill=255)
    return np.asarray(mask.reduce(_SUPERSAMPLING), np.float32)[..., None] / 255
