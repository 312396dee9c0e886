"""The survey of a corpus: lengths, words and suspicious examples."""

import pytest

import tasks
from tasks.core import survey as surveys
from tasks.core.examples import Example, Splits, Stream
from tasks.core.survey import distinctive_words, survey


def surveyed(name, **parts):
    def stream(part):
        rows = [Example(values, f"{part}:{n}") for n, values in enumerate(parts.get(part, ()), 1)]
        return Stream(lambda: rows)

    splits = Splits(*(stream(part) for part in ("train", "valid", "test")))
    return survey(splits, tasks.declaration(name).Corpus().identity)


def labelled(*pairs):
    return [{"text": text, "label": label} for text, label in pairs]


def test_lengths_and_words_are_counted_by_part_and_class():
    found = surveyed(
        "sentiment",
        train=labelled(("good film", "x"), ("Good good plot", "x"), ("bad film", "y")),
        test=labelled(("a b c d", "y"), ("", "y")),
    )
    assert found.lengths == {"train": {2: 2, 3: 1}, "valid": {}, "test": {4: 1, 0: 1}}
    assert found.words == {"x": {"good": 3, "film": 1, "plot": 1}, "y": {"bad": 1, "film": 1}}
    assert distinctive_words(found, "x", 1) == ["good"]
    assert distinctive_words(found, "y", 1) == ["bad"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no words"),
        ("caf\ufffd", "replacement characters: its bytes were not valid in the encoding"),
        ("cafÃ© nice", "looks like UTF-8 that was decoded as Windows-1252"),
        ("a\x07b", "control or unassigned characters"),
        ("soft\u00adhyphen", "control or unassigned characters"),
        ("naïve 好 film", ""),
        ("क्‍ष", ""),  # with a zero-width joiner, as Hindi has it
    ],
)
def test_odd_texts_are_named(text, reason):
    found = surveyed("sentiment", valid=labelled((text, "x")))
    reasons = [s.reason for s in found.suspicions if s.reason != "among the longest"]
    assert reasons == ([reason] if reason else [])
    assert {(s.part, s.origin, s.target) for s in found.suspicions} == {("valid", "valid:1", "x")}


def test_conflicting_labels_are_shown_together():
    rows = labelled(("a", "x"), ("b", "x"), ("a", "y"), ("b", "x"), ("c", "z"))
    found = surveyed("sentiment", train=rows, test=labelled(("a", "z")))
    shown = [s for s in found.suspicions if s.reason == "the same text has different labels"]
    assert [(s.origin, s.target) for s in shown] == [
        ("train:1", "x"),
        ("train:3", "y"),
        ("test:1", "z"),
    ]


def test_few_examples_of_each_kind_are_kept():
    found = surveyed("sentiment", train=labelled(*((" ", "x") for _ in range(50))))
    assert len(found.suspicions) == 2 * surveys._SHOWN
    rows = labelled(*(("w " * n, "x") for n in range(1, 40)))
    longest = surveyed("sentiment", train=rows).suspicions
    assert [s.origin for s in longest] == [f"train:{n}" for n in range(39, 29, -1)]


def test_words_are_counted_in_bounded_memory(monkeypatch):
    monkeypatch.setattr(surveys, "MAX_WORDS", 8)
    rows = labelled(*((f"often rare{n} seldom{n}", "x") for n in range(40)))
    words = surveyed("sentiment", train=rows).words["x"]
    assert len(words) <= 8 + 3
    assert words["often"] == 40


def test_several_labels_are_told_apart():
    found = surveyed("sentiment", train=[{"text": "a", "label": ("new film", "dull")}])
    assert found.suspicions[0].target == "new film | dull"


def test_other_tasks_have_no_classes():
    found = surveyed("translation", train=[{"text": "ein Hund", "translation": "a dog"}])
    assert found.words == {"": {"ein": 1, "hund": 1}}
    assert found.suspicions[0].target == "a dog"
    tagged = surveyed("tagging", train=[{"tokens": ("a", "b"), "tags": ("N", "V")}])
    assert tagged.lengths["train"] == {2: 1} and tagged.suspicions[0].target == "N V"
