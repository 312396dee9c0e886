"""A version published by former code still loads and gives the same answers.

`fixtures/published/sentiment/1` was published before the modules of `models` were grouped into
packages and before settings were renamed. It is a format test: never regenerate it.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import models
import tasks
from app import evaluate, predict
from app.serving.session import SavedModelSession

PUBLISHED = Path(__file__).parent / "fixtures" / "published"
VERSION = PUBLISHED / "sentiment" / "1"
RECORDED = json.loads((PUBLISHED / "responses.json").read_text(encoding="utf-8"))
TEXTS = [response["text"] for response in RECORDED["responses"]]


def test_its_signature_gives_the_recorded_responses():
    rows = SavedModelSession(VERSION).predict([{"text": text.encode()} for text in TEXTS])
    for row, wanted in zip(rows, RECORDED["responses"], strict=True):
        assert row["label"].decode() == wanted["label"]
        np.testing.assert_allclose(row["probabilities"], wanted["probabilities"], atol=1e-6)


def test_its_keras_model_computes_the_recorded_logits():
    model = models.load(VERSION)
    np.testing.assert_allclose(model(np.array(RECORDED["ids"])), RECORDED["logits"], atol=1e-6)


def test_its_settings_are_understood_by_their_former_names():
    task = tasks.find("sentiment").restore(VERSION / "assets")
    record = json.loads((VERSION / "assets.extra/run.json").read_text(encoding="utf-8"))
    assert "rate" in record["config"] and "learning_rate" not in record["config"]
    assert task.config.learning_rate == record["config"]["rate"]
    assert task.config.batch_tokens == record["config"]["tokens"]
    assert task.config.max_length == record["config"]["longest"]
    logits = models.load(VERSION)(task.ids(tf.constant(TEXTS)).to_tensor())
    wanted = [response["probabilities"] for response in RECORDED["responses"]]
    np.testing.assert_allclose(tf.nn.softmax(logits), wanted, atol=1e-6)


@pytest.fixture
def saved_models(tmp_path):
    """A copy of the folder, so that no command can change the fixture."""
    return shutil.copytree(PUBLISHED, tmp_path / "published")


def test_commands_read_it(saved_models, capsys):
    predict.main(["sentiment", TEXTS[0], "--saved-models", str(saved_models)])
    wanted = RECORDED["responses"][0]["label"]
    assert capsys.readouterr().out.startswith(f"{wanted}\t")
    predict.main(["sentiment", TEXTS[0], "--json", "--saved-models", str(saved_models)])
    response = json.loads(capsys.readouterr().out)  # without the names of the classes
    assert response["probabilities"] == pytest.approx(RECORDED["responses"][0]["probabilities"])
    scores = evaluate.main(["sentiment", "--saved-models", str(saved_models)])
    record = json.loads((VERSION / "assets.extra/run.json").read_text(encoding="utf-8"))
    assert scores == pytest.approx(record["scores"])
