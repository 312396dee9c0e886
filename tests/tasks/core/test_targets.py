"""What the field `label` of a text is read as."""

import json

import pytest

from tasks.core import targets
from tasks.core.errors import UserError
from tasks.core.examples import PARTS
from tasks.corpora.labelled_text import LabelledTexts
from tasks.shapes.classification.settings import Config


@pytest.mark.parametrize(
    ("target", "label", "values"),
    [
        ("auto", " a|b ", {"label": "a|b"}),
        ("classes", "a", {"label": "a"}),
        ("labels", "b | a|b|", {"label": ("a", "b")}),
        ("labels", "", {"label": ()}),
        ("labels", ["b", "a", "b"], {"label": ("a", "b")}),
        ("number", " 4 ", {"value": "4.0"}),
        ("number", "-1e-3", {"value": "-0.001"}),
    ],
)
def test_a_label_is_read_as_the_target(target, label, values):
    assert targets.values_of(target, label, "x:1") == values


@pytest.mark.parametrize(
    ("target", "label", "message"),
    [
        ("classes", " ", "x:1: the label is empty. Only --target labels allows that"),
        ("labels", ["a|b"], r"x:1: a label in a list must not contain \|"),
        ("labels", "a|b\x07", "x:1: the label must be one line without control characters"),
        ("number", "4,5", "x:1: the label must be a number such as 4 .* got '4,5'"),
        ("number", "", "x:1: the label must be a number"),
        ("number", "nan", "x:1: the label must be a number"),
        ("number", "1_000", "x:1: the label must be a number"),
        ("number", "1e39", "x:1: the label must be a number"),
    ],
)
def test_a_label_of_another_kind_is_an_error(target, label, message):
    with pytest.raises(UserError, match=message):
        targets.values_of(target, label, "x:1")


def test_recurring_labels_are_several_and_others_are_classes():
    assert targets.several([("a", "b"), ("a",), ("b", "c"), ()]) == (True, 2, 4)
    assert targets.several([("Sports", "Tennis"), ("Sports", "Golf"), ("News",)])[0] is False
    assert targets.several([("a", "b")] * 9) == (False, 9, 9)
    assert targets.several([("a",), ("b",)]) == (False, 0, 2)


def corpus(folder, rows, name="data.csv", **settings):
    if name.endswith(".csv"):
        text = "text,label\n" + "".join(f"{t},{label}\n" for t, label in rows)
    else:
        text = "".join(json.dumps({"text": t, "label": label}) + "\n" for t, label in rows)
    (folder / name).write_text(text, encoding="utf-8")
    return LabelledTexts(data=str(folder / name), **settings)


def read(located):
    splits = located.open()
    examples = [example for part in PARTS for example in getattr(splits, part)]
    return sorted(
        (e.values["text"], e.values.get("label", e.values.get("value"))) for e in examples
    )


MAILS = [("refund", "billing"), ("crash", "bug"), ("both", "billing|bug"), ("hello", "")]


def test_several_labels_are_detected_and_reported(tmp_path):
    located, (note,) = corpus(tmp_path, MAILS).resolved()
    assert located.target == "labels"
    assert note.startswith("--target labels: 1 of the first 4 texts have several labels, ")
    assert read(located) == [
        ("both", ("billing", "bug")), ("crash", ("bug",)), ("hello", ()), ("refund", ("billing",))
    ]  # fmt: skip
    chosen = LabelledTexts(data=located.data, target="classes")
    assert chosen.resolved() == (chosen, [])
    with pytest.raises(UserError, match=r"data.csv:5: the label is empty"):
        read(chosen)


def test_lists_of_labels_are_read_from_json(tmp_path):
    rows = [("refund", ["billing"]), ("both", ["bug", "billing"]), ("none", []), ("crash", "bug")]
    located, notes = corpus(tmp_path, rows, "data.jsonl").resolved()
    assert located.target == "labels" and len(notes) == 1
    assert ("both", ("billing", "bug")) in read(located) and ("none", ()) in read(located)
    with pytest.raises(UserError, match=r"jsonl:1: 'label' must be .*--target labels reads lists"):
        read(LabelledTexts(data=located.data, target="classes"))
    with pytest.raises(UserError, match=r"jsonl:1: 'label' must be a string, .* or a list of"):
        read(corpus(tmp_path, [("x", [["a"]])], "data.jsonl", target="labels"))


def test_classes_with_a_separator_remain_classes(tmp_path):
    rows = [("one", "Sports|Tennis"), ("two", "Sports|Golf"), ("three", "News")]
    located, (note,) = corpus(tmp_path, rows).resolved()
    assert located.target == "classes" and note.startswith("--target classes: 2 of the first 3")
    assert ("one", "Sports|Tennis") in read(located)
    assert corpus(tmp_path, [("one", "a"), ("two", "b")]).resolved()[1] == []
    assert LabelledTexts().resolved() == (LabelledTexts(target="classes"), [])


def test_numbers_are_read_and_malformed_ones_have_a_line(tmp_path):
    rows = [(f"text {n}", n / 4) for n in range(40)]
    located = corpus(tmp_path, rows, target="number")
    assert [float(value) for _, value in read(located)] == [
        value for _, value in sorted((t, v) for t, v in rows)
    ]
    assert "split by the hash of the text" in located.open().notes[0]
    assert read(corpus(tmp_path, rows, "data.jsonl", target="number")) == read(located)
    with pytest.raises(UserError, match=r"data.csv:3: the label must be a number .* got 'four'"):
        read(corpus(tmp_path, [("a", 1), ("b", "four")], target="number"))
    with pytest.raises(UserError, match=r"data.jsonl:1: .*--target number reads numbers"):
        read(corpus(tmp_path, [("a", 0.5)], "data.jsonl"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": "labels", "coverage": 0.9}, "--coverage: only for --target classes"),
        (
            {"target": "number", "class_weights": "balanced", "min_precision": 0.5},
            "--class-weights and --min-precision: only for --target classes",
        ),
        ({"target": "number", "monitor": "accuracy"}, r"\['loss', 'mean_absolute_error'\]"),
        ({"target": "classes", "monitor": "micro_f1"}, "for --target classes, got 'micro_f1'"),
        ({"target": "label"}, "--target must be one of"),
    ],
)
def test_settings_that_a_target_does_not_have_are_an_error(settings, message):
    with pytest.raises(UserError, match=message):
        Config(**settings)


def test_settings_that_a_number_does_not_have_are_replaced_and_reported():
    config, notes = Config().with_target("number")
    assert (config.evidence, config.monitor) == (0, "mean_absolute_error")
    assert notes == ["chosen for --target number: --evidence 0, --monitor mean_absolute_error"]
    assert Config().with_target("labels") == (Config(target="labels"), [])


def test_the_sample_has_labels_but_no_numbers():
    assert next(iter(LabelledTexts(target="labels").open().train)).values["label"] in (
        ("negative",),
        ("positive",),
    )
    with pytest.raises(UserError, match=r"must be a number .* got '(nega|posi)tive'"):
        next(iter(LabelledTexts(target="number").open().train))
