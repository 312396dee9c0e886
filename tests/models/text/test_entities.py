"""Entities in tags: schemes, spans, the metric and the scores, against other ways to count."""

import itertools
import re

import keras
import numpy as np
import pytest

from models.layers.crf import CRF, ConstrainedDecoder
from models.layers.entity_f1 import EntityF1
from models.text.entities import (
    complete_tags,
    constraints,
    count_ill_formed,
    entities,
    find_scheme,
    neighbours,
    scheme,
)
from models.text.entity_tags import SchemeConverter, TagReader
from tasks.shapes.sequence_labelling.entity_scores import EntityScores

TYPES = ("LOC", "PER")
SCHEMES = {"IO": "I", "BIO": "BI", "BIOES": "BIES", "BILOU": "BILU"}


def tags_of(name):
    return ["O", *(f"{p}-{t}" for p, t in itertools.product(SCHEMES[name], TYPES))]


@pytest.mark.parametrize("name", SCHEMES)
def test_schemes_are_recognised(name):
    assert scheme(tags_of(name)) == name


@pytest.mark.parametrize(
    "tags", [["NOUN", "VERB"], ["O"], ["O", "X-PER"], ["B-PER", "I-PER"], ["O", "B-"], ["O", "B"]]
)
def test_other_tags_are_no_scheme(tags):
    assert scheme(tags) is None


def written(spans, length, name):
    """The tags of entities that do not overlap; each scheme as its definition says."""
    first, last, single = {
        "IO": "III", "BIO": "BIB", "BIOES": "BES", "BILOU": "BLU"
    }[name]  # fmt: skip
    tags = ["O"] * length
    for start, end, type_ in spans:
        tags[start:end] = [f"I-{type_}"] * (end - start)
        tags[start], tags[end - 1] = f"{first}-{type_}", f"{last}-{type_}"
        if end - start == 1:
            tags[start] = f"{single}-{type_}"
    return tags


@pytest.mark.parametrize("name", SCHEMES)
def test_entities_are_those_that_were_written(name):
    rng = np.random.default_rng(4)
    for _ in range(50):
        spans, position = [], 0
        while position < 12:
            size = int(rng.integers(1, 4))
            if rng.random() < 0.6 and position + size <= 12:
                spans.append((position, position + size, TYPES[rng.integers(2)]))
                position += size + (name == "IO")  # which cannot tell neighbours apart
            else:
                position += 1
        assert [tuple(entity) for entity in entities(written(spans, 12, name))] == spans


@pytest.mark.parametrize(
    ("tags", "spans"),  # ill-formed sequences, as `conlleval` counts them
    [
        ("I-PER I-PER", [(0, 2, "PER")]),
        ("O I-PER O", [(1, 2, "PER")]),
        ("B-PER I-LOC", [(0, 1, "PER"), (1, 2, "LOC")]),
        ("B-PER B-PER I-PER", [(0, 1, "PER"), (1, 3, "PER")]),
        ("I-PER B-PER", [(0, 1, "PER"), (1, 2, "PER")]),
        ("E-PER E-PER", [(0, 1, "PER"), (1, 2, "PER")]),
        ("S-PER I-PER", [(0, 1, "PER"), (1, 2, "PER")]),
        ("B-PER S-PER", [(0, 1, "PER"), (1, 2, "PER")]),
        ("", []),
    ],
)
def test_ill_formed_sequences_have_the_entities_of_conlleval(tags, spans):
    assert [tuple(entity) for entity in entities(tags.split())] == spans


def spans_by_pattern(tags):
    """Another way to find the entities: a regular expression over one letter per token."""
    letters = {"L": "E", "U": "S"}
    found = []
    for type_ in TYPES:
        own = "".join(letters.get(t[0], t[0]) if t.endswith(f"-{type_}") else "." for t in tags)
        found += [(m.start(), m.end(), type_) for m in re.finditer(r"S|B?I*E|BI*|I+", own) if m[0]]
    return set(found)


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("with_crf", [False, True])
def test_the_metric_counts_random_tags_like_a_pattern(name, with_crf):
    tags, rng = tags_of(name), np.random.default_rng(7)
    crf = CRF(len(tags)) if with_crf else None
    metric = EntityF1(tags, crf)
    correct = occurrences = 0
    for length in (1, 6, 9):
        references, predictions = rng.integers(len(tags), size=(2, 8, length))
        weights = (rng.random((8, length)) < 0.9).astype("float32")
        logits = np.eye(len(tags), dtype="float32")[predictions] * 5
        metric.update_state(references, logits, weights)
        for row, other, valid in zip(references, predictions, weights > 0, strict=True):
            one, two = (
                spans_by_pattern([tags[i] if v else "O" for i, v in zip(r, valid, strict=True)])
                for r in (row, other)
            )
            correct, occurrences = correct + len(one & two), occurrences + len(one) + len(two)
    assert correct > 0
    assert float(metric.result()) == pytest.approx(2 * correct / occurrences)


def test_the_metric_is_saved_with_a_model_and_counts_no_steps(tmp_path):
    tags = ["B-PER", "I-PER", "O"]
    model = keras.Sequential([keras.Input((None, 4)), keras.layers.Dense(3)])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=[EntityF1(tags)])
    x, y = np.ones((2, 5, 4), "float32"), np.zeros((2, 5), "int32")
    expected = model.evaluate(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.evaluate(x, y, verbose=0), expected, rtol=1e-6)
    metric = EntityF1(tags)
    metric.update_state(np.zeros((2, 0), "int32"), np.zeros((2, 0, 3), "float32"))
    assert float(metric.result()) == 0
    with pytest.raises(ValueError, match="load the model with compile=False"):
        EntityF1.from_config(EntityF1(tags, CRF(3, name="crf")).get_config())


def test_scores_and_errors_are_those_of_counting():
    counted = EntityScores()
    counted.add(
        ["B-PER", "I-PER", "O", "B-LOC", "O", "B-PER", "O", "B-LOC", "I-LOC"],
        ["B-PER", "I-PER", "O", "B-PER", "O", "O", "B-LOC", "O", "B-LOC"],
    )
    counted.add(["O", "B-LOC"], ["O", "B-LOC"])
    assert counted.scores() == {
        "entity_f1": pytest.approx(2 * 2 / (5 + 5)),
        "entity_precision": pytest.approx(2 / 5),
        "entity_recall": pytest.approx(2 / 5),
    }
    by_type, errors = counted.tables()
    assert [row[0] for row in by_type.rows] == ["LOC", "PER"]
    assert by_type.rows[0][4:] == [3, 3] and by_type.rows[1][4:] == [2, 2]
    assert {row[0]: row[1] for row in errors.rows} == {
        "wrong type": 1, "wrong boundary": 1, "wrong type and boundary": 0, "missed": 1,
        "spurious": 1,
    }  # fmt: skip
    for low, high in counted.intervals().values():
        assert 0 <= low <= 0.4 <= high <= 1


# Well-formed sequences as regular expressions, of tags that are each followed by a blank.
WELL_FORMED = {
    "IO": r"(O |I-\w+ )*",
    "BIO": r"(O |B-LOC (I-LOC )*|B-PER (I-PER )*)*",
    "BIOES": r"(O |S-\w+ |B-LOC (I-LOC )*E-LOC |B-PER (I-PER )*E-PER )*",
    "BILOU": r"(O |U-\w+ |B-LOC (I-LOC )*L-LOC |B-PER (I-PER )*L-PER )*",
    "IOB1": r"(O |I-LOC ([IB]-LOC )*|I-PER ([IB]-PER )*)*",
}


def is_well_formed(tags, name):
    return re.fullmatch(WELL_FORMED[name], "".join(f"{tag} " for tag in tags)) is not None


@pytest.mark.parametrize("name", WELL_FORMED)
def test_constraints_allow_the_well_formed_sequences_and_no_other(name):
    tags = complete_tags(TYPES, name)
    start, transitions, end = constraints(tags, name)
    for length in (1, 2, 3):
        for path in itertools.product(range(len(tags)), repeat=length):
            allowed = start[path[0]] and end[path[-1]]
            allowed = allowed and all(transitions[pair] for pair in itertools.pairwise(path))
            assert allowed == is_well_formed([tags[tag] for tag in path], name), path


def test_constraints_forbid_tags_of_other_schemes():
    start, transitions, end = constraints(["B-PER", "E-PER", "O", "odd"], "BIO")
    assert start.tolist() == [True, False, True, False] == end.tolist()
    assert not transitions[:, [1, 3]].any() and not transitions[[1, 3]].any()


def drawn_tags(tags, rows=40, seed=5):
    rng = np.random.default_rng(seed)
    return [list(rng.choice(tags, rng.integers(0, 9))) for _ in range(rows)]


def converted(sentences, name, target_name):
    """The sentences in another scheme, converted together."""
    tags, target = complete_tags(TYPES, name), complete_tags(TYPES, target_name)
    ids = np.array([tags.index(tag) for sentence in sentences for tag in sentence], np.int32)
    rows = np.repeat(np.arange(len(sentences)), [len(sentence) for sentence in sentences])
    ids = SchemeConverter(tags, target, target_name).convert(ids, rows).numpy()
    ends = np.cumsum([len(sentence) for sentence in sentences])[:-1]
    return [[target[tag] for tag in row] for row in np.split(ids, ends)]


@pytest.mark.parametrize("target", WELL_FORMED)
@pytest.mark.parametrize("name", WELL_FORMED)
def test_converted_tags_are_well_formed_and_have_the_same_entities(name, target):
    sentences = drawn_tags(complete_tags(TYPES, name))
    assert any(not is_well_formed(tags, name) for tags in sentences) or name == "IO"
    for tags, result in zip(sentences, converted(sentences, name, target), strict=True):
        assert is_well_formed(result, target)
        if target == "IO":  # which cannot tell neighbours apart
            assert [t[2:] for t in result] == [t[2:] for t in tags]
        else:
            assert entities(result) == entities(tags)
    if name not in ("IO", "IOB1") and name == target:
        well_formed = converted(sentences, name, target)
        assert converted(well_formed, name, target) == well_formed


def test_borders_are_those_of_entities():
    tags = complete_tags(TYPES, "BIOES")
    reader = TagReader(tags)
    for sentence in drawn_tags(tags):
        ids = np.array([tags.index(tag) for tag in sentence], np.int32)
        first, last, types = (x.numpy() for x in reader.borders(ids, np.zeros(len(ids), int)))
        starts, ends = np.flatnonzero(first), np.flatnonzero(last) + 1
        given = [(s, e, reader.types[types[s]]) for s, e in zip(starts, ends, strict=True)]
        assert given == entities(sentence)
    unknown = reader.borders(np.array([-1, 0], np.int32), np.zeros(2, int))
    assert unknown[0].numpy().tolist() == [False, True]


def test_the_scheme_of_sequences_is_the_one_they_follow():
    iob1 = [["I-PER", "B-PER", "O", "I-LOC"], ["O", "I-LOC"]]
    bio = [["B-PER", "B-PER", "I-PER", "O", "B-LOC"], ["I-LOC"]]  # with a mistake
    for sentences, name, ill_formed in ((iob1, "IOB1", 0), (bio, "BIO", 1)):
        pairs = {}
        for pair in itertools.chain.from_iterable(map(neighbours, sentences)):
            pairs[pair] = pairs.get(pair, 0) + 1
        assert find_scheme(pairs) == name
        assert count_ill_formed(pairs, name) == ill_formed


def test_the_metric_counts_constrained_tags():
    tags = complete_tags(["PER"], "BIOES")
    metric = EntityF1(tags, ConstrainedDecoder(constraints(tags, "BIOES")))
    logits = np.full((1, 3, len(tags)), -9.0, "float32")
    for step, tag in enumerate(["B-PER", "O", "O"]):  # B-PER alone is ill-formed
        logits[0, step, tags.index(tag)] = 0.0
    logits[0, 0, tags.index("S-PER")] = -1.0
    references = np.array([[tags.index(tag) for tag in ("S-PER", "O", "O")]])
    metric.update_state(references, logits, np.ones((1, 3), "float32"))
    assert float(metric.result()) == 1.0
    assert is_well_formed(["S-PER", "O", "O"], "BIOES")
