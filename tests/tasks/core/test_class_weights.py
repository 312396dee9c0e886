"""Weights of classes, from the training part or from a file."""

import numpy as np
import pytest
import tensorflow as tf

import tasks
from tasks.core import class_weights
from tasks.core.errors import UserError
from tests.support import untrained

COUNTS = {"bad": 30, "good": 10}


def test_balanced_weights_give_each_class_the_same_sum():
    weights = class_weights.resolve("balanced", COUNTS)
    assert weights == pytest.approx({"bad": 40 / 60, "good": 2.0})
    assert class_weights.resolve("none", COUNTS) == {"bad": 1, "good": 1}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("weights.json", '{"good": 3, "bad": 0.5}'),
        ("weights.tsv", "good\t3\r\n\nbad\t0.5\n"),
    ],
)
def test_weights_are_read_from_a_file(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    weights = class_weights.resolve(str(tmp_path / name), COUNTS)
    assert weights == {"bad": 0.5, "good": 3}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("w.tsv", "good\t1\nbad 2\n", r"w.tsv:2: expected a label, a tab and a weight"),
        ("w.tsv", "good\t1\nbad\tx\n", r"w.tsv:2: the weight of class 'bad' must be a number"),
        ("w.tsv", "good\t1\nbad\t-1\n", r"w.tsv:2: .* at least 0, got '-1'"),
        ("w.tsv", "good\t1\nodd\t1\n", r"w.tsv:2: the train part has no class 'odd', only 'bad'"),
        ("w.tsv", "good\t1\ngood\t1\n", r"w.tsv:2: class 'good' has a weight already, at .*:1"),
        ("w.tsv", "good\t1\n", r"w.tsv has no weight for 'bad', which the train part has"),
        ("w.tsv", "good\t0\nbad\t0\n", r"at least one weight must be above 0"),
        ("w.json", '{"good": 1,\n"odd": 1}', r"w.json:2: the train part has no class 'odd'"),
        ("w.json", '{"good": 1,\n"good": 1}', r"class 'good' has a weight already"),
        ("w.json", '{"good": true, "bad": 1}', r"must be a number of at least 0, got True"),
        ("w.json", '{"good": NaN, "bad": 1}', r"must be a number of at least 0"),
        ("w.json", "[1, 2]", r"w.json: expected a JSON object of weights by class"),
        ("w.json", '{"good": 1\n', r"w.json:2: expected JSON"),
    ],
)
def test_a_malformed_file_names_file_line_and_class(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        class_weights.resolve(str(tmp_path / name), COUNTS)


def test_a_class_that_only_an_earlier_version_has_has_the_weight_1(tmp_path):
    class_weights.write(tmp_path / "weights.json", {"good": 3.0, "bad": 0.5})
    weights = class_weights.read(tmp_path / "weights.json", ["bad", "odd", "good"])
    assert weights.tolist() == [0.5, 1.0, 3.0]


def test_a_file_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"must be none, balanced or a file that can be read"):
        class_weights.resolve("balance", COUNTS)


@pytest.mark.parametrize("name", ["sentiment", "tagging"])
def test_the_training_part_alone_is_weighted_and_restored_so(name, tmp_path):
    task_class, examples = tasks.find(name), untrained.examples(name)
    config = task_class.Config(**untrained.SMALL, class_weights="balanced")
    task = task_class.learn(config, examples, tmp_path)
    assert (tmp_path / "class_weights.json").is_file()
    first = next(examples.batches(untrained.EXAMPLES))
    tagging = name == "tagging"
    if tagging:
        values = {
            key: tf.ragged.constant([e.values[key] for e in first]) for key in ("tokens", "tags")
        }
    else:
        values = {key: tf.constant([e.values[key] for e in first]) for key in ("text", "label")}
    encoded = {
        key: value.to_tensor() if hasattr(value, "to_tensor") else value
        for key, value in task.encode(values).items()
    }
    for restored in (task, task_class.restore(tmp_path)):
        _, classes, weights = restored.to_inputs(encoded, training=True)
        classes, weights = np.ravel(classes), np.ravel(weights)
        totals = [weights[(classes == k) & (weights > 0)].sum() for k in np.unique(classes)]
        np.testing.assert_allclose(totals, totals[0], rtol=1e-3)
        count = (weights > 0).sum()
        assert sum(totals) == pytest.approx(count, rel=1e-3)
        plain = restored.to_inputs(encoded, training=False)
        assert len(plain) == 3 if tagging else len(plain) == 2
        assert not tagging or set(np.ravel(plain[2])) <= {0.0, 1.0}


@pytest.mark.parametrize(
    ("name", "text"), [("w.txt", "a\t2\nb\t1\n"), ("w.json", '{"a": 2, "b": 1}')]
)
def test_a_byte_order_mark_is_not_part_of_a_label(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8-sig")
    assert class_weights.resolve(str(path), {"a": 1, "b": 1}) == {"a": 2.0, "b": 1.0}
