"""The summary of a corpus that is printed before training."""

import tasks
from tasks.core.examples import Example, Splits, Stream
from tasks.core.summary import remarks, summarize


def lines(name, **parts):
    """The summary of parts, each a list of the values of examples."""

    def stream(part):
        rows = [Example(values, f"{part}:{n}") for n, values in enumerate(parts[part], 1)]
        return Stream(lambda: rows)

    splits = Splits(*(stream(part) for part in ("train", "valid", "test")))
    return list(remarks(summarize(splits, tasks.declaration(name).Corpus().identity)))


def labelled(*pairs):
    return [{"text": text, "label": label} for text, label in pairs]


def test_a_corpus_may_have_no_remarks():
    rows = [labelled((f"{part} a", "x"), (f"{part} b", "y")) for part in range(3)]
    assert lines("sentiment", train=rows[0], valid=rows[1], test=rows[2]) == []


def test_overlap_duplicates_conflicts_and_odd_labels_are_reported():
    train = labelled(("a", "x"), ("a", "x"), ("b", "x"), ("b", "y"), ("", "X"), ("c", "y"))
    valid = labelled(("d", "x"), ("e", "y"), ("f", "X"))
    test = labelled(("a", "y"), ("c", "y"), ("g", "y"))
    assert lines("sentiment", train=train, valid=valid, test=test) == [
        "the test part shares 2 of its 3 different inputs with the train part, so its scores "
        "may be too high",
        "1 of the 6 train examples repeats another one",
        "1 input of the train part has different labels or tags",
        "1 text of the train part is empty; the first: train:5",
        "labels that differ only in case or whitespace: 'X', 'x'",
        "the test part has no 'X', 'x'",
    ]


def test_rare_classes_are_reported():
    def train(**counts):
        rows = labelled(*((f"{k}{n}", k) for k, count in counts.items() for n in range(count)))
        return [
            line for line in lines("sentiment", train=rows, valid=[], test=[]) if "rare" in line
        ]

    assert train(ham=19, spam=1) == ["rare classes among the 20 train examples: 'spam' 1"]
    assert train(ham=18, spam=2) == []  # a fifth of an equal share
    several = train(a=1, b=2, c=1, d=1, e=1, f=1, g=100)
    assert several[0].endswith("'a' 1, 'c' 1, 'd' 1, 'e' 1, 'f' 1 and 1 more")


def test_tags_are_labels_and_several_translations_are_no_conflict():
    train = [{"tokens": ("a", "b"), "tags": ("N", "V")}, {"tokens": ("a", "b"), "tags": ("N", "N")}]
    other = [{"tokens": ("c",), "tags": ("N",)}]
    assert lines("tagging", train=train, valid=other, test=other) == [
        "1 input of the train part has different labels or tags",
        "the valid part has no 'V'; the test part has no 'V'",
    ]
    pairs = [{"text": "a", "translation": "b"}, {"text": "a", "translation": "c"}]
    other = [{"text": "d", "translation": "e"}]
    assert lines("translation", train=pairs, valid=other, test=[]) == []


def test_captions_of_the_same_image_in_two_parts_are_reported():
    image = [{"image_bytes": b"png", "captions": ("a",)}]
    assert lines("captioning", train=image, valid=image, test=[])[0].startswith(
        "the valid part shares 1 of its 1 different inputs"
    )
