"""Accuracy of lemmas, against plain counting."""

import types

import pytest

from tasks.core.examples import Example
from tasks.shapes.sequence_labelling.evaluation import Evaluator

KEEP, SINGULAR, BE = "lower¦-0+¦-0+", "lower¦-0+¦-1+", "=be"
SENTENCES = [  # words, scripts, predicted scripts, and the lemmas that they make
    (["The", "cats", "is"], [KEEP, SINGULAR, BE], [KEEP, KEEP, BE], ["the", "cats", "be"]),
    # A wrong script with the correct lemma: "be" as it is.
    (["be", "dogs"], [KEEP, SINGULAR], [BE, SINGULAR], ["be", "dog"]),
]


def test_lemmas_are_compared_instead_of_scripts():
    scheme = types.SimpleNamespace(scheme_name=None, reported=[KEEP, SINGULAR, BE])
    known = {"The", "cats", "be"}
    task = types.SimpleNamespace(
        scheme=scheme, edit_scripts=object(), annotations=(), training_words=known
    )
    responses = [
        (
            Example({"tokens": tuple(words), "tags": tuple(scripts)}, f"x:{number}"),
            {"tags": [t.encode() for t in tags], "lemmas": [lemma.encode() for lemma in lemmas]},
        )
        for number, (words, scripts, tags, lemmas) in enumerate(SENTENCES)
    ]
    evaluation = Evaluator(task, KEEP).evaluate(responses)
    assert list(evaluation.scores)[:2] == ["lemma_accuracy", "unseen_lemma_accuracy"]
    assert evaluation.scores["lemma_accuracy"] == pytest.approx(4 / 5)
    assert evaluation.scores["unseen_lemma_accuracy"] == 1  # "is" and "dogs"
    assert evaluation.scores["accuracy"] == pytest.approx(3 / 5)  # of scripts
    baseline = evaluation.baselines["majority"]
    assert (baseline["lemma_accuracy"], baseline["unseen_lemma_accuracy"]) == (2 / 5, 0)
    low, high = evaluation.intervals["lemma_accuracy"]
    assert low <= 4 / 5 <= high
    preview = Evaluator(task, KEEP).evaluate(())
    assert preview.scores["lemma_accuracy"] == 0
