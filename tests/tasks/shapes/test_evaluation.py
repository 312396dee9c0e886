"""Next to each score are its interval and the baseline of the most frequent class."""

import collections
import dataclasses
import random
import re
import types

import numpy as np
import pytest
import sacrebleu

from app import report
from tasks.core.evaluation import Evaluation, lower_is_better
from tasks.core.examples import Example
from tasks.shapes.classification.evaluation import Evaluator as Classification
from tasks.shapes.sequence_labelling.evaluation import Evaluator as Tagging
from tasks.shapes.sequence_labelling.tag_counts import TagCounts
from tasks.shapes.sequence_to_sequence.evaluation import Evaluator as Translation

RECORD = {
    "task": "sentiment", "best_epoch": 1, "epochs": 1, "config": {}, "parameters": 1,
    "seconds": {}, "versions": {}, "commit": None, "device": "cpu",
    "evaluated": {"signature": "serving_default", "examples": 6, "part": "test"},
    "data": {"source": "x", "notes": (), "examples": {}, "checksum": ""},
}  # fmt: skip
HISTORY = [{"epoch": 1, "loss": 0.0, "val_loss": 0.0}]


def classified(majority):
    task = types.SimpleNamespace(labels=types.SimpleNamespace(words=["a", "b"]))
    responses = [
        (
            Example({"label": reference, "text": "x"}, "x:1"),
            {"label": prediction.encode(), "probability": 0.5},
        )
        for reference, prediction in zip("aaaabb", "aaabba", strict=True)
    ]
    return Classification(task, majority).evaluate(responses)


def test_classification_has_intervals_and_the_majority_baseline():
    evaluation = classified("a")
    assert evaluation.baselines["majority"] == pytest.approx({"accuracy": 4 / 6, "macro_f1": 0.4})
    assert evaluation.intervals.keys() == evaluation.scores.keys()
    for name, (low, high) in evaluation.intervals.items():
        assert 0 <= low < evaluation.scores[name] < high <= 1
    text = evaluation.context("accuracy")
    assert text == "95 % interval 0.3000 to 0.9032; majority baseline 0.6667"


def test_a_model_below_its_baseline_says_so():
    sentence = "The model is below the majority baseline: accuracy 0.6000 against 0.6667."
    evaluation = dataclasses.replace(classified("a"), scores={"accuracy": 0.6, "macro_f1": 0.1})
    assert evaluation.below_baselines() == [sentence]
    assert sentence in report.page(RECORD, HISTORY, evaluation)
    assert classified("a").below_baselines() == []  # it has the same accuracy
    rows = {"entity_f1": 0.0, "accuracy": 0.5, "unseen_accuracy": 0.7}  # equal, below, above
    other = {"majority": {"entity_f1": 0.0, "accuracy": 0.6, "unseen_accuracy": 0.1}}
    evaluation = Evaluation(1, rows, baselines=other)
    assert evaluation.below_baselines() == [
        "The model is below the majority baseline: accuracy 0.5000 against 0.6000."
    ]
    assert dataclasses.replace(evaluation, baselines={"majority": rows}).below_baselines() == []
    assert classified(None).below_baselines() == []
    assert Evaluation(0, {}).below_baselines() == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((name, True) for name in ("loss", "val_loss", "mean_absolute_error", "perplexity")),
        *((name, True) for name in ("validation_error", "bits_per_character")),
        *((name, False) for name in ("accuracy", "macro_f1", "entity_f1", "bleu", "chrf", "r2")),
        *((name, False) for name in ("spearman", "true", "exact", "coverage")),
    ],
)
def test_errors_and_perplexities_are_better_when_lower(name, expected):
    assert lower_is_better(name) == expected


def test_an_unknown_majority_is_no_baseline():
    assert classified(None).baselines == classified("c").baselines == {}


def test_tagging_has_intervals_and_the_majority_baseline():
    scheme = types.SimpleNamespace(scheme_name=None, reported=["N", "V"])
    task = types.SimpleNamespace(
        scheme=scheme, edit_scripts=None, annotations=(), training_words={"old"}
    )
    responses = []
    for n, (references, predictions) in enumerate([("NNV", "NNV"), ("NV", "NN"), ("NN", "NN")]):
        tokens = ("new", *["old"] * (len(references) - 1))
        values = {"tokens": tokens, "tags": tuple(references)}
        responses.append((Example(values, f"x:{n}"), {"tags": [p.encode() for p in predictions]}))
    evaluation = Tagging(task, "N").evaluate(responses)
    assert evaluation.baselines["majority"] == pytest.approx(
        {"accuracy": 5 / 7, "unseen_accuracy": 1, "sentence_accuracy": 1 / 3}
    )
    assert evaluation.intervals["accuracy"] == (0.5, 1)  # sentences are drawn, not words
    assert evaluation.intervals["unseen_accuracy"] == (1, 1)
    low, high = evaluation.intervals["sentence_accuracy"]
    assert low < 2 / 3 < high
    assert Tagging(task).evaluate(responses).baselines == {}


def test_tags_are_counted_as_by_hand():
    drawn = random.Random(0)
    counts, pairs = TagCounts({"old", "man"}, "N"), []  # pairs: word, reference, prediction
    for number in range(30):
        length = drawn.randint(1, 4)
        words = drawn.choices(["old", "man", "new", "sea"], k=length)
        references, predictions = drawn.choices("NV", k=length), drawn.choices("NV", k=length)
        counts.add(Example({"tokens": words, "tags": references}, f"x:{number}"), predictions)
        pairs.append(list(zip(words, references, predictions, strict=True)))
    flat = [pair for sentence in pairs for pair in sentence]
    unseen = [pair for pair in flat if pair[0] in ("new", "sea")]
    for scores, is_right in (
        (counts.scores(), lambda pair: pair[1] == pair[2]),
        (counts.baseline(), lambda pair: pair[1] == "N"),
    ):
        whole = [all(map(is_right, sentence)) for sentence in pairs]
        assert scores == pytest.approx(
            {
                "accuracy": np.mean([*map(is_right, flat)]),
                "unseen_accuracy": np.mean([*map(is_right, unseen)]),
                "sentence_accuracy": np.mean(whole),
            }
        )
    assert counts.count == 30
    assert counts.confusions == collections.Counter(pair[1:] for pair in flat)
    wrong = collections.Counter(pair for pair in flat if pair[1] != pair[2])
    assert {key: count for key, (count, *_) in counts.mistakes.items()} == wrong


def test_translation_has_intervals_of_bleu_and_chrf():
    task = types.SimpleNamespace(
        output_name="translation",
        references=lambda values: values["references"],
        source_text=lambda example: "x",
    )
    responses = []
    for n in range(60):
        reference = f"the dog number {n} runs to the small house"
        prediction = reference if n % 3 else f"a dog number {n} walks to the big house"
        references = [reference] * (1 + n % 2)
        responses.append(
            (Example({"references": references}, "x:1"), {"translation": prediction.encode()})
        )
    evaluation = Translation(task).evaluate(responses)
    predictions = [response["translation"].decode() for _, response in responses]
    references = [example.values["references"][0] for example, _ in responses]
    corpus = sacrebleu.metrics.BLEU().corpus_score(predictions, [references], n_bootstrap=1000)
    low, high = evaluation.intervals["bleu"]
    expected = (corpus._mean - corpus._ci, corpus._mean + corpus._ci)
    assert (low, high) == pytest.approx(expected, abs=0.3 * corpus._ci)
    low, high = evaluation.intervals["chrf"]
    assert low < evaluation.scores["chrf"] < high


def test_an_evaluation_of_nothing_has_no_intervals():
    task = types.SimpleNamespace(labels=types.SimpleNamespace(words=["a", "b"]))
    evaluation = Classification(task, "a").evaluate(())
    assert evaluation.intervals == evaluation.baselines == {}
    assert evaluation.context("accuracy") == ""


def test_the_report_shows_intervals_and_baselines():
    page = report.page(RECORD, HISTORY, classified("a"))
    page = re.sub(r"</?span[^>]*>", "", page)  # which keep a percent sign with its number
    assert "accuracy: 95 % interval 0.3000 to 0.9032; majority baseline 0.6667" in page


def predicted(pairs, probabilities=None, **fitted):
    """The evaluation of references and predictions, such as "aa ab"."""
    task = types.SimpleNamespace(labels=types.SimpleNamespace(words=["a", "b", "c"]))
    responses = []
    for number, (reference, prediction) in enumerate(pairs.split()):
        response = {"label": prediction.encode(), "probability": 0.5}
        if probabilities:
            response["probabilities"] = probabilities[number]
        responses.append((Example({"label": reference, "text": "x"}, "x:1"), response))
    return Classification(task, "a", fitted).evaluate(responses)


def test_neglected_classes_are_warnings_with_advice():
    (warning,) = predicted("aa bb ca").warnings
    assert warning.startswith("1 class of the references is never predicted ('c'): add examples")
    (warning,) = predicted("aa ba aa ca").warnings
    assert warning.startswith("100.0% of the predictions are 'a', and only 50.0% of the references")
    assert not predicted("aa bb").warnings
    assert not predicted("aa aa").warnings


def test_the_calibration_error_is_that_before_and_after_the_temperature():
    served = [[0.8, 0.1, 0.1], [0.2, 0.6, 0.2]]
    evaluation = predicted("aa bb", served, temperature=2.0)
    errors = evaluation.calibration.errors()
    assert errors["after"] == pytest.approx((0.2 + 0.4) / 2)
    assert errors["before"] == pytest.approx((1 - 0.64 / 0.66 + 1 - 0.36 / 0.44) / 2)
    sentence = "expected calibration error 0.3000 with temperature 2.000, 0.1061 without it"
    assert evaluation.calibration.sentence() == sentence
    page = report.page(RECORD | {"warnings": ["do <this>."]}, HISTORY, evaluation)
    assert sentence[1:] in page and "Warning: do &lt;this&gt;." in page
    assert page.count("<svg") == 3
    assert predicted("aa bb").calibration is None


def tagged(responses, **fitted):
    """The evaluation of one sentence of two words, N and V, for each response."""
    scheme = types.SimpleNamespace(scheme_name=None, reported=["N", "V"])
    task = types.SimpleNamespace(
        scheme=scheme, edit_scripts=None, annotations=(), training_words=set()
    )
    example = Example({"tokens": ("a", "b"), "tags": ("N", "V")}, "x:1")
    tags = {"tags": [b"N", b"N"]}
    return Tagging(task, "N", fitted).evaluate([(example, tags | r) for r in responses])


def test_the_calibration_error_of_tags_is_that_of_words():
    served = [{"probability": [0.75, 0.5]}, {"probability": [1.0, 0.25]}]
    before = [[0.5, 0.5], [0.75, 0.75]]
    both = [r | {"uncalibrated_probability": b} for r, b in zip(served, before, strict=True)]
    calibration = tagged(both, temperature=2.0).calibration
    assert calibration.errors() == {"before": pytest.approx(0.5), "after": pytest.approx(0.25)}
    page = report.page(RECORD, HISTORY, tagged(both, temperature=2.0))
    assert "error 0.2500 with temperature 2.000, 0.5000 without it" in page
    # Of responses alone, and without any temperature, such as that of a CRF.
    for fitted, words in (({"temperature": 2.0}, "with temperature 2.000"), ({}, "without a")):
        evaluation = tagged(served, **fitted)
        assert evaluation.calibration.errors() == {"before": None, "after": pytest.approx(0.25)}
        assert words in evaluation.calibration.sentence()
        assert words in report.page(RECORD, HISTORY, evaluation)
    assert tagged([{}]).calibration is None


def test_confident_predictions_have_coverage_and_accuracy():
    task = types.SimpleNamespace(labels=types.SimpleNamespace(words=["a", "b"]))
    responses = [
        (
            Example({"label": reference, "text": "x"}, "x:1"),
            {"label": prediction.encode(), "probability": 0.5, "confident": confident},
        )
        for reference, prediction, confident in [
            ("a", "a", True),
            ("a", "b", False),
            ("b", "b", True),
            ("b", "a", True),
        ]
    ]
    evaluation = Classification(task, None, {"threshold": 0.4}).evaluate(responses)
    assert evaluation.scores["coverage"] == 0.75
    assert evaluation.scores["confident_accuracy"] == pytest.approx(2 / 3)
    assert evaluation.intervals.keys() == evaluation.scores.keys()
    assert "coverage" not in Classification(task).evaluate(responses).scores
    none = [(example, response | {"confident": False}) for example, response in responses]
    scores = Classification(task, None, {"threshold": 2.0}).evaluate(none).scores
    assert scores["coverage"] == 0 and "confident_accuracy" not in scores


def test_statistics_of_examples_add_up_to_the_scores():
    task = types.SimpleNamespace(
        output_name="translation",
        references=lambda values: values["translations"],
        source_text=lambda example: "",
    )
    sentences = ["the old man moved the box", "a box of boats over it", "the very square river"]
    responses = [
        (
            Example({"translations": (reference,)}, "x:1"),
            {"translation": " ".join(reference.split()[:-1]).encode()},
        )
        for reference in sentences
    ]
    translation = Translation(task)
    tagging = Tagging(
        types.SimpleNamespace(
            scheme=types.SimpleNamespace(scheme_name="BIO", reported=["O", "B-X", "I-X"]),
            annotations=(),
            edit_scripts=None,
            training_words=set(),
        )
    )
    tagged = [
        (
            Example({"tokens": tuple("abcd"), "tags": tuple(reference.split())}, "x:1"),
            {"tags": [tag.encode() for tag in prediction.split()]},
        )
        for reference, prediction in (
            ("B-X I-X O B-X", "B-X I-X O O"),
            ("O O B-X O", "B-X O B-X O"),
        )
    ]
    for evaluator, pairs, names in (
        (translation, responses, {"bleu", "chrf"}),
        (tagging, tagged, {"accuracy", "entity_f1"}),
    ):
        evaluation = evaluator.evaluate(pairs)
        rows = [evaluator.statistics(*pair) for pair in pairs]
        assert rows[0].keys() == names
        for name in rows[0]:
            total = np.sum([row[name] for row in rows], axis=0)
            score = evaluator.score_of(name, total)
            assert score == pytest.approx(evaluation.scores[name]) and score > 0
    assert Classification(None).statistics(*responses[0]) == {}
