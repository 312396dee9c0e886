"""The embedded sample of captioning: seeded scenes of coloured shapes, and what is true of them.

A caption is one of

    two small red circles                 a phrase: how many, size or not, colour, shape
    a small red circle on the left        also: on the right, at the top, at the bottom,
                                          in the middle
    a red circle above a blue square      also: below, left of, right of
    two red circles and a blue square

and it is true, and not only well-formed, by these rules:

* A phrase counts all that it describes, in the whole scene. "a red circle" is true where
  there is exactly one, "two red circles" where there are two, of whatever sizes.
* Only of one thing, and not of two or three, is it told where it is or what it is above.
* The left is the left third of the picture, the top the upper third, and the middle is
  the middle third both ways.
* One thing is left of another if it is further to its left than it is above or below it.
* What "and" joins are different things: one red circle is not "a red circle and a small
  red circle".

What the sample says is clear of these borders, by `CLEAR`, and it is said of the first
thing of a scene. The first thing of a scene of test is of a size, a colour and a shape that
train never has together, only two of them at a time, and valid has others of its own. So
each has to be learnt for itself; and no caption is true of many scenes.
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
# What each shape is inside of, in a box from -1 to 1, with y downward.
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
ACROSS = {"small": (13, 15), "large": (25, 27)}  # pixels; odd, so that sides are sharp
# What is in no scene of train, nor of any other part than its own: one in eight of all
# sizes, colours and shapes together.
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
# How many pixels within its place a thing is that is said to be there, and how many times
# as far above another as beside it one that is said to be above it.
CLEAR = {"pixels": 3, "times": 1.5}
_GAP = 3  # pixels between things
_FINER = 8  # how much finer it is drawn than it is shown


@dataclasses.dataclass(frozen=True)
class Thing:
    """Something in a scene.

    Attributes:
        x: The column of its centre, from the left.
        y: The row of its centre, from the top.
        across: Its width and height, in pixels.
    """

    shape: str
    colour: str
    size: str
    x: int
    y: int
    across: int

    def is_at(self, place: str, inside: float = 0) -> bool:
        """Whether it is in one of `PLACES`, by more than so many pixels."""
        low, high = SIDE / 3, 2 * SIDE / 3
        return {
            "on the left": low - self.x,
            "on the right": self.x - high,
            "at the top": low - self.y,
            "at the bottom": self.y - high,
            "in the middle": min(self.x - low, high - self.x, self.y - low, high - self.y),
        }[place] > inside

    def stands(self, relation: str, other: "Thing", times: float = 1) -> bool:
        """Whether one of `RELATIONS` is true, by so many times what it is off the axis."""
        right, down = self.x - other.x, self.y - other.y
        ahead, aside = {
            "left of": (-right, down),
            "right of": (right, down),
            "above": (-down, right),
            "below": (down, right),
        }[relation]
        return ahead > times * abs(aside)

    def is_apart(self, other: "Thing") -> bool:
        """Whether rows or columns of pixels are between the boxes of the two."""
        away = max(abs(self.x - other.x), abs(self.y - other.y))
        return away >= (self.across + other.across) / 2 + _GAP


@dataclasses.dataclass(frozen=True)
class Phrase:
    """How many things there are of a description: "two small red circles".

    Attributes:
        size: Empty where things of any size are meant.
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
        """Those of the things that it describes, whether or not they are as many."""
        wanted = (self.colour, self.shape)
        return [
            thing
            for thing in things
            if (thing.colour, thing.shape) == wanted and self.size in ("", thing.size)
        ]


def parts() -> dict[str, Stream]:
    """The three parts, each drawn anew whenever it is read."""
    return {part: Stream(lambda part=part: _draw(part)) for part in SIZES}


def is_true(caption: str, scene: str) -> bool:
    """Whether a text is a caption, well-formed, and true of a scene.

    Args:
        caption: Any text at all.
        scene: JSON, as the examples have it.
    """
    things = [Thing(**thing) for thing in json.loads(scene)]
    if _counted(caption, things):
        return True
    for place in PLACES:
        if caption.endswith(f" {place}"):
            told = _counted(caption.removesuffix(f" {place}"), things)
            return len(told) == 1 and told[0].is_at(place)
    for relation in RELATIONS:
        one, found, other = caption.partition(f" {relation} ")
        if found:
            told = _counted(one, things), _counted(other, things)
            return [*map(len, told)] == [1, 1] and told[0][0].stands(relation, told[1][0])
    one, _, other = caption.partition(" and ")
    told = _counted(one, things), _counted(other, things)
    return all(told) and not any(thing in told[0] for thing in told[1])


def _counted(text: str, things: list[Thing]) -> list[Thing]:
    """What a phrase tells of; nothing if it is no phrase, or there are more or fewer."""
    phrase = _phrases().get(text)
    told = phrase.described(things) if phrase else []
    return told if phrase and len(told) == phrase.number else []


@functools.cache
def _phrases() -> dict[str, Phrase]:
    """All phrases there are, by how they are written."""
    numbers = range(1, len(NUMBERS) + 1)
    choices = itertools.product(numbers, ("", *ACROSS), COLOURS, SHAPES)
    return {str(phrase): phrase for phrase in itertools.starmap(Phrase, choices)}


# --- What is drawn, and said of it -----------------------------------------------


def _draw(part: str) -> Iterator[Example]:
    held_out = [tuple(kind.split()) for kinds in HELD_OUT.values() for kind in kinds]
    every = itertools.product(ACROSS, COLOURS, SHAPES)
    seen = [kind for kind in every if kind not in held_out]
    about = [tuple(kind.split()) for kind in HELD_OUT.get(part, ())] or seen
    for number in range(1, SIZES[part] + 1):
        source = random.Random(f"{SEED} {part} {number}")
        things = _things(about[number % len(about)], seen, source)
        values = {
            "image_bytes": _picture(things, source),
            "captions": _captions(things, source),
            "scene": json.dumps([vars(thing) for thing in things]),
        }
        yield Example(values, f"sample:{part}:{number}")


def _things(first, seen, source) -> list[Thing]:
    """One to three things: the first, more of its colour and shape, others of another colour."""
    (count,) = source.choices((1, 2, 3), (1, 2, 2))
    alike = source.randint(1, count)
    like = [first, *(kind for kind in seen if kind[1:] == first[1:])]
    kinds = [first, *(source.choice(like) for _ in range(alike - 1))]
    others = [kind for kind in seen if kind[1] != first[1]]
    kinds += [source.choice(others) for _ in range(count - alike)]
    while True:
        things = []
        for size, colour, shape in kinds:
            across = source.choice(ACROSS[size])
            reach = across // 2 + 1
            x, y = (source.randrange(reach, SIDE - reach) for _ in "xy")
            thing = Thing(shape, colour, size, x, y, across)
            if not all(map(thing.is_apart, things)):
                break
            things.append(thing)
        else:
            return things


def _captions(things, source) -> tuple[str, ...]:
    """One to three captions, each telling another kind of thing."""
    kinds = [captions for captions in _sayable(things) if captions]
    kinds = source.sample(kinds, min(len(kinds), source.choice((1, 2, 3, 3))))
    return tuple(source.choice(captions) for captions in kinds)


def _sayable(things) -> tuple[list[str], ...]:
    """What can be said of the first thing: how many, where, beside what, and with what."""
    counted, placed, related, joined = [], [], [], []
    first, *others = things
    for one in _phrases_of(first, things):
        if not others or one.number > 1:
            counted.append(str(one))
        if one.number == 1:
            there = [place for place in PLACES if first.is_at(place, CLEAR["pixels"])]
            placed += [f"{one} {place}" for place in there]
        for thing in others:
            for other in _phrases_of(thing, things):
                if one.number == other.number == 1:
                    related += _relations(one, first, other, thing)
                    related += _relations(other, thing, one, first)
                if thing not in one.described(things) and first not in other.described(things):
                    joined += [f"{one} and {other}", f"{other} and {one}"]
    return counted, placed, related, joined


def _relations(one, thing, other, there) -> list[str]:
    """How a thing stands to the one there; each comes with its phrase."""
    return [
        f"{one} {relation} {other}"
        for relation in RELATIONS
        if thing.stands(relation, there, CLEAR["times"])
    ]


def _phrases_of(thing, things) -> Iterator[Phrase]:
    """The phrases that count a thing, and all that are like it."""
    for size in ("", thing.size):
        number = len(Phrase(1, size, thing.colour, thing.shape).described(things))
        yield Phrase(number, size, thing.colour, thing.shape)


def _picture(things, source) -> bytes:
    """Draws things on a dark ground, as a PNG."""
    from PIL import Image

    tint = [source.randint(28, 60) for _ in "rgb"]
    grain = np.frombuffer(source.randbytes(SIDE * SIDE), np.uint8).reshape(SIDE, SIDE, 1) % 8
    picture = np.array(tint, np.float32) + grain
    for thing in things:
        covered = _covered(thing.shape, thing.across)
        up, left = thing.y - len(covered) // 2, thing.x - len(covered) // 2
        box = picture[up : up + len(covered), left : left + len(covered)]
        box += covered * (np.array(COLOURS[thing.colour], np.float32) - box)
    png = io.BytesIO()
    Image.fromarray(np.rint(picture).astype(np.uint8)).save(png, "png", compress_level=1)
    return png.getvalue()


@functools.cache
def _covered(shape: str, across: int) -> np.ndarray:
    """How much of each pixel a shape covers, in its box and one pixel around."""
    from PIL import Image, ImageDraw

    side = _FINER * (across + 2)
    mask = Image.new("L", (side, side))
    # What Pillow draws has the pixels at both ends, so it is one more across than told.
    reach = _FINER * across - 1
    outline = [tuple((side - 1 + reach * at) / 2 for at in point) for point in SHAPES[shape]]
    ImageDraw.Draw(mask).polygon(outline, fill=255)
    return np.asarray(mask.reduce(_FINER), np.float32)[..., None] / 255
