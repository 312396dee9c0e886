"""Probes ask what they say they ask, and know what is reached without memory."""

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from tasks import probes
from tasks.core.errors import UserError
from tasks.probes import agreement

ALL = probes.names()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Of each probe one with small data of its own kind."""
    folder = tmp_path_factory.mktemp("probes")
    rng = np.random.default_rng(7)
    for part, count in (("train", 60), ("t10k", 40)):
        images = rng.integers(0, 256, (count, 28, 28), np.uint8)
        labels = rng.integers(0, 10, count).astype(np.uint8)
        _idx(folder / f"{part}-images-idx3-ubyte", images)
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(
            gzip.compress(
                bytes([0, 0, 8, 1]) + np.array([count], ">u4").tobytes() + labels.tobytes()
            )
        )
    songs = {}
    for part in ("train", "test"):
        several = np.empty((1, 5), object)
        for at in range(5):
            several[0, at] = (rng.random((6 + at, 88)) < 0.1).astype(float)
        songs[f"{part}data"] = several
    savemat(folder / "songs.mat", songs)
    lines = ["".join(rng.choice(list("abcde "), 12)) + "x" for _ in range(120)]
    (folder / "lines.txt").write_text("\n".join(lines), encoding="utf-8")
    told = {
        "adding": {"length": 12},
        "copy": {"length": 7},
        "temporal_order": {"length": 30},
        "timing": {"wait": 3},
        "mnist": {"data": str(folder), "shrink": 2},
        "jsb": {"data": str(folder / "songs.mat")},
        "next_letter": {"data": str(folder / "lines.txt")},
        "agreement": {},
    }
    return {name: probes.find(name)(**told[name]) for name in ALL}


def _idx(path, values):
    sizes = np.array(values.shape, ">u4").tobytes()
    path.write_bytes(bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes())


@pytest.mark.parametrize("name", ALL)
def test_batches_depend_only_on_the_seed_and_have_the_documented_shapes(made, name):
    probe = made[name]
    batch, again = (probe.draw(np.random.default_rng(3), 20) for _ in range(2))
    for one, other in zip(batch, again, strict=True):
        np.testing.assert_array_equal(one, other)
    other = probe.draw(np.random.default_rng(4), 20)
    assert other.inputs.shape != batch.inputs.shape or (other.inputs != batch.inputs).any()
    for one, same in zip(probe.test(), probe.test(), strict=True):
        np.testing.assert_array_equal(one, same)
    for some in (batch, probe.test()):
        count, steps = some.inputs.shape[:2]
        asked = (count, steps) if probe.each else (count,)
        assert some.weights.shape == asked and some.weights.any()
        assert some.answers.shape[: len(asked)] == asked
        if probe.symbols:
            assert some.inputs.ndim == 2 and some.inputs.min() >= 0
            assert some.inputs.max() < probe.features
        else:
            assert some.inputs.shape[2] == probe.features
        if probe.kind == "class":
            assert some.answers.min() >= 0 and some.answers.max() < probe.outputs


@pytest.mark.parametrize("name", ALL)
def test_correct_outputs_score_best_and_memoryless_outputs_score_at_chance(made, name):
    probe = made[name]
    test = probe.test()
    right = test.answers
    if probe.kind == "class":
        right = 50.0 * (np.arange(probe.outputs) == test.answers[..., None])
    if probe.kind == "bits":
        right = 50.0 * (2 * test.answers - 1)
    score, best = next(iter(probe.score(test, right).items()))
    assert best == pytest.approx(1.0 if probe.greater else 0.0, abs=1e-5)
    told = probe.chance()[score]
    assert told < best if probe.greater else told > best
    found = probe.score(test, NO_MEMORY[name](probe, test))[score]
    assert found == pytest.approx(told, rel=0.1)


def _shares(probe, test):
    """Logits of the shares of classes, or of bits, that training has, whoever asks."""
    rng = np.random.default_rng(0)
    drawn = [probe.draw(rng, 500) for _ in range(20)]
    answers = np.concatenate([batch.answers[batch.weights > 0] for batch in drawn])
    if probe.kind == "bits":
        share = np.clip(answers.mean(axis=0), 1e-4, 1 - 1e-4)
        return np.broadcast_to(np.log(share / (1 - share)), test.answers.shape)
    counts = np.bincount(answers, minlength=probe.outputs) + 1
    return np.broadcast_to(np.log(counts / counts.sum()), (*test.answers.shape, probe.outputs))


def _commonest(probe, test):
    counts = np.bincount(test.answers, minlength=probe.outputs)
    return np.broadcast_to(counts.astype(float), (len(test.answers), probe.outputs))


def _blanks(probe, test):
    """Knows when a symbol is to be said, and not which."""
    logits = np.zeros((*test.answers.shape, 9))
    logits[:, :-10, 8], logits[:, -10:, 8] = 50.0, -50.0
    return logits


NO_MEMORY = {
    "adding": lambda probe, test: np.ones_like(test.answers),
    "copy": _blanks,
    "temporal_order": lambda probe, test: np.zeros((len(test.answers), 4)),  # always the first
    "timing": lambda probe, test: np.zeros((len(test.answers), 4)),
    "mnist": _commonest,
    "agreement": _commonest,
    "jsb": _shares,
    "next_letter": _shares,
}


def test_the_target_is_the_sum_of_two_marked_numbers(made):
    batch = made["adding"].draw(np.random.default_rng(0), 200)
    for row, answer in zip(batch.inputs, batch.answers, strict=True):
        marked = [number for number, mark in row if mark]
        assert len(marked) == 2 and sum(marked) == pytest.approx(answer[0], abs=1e-6)
    assert len({tuple(row[:, 1]) for row in batch.inputs}) > 30


def test_the_targets_after_the_signal_are_the_first_ten_symbols(made):
    batch = made["copy"].draw(np.random.default_rng(0), 50)
    for row, answers in zip(batch.inputs.argmax(-1), batch.answers, strict=True):
        assert len(row) == 27 and list(answers[-10:]) == list(row[:10])
        assert set(answers[:-10]) == {8} and max(row[:10]) < 8
        assert list(row).index(9) == 16 and set(row[10:16]) | set(row[17:]) == {8}


def test_the_class_is_the_order_of_the_two_relevant_letters(made):
    batch = made["temporal_order"].draw(np.random.default_rng(0), 200)
    for row, answer in zip(batch.inputs.argmax(-1), batch.answers, strict=True):
        two = [letter - 4 for letter in row if letter in (4, 5)]
        assert len(two) == 2 and answer == 2 * two[0] + two[1]
    assert set(batch.answers) == {0, 1, 2, 3}


def test_the_class_is_the_wait_between_two_spikes(made):
    batch = made["timing"].draw(np.random.default_rng(0), 200)
    for row, answer in zip(batch.inputs[..., 0], batch.answers, strict=True):
        first, second = np.flatnonzero(row)
        assert second - first == 3 + answer and second < len(row) - 1
    assert set(batch.answers) == {0, 1, 2, 3}


def test_digits_are_read_pixel_by_pixel(made):
    probe, test = made["mnist"], made["mnist"].test()
    raw = (Path(probe.data) / "t10k-images-idx3-ubyte").read_bytes()
    images = np.frombuffer(raw[16:], np.uint8).reshape(40, 28, 28)
    by_hand = [[images[7, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2].mean() for c in range(14)]
               for r in range(14)]  # fmt: skip
    np.testing.assert_allclose(test.inputs[7, :, 0] * 255, np.ravel(by_hand), rtol=1e-5)
    permuted = probes.find("mnist")(data=probe.data, shrink=2, permuted=True).test()
    assert (permuted.inputs != test.inputs).any()
    np.testing.assert_allclose(np.sort(permuted.inputs, 1), np.sort(test.inputs, 1))


@pytest.mark.parametrize("name", ["jsb", "next_letter"])
def test_targets_are_the_next_inputs(made, name):
    batch = made[name].draw(np.random.default_rng(0), 5)
    for inputs, answers, weights in zip(*batch, strict=True):
        steps = int(weights.sum())
        assert weights[:steps].all()
        np.testing.assert_array_equal(inputs[1:steps], answers[: steps - 1])
        assert not inputs[steps:].any() and not answers[steps:].any()


def test_attractors_are_nouns_of_the_other_number_between_subject_and_verb():
    rng = np.random.default_rng(0)
    singular, plural = set(agreement.NOUNS), set(agreement.NOUNS.values())
    for at in range(400):
        told = agreement.sentence(rng, at % 5)
        words = list(told.words)
        words = words[words.index(",") + 1 :] if "," in words else words
        nouns = [word for word in words if word in singular | plural]
        after = words[len(words) - told.distance :]
        if nouns and words[len(words) - told.distance - 1] in singular | plural:
            assert words[len(words) - told.distance - 1] == nouns[0]
            assert (nouns[0] in plural) == told.plural
        others = singular if told.plural else plural
        names = {"Smiths", "Clintons", "Lees"} if not told.plural else set()
        found = sum(word in others | names for word in after)
        # "Anna" and her like are singular too.
        found += told.plural and sum(word in ("Anna", "Paul", "Marta", "Igor") for word in after)
        assert found == told.attractors or (at % 5 and not told.attractors)


def test_no_noun_is_both_singular_and_plural():
    assert not set(agreement.NOUNS) & set(agreement.NOUNS.values())


def test_blimp_pairs_are_scored_by_the_likelier_verb(tmp_path):
    pairs = [
        {"one_prefix_method": True, "one_prefix_prefix": "The keys to the cabinet",
         "one_prefix_word_good": "are", "one_prefix_word_bad": "is"},
        {"one_prefix_method": False, "two_prefix_prefix_good": "The boss",
         "two_prefix_prefix_bad": "The bosses", "two_prefix_word": "wins"},
        {"one_prefix_method": True, "one_prefix_prefix": "Jill", "one_prefix_word_good": "passes",
         "one_prefix_word_bad": "pass"},
    ]  # fmt: skip
    for name in agreement.BLIMP:
        text = "\n".join(map(json.dumps, pairs))
        (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    probe = probes.find("agreement")(blimp=str(tmp_path))
    name, batch = next(iter(probe.outside().items()))
    assert len(probe.outside()) == 6 and batch.inputs.shape == (6, 5)
    plural, singular = [0.0, 1.0], [1.0, 0.0]  # what is said of each, the good before the bad
    for said, share in (
        ([plural, plural, singular, plural, singular, singular], 1.0),
        ([singular, singular, singular, plural, plural, plural], 1 / 3),
        ([plural, plural, plural, singular, plural, plural], 1 / 3),
        ([[0.0, 0.0]] * 6, 0.0),  # who cannot tell is not right
    ):
        assert probe.score_outside(name, np.array(said)) == {name: pytest.approx(share)}


def test_unknown_words_are_represented_by_their_endings():
    probe = probes.find("agreement")()
    told = [agreement.Sentence((word,), False, 0, 0) for word in
            ("zebras", "tigers", "quokkas", "Jill", "Zoe", "zzzzq")]  # fmt: skip
    zebras, tigers, quokkas, jill, zoe, strange = probe.encode(told).inputs[:, 0]
    assert zebras == agreement._endings()[""] or zebras == quokkas
    assert tigers != zebras and jill == zoe and strange == agreement._endings()[""]


@pytest.mark.parametrize(
    ("name", "told", "says"),
    [
        ("mnist", {}, "needs --data"),
        ("mnist", {"data": "NOWHERE"}, "train-images-idx3-ubyte is not there"),
        ("mnist", {"data": "BROKEN"}, "is no idx file"),
        ("jsb", {}, "needs --data"),
        ("jsb", {"data": "BROKEN/train-images-idx3-ubyte"}, "is no .mat of chorales"),
        ("next_letter", {"data": "NOWHERE"}, "cannot be read"),
        ("next_letter", {"data": "BROKEN/train-images-idx3-ubyte"}, "must have 100 lines, got 1"),
        ("agreement", {"blimp": "NOWHERE"}, "cannot be read"),
        ("agreement", {"blimp": "BROKEN"}, "1: is no pair of BLiMP"),
        ("adding", {"length": 1}, "--length must be at least 2"),
    ],
)
def test_unusable_data_is_reported(tmp_path, name, told, says):
    for file in ("train-images-idx3-ubyte", *(f"{name}.jsonl" for name in agreement.BLIMP)):
        (tmp_path / file).write_text("[1]", encoding="utf-8")
    places = {"NOWHERE": str(tmp_path / "nowhere"), "BROKEN": str(tmp_path)}
    for word, place in places.items():
        told = {k: v.replace(word, place) if isinstance(v, str) else v for k, v in told.items()}
    with pytest.raises(UserError) as error:
        probe = probes.find(name)(**told)
        probe.draw(np.random.default_rng(0), 2)
        probe.outside()
    assert says in str(error.value)


def test_an_unknown_probe_is_reported_with_the_choices():
    with pytest.raises(UserError) as error:
        probes.find("juggling")
    assert "adding" in str(error.value) and "juggling" in str(error.value)


def test_metrics_ignore_steps_with_zero_weight():
    logits = np.log(np.array([[[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]]]))
    batch = probes.Batch(np.zeros((1, 3)), np.array([[0, 1, 1]]), np.array([[1.0, 0.0, 1.0]]))
    assert probes.surprise(batch, logits) == pytest.approx(-(math.log(0.5) + math.log(0.8)) / 2)
    assert probes.accuracy(batch, logits) == 1.0
