"""Every cell, published and loaded by TensorFlow's C++ runtime alone, answers as Keras does."""

import numpy as np
import pytest
import tensorflow as tf

import models
import tasks
from app.serving import warmup
from models.cells.specs import CELLS
from tests.support import untrained
from tests.support.cc_runtime import Probe

BATCHES = (1, 3, 8)
OWN = ["", "dull", " ".join(["the plot is superb ,"] * 40)]


@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_answers_as_the_plain_keras_model_does(cell, program, tmp_path):
    version = untrained.version("sentiment", tmp_path, cell)
    words = tasks.find("sentiment").restore(version / "assets")
    model = models.load(version)
    classes = (version / "assets/labels.txt").read_text(encoding="utf-8").splitlines()
    texts = [example.values["text"] for example in untrained.examples("sentiment", sum(BATCHES))]
    some = [texts[sum(BATCHES[:at]) :][:size] for at, size in enumerate(BATCHES)]
    with Probe(program, version) as probe:
        for asked in (*some, [*OWN, *some[-1]]):
            answer = probe.ask("serving_default", {"text": np.array(asked, object)})
            assert (answer.code, answer.message) == (0, "")
            logits = model(words.ids(tf.constant(asked)).to_tensor())
            wanted, given = tf.nn.softmax(logits).numpy(), answer.outputs
            np.testing.assert_allclose(given["probabilities"], wanted, atol=1e-5)
            np.testing.assert_allclose(given["probability"], wanted.max(axis=1), atol=1e-5)
            best = [classes[at].encode() for at in wanted.argmax(axis=1)]
            assert given["label"].tolist() == best
        for request in warmup.read(version):
            arrays = {name: tf.make_ndarray(sent) for name, sent in request.inputs.items()}
            assert probe.ask(request.model_spec.signature_name, arrays).code == 0
