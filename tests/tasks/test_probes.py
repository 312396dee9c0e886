"""Probes generate the documented problems, and report the correct chance levels."""

import gzip
import json
import math
import statistics
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from tasks import probes
from tasks.core.errors import UserError
from tasks.probes import agreement, listops

ALL = probes.names()


@pytest.fixture(scope="module")
def small_probes(tmp_path_factory):
    """Returns one instance of each probe, with little data."""
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
        arrays = np.empty((1, 5), object)
        for index in range(5):
            arrays[0, index] = (rng.random((6 + index, 88)) < 0.1).astype(float)
        songs[f"{part}data"] = arrays
    savemat(folder / "songs.mat", songs)
    lines = ["".join(rng.choice(list("abcde "), 12)) + "x" for _ in range(120)]
    (folder / "lines.txt").write_text("\n".join(lines), encoding="utf-8")
    settings = {
        "adding": {"length": 12},
        "copy": {"length": 7},
        "temporal_order": {"length": 30},
        "timing": {"wait": 3},
        "mnist": {"data": str(folder), "shrink": 2},
        "jsb": {"data": str(folder / "songs.mat")},
        "next_letter": {"data": str(folder / "lines.txt")},
        "agreement": {},
        "listops": {},
        "selective_copy": {"length": 14},
    }
    return {name: probes.find(name)(**settings[name]) for name in ALL}


def _idx(path, values):
    sizes = np.array(values.shape, ">u4").tobytes()
    path.write_bytes(bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes())


@pytest.mark.parametrize("name", ALL)
def test_batches_depend_only_on_the_seed_and_have_the_documented_shapes(small_probes, name):
    probe = small_probes[name]
    batch, again = (probe.draw(np.random.default_rng(3), 20) for _ in range(2))
    for first, second in zip(batch, again, strict=True):
        np.testing.assert_array_equal(first, second)
    other = probe.draw(np.random.default_rng(4), 20)
    assert other.inputs.shape != batch.inputs.shape or (other.inputs != batch.inputs).any()
    for first, second in zip(probe.test(), probe.test(), strict=True):
        np.testing.assert_array_equal(first, second)
    for part in (batch, probe.test()):
        count, steps = part.inputs.shape[:2]
        shape = (count, steps) if probe.per_step else (count,)
        assert part.weights.shape == shape and part.weights.any()
        assert part.targets.shape[: len(shape)] == shape
        if probe.symbols:
            assert part.inputs.ndim == 2 and part.inputs.min() >= 0
            assert part.inputs.max() < probe.features
        else:
            assert part.inputs.shape[2] == probe.features
        if probe.kind == "class":
            assert part.targets.min() >= 0 and part.targets.max() < probe.outputs


@pytest.mark.parametrize("name", ALL)
def test_correct_outputs_score_best_and_memoryless_outputs_score_at_chance(small_probes, name):
    probe = small_probes[name]
    test = probe.test()
    correct = test.targets
    if probe.kind == "class":
        correct = 50.0 * (np.arange(probe.outputs) == test.targets[..., None])
    if probe.kind == "bits":
        correct = 50.0 * (2 * test.targets - 1)
    score, best = next(iter(probe.score(test, correct).items()))
    assert best == pytest.approx(1.0 if probe.greater_is_better else 0.0, abs=1e-5)
    chance = probe.chance()[score]
    assert chance < best if probe.greater_is_better else chance > best
    memoryless = probe.score(test, NO_MEMORY[name](probe, test))[score]
    assert memoryless == pytest.approx(chance, rel=0.1)


def _shares(probe, test):
    """Returns logits of the frequencies of classes, or of bits, in training."""
    rng = np.random.default_rng(0)
    batches = [probe.draw(rng, 500) for _ in range(20)]
    targets = np.concatenate([batch.targets[batch.weights > 0] for batch in batches])
    if probe.kind == "bits":
        share = np.clip(targets.mean(axis=0), 1e-4, 1 - 1e-4)
        return np.broadcast_to(np.log(share / (1 - share)), test.targets.shape)
    counts = np.bincount(targets, minlength=probe.outputs) + 1
    return np.broadcast_to(np.log(counts / counts.sum()), (*test.targets.shape, probe.outputs))


def _commonest(probe, test):
    counts = np.bincount(test.targets, minlength=probe.outputs)
    return np.broadcast_to(counts.astype(float), (len(test.targets), probe.outputs))


def _blanks(probe, test):
    """Returns logits that are certain about blanks and uniform over symbols."""
    logits = np.zeros((*test.targets.shape, 9))
    logits[:, :-10, 8], logits[:, -10:, 8] = 50.0, -50.0
    return logits


NO_MEMORY = {
    "adding": lambda probe, test: np.ones_like(test.targets),
    "copy": _blanks,
    "temporal_order": lambda probe, test: np.zeros((len(test.targets), 4)),  # always class 0
    "timing": lambda probe, test: np.zeros((len(test.targets), 4)),
    "mnist": _commonest,
    "agreement": _commonest,
    "listops": _commonest,
    "selective_copy": lambda probe, test: np.zeros((*test.targets.shape, 9)),  # always symbol 0
    "jsb": _shares,
    "next_letter": _shares,
}


def test_the_target_is_the_sum_of_two_marked_numbers(small_probes):
    batch = small_probes["adding"].draw(np.random.default_rng(0), 200)
    for row, target in zip(batch.inputs, batch.targets, strict=True):
        marked = [number for number, mark in row if mark]
        assert len(marked) == 2 and sum(marked) == pytest.approx(target[0], abs=1e-6)
    assert len({tuple(row[:, 1]) for row in batch.inputs}) > 30


def test_the_targets_after_the_signal_are_the_first_ten_symbols(small_probes):
    batch = small_probes["copy"].draw(np.random.default_rng(0), 50)
    for row, targets in zip(batch.inputs.argmax(-1), batch.targets, strict=True):
        assert len(row) == 27 and list(targets[-10:]) == list(row[:10])
        assert set(targets[:-10]) == {8} and max(row[:10]) < 8
        assert list(row).index(9) == 16 and set(row[10:16]) | set(row[17:]) == {8}


def test_the_targets_are_the_scattered_symbols_in_their_order(small_probes):
    probe = small_probes["selective_copy"]
    batch, places = probe.draw(np.random.default_rng(0), 50), set()
    for steps, targets, weights in zip(
        batch.inputs.argmax(axis=-1), batch.targets, batch.weights, strict=True
    ):
        assert steps[14] == 9 and set(steps[15:]) == {8} and len(steps) == 25
        copied = [step for step in steps[:14] if step < 8]
        assert targets[15:].tolist() == copied and set(targets[:15]) == {8}
        assert weights.tolist() == [0] * 15 + [1] * 10
        places.add(tuple(np.flatnonzero(steps[:14] < 8)))
    assert len(places) > 40


def test_the_class_is_the_order_of_the_two_relevant_letters(small_probes):
    batch = small_probes["temporal_order"].draw(np.random.default_rng(0), 200)
    for row, target in zip(batch.inputs.argmax(-1), batch.targets, strict=True):
        order = [letter - 4 for letter in row if letter in (4, 5)]
        assert len(order) == 2 and target == 2 * order[0] + order[1]
    assert set(batch.targets) == {0, 1, 2, 3}


def test_the_class_is_the_wait_between_two_spikes(small_probes):
    batch = small_probes["timing"].draw(np.random.default_rng(0), 200)
    for row, target in zip(batch.inputs[..., 0], batch.targets, strict=True):
        first, second = np.flatnonzero(row)
        assert second - first == 3 + target and second < len(row) - 1
    assert set(batch.targets) == {0, 1, 2, 3}


def test_digits_are_read_pixel_by_pixel(small_probes):
    probe, test = small_probes["mnist"], small_probes["mnist"].test()
    raw = (Path(probe.data) / "t10k-images-idx3-ubyte").read_bytes()
    images = np.frombuffer(raw[16:], np.uint8).reshape(40, 28, 28)
    expected = [[images[7, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2].mean() for c in range(14)]
               for r in range(14)]  # fmt: skip
    np.testing.assert_allclose(test.inputs[7, :, 0] * 255, np.ravel(expected), rtol=1e-5)
    permuted = probes.find("mnist")(data=probe.data, shrink=2, permuted=True).test()
    assert (permuted.inputs != test.inputs).any()
    np.testing.assert_allclose(np.sort(permuted.inputs, 1), np.sort(test.inputs, 1))


@pytest.mark.parametrize("name", ["jsb", "next_letter"])
def test_targets_are_the_next_inputs(small_probes, name):
    batch = small_probes[name].draw(np.random.default_rng(0), 5)
    for inputs, targets, weights in zip(*batch, strict=True):
        steps = int(weights.sum())
        assert weights[:steps].all()
        np.testing.assert_array_equal(inputs[1:steps], targets[: steps - 1])
        assert not inputs[steps:].any() and not targets[steps:].any()


def test_attractors_are_nouns_of_the_other_number_between_subject_and_verb():
    rng = np.random.default_rng(0)
    singular, plural = set(agreement.NOUNS), set(agreement.NOUNS.values())
    for index in range(400):
        sentence = agreement.sentence(rng, index % 5)
        words = list(sentence.words)
        words = words[words.index(",") + 1 :] if "," in words else words
        nouns = [word for word in words if word in singular | plural]
        after = words[len(words) - sentence.distance :]
        if nouns and words[len(words) - sentence.distance - 1] in singular | plural:
            assert words[len(words) - sentence.distance - 1] == nouns[0]
            assert (nouns[0] in plural) == sentence.plural
        others = singular if sentence.plural else plural
        if sentence.plural:
            names = {"Anna", "Paul", "Marta", "Igor"}
        else:
            names = {"Smiths", "Clintons", "Lees"}
        count = sum(word in others | names for word in after)
        assert count == sentence.attractors or (index % 5 and not sentence.attractors)


def _calculated(words):
    """Returns the value of an expression by a stack, and its depth."""
    stack, depth, deepest = [[]], 0, 0
    for word in words:
        if word.startswith("["):
            stack.append([word])
            depth, deepest = depth + 1, max(deepest, depth + 1)
        elif word == "]":
            operator, *numbers = stack.pop()
            assert 2 <= len(numbers) <= 4
            functions = {"[MAX": max, "[MIN": min, "[MED": statistics.median, "[SUM": sum}
            stack[-1].append(math.floor(functions[operator](numbers)) % 10)
            depth -= 1
        else:
            stack[-1].append(int(word))
    ((number,),) = stack
    return number, deepest


def test_the_class_is_the_value_of_the_expression_and_the_test_has_all_depths():
    probe, counts = probes.find("listops")(depth=3), Counter()
    for batch in (probe.draw(np.random.default_rng(1), 300), probe.test()):
        for symbols, target in zip(batch.inputs, batch.targets, strict=True):
            number, depth = _calculated([listops.WORDS[s] for s in symbols if s])
            assert number == target
            counts[depth] += 1
        if len(counts) == 3:  # of training, evenly spread
            assert set(counts) == {1, 2, 3} and min(counts.values()) > 70
            counts.clear()
    assert counts == dict.fromkeys(range(1, 7), 300)
    of_deep = np.zeros((len(batch.targets), 10))
    of_deep[-300:] = 9.0 * (np.arange(10) == batch.targets[-300:, None])
    of_deep[:-300] = 9.0 * (np.arange(10) != batch.targets[:-300, None])
    scores = probe.score(batch, of_deep)
    assert scores["accuracy"] == pytest.approx(1 / 6)
    assert scores["6 operators deep"] == 1 and scores["5 operators deep"] == 0


def test_trees_of_expressions_have_digits_below_their_operators():
    words = "[MAX 2 [SUM 9 [MIN 4 4 ] ] 0 ]", "[MED 1 5 ]"
    rows = [[listops.WORDS.index(word) for word in text.split()] for text in words]
    inputs = np.array([rows[0], rows[1] + [0] * 7])
    nodes, parents = probes.find("listops")().trees(inputs)
    assert [listops.WORDS[symbol] for symbol in nodes[0]] == words[0].replace(" ]", "").split()
    assert parents.tolist() == [[-1, 0, 0, 2, 2, 4, 4, 0], [-1, 0, 0, -1, -1, -1, -1, -1]]
    assert nodes[1].tolist() == [*rows[1][:3], 0, 0, 0, 0, 0]
    assert nodes.dtype == parents.dtype == np.int32


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
    name, batch = next(iter(probe.external_tests().items()))
    assert len(probe.external_tests()) == 6 and batch.inputs.shape == (6, 5)
    plural, singular = (
        [0.0, 1.0],
        [1.0, 0.0],
    )  # outputs for each sentence; good ones precede bad ones
    for outputs, share in (
        ([plural, plural, singular, plural, singular, singular], 1.0),
        ([singular, singular, singular, plural, plural, plural], 1 / 3),
        ([plural, plural, plural, singular, plural, plural], 1 / 3),
        ([[0.0, 0.0]] * 6, 0.0),  # a tie is not correct
    ):
        assert probe.score_external(name, np.array(outputs)) == {name: pytest.approx(share)}


def test_unknown_words_are_represented_by_their_endings():
    probe = probes.find("agreement")()
    words = ("zebras", "tigers", "quokkas", "Jill", "Zoe", "zzzzq")
    sentences = [agreement.Sentence((word,), False, 0, 0) for word in words]
    zebras, tigers, quokkas, jill, zoe, strange = probe.encode(sentences).inputs[:, 0]
    assert zebras == agreement._endings()[""] or zebras == quokkas
    assert tigers != zebras and jill == zoe and strange == agreement._endings()[""]


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("mnist", {}, "requires --data"),
        ("mnist", {"data": "NOWHERE"}, "no such file: "),
        ("mnist", {"data": "BROKEN"}, "not an idx file"),
        ("jsb", {}, "requires --data"),
        ("jsb", {"data": "BROKEN/train-images-idx3-ubyte"}, "not a .mat file of chorales"),
        ("next_letter", {"data": "NOWHERE"}, "cannot be read"),
        (
            "next_letter",
            {"data": "BROKEN/train-images-idx3-ubyte"},
            "must have at least 100 lines, got 1",
        ),
        ("agreement", {"blimp": "NOWHERE"}, "cannot be read"),
        ("agreement", {"blimp": "BROKEN"}, "1: not a sentence pair of BLiMP"),
        ("adding", {"length": 1}, "--length must be at least 2"),
    ],
)
def test_unusable_data_is_reported(tmp_path, name, settings, message):
    for file in ("train-images-idx3-ubyte", *(f"{name}.jsonl" for name in agreement.BLIMP)):
        (tmp_path / file).write_text("[1]", encoding="utf-8")
    paths = {"NOWHERE": str(tmp_path / "nowhere"), "BROKEN": str(tmp_path)}
    for word, path in paths.items():
        settings = {
            key: value.replace(word, path) if isinstance(value, str) else value
            for key, value in settings.items()
        }
    with pytest.raises(UserError) as error:
        probe = probes.find(name)(**settings)
        probe.draw(np.random.default_rng(0), 2)
        probe.external_tests()
    assert message in str(error.value)


def test_an_unknown_probe_is_reported_with_the_choices():
    with pytest.raises(UserError) as error:
        probes.find("juggling")
    assert "adding" in str(error.value) and "juggling" in str(error.value)


def test_metrics_ignore_steps_with_zero_weight():
    logits = np.log(np.array([[[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]]]))
    batch = probes.Batch(np.zeros((1, 3)), np.array([[0, 1, 1]]), np.array([[1.0, 0.0, 1.0]]))
    assert probes.cross_entropy(batch, logits) == pytest.approx(
        -(math.log(0.5) + math.log(0.8)) / 2
    )
    assert probes.accuracy(batch, logits) == 1.0
