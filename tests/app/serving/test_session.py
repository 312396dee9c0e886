"""A published version, loaded and run as TensorFlow Serving does."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

import models
from app import cli, evaluate, predict
from app.serving import export, versions
from app.serving.session import SavedModelSession
from tasks.core.errors import UserError
from tests.support.cells import slow_except

TEXTS = [
    "the plot is far from dull .",
    "",
    " \t\u00a0 ",
    b"\xff\xfe dull \xc3",
    "好看的电影!",
    "dull",
    " ".join(["the plot is superb ,"] * 200),
]


@pytest.fixture(scope="module")
def version(published):
    return published / "sentiment" / "1"


@pytest.fixture(scope="module")
def served(version):
    return SavedModelSession(version)


def test_the_signature_is_the_promised_one(version):
    saved = SavedModel.FromString((version / "saved_model.pb").read_bytes())
    signatures = saved.meta_graphs[0].signature_def
    assert [name for name in signatures if not name.startswith("__")] == ["serving_default"]

    def types(tensors):
        return {
            name: (tf.as_dtype(t.dtype).name, [d.size for d in t.tensor_shape.dim])
            for name, t in tensors.items()
        }

    assert types(signatures["serving_default"].inputs) == {"text": ("string", [-1])}
    assert types(signatures["serving_default"].outputs) == {
        "label": ("string", [-1]),
        "probability": ("float32", [-1]),
        "probabilities": ("float32", [-1, 2]),
        "labels": ("string", [-1, 2]),
    }


def test_a_response_does_not_depend_on_the_other_rows(served):
    together = served.predict_columns({"text": [*TEXTS, " ".join(["word"] * 100_000)]})
    assert {label.decode() for label in together["label"]} <= {"positive", "negative"}
    np.testing.assert_allclose(together["probabilities"].sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(together["probability"], together["probabilities"].max(axis=1))
    for row, text in enumerate(TEXTS):
        alone = served.predict_columns({"text": [text]})
        assert alone["label"][0] == together["label"][row]
        np.testing.assert_allclose(
            alone["probabilities"][0], together["probabilities"][row], atol=1e-5
        )
    assert np.ptp(together["probability"]) > 1e-4


def test_an_empty_batch_has_an_empty_response(served):
    outputs = served.predict_columns({"text": []})
    assert {name: value.shape for name, value in outputs.items()} == {
        "label": (0,),
        "probability": (0,),
        "probabilities": (0, 2),
        "labels": (0, 2),
    }


def test_a_text_is_truncated_to_the_maximum_length(served, version):
    max_length = json.loads((version / "assets/config.json").read_text())["max_length"]
    text = "dull " * max_length
    outputs = served.predict_columns({"text": [text, text + "superb " * 50]})["probabilities"]
    np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-6)


def test_it_predicts_as_the_keras_model_does(served, version):
    import tasks

    task = tasks.find("sentiment").restore(version / "assets")
    texts = [text for text in TEXTS if isinstance(text, str)]
    logits = models.load(version)(task.ids(tf.constant(texts)).to_tensor())
    outputs = served.predict_columns({"text": texts})
    np.testing.assert_allclose(outputs["probabilities"], tf.nn.softmax(logits), atol=1e-5)
    classes = (version / "assets/labels.txt").read_text().splitlines()
    best = [classes[index] for index in np.argmax(logits, axis=-1)]
    assert [label.decode() for label in outputs["label"]] == best
    for row in outputs["labels"]:
        assert [label.decode() for label in row] == classes


def test_a_moved_version_runs_in_a_process_with_tensorflow_alone(version, tmp_path):
    moved = shutil.copytree(version, tmp_path / "elsewhere" / "1")
    script = (
        "import sys, tensorflow as tf\n"
        "served = tf.saved_model.load(sys.argv[1]).signatures['serving_default']\n"
        "print(served(text=tf.constant(['dull', '']))['label'].numpy().tolist())\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", script, str(moved)], cwd=tmp_path, capture_output=True, text=True
    )
    assert "b'" in process.stdout, process.stderr


# Of the others, test_cc_runtime_cells.py loads one for each equation.
@pytest.mark.parametrize("cell", slow_except(["lstm", "mut1"]))
def test_every_cell_can_be_exported(cell, tmp_path, version):
    import tasks

    cls = tasks.find("sentiment")
    shutil.copytree(version / "assets", tmp_path / "assets")
    config = cls.Config(cell=cell, units=4, embedding=4, layers=2)
    task = cls(config, tmp_path / "assets")
    model = task.build("reuse")
    draft = export.draft(task, model, tmp_path / "draft")
    probabilities = SavedModelSession(draft).predict_columns({"text": TEXTS})["probabilities"]
    strings = [t if isinstance(t, bytes) else t.encode() for t in TEXTS]
    logits = model(task.ids(tf.constant(strings)).to_tensor())
    np.testing.assert_allclose(probabilities, tf.nn.softmax(logits), atol=1e-5)


def test_publish_takes_the_next_number_and_overwrites_nothing(tmp_path):
    for name in ("2", "10", "draft-x", "notes"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    assert export.publish(tmp_path / "draft-x") == tmp_path / "11"
    assert versions.numbers(tmp_path) == [2, 10, 11]
    assert (tmp_path / "11/file").read_text() == "draft-x"
    assert (tmp_path / "10/file").read_text() == "10"


@pytest.mark.parametrize(
    "name",
    [
        "\u00b2",
        "\u0663",
        "\uff19",
        "0",
        "007",
        "-1",
        "+1",
        "1_0",
        "1.0",
        " 1",
        str(2**63),
        "9" * 250,
    ],
)
def test_a_folder_that_no_server_loads_is_not_a_version(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / "draft-1").mkdir()
    assert versions.numbers(tmp_path) == []
    assert export.publish(tmp_path / "draft-1").name == "1"
    assert cli.new_folder(None, tmp_path).name != name


def test_the_largest_number_has_no_next_version(tmp_path):
    (tmp_path / str(2**63 - 1)).mkdir()
    assert versions.numbers(tmp_path) == [2**63 - 1]
    for call in (export.rehearse, export.publish):
        (tmp_path / "draft-1").mkdir(exist_ok=True)
        with pytest.raises(UserError, match="the largest number that a server can load"):
            call(tmp_path / "draft-1")


@pytest.mark.parametrize("code", [errno.ENOTEMPTY, errno.EEXIST], ids=["Linux", "Windows"])
def test_publish_takes_another_number_if_another_run_took_the_first(tmp_path, monkeypatch, code):
    rename = Path.rename

    def rename_second(self, target):
        if target.name == "1":
            target.mkdir()
            raise OSError(code, os.strerror(code), str(target))
        return rename(self, target)

    (tmp_path / "draft").mkdir()
    monkeypatch.setattr(Path, "rename", rename_second)
    assert export.publish(tmp_path / "draft") == tmp_path / "2"
    (tmp_path / "draft").mkdir()
    (tmp_path / "3").write_text("a file, not a version")
    with pytest.raises(OSError):
        export.publish(tmp_path / "draft")


def test_predict_prints_responses_in_the_order_of_the_texts(published, served, capsys):
    texts = ["the plot is dull", "", "a\tb"]
    predict.main(["sentiment", *texts, "--saved-models", str(published)])
    lines = capsys.readouterr().out.splitlines()
    expected = [label.decode() for label in served.predict_columns({"text": texts})["label"]]
    assert [line.split("\t")[0] for line in lines] == expected
    assert [line.split("\t", 2)[2] for line in lines] == texts


def test_predict_reads_standard_input_and_prints_json(published):
    command = [sys.executable, "-m", "app.predict", "sentiment", "--json"]
    lines = [b"the plot is dull", b"", b"\xff\xfe", "好".encode()] + [b"more"] * 600
    process = subprocess.run(
        [*command, "--saved-models", str(published)],
        input=b"\r\n".join(lines),
        capture_output=True,
    )
    rows = [json.loads(line) for line in process.stdout.splitlines()]
    assert [row["text"] for row in rows] == [line.decode("utf-8", "replace") for line in lines]
    assert set(rows[0]) == {"text", "label", "probability", "probabilities"}
    assert set(rows[0]["probabilities"]) == {"negative", "positive"}
    assert rows[0]["probabilities"][rows[0]["label"]] == rows[0]["probability"]
    assert process.stderr == b""


def test_predict_accepts_arguments_of_any_bytes(published):
    command = [sys.executable, "-m", "app.predict", "sentiment", b"dull \xff", "好", "--json"]
    process = subprocess.run([*command, "--saved-models", str(published)], capture_output=True)
    texts = [json.loads(line)["text"] for line in process.stdout.splitlines()]
    assert texts == ["dull \ufffd", "好"], process.stderr


def test_evaluate_returns_the_recorded_scores(published, version, capsys):
    scores = evaluate.main(["sentiment", "--saved-models", str(published)])
    record = json.loads((version / "assets.extra/run.json").read_text())
    assert scores == record["scores"]
    output = capsys.readouterr().out
    assert "500 examples" in output and "precision" in output and "macro_f1" in output
    assert "95 % interval" in output and "majority baseline" in output


def test_evaluate_accepts_any_part_of_any_corpus(published, tmp_path, capsys):
    rows = ["the plot is dull\tnegative", "the plot is superb\tpositive", "odd\tneutral"]
    (tmp_path / "own.tsv").write_text("\n".join(rows))
    argv = ["sentiment", "--saved-models", str(published), "--test", str(tmp_path / "own.tsv")]
    evaluate.main([*argv, "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result["version"] == 1 and 0 <= result["scores"]["accuracy"] <= 1
    low, high = result["intervals"]["accuracy"]
    assert low <= result["scores"]["accuracy"] <= high
    assert result["baselines"]["majority"]["accuracy"] == 0.5
    evaluate.main(argv)
    output = capsys.readouterr().out
    assert "2 examples" in output
    assert "1 more example skipped: the train part has no class 'neutral'" in output
    (tmp_path / "odd.tsv").write_text(rows[-1])
    argv = ["sentiment", "--saved-models", str(published), "--train", str(tmp_path / "odd.tsv")]
    with pytest.raises(UserError, match=r"no class 'neutral'\. Give other data with .* --train"):
        evaluate.main([*argv, "--part", "train"])


@pytest.mark.parametrize(
    ("main", "argv", "message"),
    [
        (predict.main, ["a text"], "holds no version; run: python -m app.train sentiment"),
        (evaluate.main, [], "holds no version; run: python -m app.train sentiment"),
    ],
)
def test_a_missing_model_is_reported(tmp_path, capsys, main, argv, message):
    with pytest.raises(SystemExit) as exit_info:
        cli.run(lambda: main(["sentiment", *argv, "--saved-models", str(tmp_path)]))
    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err


def test_a_missing_version_is_reported(published, capsys):
    argv = ["sentiment", "a", "--saved-models", str(published), "--version", "7"]
    with pytest.raises(SystemExit):
        cli.run(lambda: predict.main(argv))
    assert "--version must be one of [1]" in capsys.readouterr().err
