"""Labels that are numbers: ratings are classes, measurements are an error."""

import pytest

import tasks
from tasks.core.errors import UserError
from tasks.core.examples import Example, Stream


def learn(labels, folder):
    task_class = tasks.find("sentiment")
    rows = [Example({"text": "a film", "label": label}, f"x:{n}") for n, label in enumerate(labels)]
    return task_class.learn(task_class.Config(), Stream(lambda: iter(rows)), folder)


def test_measured_numbers_are_an_error_that_names_the_limitation(tmp_path):
    labels = [f"{number / 7:.2f}" for number in range(-3, 30)]
    message = "33 different numbers, such as -0.43 and 4.14: this task predicts classes"
    with pytest.raises(UserError, match=message):
        learn(labels, tmp_path)


@pytest.mark.parametrize(
    "labels",
    [
        [str(number / 2) for number in range(20)],
        [str(number) for number in range(100)],
        [*(str(number / 7) for number in range(30)), "none"],
        [*(str(number / 7) for number in range(30)), "nan"],
    ],
    ids=["ratings", "whole numbers", "a word", "nan"],
)
def test_classes_may_look_like_numbers(labels, tmp_path):
    assert len(learn(labels, tmp_path).labels) == len(set(labels))
