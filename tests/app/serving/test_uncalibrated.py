"""Probabilities at the temperature 1: those of the network's logits, computed with NumPy."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

import tasks
from app.serving.uncalibrated import add_uncalibrated
from tests.support import untrained

TEMPERATURE = 2.5


def definition(task):
    signature = SignatureDef()
    for name, spec in task.request.items():
        signature.inputs[name].dtype = spec.dtype.as_datatype_enum
        signature.inputs[name].tensor_shape.CopyFrom(spec.shape.as_proto())
    return signature


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """Folder of the assets of a task, its settings and its examples."""
    cls, folder = tasks.find("tagging"), tmp_path_factory.mktemp("assets")
    config = cls.Config(**untrained.SMALL, characters=4, layers=1)
    examples = untrained.examples("tagging", 12)
    return folder, cls.learn(config, examples, folder).config, list(examples)


def task_of(learnt, **settings):
    folder, config, _ = learnt
    return tasks.find("tagging")(dataclasses.replace(config, **settings), folder)


@pytest.mark.parametrize("direction", ["both", pytest.param("forward", marks=pytest.mark.slow)])
def test_probabilities_are_those_without_the_temperature(learnt, direction):
    task, examples = task_of(learnt, direction=direction), learnt[2]
    keras.utils.set_random_seed(0)
    model = task.build()
    model.get_layer("calibration").temperature.assign(TEMPERATURE)
    predicted = [(example, {"tags": [], "n": n}) for n, example in enumerate(examples)]
    results = list(add_uncalibrated(iter(predicted), task, model, definition(task)))
    assert [example for example, _ in results] == examples
    for number, (example, response) in enumerate(results):
        assert response.keys() == {"tags", "n", "uncalibrated_probability"}
        assert response["n"] == number
        inputs = task.network_inputs(tf.constant(example.values["tokens"]))
        logits = model({name: value[None] for name, value in inputs.items()})[0].numpy()
        shares = np.exp(TEMPERATURE * logits)
        expected = shares.max(axis=-1) / shares.sum(axis=-1)
        np.testing.assert_allclose(response["uncalibrated_probability"], expected, atol=1e-5)
    assert model.get_layer("calibration").temperature.numpy() == TEMPERATURE


@pytest.mark.parametrize("settings", [{"crf": True}, {"calibrate": False}], ids=str)
def test_without_a_fitted_temperature_responses_stay_as_they_are(learnt, settings):
    predicted = [(example, {"n": n}) for n, example in enumerate(learnt[2])]
    task = task_of(learnt, **settings)
    assert list(add_uncalibrated(predicted, task, None, SignatureDef())) == predicted
