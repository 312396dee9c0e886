"""The command that exports a version: its files, its answers, and what it says cannot be done."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from app import cli, export, predict
from app.exporting import formats, verification
from app.exporting.id_reader import IdReader
from app.serving.session import SavedModelSession
from tasks.core.errors import UserError
from tests.support import untrained

ROOT = Path(__file__).parents[3]
TEXT = "the plot is far from dull"


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(folder, *argv):
    return export.main([*argv, "--saved-models", str(folder)])


def probabilities(folder, capsys):
    capsys.readouterr()
    predict.main(["sentiment", TEXT, "--json", "--saved-models", str(folder)])
    return json.loads(capsys.readouterr().out)["probabilities"]


def test_an_onnx_model_answers_as_the_version(published, capsys):
    runtime = pytest.importorskip("onnxruntime", reason="requirements-onnx.txt is not installed")
    pytest.importorskip("onnx", reason="requirements-onnx.txt is not installed")
    out = run(published, "sentiment")
    assert out == Path("exports/sentiment-1-onnx")
    output = capsys.readouterr().out
    assert "compared with the SavedModel on" in output and f"written to {out}" in output
    assert sorted(path.name for path in out.iterdir()) == [
        "export.json", "ids.json", "ids.py", "model.onnx",
    ]  # fmt: skip
    reader = IdReader(out / "ids.json")
    inputs = reader.inputs([TEXT])
    session = runtime.InferenceSession(str(out / "model.onnx"))
    (result,) = session.run(["probabilities"], {"ids": np.array(inputs["ids"], np.int32)})
    expected = probabilities(published, capsys)
    np.testing.assert_allclose(result[0], [expected[name] for name in reader.names], atol=1e-5)
    assert session.get_modelmeta().custom_metadata_map["task"] == "sentiment"
    record = json.loads((out / "export.json").read_text())
    assert record["comparison"]["largest_difference"] < 1e-5
    with pytest.raises(UserError, match="--out must be a new or an empty folder"):
        run(published, "sentiment")


def test_tags_are_exported_too(untrained_versions):
    pytest.importorskip("onnxruntime", reason="requirements-onnx.txt is not installed")
    out = run(untrained_versions, "tagging")
    comparison = json.loads((out / "export.json").read_text())["comparison"]
    assert comparison["different_names"] == 0 < comparison["tags"]


def test_a_keras_file_loads_after_the_layers_are_imported(published, capsys):
    out = run(published, "sentiment", "--format", "keras", "--out", "here")
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import models.loading, keras\n"
        "print(keras.models.load_model('here/model.keras').name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(ROOT)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "classifier" and out == Path("here")


def test_an_empty_folder_is_filled_where_it_is(published, tmp_path, monkeypatch):
    folder = tmp_path / "empty"
    folder.mkdir()
    number = folder.stat().st_ino
    (tmp_path / "link").symlink_to("empty")
    run(published, "sentiment", "--format", "keras", "--out", str(tmp_path / "link"))
    names = {path.name for path in folder.iterdir()}
    assert names == {"export.json", "ids.json", "ids.py", "model.keras"}
    monkeypatch.chdir(folder)
    for path in folder.iterdir():
        path.unlink()
    run(published, "sentiment", "--format", "keras", "--out", ".")
    assert Path("model.keras").exists() and folder.stat().st_ino == number
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "link"]


def test_a_litert_model_answers_as_the_version(untrained_versions):
    out = run(untrained_versions, "sentiment", "--format", "litert", "--length", "8")
    record = json.loads((out / "export.json").read_text())
    assert record["length"] == 8 and record["comparison"]["texts"] > 0


@pytest.fixture(scope="module")
def tagger(tmp_path_factory):
    """The folder of saved models with an untrained tagger that reads words alone."""
    folder = tmp_path_factory.mktemp("words")
    untrained.version("tagging", folder, characters=0)
    return folder


def test_a_litert_tagger_answers_as_the_version(tagger, capsys):
    out = run(tagger, "tagging", "--format", "litert", "--length", "8")
    assert re.search(r"on \d+ texts: .*, 0 of \d+ tags different", capsys.readouterr().out)
    comparison = json.loads((out / "export.json").read_text())["comparison"]
    assert comparison["tags"] >= comparison["texts"] > 0
    assert comparison["largest_difference"] < 1e-5
    # Its answers again, by the file and the reader alone.
    reader = IdReader(out / "ids.json")
    interpreter = formats._interpreter((out / "model.tflite").read_bytes())
    interpreter.allocate_tensors()
    place = interpreter.get_input_details()[0]["index"]
    interpreter.set_tensor(place, np.array(reader.inputs(["a fast boat"], 8)["ids"], np.int32))
    interpreter.invoke()
    outputs = [interpreter.get_tensor(d["index"])[0] for d in interpreter.get_output_details()]
    (ids,) = [output for output in outputs if output.dtype == np.int32]
    capsys.readouterr()
    predict.main(["tagging", "a fast boat", "--json", "--saved-models", str(tagger)])
    expected = json.loads(capsys.readouterr().out)["tags"]
    assert [reader.names[number] for number in ids[:3]] == expected


def test_tags_of_another_order_are_an_error(tagger):
    out = run(tagger, "tagging", "--format", "keras")
    reader = IdReader(out / "ids.json")
    version = tagger / "tagging/1"
    answers = SavedModelSession(version).predict([{"text": TEXT}])[0]
    ids = np.array([[reader.names.index(tag.decode()) for tag in answers["tags"]]])
    probability = answers["probability"][None]

    def compare(ids):
        return verification.compare(
            version, reader, lambda inputs: {"tag_ids": ids, "probability": probability}, [TEXT]
        )

    assert compare(ids).different_names == 0
    with pytest.raises(UserError, match=r"differs from .* 6 of 6 tags different"):
        compare((ids + 1) % len(reader.names))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["translation"], "written step by step in a beam search"),
        (["captioning"], "written step by step in a beam search"),
        (["language_model"], "a language model scores, and draws, token by token"),
        (["tagging", "--format", "litert"], "train with --characters 0"),
        (["sentiment", "--length", "4"], "--length is for --format litert"),
        (["sentiment", "--format", "litert", "--length", "0"], "--length must be at least 1"),
        (["sentiment", "--out", __file__], "--out must be a new or an empty folder"),
    ],
)
def test_what_cannot_be_exported_leaves_nothing(argv, message, untrained_versions, tmp_path):
    with pytest.raises(UserError, match=message):
        run(untrained_versions, *argv)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_missing_package_is_named(published, monkeypatch, capsys):
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name != "onnx" and found(name))
    with pytest.raises(SystemExit):
        cli.run(lambda: run(published, "sentiment"))
    assert "onnx is not installed" in capsys.readouterr().err


def test_other_answers_are_an_error(published, tmp_path):
    out = run(published, "sentiment", "--format", "keras")
    version, reader = published / "sentiment/1", IdReader(out / "ids.json")

    def other(inputs):
        return {"probability": np.full(len(inputs["ids"]), 0.7)}

    with pytest.raises(UserError, match="differs from"):
        verification.compare(version, reader, other, [TEXT])
