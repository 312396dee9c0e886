"""Warnings about a training."""

import pytest

from app.training.advice import few_steps, training_warnings


def history(losses, accuracies):
    rows = zip(losses, accuracies, strict=True)
    return [
        {"epoch": epoch, "loss": loss, "val_loss": loss, "val_accuracy": accuracy}
        for epoch, (loss, accuracy) in enumerate(rows, start=1)
    ]


@pytest.mark.parametrize(
    ("losses", "accuracies", "steps", "expected"),
    [
        ([0.7, 0.5], [0.5, 0.6], 100, []),
        ([0.7], [0.5], 100, []),  # one epoch says nothing about its loss
        ([3e9], [0.5], 100, ["the training loss is 3e+09 in the best epoch: try a lower"]),
        ([3e9, 0.5], [0.5, 0.6], 100, []),
        ([0.7, 0.7, 0.8], [0.5, 0.7, 0.6], 100, ["the training loss did not decrease"]),
        ([0.7, 0.5], [0.5, 0.6], 1, ["has only 1 step: lower --batch-tokens"]),
        ([0.7, 0.5], [0.6, 0.6], 100, ["2 epochs have the best val_accuracy, 0.6, and the"]),
        ([0.7, 0.7], [0.6, 0.6], 19, ["did not decrease", "only 19 steps", "decided by ties"]),
    ],
)
def test_warnings_are_lines_with_advice(losses, accuracies, steps, expected):
    best = min(2, len(losses))
    warnings = training_warnings(history(losses, accuracies), best, "val_accuracy", steps)
    assert len(warnings) == len(expected)
    for warning, text in zip(warnings, expected, strict=True):
        assert text in warning and "\n" not in warning and warning.endswith(".")


def test_equal_losses_are_no_ties():
    assert not training_warnings(history([0.7, 0.5, 0.5], [0, 0, 0]), 2, "val_loss", 100)


def test_few_steps_are_known_before_training():
    (afterwards,) = training_warnings(history([0.7, 0.5], [0.5, 0.6]), 2, "val_accuracy", 19)
    assert few_steps(19) == afterwards and not few_steps(20)
