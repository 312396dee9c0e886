"""The linear path and the baselines of classification, against scikit-learn."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import MultinomialNB

from models.layers.bag_of_words import BagOfWords
from tasks.core.examples import Example, Splits, Stream
from tasks.shapes.classification import baselines, linear_path

CLASSES = 3


@pytest.fixture(scope="module")
def corpus():
    """Sets of features of 60 texts, and their classes."""
    rng = np.random.default_rng(0)
    classes = np.concatenate([np.arange(CLASSES), rng.integers(0, CLASSES, 57)])
    chances = rng.random((CLASSES, 25))
    texts = rng.random((60, 25)) < chances[classes] ** 2
    return sparse.csr_matrix(texts.astype(np.float32)), classes


def batches(rng, count, width=12):
    """Texts in which word c + 2 names the class c, among words without meaning."""
    labels = rng.integers(0, CLASSES, count)
    ids = rng.integers(CLASSES + 2, 40, (count, width)).astype("int32")
    ids[:, 3] = labels + 2
    ids[:, -2:] = 0
    return [(ids[:50], labels[:50]), (ids[50:], labels[50:])]


def test_naive_bayes_is_that_of_scikit_learn(corpus):
    texts, classes = corpus
    model = MultinomialNB().fit(texts, classes)
    ratios, prior = linear_path._naive_bayes(texts, classes, CLASSES)
    expected = model.feature_log_prob_.T
    np.testing.assert_allclose(ratios, expected - expected.mean(1, keepdims=True), atol=1e-5)
    expected = model.class_log_prior_
    np.testing.assert_allclose(prior, expected - expected.mean(), atol=1e-6)


def test_the_offset_of_a_text_is_counted_on_all_others(corpus):
    texts, classes = corpus
    offset = linear_path._leave_one_out(texts, classes, CLASSES)
    for row in range(0, len(classes), 7):
        others = np.arange(len(classes)) != row
        # The other classes' counts of this text's features are those of the whole corpus.
        model = MultinomialNB(force_alpha=True).fit(texts[others], classes[others])
        expected = model.predict_joint_log_proba(texts[row])[0]
        expected -= expected.mean()
        np.testing.assert_allclose(offset[row], expected, atol=1e-3)


def test_without_naive_bayes_it_is_logistic_regression(corpus, monkeypatch):
    texts, classes = corpus
    monkeypatch.setattr(linear_path, "_ITERATIONS", 1000)
    no_offset = np.zeros((len(classes), CLASSES), np.float32)
    for penalty, weights, bias, _ in linear_path._path(texts, classes, no_offset):
        model = LogisticRegression(C=1 / penalty, max_iter=10_000, tol=1e-8).fit(texts, classes)
        given = texts @ weights + bias
        given = np.exp(given - given.max(1, keepdims=True))
        given /= given.sum(1, keepdims=True)
        np.testing.assert_allclose(given, model.predict_proba(texts), atol=5e-3)


def test_the_penalty_of_a_weight_falls_with_the_strength_of_its_feature(corpus, monkeypatch):
    """The gradient of the penalised loss is 0 in the weights without the ratios."""

    class NoOffset(linear_path.ClassLikelihood):
        def leave_one_out(self, texts, classes, count):
            return np.zeros((len(classes), count), np.float32)  # which leaves the scale at 0.5

    monkeypatch.setattr(linear_path, "_ITERATIONS", 1000)
    monkeypatch.setattr(linear_path, "PENALTIES", (3.0,))
    texts, classes = corpus
    words_and_pairs = sparse.hstack([texts, np.zeros((60, 1), np.float32)]).tocsr()
    monkeypatch.setattr(linear_path, "_matrix", lambda *_: (words_and_pairs, classes))
    layer = BagOfWords(25, CLASSES, 1)
    linear_path.fit(layer, [], [], likelihood=NoOffset())
    naive_bayes = MultinomialNB().fit(texts, classes)
    ratios = naive_bayes.feature_log_prob_.T
    ratios = ratios - ratios.mean(1, keepdims=True)
    strengths = np.sqrt((ratios**2).mean(1) / (ratios**2).mean())
    prior = naive_bayes.class_log_prior_ - naive_bayes.class_log_prior_.mean()
    weights = np.asarray(layer.words) - 0.5 * ratios
    logits = texts @ weights + np.asarray(layer.bias) - 0.5 * prior
    error = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - np.eye(CLASSES)[classes]
    penalties = 3 / strengths[:, None] ** 2
    np.testing.assert_allclose(texts.T @ error, -penalties * weights, atol=2e-3)
    assert np.abs(texts.T @ error).max() > 0.5


def test_for_numbers_it_is_the_ridge_regression_of_scikit_learn(corpus, monkeypatch):
    monkeypatch.setattr(linear_path, "_ITERATIONS", 1000)
    monkeypatch.setattr(linear_path, "PENALTIES", (3.0,))
    texts, classes = corpus
    values = (classes - classes.mean()).astype(np.float32)
    words_and_pairs = sparse.hstack([texts, np.zeros((60, 1), np.float32)]).tocsr()
    monkeypatch.setattr(linear_path, "_matrix", lambda *_: (words_and_pairs, values))
    layer = BagOfWords(25, 1, 1)
    linear_path.fit(layer, [], [], likelihood=linear_path.ValueLikelihood())
    model = Ridge(alpha=3.0).fit(texts.toarray(), values)
    given = texts @ np.asarray(layer.words)[:, 0] + np.asarray(layer.bias)
    np.testing.assert_allclose(given, model.predict(texts.toarray()), atol=2e-3)


def test_a_layer_learns_the_words_that_name_classes():
    rng = np.random.default_rng(1)
    layer = BagOfWords(40, CLASSES, 512)
    fitted = linear_path.fit(layer, batches(rng, 120), batches(rng, 80))
    assert fitted.penalty in linear_path.PENALTIES
    (ids, labels), _ = batches(rng, 100)
    logits = np.asarray(layer(ids))
    assert (logits.argmax(1) == labels).mean() > 0.95
    # The loss of the validation part is that of the layer's own logits.
    rng = np.random.default_rng(1)
    batches(rng, 120)
    valid = batches(rng, 80)
    logits = np.concatenate([np.asarray(layer(ids)) for ids, _ in valid])
    classes = np.concatenate([labels for _, labels in valid])
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(logits)), classes]
    assert losses.mean() == pytest.approx(fitted.valid_loss, abs=1e-4)


def test_a_sample_bounds_the_features(monkeypatch):
    rng = np.random.default_rng(2)
    layer = BagOfWords(40, CLASSES, 512)
    monkeypatch.setattr(linear_path, "MAX_FEATURES", 300)
    parts = [part for _ in range(8) for part in batches(rng, 100)]
    texts, classes = linear_path._matrix(layer, parts, seed=0)
    assert 0 < texts.nnz <= 300
    assert texts.shape == (len(classes), 40 + 512)


def test_memory_bounds_the_buckets():
    assert linear_path.buckets(2**18, 20_000, 2) == 2**18
    assert linear_path.buckets(2**18, 20_000, 300) == linear_path.MAX_WEIGHTS // 300
    assert linear_path.buckets(2**18, 20_000, 1000) == 0
    assert linear_path.buckets(0, 20_000, 2) == 0


def examples(rng, count):
    labels = rng.integers(0, 2, count)
    words = rng.choice(["plot", "Cast", "score", "film"], (count, 4))
    words[:, 1] = np.where(labels == 1, "Good", "bad")
    return Stream(
        lambda: [
            Example({"text": " ".join(row), "label": str(label)}, f"part.tsv:{number}")
            for number, (row, label) in enumerate(zip(words, labels, strict=True))
        ]
    )


def splits(counts=(80, 30, 40)):
    rng = np.random.default_rng(3)
    return Splits(*(examples(rng, count) for count in counts))


def test_baselines_learn_words_and_count_every_text():
    counts = baselines.confusions(splits(), ["0", "1"])
    assert list(counts) == ["naive Bayes", "logistic regression"]
    references = [int(e.values["label"]) for e in splits().test]
    for matrix in counts.values():
        np.testing.assert_array_equal(matrix.sum(1), np.bincount(references))
        assert np.trace(matrix) == 40


def test_baselines_of_a_large_corpus_read_a_sample(monkeypatch):
    monkeypatch.setattr(baselines, "MAX_TEXTS", 60)
    bags = baselines._Bags(["0", "1"])
    features, labels = bags.all(splits((400, 1, 1)).train)
    assert features.shape[0] == len(labels)
    assert 0 < len(labels) < 150


def test_a_sample_has_every_class(monkeypatch):
    monkeypatch.setattr(baselines, "MAX_TEXTS", 4)
    rare = Example({"text": "rare", "label": "1"}, "x:1")
    common = [Example({"text": f"text {n}", "label": "0"}, f"x:{n}") for n in range(2, 300)]
    train = Stream(lambda: iter([*common, rare, rare]))
    _, labels = baselines._Bags(["0", "1"]).all(train)
    assert np.bincount(labels)[1] == 1 and len(labels) < 30
    parts = Splits(train, train, train)
    assert baselines.confusions(parts, ["0", "1"])["naive Bayes"].sum() == 300
