"""Batches: every example once a pass, of like length, within the budget, from any step on."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

import tasks
from app.training.batches import Batches, Share
from app.training.example_cache import EncodedExamples, origins
from tasks.core.examples import Example, Stream

TOKENS = 64


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    cls = tasks.find("sentiment")
    rng = np.random.default_rng(0)
    words = [f"word{n}" for n in range(50)]
    texts = [" ".join(rng.choice(words, rng.integers(0, 90))) for _ in range(300)]
    examples = [
        Example({"text": text, "label": f"class {n % 3}"}, str(n)) for n, text in enumerate(texts)
    ]
    stream = Stream(lambda: examples)
    learnt = cls.learn(cls.Config(max_length=80), stream, tmp_path_factory.mktemp("assets"))
    learnt.examples = stream
    return learnt


# A corpus that is in the buffer as a whole, and one of which a fifth is.
@pytest.fixture(scope="module", params=[32, 0.012], ids=["at_once", "by_parts"])
def encoded(request, task, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("app.training.example_cache._BLOCK", 1000)
        patched.setattr("app.training.example_cache._SHARD", 4000)
        written = EncodedExamples.write(task, task.examples, tmp_path_factory.mktemp("encoded"))
    assert len(written.sizes) > 10 and max(written.sizes) <= 4000
    written.buffer = request.param
    return written


@pytest.fixture(scope="module")
def all_lengths(encoded):
    return encoded.read(range(len(encoded.sizes))).lengths


def batches_of(encoded, seed=None):
    return Batches(encoded, TOKENS, seed, encoded.buffer)


@pytest.mark.parametrize("seed", [None, 0, 1])
@pytest.mark.parametrize("number", [0, 5])
def test_a_pass_has_every_example_once_within_the_budget(encoded, all_lengths, seed, number):
    batches = batches_of(encoded, seed)
    plan = list(batches.plan(number))
    assert len(plan) == batches.steps
    assert sorted(np.concatenate(plan)) == list(range(300))
    for rows in plan:
        lengths = all_lengths[rows]
        assert len(rows) == 1 or len(rows) * lengths.max() <= TOKENS
        assert lengths.max() <= 4 or lengths.max() - lengths.min() <= max(2, 0.16 * lengths.max())


def test_order_is_a_function_of_the_seed_and_the_pass(encoded):
    def plan(seed, number):
        return [tuple(rows) for rows in batches_of(encoded, seed).plan(number)]

    assert plan(3, 1) == plan(3, 1)
    for other in (plan(3, 2), plan(4, 1)):
        assert plan(3, 1) != other
        assert set(map(frozenset, plan(3, 1))) != set(map(frozenset, other))  # other company too
    assert plan(None, 0) == plan(None, 1)


def test_training_goes_on_from_any_step_as_if_it_had_never_stopped(task, encoded):
    batches = batches_of(encoded, seed=0)
    straight = list(itertools.islice(batches.training_dataset(task, 0), 2 * batches.steps + 5))
    for first in (1, batches.steps - 1, batches.steps, 2 * batches.steps + 2):
        for given, want in zip(
            batches.training_dataset(task, first), straight[first:], strict=False
        ):
            for a, b in zip(tf.nest.flatten(given), tf.nest.flatten(want), strict=True):
                np.testing.assert_array_equal(a, b)


def test_a_batch_has_rows_of_more_than_one_part_of_the_buffer_and_waits_for_them(encoded):
    plan = list(batches_of(encoded, 0).plan(0))
    sizes = [len(rows) for rows in plan]
    # As many batches are full as there would be if all were shuffled at once.
    assert sorted(sizes) == sorted(len(rows) for rows in Batches(encoded, TOKENS, 0).plan(0))
    # Rows that were neighbours are apart: half of them by a quarter of the pass or more.
    place = {int(row): at for at, rows in enumerate(plan) for row in rows}
    apart = [abs(place[row] - place[row + 1]) for row in range(299)]
    assert np.median(apart) > len(plan) / (4 if encoded.buffer == 32 else 16)


def test_the_buffer_is_filled_in_an_order_of_each_pass_and_holds_no_more(encoded, monkeypatch):
    read, held = EncodedExamples.read, []
    monkeypatch.setattr(
        EncodedExamples, "read", lambda self, shards: held.append(shards) or read(self, shards)
    )

    def order(seed, number):
        held.clear()
        list(batches_of(encoded, seed).plan(number))
        sizes = [sum(encoded.sizes[shard] for shard in shards) for shards in held]
        assert max(sizes) <= encoded.buffer * 2**20
        assert len(held) == 1 if encoded.buffer == 32 else len(held) > 4
        return [shard for shards in held for shard in shards]

    orders = [order(0, 0), order(0, 1), order(1, 0), order(None, 0)]
    everything = list(range(len(encoded.sizes)))
    assert all(sorted(each) == everything for each in orders)
    assert orders[3] == everything == order(None, 1)
    if encoded.buffer < 32:
        assert len(set(map(tuple, orders))) == 4


def test_the_origin_of_a_row_is_that_of_its_example(task):
    assert origins(task, task.examples, {0, 7, 299}) == ["0", "7", "299"]


def test_only_what_is_learnt_from_is_left_out_of_the_evidence(task, encoded):
    batches = batches_of(encoded, seed=0)
    (learnt, label), (watched, _) = (
        next(iter(data))[0]
        for data in (batches.training_dataset(task, 0), batches.validation_dataset(task))
    )
    np.testing.assert_array_equal(learnt["left_out"], np.eye(3)[label])
    assert not np.asarray(watched["left_out"]).any()


def test_validation_is_one_pass_again_and_again(task, encoded):
    batches = batches_of(encoded)
    counts = [
        int(count) for _, count in itertools.islice(batches.validation_dataset(task), batches.steps)
    ]
    assert sum(counts) == 300
    twice = list(itertools.islice(batches.validation_dataset(task), 2 * batches.steps))
    for ((_, label), _), ((_, again), _) in zip(twice, twice[batches.steps :], strict=False):
        np.testing.assert_array_equal(label, again)


@pytest.mark.parametrize("devices", [(0, 1), (0, 1, 2)])
def test_shares_of_a_batch_are_the_batch_and_no_row_is_in_two(task, encoded, devices):
    batches = batches_of(encoded, seed=0)
    whole = list(itertools.islice(batches.training_dataset(task, 3), batches.steps))
    parts = itertools.islice(
        batches.training_dataset(task, 3, Share(devices, len(devices))),
        batches.steps * len(devices),
    )
    without = 0
    for ((x, label), count), *some in zip(whole, *[parts] * len(devices), strict=True):
        rows = [int(rows) for _, rows in some]
        assert sum(rows) == int(count) == len(label) and max(rows) - min(rows) <= 1
        without += rows.count(0)
        labels = np.zeros(len(label), int)
        ids = np.zeros(x["ids"].shape, int)
        for at, ((own, own_label), count) in enumerate(some):
            assert len(own_label) == max(1, count)
            labels[at :: len(devices)] = own_label[: int(count)]
            ids[at :: len(devices), : own["ids"].shape[1]] = own["ids"][: int(count)]
        np.testing.assert_array_equal(labels, label)
        np.testing.assert_array_equal(ids, x["ids"])
    assert without  # the seed makes some batch of fewer rows than there are devices


def test_the_end_of_an_iterator_waits_for_no_autotuning(task, encoded):
    batches = batches_of(encoded)
    for data in (batches.training_dataset(task, 0), batches.validation_dataset(task)):
        assert data.options().autotune.enabled is False
