"""Comparisons of versions: which scores are compared, and by which test."""

import dataclasses

import numpy as np
import pytest

from app.serving import comparison
from app.serving.session import SavedModelSession
from tasks.core.examples import Example, Stream

SENTENCES, WORDS = 40, 6


@pytest.fixture
def compared(tmp_path, untrained_copy, monkeypatch):
    """Two versions of tagging, the second of which is right in a third of the sentences."""
    folders = [untrained_copy("tagging", tmp_path) for _ in range(2)]
    examples = [
        Example({"tokens": ("a",) * WORDS, "tags": ("DET",) * WORDS}, f"test:{number}")
        for number in range(SENTENCES)
    ]

    class Session(SavedModelSession):
        def __init__(self, folder):
            super().__init__(folder)
            self.is_second = folder == folders[1]

        def predict_examples(self, task, examples):
            pairs = super().predict_examples(task, examples)
            for number, (example, response) in enumerate(pairs):
                is_right = self.is_second and number % 3 == 0
                tags = [b"DET" if is_right else b"NOUN"] * WORDS
                yield example, response | {"tags": np.array(tags, object)}

    monkeypatch.setattr(comparison, "SavedModelSession", Session)
    return lambda: comparison.compare("tagging", *folders, Stream(lambda: iter(examples)))


def test_tags_of_a_sentence_are_not_counted_as_independent(compared):
    result = compared()
    right = -(-SENTENCES // 3)
    assert (result.gained, result.lost, result.p_value) == (right * WORDS, 0, None)
    assert result.scores["accuracy"] == pytest.approx((0, right / SENTENCES))
    # All or none of the words of a sentence are right: the p-value is that of sentences.
    rng = np.random.default_rng(1)
    shares = rng.binomial(SENTENCES, right / SENTENCES, 20_000) / SENTENCES
    observed = right / SENTENCES
    expected = np.mean(np.abs(shares - observed) >= observed)
    assert result.p_values["accuracy"] == pytest.approx(expected, abs=0.002)
    lines = result.sentences()
    assert f"{right * WORDS} right that" in lines[1] and "McNemar" not in "".join(lines)
    assert any(line.startswith("accuracy +0.3500: significant") for line in lines)
    assert [row[0] for row in result.table().rows][-2:] == [
        "right only in this version",
        "p of accuracy, bootstrap",
    ]


def test_scores_that_one_version_lacks_are_not_compared(compared, monkeypatch):
    evaluate, number = comparison._evaluate, iter(range(2))

    def evaluated(*args):
        evaluation, outcomes, rows = evaluate(*args)
        left_out = ("sentence_accuracy", "accuracy")[next(number)]
        scores = {name: score for name, score in evaluation.scores.items() if name != left_out}
        return dataclasses.replace(evaluation, scores=scores), outcomes, rows

    monkeypatch.setattr(comparison, "_evaluate", evaluated)
    result = compared()
    assert result.scores and not result.scores.keys() & {"accuracy", "sentence_accuracy"}
    assert result.p_values == {} and len(result.sentences()) == 2
