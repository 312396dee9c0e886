"""Responses of a network at the temperature 1, which show what its calibration changes.

A response with the probability of one class, such as that of a tag, does not tell what the
probability would be without the temperature. The network in memory does.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence

import keras
import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from app.serving import export, payloads
from app.serving.session import PREDICT_BATCH
from tasks.core.examples import Example
from tasks.core.task import Task

_WINDOW = 2048  # responses that are in memory together
_PROBABILITY = "probability"  # ends the names of outputs that the temperature changes


def add_uncalibrated(
    predicted: Iterable[tuple[Example, dict]],
    task: Task,
    model: keras.Model,
    signature: SignatureDef,
) -> Iterator[tuple[Example, dict]]:
    """Adds probabilities without temperature to responses, as `uncalibrated_NAME`.

    Args:
        predicted: Examples with their responses of `evaluation_signature`.
        task: The task; without `calibration_layers` the responses are returned as they are.
        model: The trained network.
        signature: The definition of `evaluation_signature`.
    """
    if not task.calibration_layers(model):
        yield from predicted
        return
    network = _UncalibratedNetwork(task, model, signature)
    predicted = iter(predicted)
    while window := list(itertools.islice(predicted, _WINDOW)):
        rows = [task.row(example.values) for example, _ in window]
        name = task.evaluation_signature
        outputs = payloads.predict_in_batches(network, rows, name, PREDICT_BATCH)
        for (example, response), own in zip(window, outputs, strict=True):
            probabilities = {
                f"uncalibrated_{key}": value
                for key, value in own.items()
                if key.endswith(_PROBABILITY)
            }
            yield example, response | probabilities


class _UncalibratedNetwork:
    """The network for serving, with temperatures of 1; a predictor by one signature."""

    def __init__(self, task: Task, model: keras.Model, signature: SignatureDef):
        network = export.rebuild(task, model, "serving")
        for layer in task.calibration_layers(network):
            layer.temperature.assign(1.0)
        self._predict = task.signatures(network)[task.evaluation_signature]
        self._definition, self._network = signature, network  # whose variables it uses

    def predict(self, rows: Sequence[dict], signature: str) -> list[dict]:
        columns = payloads.columns(self._definition, rows)
        outputs = self._predict(**{name: tf.constant(values) for name, values in columns.items()})
        return payloads.rows({name: value.numpy() for name, value in outputs.items()})
