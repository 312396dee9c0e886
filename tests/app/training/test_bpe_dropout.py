"""Training batches with BPE-dropout: the same texts, segmented by seed and step."""

import itertools

import numpy as np
import pytest

import tasks
from app.training import example_cache
from app.training.batches import Batches, Share
from app.training.example_cache import EncodedExamples
from models.text.words import PADDING
from tasks.core.errors import UserError
from tests.support import untrained

TOKENS = 300


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """Folder of the assets of a task, and its examples."""
    cls, folder = tasks.find("translation"), tmp_path_factory.mktemp("assets")
    examples = untrained.examples("translation", 24)
    cls.learn(cls.Config(vocabulary=320), examples, folder)
    return folder, examples


def task_of(learnt, **settings):
    cls = tasks.find("translation")
    return cls(cls.Config(vocabulary=320, **settings), learnt[0])


@pytest.fixture(scope="module")
def encoded(learnt, tmp_path_factory):
    return EncodedExamples.write(task_of(learnt), learnt[1], tmp_path_factory.mktemp("encoded"))


@pytest.fixture(scope="module")
def dropping(learnt):
    return task_of(learnt, bpe_dropout=0.4)


def training(task, encoded, first, count, seed=0, share=None):
    arguments = [share] if share else []
    dataset = Batches(encoded, TOKENS, seed).training_dataset(task, first, *arguments)
    return [
        ({name: ids.numpy() for name, ids in x.items()}, following.numpy(), weights.numpy())
        for (x, following, weights), _ in itertools.islice(dataset, count)
    ]


def texts_of(task, batch):
    x, following, _ = batch
    return [task.subwords.decode(ids).numpy().tolist() for ids in (x["source"], following)]


def equal(one, other):
    return all(
        np.array_equal(a, b)
        for a, b in zip([*one[0].values(), *one[1:]], [*other[0].values(), *other[1:]], strict=True)
    )


def test_training_reads_the_same_texts_in_other_segmentations(learnt, encoded, dropping):
    plain, steps = task_of(learnt), Batches(encoded, TOKENS, 0).steps
    ordinary = training(plain, encoded, 0, 2 * steps)
    sampled = training(dropping, encoded, 0, 2 * steps)
    for batch, other in zip(ordinary, sampled, strict=True):
        assert texts_of(plain, batch) == texts_of(dropping, other)
    assert sum(b[2].sum() for b in sampled) > 1.1 * sum(b[2].sum() for b in ordinary)
    # The decoder reads what it has written, and no weight is at padding.
    for x, following, weights in sampled:
        assert np.array_equal(weights > 0, following != PADDING)
        inner = weights[:, 1:] > 0
        assert np.array_equal(x["before"][:, 1:][inner], following[:, :-1][inner])

    def of_epoch(epoch):
        rows = {}
        for batch in sampled[epoch * steps : (epoch + 1) * steps]:
            for text, ids in zip(texts_of(dropping, batch)[0], batch[0]["source"], strict=True):
                rows.setdefault(text, set()).add(tuple(ids[ids != PADDING].tolist()))
        return rows

    first, second = of_epoch(0), of_epoch(1)
    assert first.keys() == second.keys() and len(first) > 20
    assert np.mean([first[text] != second[text] for text in first]) > 0.8


def test_training_goes_on_from_any_step_with_the_same_segmentations(encoded, dropping):
    steps = Batches(encoded, TOKENS, 0).steps
    straight = training(dropping, encoded, 0, 2 * steps)
    resumed = training(dropping, encoded, steps + 1, steps - 1)
    assert all(map(equal, resumed, straight[steps + 1 :]))
    assert not equal(straight[0], training(dropping, encoded, 0, 1, seed=1)[0])


def test_replicas_draw_their_own_segmentations(encoded, dropping):
    alone = training(dropping, encoded, 0, 1)[0]
    first, second = training(dropping, encoded, 0, 2, share=Share((0, 1), 2))
    sources = [texts_of(dropping, batch)[0] for batch in (alone, first, second)]
    assert sources[1] == sources[0][::2] and sources[2] == sources[0][1::2]
    assert not equal(first, second)


def test_validation_and_encoding_are_the_ordinary_ones(learnt, encoded, dropping):
    plain, batches = task_of(learnt), Batches(encoded, TOKENS)
    pairs = (
        itertools.islice(batches.validation_dataset(task), batches.steps)
        for task in (plain, dropping)
    )
    for ((x, following, _), _), ((same, as_well, _), _) in zip(*pairs, strict=True):
        np.testing.assert_array_equal(x["source"], same["source"])
        np.testing.assert_array_equal(following, as_well)
    example = next(iter(learnt[1]))
    fingerprints = {example_cache.ops_fingerprint(task, example) for task in (plain, dropping)}
    assert len(fingerprints) == 1
    texts = [example.values["text"], "", "unseen €"]
    np.testing.assert_array_equal(plain.source_ids(texts), dropping.source_ids(texts))


@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_a_dropout_that_is_not_a_probability_is_rejected(value):
    with pytest.raises(UserError, match="--bpe-dropout must be at least 0 and at most 1"):
        tasks.find("translation").Config(bpe_dropout=value)
