"""The network of N→1."""

import keras
import numpy as np
import pytest

from models.layers.evidence import Evidence
from models.layers.pooling import MaskedPooling
from models.layers.word_dropout import WordDropout
from models.networks.classifier import classifier
from models.text.words import PADDING, UNKNOWN
from tests.support.cells import PLAIN, slow_except
from tests.support.close import assert_close


def made(**options):
    keras.utils.set_random_seed(0)
    sizes = {"vocabulary": 50, "classes": 3, "units": 6, "embedding": 5, "layers": 2, "cell": "gru"}
    return classifier(**{**sizes, **options})


@pytest.mark.parametrize("cell", slow_except(PLAIN))
def test_an_answer_does_not_depend_on_who_shares_the_batch(cell):
    model, rng = made(cell=cell), np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape, scale=0.5) for w in model.get_weights()])
    rows = [rng.integers(1, 50, n) for n in (1, 7, 3, 12)]
    batch = np.zeros((5, 14), "int32")
    for row, ids in zip(batch, rows, strict=False):
        row[: len(ids)] = ids
    together = np.asarray(model(batch))
    for ids, logits in zip(rows, together, strict=False):
        assert_close(model(ids[None]), logits[None], 1e-5)
    assert np.isfinite(together[-1]).all()  # a row of nothing but padding
    assert np.abs(together[0] - together[1]).max() > 1e-3


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0), (1, 1)])
def test_any_batch_has_logits(shape):
    model = made()
    given = model.predict_on_batch(np.ones(shape, "int32")) if shape[0] else None
    if given is not None:
        assert given.shape == (shape[0], 3)
        assert np.isfinite(given).all()


def test_pooling_is_that_of_numpy():
    rng = np.random.default_rng(0)
    x, mask = rng.normal(size=(4, 6, 3)).astype("float32"), rng.random((4, 6)) < 0.5
    mask[0], mask[1] = False, True
    given = np.asarray(MaskedPooling()(x, mask=mask))
    np.testing.assert_array_equal(given[0], 0)
    for row in range(1, 4):
        kept = x[row][mask[row]]
        want = np.concatenate([kept.mean(0), kept.max(0)])
        np.testing.assert_allclose(given[row], want, atol=1e-6)


def test_word_dropout_makes_words_unknown_and_leaves_padding():
    ids = np.tile([5, 9, PADDING], (1, 4000)).astype("int32")
    layer = WordDropout(0.25)
    np.testing.assert_array_equal(layer(ids), ids)
    dropped = np.asarray(layer(ids, training=True))
    np.testing.assert_array_equal(dropped[ids == PADDING], PADDING)
    assert 0.22 < (dropped[ids != PADDING] == UNKNOWN).mean() < 0.28
    np.testing.assert_array_equal(dropped[dropped != UNKNOWN], ids[dropped != UNKNOWN])


def documents(rng, count=30, longest=8):
    """Random documents of words 2 to 11, padded, and their classes."""
    ids = rng.integers(2, 12, (count, longest)).astype("int32")
    ids[np.arange(longest) >= rng.integers(0, longest + 1, count)[:, None]] = PADDING
    return ids, rng.integers(0, 3, count)


def ratios(ids, seen, labels):
    """The log-count ratios of one document's words and pairs, counted plainly from others."""

    def pairs(row):
        return list(zip([PADDING, *row], row, strict=False))

    def score(thing, things_of):
        shares = []
        for k in range(3):
            members = [
                things_of(row) for row, label in zip(seen, labels, strict=True) if label == k
            ]
            shares.append((sum(thing in row for row in members) + 1) / (len(members) + 2))
        return np.log(shares) - np.mean(np.log(shares))

    def real(row):
        return [int(i) for i in row if i != PADDING]

    words = [score(word, real) for word in real(ids)]
    twos = [score(pair, lambda row: pairs(real(row))) for pair in pairs(real(ids))]
    return np.concatenate([words, twos], axis=1)


@pytest.mark.parametrize("leave_out", [False, True], ids=["unseen", "own"])
def test_evidence_is_what_plain_counting_says(leave_out):
    rng = np.random.default_rng(0)
    seen, labels = documents(rng)
    layer = Evidence(20, 3, 2**20)
    layer.adapt([(seen[:10], labels[:10]), (seen[10:], labels[10:])])
    documents_read, own = (seen, np.eye(3)[labels]) if leave_out else (documents(rng)[0], None)
    given = np.asarray(layer(documents_read, left_out=own))
    assert given.shape == (*documents_read.shape, 6)
    for at, row in enumerate(documents_read):
        others = [i for i in range(len(seen)) if not leave_out or i != at]
        length = int((row != PADDING).sum())
        if length:
            want = ratios(row, seen[others], labels[others])
            np.testing.assert_allclose(given[at, :length], want, atol=1e-5)
    assert np.abs(given).max() > 0.1


def test_evidence_survives_saving(tmp_path):
    rng = np.random.default_rng(0)
    model = made(evidence=64)
    model.get_layer("evidence").adapt([documents(rng)])
    ids = documents(rng)[0]
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        keras.models.load_model(tmp_path / "model.keras")(ids), model(ids)
    )


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_an_invalid_rate_is_an_error(rate):
    with pytest.raises(ValueError, match="rate must be at least 0 and below 1"):
        WordDropout(rate)


def test_a_saved_model_is_the_same_model(tmp_path):
    import models

    model, ids = made(dropout=0.2, word_dropout=0.1), np.array([[3, 4, 0]])
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(models.load(tmp_path / "model.keras")(ids), model(ids))


def test_an_invalid_file_is_an_error(tmp_path):
    import models

    with pytest.raises(FileNotFoundError, match=r"give a .keras file or the folder of a version"):
        models.load(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ValueError, match=r"must be a .keras file"):
        models.load(tmp_path / "saved_model.pb")
