"""TensorFlow Datasets by name, from data sets prepared on disk in their own format."""

import numpy as np
import pytest

from app import train
from tasks import UserError
from tasks.corpora import PARTS
from tasks.corpora.labelled import LabelledTexts
from tests.conftest import SMALL, where

tfds = pytest.importorskip("tensorflow_datasets")

# What each holds, as its builder declares it: version, config, features, parts.
LABELS = tfds.features.ClassLabel
PREPARED = {
    "imdb_reviews": (
        "1.0.0",
        "plain_text",
        "text",
        LABELS(names=["neg", "pos"]),
        ["train", "test"],
    ),
    "glue/sst2": (
        "2.0.0",
        "sst2",
        "sentence",
        LABELS(names=["negative", "positive"]),
        ["train", "validation", "test"],
    ),
    "yelp_polarity_reviews": ("0.2.0", None, "text", LABELS(names=["1", "2"]), ["train", "test"]),
    "sentiment140": ("1.0.0", None, "text", None, ["train", "test"]),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder of small data sets in the format of TensorFlow Datasets."""
    folder = tmp_path_factory.mktemp("tfds")
    for name, (version, config, text, label, parts) in PREPARED.items():
        key = "polarity" if label is None else "label"
        features = {text: tfds.features.Text(), key: label or tfds.features.Scalar(np.int32)}
        if name == "glue/sst2":
            features["idx"] = tfds.features.Scalar(np.int32)
        others = ("date", "user", "query") if name == "sentiment140" else ()
        features |= {other: tfds.features.Text() for other in others}

        def rows(part, text=text, key=key, name=name, others=others):
            for n in range(60 if part == "train" else 12):
                row = {text: f"{'good' if n % 2 else 'dull'} film {n} {part}", key: n % 2}
                row |= dict.fromkeys(others, "")
                if name == "sentiment140":
                    row[key] = 2 if part == "test" and n == 5 else 4 * (n % 2)
                if name == "glue/sst2":
                    row |= {"idx": n} | ({key: -1} if part == "test" else {})
                yield row

        tfds.dataset_builders.store_as_tfds_dataset(
            name=name.split("/")[0],
            config=config,
            version=version,
            features=tfds.features.FeaturesDict(features),
            split_datasets={part: list(enumerate(rows(part))) for part in parts},
            data_dir=str(folder),
        )
    return folder


@pytest.mark.parametrize("name", PREPARED)
def test_a_data_set_is_read_by_name(prepared, name):
    splits = LabelledTexts(data=f"tfds:{name}", tfds_dir=str(prepared)).open()
    read = {part: list(getattr(splits, part)) for part in PARTS}
    assert len(read["train"]) + len(read["valid"]) == 60
    assert len(read["test"]) == 12
    assert any("no valid part" in note for note in splits.notes)
    labels = {e.values["label"] for e in read["train"]}
    assert (
        labels
        == {
            "imdb_reviews": {"neg", "pos"},
            "glue/sst2": {"negative", "positive"},
            "yelp_polarity_reviews": {"1", "2"},
            "sentiment140": {"0", "4"},
        }[name]
    )
    judged = "validation" if name == "glue/sst2" else "test"
    texts = {f"{'good' if n % 2 else 'dull'} film {n} {judged}" for n in range(12)}
    assert {e.values["text"] for e in read["test"]} == texts
    assert read["test"][0].origin == f"tfds:{name}:{judged}:0"


def test_what_is_judged_instead_of_a_test_part_is_told(prepared):
    notes = LabelledTexts(data="tfds:glue/sst2", tfds_dir=str(prepared)).open().notes
    assert "labels of its test part are not public (-1)" in notes[0]


@pytest.mark.parametrize("name", ["imdb_reviews", "sentiment140"])
def test_a_data_set_trains_by_name(prepared, tmp_path, capsys, name):
    data = ["--data", f"tfds:{name}", "--tfds-dir", str(prepared)]
    version = train.main(["sentiment", *data, *SMALL, *where(tmp_path)])
    assert version == tmp_path / "saved_models" / "sentiment" / "1"
    told = "test: 1 of 12 examples left out: the train part has no class '2'"
    assert (told in capsys.readouterr().out) == (name == "sentiment140")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"data": "tfds:no_such_set"}, r"there is no data set 'no_such_set'.*known ones are"),
        ({"data": "tfds:glue/no_such"}, "tfds:glue/no_such"),
        (
            {"data": "tfds:imdb_reviews", "text_key": "review"},
            r"no feature 'review', only \['label'",
        ),
        ({"data": "tfds:imdb_reviews", "label_key": "stars"}, "name it with --label-key"),
    ],
)
def test_a_wrong_name_is_told(prepared, flags, message):
    with pytest.raises(UserError, match=message):
        LabelledTexts(**flags, tfds_dir=str(prepared)).open()


def test_what_cannot_be_downloaded_is_told_with_the_way_on(tmp_path, monkeypatch):
    def refuse(self, **_):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", refuse)
    with pytest.raises(
        UserError, match=r"cannot be downloaded: no route(.|\n)*offline(.|\n)*--tfds-dir"
    ):
        LabelledTexts(data="tfds:imdb_reviews", tfds_dir=str(tmp_path)).open()
