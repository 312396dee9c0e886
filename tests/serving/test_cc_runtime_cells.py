"""Every cell, published and loaded by TensorFlow's C++ runtime alone, predicts as Keras does."""

import numpy as np
import pytest
import tensorflow as tf

import models
import tasks
from app.serving import warmup
from tests.support import untrained
from tests.support.cc_runtime import Runtime
from tests.support.cells import slow_except
from tests.support.close import assert_close

BATCHES = (1, 3, 8)
TEXTS = ["", "dull", " ".join(["the plot is superb ,"] * 40)]


@pytest.mark.parametrize("cell", slow_except(("rnn", "mut1", "slstm")))
def test_a_cell_predicts_as_the_keras_model_does(cell, program, tmp_path, untrained_copy):
    version = untrained_copy("sentiment", tmp_path, cell)
    words = tasks.find("sentiment").restore(version / "assets")
    model = models.load(version)
    classes = (version / "assets/labels.txt").read_text(encoding="utf-8").splitlines()
    texts = [example.values["text"] for example in untrained.examples("sentiment", sum(BATCHES))]
    batches = [texts[sum(BATCHES[:index]) :][:size] for index, size in enumerate(BATCHES)]
    with Runtime(program, version) as runtime:
        for batch in (*batches, [*TEXTS, *batches[-1]]):
            response = runtime.run("serving_default", {"text": np.array(batch, object)})
            assert (response.code, response.message) == (0, "")
            logits = model(words.ids(tf.constant(batch)).to_tensor()).numpy()
            expected, outputs = tf.nn.softmax(logits).numpy(), response.outputs
            # A softmax turns the rounding of large logits into differences of that size.
            tolerance = 1e-5 * max(1.0, np.abs(logits).max())
            assert_close(outputs["probabilities"], expected, tolerance)
            assert_close(outputs["probability"], expected.max(axis=1), tolerance)
            for label, row in zip(outputs["label"].tolist(), expected, strict=True):
                assert row[classes.index(label.decode())] >= row.max() - tolerance
        for request in warmup.read(version):
            arrays = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
            assert runtime.run(request.model_spec.signature_name, arrays).code == 0
