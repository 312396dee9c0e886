"""Tables next to a train part are used as the part that they obviously are, or named."""

import pytest

from tasks.corpora.labelled_text import LabelledTexts

TRAIN = "text,label\n" + "".join(f"text {n},{n % 2}\n" for n in range(40))
OTHER = "text,label\nother,1\n"


def opened(folder, *names, **flags):
    for name in names:
        (folder / name).write_text(OTHER)
    (folder / "train.csv").write_text(TRAIN)
    splits = LabelledTexts(data=str(folder), **flags).open()
    return [e.values["text"] for e in splits.test], splits.notes


@pytest.mark.parametrize("name", ["testing.csv", "holdout.csv"])
def test_an_obvious_test_part_is_used(tmp_path, name):
    test, notes = opened(tmp_path, name, "validation.csv")
    assert test == ["other"] and notes == (f"{name} is the test part",)


def test_other_tables_are_named(tmp_path):
    test, notes = opened(tmp_path, "eval.csv", "test.csv", "testing.csv", "val.csv")
    assert test == ["other"]
    assert notes == ("not read: eval.csv, testing.csv; --valid and --test name other parts",)


def test_a_table_that_a_flag_names_is_not_unused(tmp_path):
    flags = {"test": str(tmp_path / "eval.csv"), "valid": str(tmp_path / "eval.csv")}
    test, notes = opened(tmp_path, "eval.csv", "test.csv", **flags)
    assert test == ["other"] and not notes
