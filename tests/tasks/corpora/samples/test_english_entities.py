"""Embedded sample of named entities: well-formed tags, names of each part, and hard cases."""

import hashlib
import itertools
import json

import pytest

from tasks.core.errors import UserError
from tasks.core.examples import PARTS
from tasks.corpora.labelled_text import LabelledTexts
from tasks.corpora.tagged_sentences import TaggedSentences

# Parts of names that occur in every part: titles, models and so on.
COMMON_WORDS = "Dr. Mr. Mrs. Lord van de Port New Mount North Valley Bay Island 300 X2 Pro Mini 7"
COMMON = {*COMMON_WORDS.split()}
SPLITS = TaggedSentences(data="sample:entities").open()
ROWS = {
    part: [(example.values["tokens"], example.values["tags"]) for example in getattr(SPLITS, part)]
    for part in PARTS
}


def spans(tags):
    """The entities of tags of BIO, each the list of its positions."""
    result = []
    for position, tag in enumerate(tags):
        if tag[0] == "B":
            result.append([position])
        elif tag[0] == "I":
            assert result[-1][-1] == position - 1 and tags[position - 1][2:] == tag[2:]
            result[-1].append(position)
        else:
            assert tag == "O"
    return result


def test_the_parts_have_their_sizes_and_no_common_sentence():
    assert {part: len(rows) for part, rows in ROWS.items()} == {
        "train": 2000, "valid": 300, "test": 300
    }  # fmt: skip
    texts = [" ".join(tokens) for rows in ROWS.values() for tokens, _ in rows]
    assert len(set(texts)) == len(texts)


def test_no_name_of_a_part_occurs_in_another():
    names = [
        {w for tokens, tags in rows for w, t in zip(tokens, tags, strict=True) if t != "O"} - COMMON
        for rows in ROWS.values()
    ]
    assert all(len(part) > 100 for part in names)
    assert not names[0] & names[1] and not names[0] & names[2] and not names[1] & names[2]


def test_entities_have_several_words_and_follow_each_other():
    for rows in ROWS.values():
        sizes, neighbours = set(), set()
        for tokens, tags in rows:
            assert len(tokens) == len(tags)
            entities = spans(tags)
            sizes.update(map(len, entities))
            for one, other in itertools.pairwise(entities):
                if one[-1] + 1 == other[0]:
                    neighbours.add(tags[one[0]][2:] == tags[other[0]][2:])
        assert sizes == {1, 2, 3} and neighbours == {False, True}


def test_the_sample_is_the_same_on_every_machine():
    checksum = hashlib.sha256(json.dumps(ROWS).encode()).hexdigest()
    assert checksum[:16] == "ea93c210c069a323"


def test_other_samples_are_rejected_by_name():
    with pytest.raises(UserError, match=r"\['sample', 'sample:entities'\], got 'sample:names'"):
        TaggedSentences(data="sample:names")
    with pytest.raises(UserError, match=r"\['sample'\], got 'sample:entities'"):
        LabelledTexts(data="sample:entities")
    with pytest.raises(UserError, match="--valid requires --train or --data"):
        TaggedSentences(data="sample:entities", valid="x.conllu").open()
