"""The linear path of labels and of numbers, next to scikit-learn."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression, Ridge

from models.layers.bag_of_words import BagOfWords
from tasks.shapes.classification import linear_path
from tasks.shapes.classification.linear_path import LabelLikelihood, ValueLikelihood
from tasks.shapes.classification.targets.labels import fit_thresholds

RNG = np.random.default_rng(0)
TEXTS = sparse.csr_matrix((RNG.random((60, 12)) < 0.3).astype(np.float32))
LABELS = (RNG.random((60, 3)) < 0.4).astype(np.float32)
VALUES = (TEXTS @ RNG.normal(size=12) + 0.3 * RNG.normal(size=60)).astype(np.float32)


def test_without_ratios_each_label_has_a_logistic_regression(monkeypatch):
    monkeypatch.setattr(linear_path, "_ITERATIONS", 500)
    offset = np.zeros((60, 3), np.float32)
    for penalty, weights, bias, _ in linear_path._path(TEXTS, LABELS, offset, LabelLikelihood()):
        for label in range(3):
            model = LogisticRegression(C=1 / penalty, max_iter=10_000, tol=1e-8)
            model.fit(TEXTS, LABELS[:, label])
            np.testing.assert_allclose(
                1 / (1 + np.exp(-(TEXTS @ weights + bias)[:, label])),
                model.predict_proba(TEXTS)[:, 1],
                atol=5e-3,
            )


def test_numbers_have_a_ridge_regression(monkeypatch):
    monkeypatch.setattr(linear_path, "_ITERATIONS", 500)
    offset = np.zeros((60, 1), np.float32)
    for penalty, weights, bias, _ in linear_path._path(TEXTS, VALUES, offset, ValueLikelihood()):
        model = Ridge(alpha=penalty).fit(TEXTS, VALUES)
        np.testing.assert_allclose((TEXTS @ weights + bias)[:, 0], model.predict(TEXTS), atol=5e-3)


def test_ratios_of_a_text_are_those_of_all_others():
    likelihood = LabelLikelihood()
    offset = likelihood.leave_one_out(TEXTS, LABELS, 3)
    for text in range(0, 60, 7):
        others = np.delete(np.arange(60), text)
        ratios, prior = likelihood.naive_bayes(TEXTS[others], LABELS[others], 3)
        np.testing.assert_allclose(offset[text], (TEXTS[text] @ ratios + prior)[0], atol=1e-3)


@pytest.mark.parametrize("likelihood", [LabelLikelihood(), ValueLikelihood()])
def test_errors_are_the_derivatives_of_the_loss(likelihood):
    targets = LABELS if isinstance(likelihood, LabelLikelihood) else VALUES
    logits = RNG.normal(size=(60, 3 if targets is LABELS else 1))
    _, error = likelihood.loss_and_error(logits, targets)
    step = np.zeros_like(logits)
    step[5, 0] = 1e-4
    above, below = (likelihood.loss_and_error(logits + s, targets)[0] for s in (step, -step))
    assert (above - below) / 2e-4 == pytest.approx(error[5, 0], abs=1e-4)


def test_a_layer_learns_the_words_of_labels():
    ids = RNG.integers(2, 30, (200, 6)).astype(np.int32)
    labels = np.stack([(ids == word).any(1) for word in (2, 3)], 1).astype(np.float32)
    layer = BagOfWords(30, 2, 64)
    linear_path.fit(layer, [(ids, labels)], [(ids[:50], labels[:50])], 0, LabelLikelihood())
    assert ((np.asarray(layer(ids)) > 0) == labels).mean() > 0.98


def test_a_label_with_few_positives_has_the_common_threshold():
    labels = np.zeros((40, 3))
    labels[:20, 0] = labels[0, 1] = 1
    probabilities = np.where(labels, 0.7, 0.2) + np.linspace(0, 0.01, 40)[:, None]
    own, rare, never = fit_thresholds(probabilities, labels)
    assert 0.2 < own < 0.7 and rare == never
