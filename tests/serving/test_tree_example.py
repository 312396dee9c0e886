"""The example of trees learns, and its SavedModel runs on a stock server."""

import numpy as np
import pytest
import tensorflow as tf

from app.serving import compatibility
from examples import trees
from tasks.core.errors import UserError
from tasks.corpora.samples import review_trees
from tests.support.cc_runtime import Runtime

TEXTS = ["(_ (_ (_ the) (_ plot)) (_ (_ is) (_ superb)))", "(_ (_ a) (_ b) (_ c))", "(_ x", ""]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--cell", "lstm_zoneout"], "--cell must be without zoneout"),
        (["--epochs", "0"], "must be at least 1"),
        (["--out", "."], "--out . exists"),
    ],
)
def test_arguments_are_checked_before_training(capsys, argv, message):
    with pytest.raises(SystemExit):
        trees.main(argv)
    assert message in capsys.readouterr().err


def test_a_line_that_is_not_a_tree_is_reported_before_training(tmp_path):
    for name in trees.FILES.values():
        (tmp_path / name).write_text("(1 (1 a) (1 b))\n(1 (1 a) (1 b) (1 c))\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"train\.txt:2: a node must have at most 2 children"):
        trees.main(["--data", str(tmp_path)])


@pytest.mark.slow
def test_a_trained_network_is_served_by_the_runtime_of_a_server(tmp_path, program):
    texts = [example.values["text"] for example in review_trees.parts()["train"]][:300]
    encoder = trees.Encoder(texts, tmp_path)
    model = trees.train(encoder, {"train": texts, "valid": texts[:50]}, "lstm", 8, 2)
    scores = trees.evaluate(model, encoder, texts)
    assert scores["node accuracy"] > 0.55  # most frequent label: 2, of half the nodes
    (inputs, labels, weights), *_ = trees.batches(encoder, texts)
    logits = np.asarray(model(inputs))
    assert set(np.unique(weights)) == {0.0, 1.0} and labels.shape == weights.shape

    trees.export(model, encoder, tmp_path / "1")
    compatibility.check(tmp_path / "1")
    serve = tf.saved_model.load(tmp_path / "1").signatures["serving_default"]
    served = serve(text=tf.constant(texts[: trees.BATCH]))
    np.testing.assert_allclose(
        served["probabilities"], tf.nn.softmax(logits[:, 0]), rtol=1e-4, atol=1e-5
    )
    response = {name: value.numpy() for name, value in serve(text=tf.constant(TEXTS)).items()}
    assert response["valid"].tolist() == [True, False, False, False]
    assert response["label"][0] == response["labels"][0][response["probabilities"][0].argmax()]
    assert response["label"][1:].tolist() == [b""] * 3
    assert serve(text=tf.constant(["("]))["valid"].numpy().tolist() == [False]
    with Runtime(program, tmp_path / "1") as runtime:
        for batch in (TEXTS, ["("]):
            expected = serve(text=tf.constant(batch))
            actual = runtime.run("serving_default", {"text": np.array(batch, object)})
            assert actual.code == 0, actual.message
            for name in ("label", "valid"):
                assert actual.outputs[name].tolist() == expected[name].numpy().tolist()
            np.testing.assert_allclose(
                actual.outputs["probabilities"], expected["probabilities"], atol=1e-6
            )
