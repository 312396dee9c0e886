"""Splits by label and hash: proportions, order, duplicates, conflicting labels."""

import random

import pytest

import tasks
from tasks.core import splitting
from tasks.core.examples import PARTS, Example, Stream
from tasks.core.splitting import StratifiedSplit

SHARES = (0.8, 0.1, 0.1)


def examples(counts, seed=0):
    """Distinct texts of some labels, in a random order."""
    rows = [
        Example({"text": f"{label} {number}", "label": label}, f"a:{number}")
        for label, count in counts.items()
        for number in range(count)
    ]
    random.Random(seed).shuffle(rows)
    return rows


def split(rows, shares=SHARES):
    """The part of each pair of a text and a label."""
    made = StratifiedSplit(
        Stream(lambda: rows), lambda e: e.values["text"], lambda e: e.values["label"], shares
    )
    return {(e.values["text"], e.values["label"]): made.part(e) for e in rows}


@pytest.mark.parametrize("shares", [SHARES, (0.9, 0.1), (1 / 3, 1 / 3, 1 / 3)])
def test_each_part_has_its_share_of_every_label(shares):
    counts = {"common": 1000, "rare": 40, "rarer": 10}
    parts = split(examples(counts), shares)
    for label, count in counts.items():
        sizes = [
            sum(part == index for (_, own), part in parts.items() if own == label)
            for index in range(len(shares))
        ]
        assert sum(sizes) == count
        assert all(abs(n - share * count) <= 1 for n, share in zip(sizes, shares, strict=True))


@pytest.mark.parametrize("count", range(1, 5))
def test_a_label_of_few_texts_is_in_the_train_part(count):
    assert 0 in split(examples({"a": count, "b": 50})).values()
    parts = [part for (_, label), part in split(examples({"a": count})).items()]
    assert parts.count(0) >= count - 1


def test_neither_the_order_nor_duplicates_matter():
    rows = examples({"a": 60, "b": 30})
    expected = split(rows)
    assert split(examples({"a": 60, "b": 30}, seed=1)) == expected
    assert split([*rows, *rows[::3]]) == expected


def test_a_text_with_several_labels_is_in_one_part():
    rows = examples({"a": 200, "b": 200})
    conflicting = [
        Example({**e.values, "label": "c" * (i % 3 + 1)}, "") for i, e in enumerate(rows)
    ]
    for order in ([*rows, *conflicting], [*conflicting, *rows]):
        parts = {}
        for (text, _), part in split(order).items():
            parts.setdefault(text, set()).add(part)
        assert all(len(own) == 1 for own in parts.values())
        assert {part for own in parts.values() for part in own} == {0, 1, 2}


def test_of_many_examples_the_hash_alone_decides(monkeypatch):
    rows = examples({"a": 600, "b": 40})
    monkeypatch.setattr(splitting, "MAX_STRATIFIED", 100)
    parts = list(split(rows).values())
    assert parts == list(split([*rows, *rows]).values())
    assert 0.7 < parts.count(0) / len(parts) < 0.9


def test_no_examples_can_be_split():
    assert split([]) == {}


def test_a_corpus_without_parts_is_split_by_label(tmp_path):
    path = tmp_path / "a.tsv"
    rows = [(f"text {n}", "rare" if n % 20 == 0 else "common") for n in range(400)]
    path.write_text("".join(f"{text}\t{label}\n" for text, label in rows))
    corpus = tasks.declaration("sentiment").Corpus(data=str(path))
    splits = corpus.open()
    assert splits.notes == (
        "no valid and no test part: split by label and the hash of the text into train 80 %, "
        "valid 10 %, test 10 %",
    )
    counts = {}
    for part in PARTS:
        labels = [e.values["label"] for e in getattr(splits, part)]
        counts[part] = (labels.count("common"), labels.count("rare"))
    assert counts == {"train": (304, 16), "valid": (38, 2), "test": (38, 2)}
    valid, _ = corpus.part("valid")
    assert [e.origin for e in valid] == [e.origin for e in splits.valid]
