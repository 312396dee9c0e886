"""A published version, asked as TensorFlow Serving would ask it."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

import models
from app import cli, evaluate, predict
from app.serving import export
from app.serving.session import SavedModelSession
from models.cells.specs import CELLS

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


def test_the_signature_is_what_clients_were_promised(version):
    saved = SavedModel.FromString((version / "saved_model.pb").read_bytes())
    signatures = saved.meta_graphs[0].signature_def
    assert [name for name in signatures if not name.startswith("__")] == ["serving_default"]

    def told(tensors):
        return {
            name: (tf.as_dtype(t.dtype).name, [d.size for d in t.tensor_shape.dim])
            for name, t in tensors.items()
        }

    assert told(signatures["serving_default"].inputs) == {"text": ("string", [-1])}
    assert told(signatures["serving_default"].outputs) == {
        "label": ("string", [-1]),
        "probability": ("float32", [-1]),
        "probabilities": ("float32", [-1, 2]),
    }


def test_any_text_has_an_answer_that_does_not_depend_on_its_neighbours(served):
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


def test_an_empty_batch_has_an_empty_answer(served):
    answer = served.predict_columns({"text": []})
    assert {name: value.shape for name, value in answer.items()} == {
        "label": (0,),
        "probability": (0,),
        "probabilities": (0, 2),
    }


def test_what_is_beyond_the_longest_text_is_cut(served, version):
    longest = json.loads((version / "assets/config.json").read_text())["longest"]
    text = "dull " * longest
    given = served.predict_columns({"text": [text, text + "superb " * 50]})["probabilities"]
    np.testing.assert_allclose(given[0], given[1], atol=1e-6)


def test_it_answers_as_the_keras_model_does(served, version):
    import tasks

    task = tasks.find("sentiment").restore(version / "assets")
    texts = [text for text in TEXTS if isinstance(text, str)]
    logits = models.load(version)(task.ids(tf.constant(texts)).to_tensor())
    given = served.predict_columns({"text": texts})
    np.testing.assert_allclose(given["probabilities"], tf.nn.softmax(logits), atol=1e-5)
    classes = (version / "assets/labels.txt").read_text().splitlines()
    best = [classes[at] for at in np.argmax(logits, axis=-1)]
    assert [label.decode() for label in given["label"]] == best


def test_it_answers_in_another_place_in_a_process_that_has_only_tensorflow(version, tmp_path):
    moved = shutil.copytree(version, tmp_path / "elsewhere" / "1")
    script = (
        "import sys, tensorflow as tf\n"
        "served = tf.saved_model.load(sys.argv[1]).signatures['serving_default']\n"
        "print(served(text=tf.constant(['dull', '']))['label'].numpy().tolist())\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script, str(moved)], cwd=tmp_path, capture_output=True, text=True
    )
    assert "b'" in answer.stdout, answer.stderr


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_passes_the_gate_untrained(cell, tmp_path, version):
    import tasks

    cls = tasks.find("sentiment")
    shutil.copytree(version / "assets", tmp_path / "assets")
    config = cls.Config(cell=cell, units=4, embedding=4, layers=2)
    task = cls(config, tmp_path / "assets")
    model = task.build("reuse")
    draft = export.draft(task, model, tmp_path / "draft")
    given = SavedModelSession(draft).predict_columns({"text": TEXTS})["probabilities"]
    strings = [t if isinstance(t, bytes) else t.encode() for t in TEXTS]
    logits = model(task.ids(tf.constant(strings)).to_tensor())
    np.testing.assert_allclose(given, tf.nn.softmax(logits), atol=1e-5)


def test_publishing_takes_the_next_number_and_overwrites_nothing(tmp_path):
    for name in ("2", "10", "draft-x", "notes"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "kept").write_text(name)
    assert export.publish(tmp_path / "draft-x") == tmp_path / "11"
    assert export.versions(tmp_path) == [2, 10, 11]
    assert (tmp_path / "11/kept").read_text() == "draft-x"
    assert (tmp_path / "10/kept").read_text() == "10"


def test_predict_answers_texts_in_their_order(published, served, capsys):
    texts = ["the plot is dull", "", "a\tb"]
    predict.main(["sentiment", *texts, "--saved-models", str(published)])
    lines = capsys.readouterr().out.splitlines()
    want = [label.decode() for label in served.predict_columns({"text": texts})["label"]]
    assert [line.split("\t")[0] for line in lines] == want
    assert [line.split("\t", 2)[2] for line in lines] == texts


def test_predict_reads_standard_input_and_prints_json(published):
    asked = [sys.executable, "-m", "app.predict", "sentiment", "--json"]
    lines = [b"the plot is dull", b"", b"\xff\xfe", "好".encode()] + [b"more"] * 600
    answer = subprocess.run(
        [*asked, "--saved-models", str(published)],
        input=b"\r\n".join(lines),
        capture_output=True,
    )
    rows = [json.loads(line) for line in answer.stdout.splitlines()]
    assert [row["text"] for row in rows] == [line.decode("utf-8", "replace") for line in lines]
    assert set(rows[0]) == {"text", "label", "probability", "probabilities"}
    assert answer.stderr == b""


def test_predict_takes_words_of_any_bytes(published):
    asked = [sys.executable, "-m", "app.predict", "sentiment", b"dull \xff", "好", "--json"]
    answer = subprocess.run([*asked, "--saved-models", str(published)], capture_output=True)
    texts = [json.loads(line)["text"] for line in answer.stdout.splitlines()]
    assert texts == ["dull \ufffd", "好"], answer.stderr


def test_evaluate_gives_the_scores_that_were_recorded(published, version, capsys):
    scores = evaluate.main(["sentiment", "--saved-models", str(published)])
    record = json.loads((version / "assets.extra/run.json").read_text())
    assert scores == record["scores"]
    said = capsys.readouterr().out
    assert "500 examples" in said and "precision" in said and "macro_f1" in said


def test_evaluate_judges_any_part_of_any_corpus(published, tmp_path, capsys):
    rows = ["the plot is dull\tnegative", "the plot is superb\tpositive", "odd\tneutral"]
    (tmp_path / "own.tsv").write_text("\n".join(rows))
    argv = ["sentiment", "--saved-models", str(published), "--test", str(tmp_path / "own.tsv")]
    evaluate.main([*argv, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["version"] == 1 and 0 <= told["scores"]["accuracy"] <= 1
    evaluate.main(argv)
    said = capsys.readouterr().out
    assert "2 examples" in said and "1 more examples skipped" in said


@pytest.mark.parametrize(
    ("main", "argv", "message"),
    [
        (predict.main, ["a text"], "holds no version; run: python -m app.train sentiment"),
        (evaluate.main, [], "holds no version; run: python -m app.train sentiment"),
    ],
)
def test_nothing_published_is_told(tmp_path, capsys, main, argv, message):
    with pytest.raises(SystemExit) as ended:
        cli.run(lambda: main(["sentiment", *argv, "--saved-models", str(tmp_path)]))
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_version_that_is_not_there_is_told(published, capsys):
    argv = ["sentiment", "a", "--saved-models", str(published), "--version", "7"]
    with pytest.raises(SystemExit):
        cli.run(lambda: predict.main(argv))
    assert "--version must be one of [1]" in capsys.readouterr().err
