"""Embedded sample for captioning: pictures, captions, and the truth of captions."""

import collections
import hashlib
import itertools
import json
import math
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tasks.core.examples import PARTS
from tasks.corpora.samples import scenes

# Written by hand: no check in this file relies on the module under test.
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
PLURALS = {
    "circle": "circles",
    "square": "squares",
    "triangle": "triangles",
    "diamond": "diamonds",
    "cross": "crosses",
    "star": "stars",
}
NUMBERS = {"a": 1, "an": 1, "two": 2, "three": 3}
PLACES = {
    "on the left": lambda x, y: 3 * x < 64,
    "on the right": lambda x, y: 3 * x > 128,
    "at the top": lambda x, y: 3 * y < 64,
    "at the bottom": lambda x, y: 3 * y > 128,
    "in the middle": lambda x, y: 64 < 3 * x < 128 and 64 < 3 * y < 128,
}
RELATIONS = {  # arguments: how far the first thing is to the right of, and below, the second
    "left of": lambda right, down: -right > abs(down),
    "right of": lambda right, down: right > abs(down),
    "above": lambda right, down: -down > abs(right),
    "below": lambda right, down: down > abs(right),
}
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
PHRASE = re.compile(
    f"({'|'.join(NUMBERS)}) (?:(small|large) )?({'|'.join(COLOURS)}) "
    f"({'|'.join([*PLURALS, *PLURALS.values()])})"
)
CAPTION = re.compile(
    f"(?P<first>.+?)(?: (?P<place>{'|'.join(PLACES)})"
    f"| (?P<joint>and|{'|'.join(RELATIONS)}) (?P<second>.+))?"
)
FIRST = 150  # number of examples for slow checks
QUICK = 3000  # of a part in the quick suite


def described(text, things):
    """Returns the indices of the things that a phrase describes; [] if it is not true."""
    match = PHRASE.fullmatch(text)
    if not match:
        return []
    number, size, colour, shape = match.groups()
    many = NUMBERS[number] > 1
    if (shape in PLURALS) == many:
        return []
    if not many and number != ("an" if size is None and colour == "orange" else "a"):
        return []
    indices = [
        index
        for index, thing in enumerate(things)
        if thing["colour"] == colour
        and shape == (PLURALS[thing["shape"]] if many else thing["shape"])
        and (size is None or thing["size"] == size)
    ]
    return indices if len(indices) == NUMBERS[number] else []


def is_true_by_reference(caption, scene):
    """Independent implementation of `scenes.is_true`."""
    things, match = json.loads(scene), CAPTION.fullmatch(caption)
    if not match:
        return False
    first = described(match["first"], things)
    if match["place"]:
        if len(first) != 1:
            return False
        thing = things[first[0]]
        return PLACES[match["place"]](thing["x"], thing["y"])
    if not match["joint"]:
        return bool(first)
    second = described(match["second"], things)
    if match["joint"] == "and":
        return bool(first and second) and not set(first) & set(second)
    if len(first) != 1 or len(second) != 1:
        return False
    right, down = (things[first[0]][axis] - things[second[0]][axis] for axis in "xy")
    return RELATIONS[match["joint"]](right, down)


def scene_of(*things):
    """Returns a scene as JSON, given things such as "small red circle 10 20"."""
    keys = ("size", "colour", "shape", "x", "y")
    rows = [dict(zip(keys, thing.split(), strict=True)) for thing in things]
    for row in rows:
        across = 13 if row["size"] == "small" else 25
        row.update(x=int(row["x"]), y=int(row["y"]), across=across)
    return json.dumps(rows)


@pytest.fixture(scope="module", params=[QUICK, pytest.param(None, marks=pytest.mark.slow)])
def sample(request):
    """The first examples of each part; None: all of them."""
    parts = scenes.parts().items()
    return {part: list(itertools.islice(stream, request.param)) for part, stream in parts}


def things(example):
    return json.loads(example.values["scene"])


def kinds(example):
    return [f"{thing['size']} {thing['colour']} {thing['shape']}" for thing in things(example)]


def captions(sample, part, count=None):
    """Yields captions with their scenes."""
    for example in sample[part][:count]:
        for caption in example.values["captions"]:
            yield caption, example.values["scene"]


# --- The sample ------------------------------------------------------------------

DIGESTS = f"""
import hashlib, itertools
from tasks.corpora.samples import scenes
for stream in scenes.parts().values():
    values = [dict(example.values) for example in itertools.islice(stream, {FIRST})]
    print(hashlib.sha256(repr(values).encode()).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.parametrize("sample", [None], indirect=True)
def test_the_sample_is_the_same_in_every_process_and_on_every_machine(sample):
    digests = [
        hashlib.sha256(repr([dict(e.values) for e in sample[part][:FIRST]]).encode()).hexdigest()
        for part in PARTS
    ]
    for seed in ("1", "2"):
        root = Path(__file__).parents[4]
        process = subprocess.run(
            [sys.executable, "-c", DIGESTS],
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
        assert process.stdout.split() == digests
    # Not the bytes of the PNG, which may depend on the version of Pillow.
    texts = [[*captions(sample, part)] for part in PARTS]
    digest = hashlib.sha256(json.dumps(texts).encode()).hexdigest()
    assert digest[:16] == "9c4a791ec516337d"


@pytest.mark.parametrize("sample", [None], indirect=True)
def test_the_sample_has_the_stated_sizes_and_no_duplicate_scenes(sample):
    assert list(sample) == [*PARTS]
    assert {part: len(examples) for part, examples in sample.items()} == scenes.SIZES
    everything = [example for part in PARTS for example in sample[part]]
    assert len({example.values["image_bytes"] for example in everything}) == len(everything)
    train, valid, test = ({e.values["scene"] for e in sample[part]} for part in PARTS)
    assert not train & (valid | test) and not valid & test
    assert len(train) > 0.99 * len(sample["train"])  # scenes with one thing may recur
    for part in PARTS:
        origins = [f"sample:{part}:{number + 1}" for number in range(scenes.SIZES[part])]
        assert [example.origin for example in sample[part]] == origins


def test_a_part_is_drawn_as_it_is_read(sample, monkeypatch):
    monkeypatch.setitem(scenes.SIZES, "train", 10**9)
    examples = [*itertools.islice(scenes.parts()["train"], 3)]
    assert examples == sample["train"][:3]


def test_captions_are_one_to_three_different_ones_in_few_words(sample):
    words, lengths = {}, collections.Counter()
    for part in PARTS:
        for example in sample[part]:
            texts = example.values["captions"]
            assert isinstance(texts, tuple) and len(set(texts)) == len(texts)
            assert all(caption == " ".join(caption.lower().split()) for caption in texts)
            lengths[len(texts)] += 1
        words[part] = collections.Counter(w for c, _ in captions(sample, part) for w in c.split())
    assert lengths.keys() == {1, 2, 3}
    assert len(words["train"]) < 60
    assert words["valid"].keys() | words["test"].keys() <= words["train"].keys()
    assert min(words["train"].values()) > len(sample["train"]) / 150
    for part in PARTS:
        for kind in ("and", *RELATIONS, *PLACES, "two", "three"):
            count = sum(kind in caption for caption, _ in captions(sample, part))
            assert count > len(sample[part]) / 70, kind


# --- Pictures --------------------------------------------------------------------


def is_inside(shape, u, v):
    """Whether points of the box from -1 to 1 belong to a shape; v points down."""
    if shape == "star":
        tip, notch, step = 1.1, 0.48, math.pi / 5
        turn = np.abs((np.arctan2(u, -v) + step) % (2 * step) - step)
        edge = tip * np.sin(turn) + notch * np.sin(step - turn)
        return np.hypot(u, v) * edge < tip * notch * math.sin(step)
    return {
        "circle": u**2 + v**2 < 1,
        "square": np.maximum(abs(u), abs(v)) < 1,
        "triangle": (2 * abs(u) < v + 1) & (v < 1),
        "diamond": abs(u) + abs(v) < 1,
        "cross": (np.minimum(abs(u), abs(v)) < 1 / 3) & (np.maximum(abs(u), abs(v)) < 1),
    }[shape]


def covered(thing):
    """Returns the fraction of each pixel that a thing covers, from 64 points per pixel."""
    fine = (np.arange(64 * 8) + 0.5) / 8 - 0.5
    u, v = (2 * (fine - thing[axis]) / thing["across"] for axis in "xy")
    inside = is_inside(thing["shape"], u[None, :], v[:, None])
    return inside.reshape(64, 8, 64, 8).mean((1, 3))[..., None]


def test_pictures_show_the_things_of_their_scenes_and_nothing_else(sample):
    import tensorflow as tf

    kinds_drawn, backgrounds = set(), set()
    for example in sample["train"][: FIRST // 2] + sample["test"][: FIRST // 2]:
        picture = tf.io.decode_png(example.values["image_bytes"]).numpy().astype(int)
        assert picture.shape == (64, 64, 3)
        background = np.median(picture, (0, 1))
        expected, bare = np.tile(background, (64, 64, 1)), np.ones((64, 64), bool)
        for thing in things(example):
            share, colour = covered(thing), COLOURS[thing["colour"]]
            assert (picture[thing["y"], thing["x"]] == colour).all()
            expected += share * (colour - expected)
            bare &= share[..., 0] == 0
            kinds_drawn.add((thing["shape"], thing["size"]))
        error = np.abs(picture - expected)
        assert background.max() < 70 and error[bare].mean() < 3
        assert error.max() < 60, example.values["scene"]  # antialiased edges differ
        assert error[~bare].mean() < 8
        backgrounds.add(tuple(background))
    assert kinds_drawn == set(itertools.product(PLURALS, ("small", "large")))
    assert len(backgrounds) > FIRST / 2


def test_things_are_large_enough_apart_and_within_the_picture(sample):
    for part in PARTS:
        for example in sample[part]:
            boxes = []
            for thing in things(example):
                low, high = {"small": (13, 15), "large": (25, 27)}[thing["size"]]
                assert low <= thing["across"] <= high
                half = thing["across"] / 2
                box = [(thing[axis] - half, thing[axis] + half) for axis in "xy"]
                assert all(start >= 0 and end <= 63 for start, end in box)
                boxes.append(box)
            for first, second in itertools.combinations(boxes, 2):
                gaps = [max(a - d, c - b) for (a, b), (c, d) in zip(first, second, strict=True)]
                assert max(gaps) >= 3


def test_other_shapes_differ_from_the_first_in_colour(sample):
    for part in PARTS:
        for example in sample[part]:
            first, *others = things(example)
            for other in others:
                assert (other["colour"] == first["colour"]) == (
                    (other["colour"], other["shape"]) == (first["colour"], first["shape"])
                )


# --- Truth of captions ----------------------------------------------------------------

# Two small red circles on the left and a large one top right, a small blue cross in the
# middle and a large orange square bottom right.
HAND = scene_of(
    "small red circle 8 10",
    "large red circle 50 12",
    "small blue cross 32 33",
    "small red circle 10 54",
    "large orange square 46 50",
)


@pytest.mark.parametrize(
    ("caption", "expected"),
    {
        # Phrases count all that they describe.
        "three red circles": True,
        "two small red circles": True,
        "a large red circle": True,
        "an orange square": True,
        "a large orange square": True,
        "a blue cross": True,
        "a red circle": False,
        "two red circles": False,
        "three small red circles": False,
        "four red circles": False,
        "a small red circle": False,
        "two large red circles": False,
        "a small orange square": False,
        "a large blue cross": False,
        "a red cross": False,
        "a blue circle": False,
        "a green star": False,
        # Places.
        "a blue cross in the middle": True,
        "a large red circle on the right": True,
        "a large red circle at the top": True,
        "an orange square at the bottom": True,
        "an orange square on the right": True,
        "a blue cross on the left": False,
        "a blue cross at the top": False,
        "a large red circle on the left": False,
        "a large red circle at the bottom": False,
        "a large red circle in the middle": False,
        "an orange square at the top": False,
        "an orange square on the left": False,
        "a small red circle on the left": False,
        "two small red circles on the left": False,
        # Relations: along the longer axis only.
        "a large red circle above an orange square": True,
        "an orange square below a large red circle": True,
        "an orange square below a small blue cross": True,
        "a blue cross above an orange square": True,
        "a large red circle above a blue cross": True,
        "a large red circle below an orange square": False,
        "an orange square above a large red circle": False,
        "a blue cross left of an orange square": False,
        "a large red circle right of an orange square": False,
        "a large red circle left of an orange square": False,
        "a blue cross below a large red circle": True,
        "a blue cross right of a red circle": False,
        "a blue cross right of a small red circle": False,
        "a blue cross above a blue cross": False,
        "two small red circles left of a blue cross": False,
        "a blue cross right of two small red circles": False,
        # Different things.
        "two small red circles and a large red circle": True,
        "three red circles and an orange square": True,
        "a blue cross and an orange square": True,
        "three red circles and a large red circle": False,
        "a blue cross and a blue cross": False,
        "a blue cross and a small blue cross": False,
        "a red circle and a blue cross": False,
        "a blue cross and a green star": False,
        # Not well-formed.
        "": False,
        " ": False,
        "a": False,
        "blue cross": False,
        "a cross": False,
        "a blue": False,
        "a blue crosses": False,
        "an blue cross": False,
        "a orange square": False,
        "an large orange square": False,
        "one blue cross": False,
        "three red circle": False,
        "three red circless": False,
        "two small red circle": False,
        "five red circles": False,
        "a blue small cross": False,
        "a small small blue cross": False,
        "small a blue cross": False,
        "A blue cross": False,
        "a blue cross .": False,
        "a blue cross ": False,
        " a blue cross": False,
        "a  blue cross": False,
        "a blue cross\n": False,
        "a blue\tcross": False,
        "a blue cross and": False,
        "and a blue cross": False,
        "a blue cross above": False,
        "above a blue cross": False,
        "a blue cross a orange square": False,
        "a blue cross an orange square": False,
        "a blue cross in the middle and an orange square": False,
        "a blue cross and an orange square on the right": False,
        "a blue cross in the left": False,
        "a blue cross on the middle": False,
        "a blue cross at the left": False,
        "a blue cross in the middle in the middle": False,
        "in the middle a blue cross": False,
        "a blue cross and an orange square and a large red circle": False,
        "a large red circle above a blue cross above an orange square": False,
        "a large red circle above of a blue cross": False,
        "a large red circle above and a blue cross": False,
        "a blue cross left an orange square": False,
        "the blue cross": False,
    }.items(),
)
def test_truth_of_captions_of_a_handwritten_scene(caption, expected):
    assert scenes.is_true(caption, HAND) is expected
    assert is_true_by_reference(caption, HAND) is expected


@pytest.mark.parametrize(
    ("x", "y", "relation"),
    [
        (10, 32, "right of"),
        (54, 32, "left of"),
        (32, 10, "below"),
        (32, 54, "above"),
        (12, 13, "right of"),
        (13, 12, "below"),
        (51, 12, "below"),
        (52, 13, "left of"),
        (12, 51, "right of"),
        (12, 12, None),  # both distances are equal
        (52, 12, None),
    ],
)
def test_a_relation_holds_along_the_longer_axis(x, y, relation):
    scene = scene_of("small cyan star 32 32", f"large cyan star {x} {y}")
    for candidate in RELATIONS:
        assert scenes.is_true(f"a small cyan star {candidate} a large cyan star", scene) == (
            candidate == relation
        )


@pytest.mark.parametrize(
    ("x", "y", "places"),
    [
        (21, 21, ("on the left", "at the top")),
        (22, 22, ("in the middle",)),
        (42, 42, ("in the middle",)),
        (43, 43, ("on the right", "at the bottom")),
        (32, 21, ("at the top",)),
        (32, 43, ("at the bottom",)),
        (21, 32, ("on the left",)),
        (43, 32, ("on the right",)),
    ],
)
def test_a_place_is_a_third_of_the_picture(x, y, places):
    scene = scene_of(f"small green star {x} {y}")
    true_places = {place for place in PLACES if scenes.is_true(f"a green star {place}", scene)}
    assert true_places == set(places)


def test_every_caption_is_true_in_both_implementations(sample):
    for part in PARTS:
        for caption, scene in captions(sample, part):
            assert scenes.is_true(caption, scene), (caption, scene)
            assert is_true_by_reference(caption, scene), (caption, scene)


def classes():
    """Returns sets of words that can replace one another."""
    return (
        [*COLOURS],
        [*PLURALS],
        [*PLURALS.values()],
        ["small", "large"],
        ["two", "three"],
        ["above", "below"],
        ["left", "right"],
        ["top", "bottom"],
    )


def test_changing_one_word_makes_a_caption_false(sample):
    tried, true = collections.Counter(), collections.Counter()
    for caption, scene in captions(sample, "test"):
        words = caption.split()
        for index, word in enumerate(words):
            for kind, others in enumerate(classes()):
                for other in set(others) - {word} if word in others else ():
                    changed = " ".join([*words[:index], other, *words[index + 1 :]])
                    is_true = scenes.is_true(changed, scene)
                    assert is_true == is_true_by_reference(changed, scene), (changed, scene)
                    tried[kind] += 1
                    true[kind] += is_true
    # A changed caption is sometimes true: the scene may contain a blue circle as well.
    assert min(tried.values()) > 40 and len(tried) == len(classes())
    assert all(true[kind] < 0.03 * tried[kind] for kind in (0, 1, 2))
    assert true[3] < 0.25 * tried[3]  # a scene may have two small and two large ones
    assert not any(true[kind] for kind in (4, 5, 6, 7))


def test_a_reversed_relation_is_false(sample):
    tried = 0
    for caption, scene in captions(sample, "train"):
        for relation in RELATIONS:
            left, separator, right = caption.partition(f" {relation} ")
            if separator:
                tried += 1
                assert not scenes.is_true(f"{right} {relation} {left}", scene)
                word, *rest = relation.split()
                opposite = " ".join([OPPOSITE[word], *rest])
                assert scenes.is_true(f"{right} {opposite} {left}", scene)
                for wrong in set(RELATIONS) - {relation}:
                    assert not scenes.is_true(f"{left} {wrong} {right}", scene)
    assert tried > len(sample["train"]) / 15


def test_both_implementations_agree_on_scrambled_captions(sample):
    rng, counts = random.Random(1), collections.Counter()
    words = sorted({word for caption, _ in captions(sample, "train") for word in caption.split()})
    for caption, scene in captions(sample, "train", 4 * FIRST):
        for _ in range(12):
            scrambled = caption.split()
            for _ in range(rng.choice((1, 1, 2, 3))):
                i = rng.randrange(len(scrambled))
                change = rng.randrange(5)
                if change == 0:
                    scrambled.insert(i, rng.choice(words))
                elif change == 1 and len(scrambled) > 1:
                    del scrambled[i]
                elif change == 2:
                    scrambled[i] = rng.choice(words)
                elif change == 3:
                    j = rng.randrange(len(scrambled))
                    scrambled[i], scrambled[j] = scrambled[j], scrambled[i]
                else:
                    scrambled += [rng.choice(("and", "above", "left of")), *scrambled]
            text = " ".join(scrambled)
            is_true = scenes.is_true(text, scene)
            assert is_true is is_true_by_reference(text, scene), (text, scene)
            counts[is_true] += 1
    assert counts[True] > 300 and counts[False] > 5000


def test_more_captions_are_true_than_the_sample_contains(sample):
    others = collections.Counter()
    texts = [caption for caption, _ in captions(sample, "train")]
    for example in sample["train"][: FIRST // 3]:
        for caption in texts[:2000]:
            is_true = scenes.is_true(caption, example.values["scene"])
            assert is_true is is_true_by_reference(caption, example.values["scene"])
            others[is_true and caption not in example.values["captions"]] += 1
    assert others[True] > 100


def test_captions_of_the_sample_keep_the_margins(sample):
    for part in PARTS:
        for caption, scene in captions(sample, part):
            scene_things, match = json.loads(scene), CAPTION.fullmatch(caption)
            (x, y), *_ = centres = [
                (scene_things[index]["x"], scene_things[index]["y"])
                for text in (match["first"], match["second"])
                if text
                for index in described(text, scene_things)
            ]
            if match["place"]:
                for right, down in ((2, 0), (-2, 0), (0, 2), (0, -2)):
                    assert PLACES[match["place"]](x + right, y + down), (caption, scene)
            elif match["joint"] in RELATIONS:
                distances = sorted(abs(centres[0][axis] - centres[1][axis]) for axis in (0, 1))
                assert distances[1] > 1.4 * distances[0], (caption, scene)


# --- Difficulty ------------------------------------------------------------------


def test_the_test_part_has_held_out_combinations(sample):
    held_out = {part: set(combinations) for part, combinations in scenes.HELD_OUT.items()}
    assert not held_out["valid"] & held_out["test"]
    every = {" ".join(kind) for kind in itertools.product(("small", "large"), COLOURS, PLURALS)}
    assert len(held_out["test"]) == len(every) / 12
    shown = {part: {kind for e in sample[part] for kind in kinds(e)} for part in PARTS}
    assert shown["train"] == every - held_out["valid"] - held_out["test"]
    assert not shown["valid"] & held_out["test"]
    assert not shown["test"] & held_out["valid"]
    text = " ".join(caption for caption, _ in captions(sample, "train"))
    for kind in held_out["valid"] | held_out["test"]:
        assert (
            kind not in text and kind.replace(kind.split()[2], PLURALS[kind.split()[2]]) not in text
        )
    for left_out in range(3):  # every pair of attributes occurs in train
        pairs = [
            {tuple(kind.split()[:left_out] + kind.split()[left_out + 1 :]) for kind in combinations}
            for combinations in (every, shown["train"])
        ]
        assert pairs[0] == pairs[1]
    for part in PARTS[1:]:
        counts = collections.Counter()
        for example in sample[part]:
            (kind,) = held_out[part] & set(kinds(example))
            _, colour, shape = kind.split()
            for caption in example.values["captions"]:
                assert f"{colour} {shape}" in caption or f"{colour} {PLURALS[shape]}" in caption
            counts[kind] += 1
        assert set(counts.values()) == {scenes.SIZES[part] // len(held_out[part])}


def test_no_caption_is_true_of_many_scenes(sample):
    # A caption with a place, relation or pair is true of no more scenes than its phrases.
    all_things = [json.loads(example.values["scene"]) for example in sample["test"]]
    shares = {}
    for size, colour, shape in itertools.product(("", "small ", "large "), COLOURS, PLURALS):
        for number, many in (("a", 0), ("an", 0), ("two", 1), ("three", 1)):
            phrase = f"{number} {size}{colour} {PLURALS[shape] if many else shape}"
            shares[phrase] = sum(
                bool(described(phrase, scene_things)) for scene_things in all_things
            ) / len(all_things)
    assert max(shares.values()) < 0.12
    assert sum(share > 0 for share in shares.values()) > 100


def test_a_caption_of_another_scene_is_hardly_ever_true(sample):
    others = sample["test"][1:] + sample["test"][:1]
    truths = [
        scenes.is_true(caption, other.values["scene"])
        for example, other in zip(sample["test"], others, strict=True)
        for caption in example.values["captions"]
    ]
    assert sum(truths) < 0.03 * len(truths)


def test_no_attribute_can_be_guessed_from_the_others(sample):
    every = [thing for example in sample["train"] for thing in things(example)]
    for attribute, limit in (("colour", 0.25), ("shape", 0.33), ("size", 0.7)):
        others = [key for key in ("colour", "shape", "size") if key != attribute]
        counts_by_others = collections.defaultdict(collections.Counter)
        for thing in every:
            counts_by_others[tuple(thing[key] for key in others)][thing[attribute]] += 1
        correct = sum(max(counts.values()) for counts in counts_by_others.values())
        assert correct < limit * len(every), attribute
