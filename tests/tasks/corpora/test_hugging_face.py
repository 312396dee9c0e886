"""Data sets of Hugging Face, in folders as its library writes them."""

import json
import zipfile

import pytest

from tasks.core.errors import UserError
from tasks.corpora.labelled_text import LabelledTexts

pyarrow = pytest.importorskip("pyarrow")
ipc = pytest.importorskip("pyarrow.ipc")
parquet = pytest.importorskip("pyarrow.parquet")

NAMES = ["neg", "pos"]


def table(texts, labels, names=NAMES):
    features = {"text": {"dtype": "string", "_type": "Value"}}
    if names:
        features["label"] = {"names": names, "_type": "ClassLabel"}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pyarrow.table({"text": texts, "label": labels}).replace_schema_metadata(metadata)


def saved(folder, *tables):
    """What `Dataset.save_to_disk` writes: shards in the stream format of Arrow, and two files."""
    folder.mkdir(parents=True)
    names = [f"data-{n:05}-of-{len(tables):05}.arrow" for n in range(len(tables))]
    for name, content in zip(names, tables, strict=True):
        with ipc.new_stream(str(folder / name), content.schema) as writer:
            writer.write_table(content)
    state = {"_data_files": [{"filename": name} for name in names]}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps({"features": {}}))


def read(path, **options):
    splits = LabelledTexts(data=str(path), **options).open()
    parts = {
        part: [tuple(e.values[key] for key in ("text", "label")) for e in getattr(splits, part)]
        for part in ("train", "valid", "test")
    }
    return parts, list(splits.notes)


@pytest.mark.parametrize("packed", [False, True])
def test_parts_that_were_saved_to_disk_are_read_with_names_of_classes(tmp_path, packed):
    folder = tmp_path / "data"
    saved(folder / "train", table(["a", "b"], [0, 1]), table(["c"], [1]))
    saved(folder / "validation", table(["d"], [0]))
    saved(folder / "test", table(["e"], [1]))
    saved(folder / "unsupervised", table(["f"], [-1]))
    splits = {"splits": ["train", "validation", "test", "unsupervised"]}
    (folder / "dataset_dict.json").write_text(json.dumps(splits))
    path = folder
    if packed:
        path = tmp_path / "data.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file in folder.rglob("*"):
                archive.write(file, file.relative_to(folder))
    parts, notes = read(path)
    assert parts == {
        "train": [("a", "neg"), ("b", "pos"), ("c", "pos")],
        "valid": [("d", "neg")],
        "test": [("e", "pos")],
    }
    assert "not read: parts unsupervised" in notes


def test_one_part_is_divided(tmp_path):
    saved(tmp_path / "data", table([f"text {n}" for n in range(100)], [n % 2 for n in range(100)]))
    parts, _ = read(tmp_path / "data")
    assert sorted(len(rows) for rows in parts.values()) == [10, 10, 80]


@pytest.mark.parametrize("folder", ["", "data", "plain_text"])
def test_shards_as_published_are_read(tmp_path, folder):
    root = tmp_path / "set"
    (root / folder).mkdir(parents=True)
    for number, text in enumerate("ab"):
        shard = root / folder / f"train-{number:05}-of-00002.parquet"
        parquet.write_table(table([text], [number]), shard)
    parquet.write_table(table(["c"], [1]), root / folder / "validation-00000-of-00001.parquet")
    parquet.write_table(table(["d"], [3], None), root / folder / "test-00000-of-00001.parquet")
    (root / "README.md").write_text("# A data set")
    parts, _ = read(root)
    assert parts == {
        "train": [("a", "neg"), ("b", "pos")],
        "valid": [("c", "pos")],
        "test": [("d", "3")],
    }


def test_two_names_of_one_part_are_an_error(tmp_path):
    for name in ("train", "validation", "dev"):
        parquet.write_table(table(["a"], [0]), tmp_path / f"{name}-00000-of-00001.parquet")
    with pytest.raises(UserError, match=r"has several valid parts, \['validation', 'dev'\]"):
        read(tmp_path)


def test_a_flag_replaces_a_part(tmp_path):
    saved(tmp_path / "data/train", table(["a", "b"], [0, 1]))
    saved(tmp_path / "data/test", table(["c"], [1]))
    (tmp_path / "data/dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    (tmp_path / "own.tsv").write_text("own\tpos\n")
    parts, _ = read(tmp_path / "data", valid=str(tmp_path / "own.tsv"))
    assert parts["valid"] == [("own", "pos")] and parts["test"] == [("c", "pos")]


def test_a_text_without_a_class_is_an_error(tmp_path):
    saved(tmp_path / "data", table(["a", "b"], [0, -1]))
    with pytest.raises(UserError, match=r"data-00000-of-00001.arrow:2: the label is empty"):
        read(tmp_path / "data")


def broken(folder, kind):
    saved(folder / "train", table(["a"], [0]))
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": ["train"]}))
    if kind == "no state":
        (folder / "train/state.json").unlink()
    elif kind == "no list":
        (folder / "train/state.json").write_text('{"_data_files": 3}')
    elif kind == "other folder":
        state = {"_data_files": [{"filename": "../../secret.arrow"}]}
        (folder / "train/state.json").write_text(json.dumps(state))
    elif kind == "no JSON":
        (folder / "dataset_dict.json").write_text("{")
    elif kind == "no train":
        (folder / "dataset_dict.json").write_text('{"splits": []}')
        saved(folder / "test", table(["a"], [0]))
        (folder / "dataset_dict.json").write_text('{"splits": ["test"]}')
    elif kind == "damaged":
        (folder / "train/data-00000-of-00001.arrow").write_bytes(b"\xff\xff\xff\xff\x10\x00\x00")
    elif kind == "several":
        (folder / "dataset_dict.json").unlink()
        for name in ("cola", "sst2"):
            (folder / name).mkdir()
            shard = folder / name / "train-00000-of-00001.parquet"
            parquet.write_table(table(["a"], [0]), shard)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no state", "state.json: not found; the data set was not saved completely"),
        ("no list", "state.json: '_data_files' must be a list"),
        ("other folder", "must name files of this folder"),
        ("no JSON", "dataset_dict.json: must be a JSON object with 'splits'"),
        ("no train", r"the data set has no train part, only \['test'\]"),
        ("damaged", "not a valid Arrow file"),
        ("several", r"several data sets: \['cola', 'sst2'\]; name the folder of one"),
    ],
)
def test_malformed_data_sets_are_reported(tmp_path, kind, message):
    broken(tmp_path / "data", kind)
    with pytest.raises(UserError, match=message):
        read(tmp_path / "data")
