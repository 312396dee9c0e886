"""Small hand-written SavedModels, with signatures for every type of value."""

from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

LONG = "x is not above zero " * 100


class Toy(tf.Module):
    """Signatures for every type of value, and some that break the rules of batching."""

    def __init__(self, factor):
        super().__init__()
        self.factor = tf.Variable(factor, dtype=tf.float32)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def echo(self, text):
        return {"same": tf.identity(text), "same_bytes": tf.strings.join([text, "!"])}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.float32, name="x"),
            tf.TensorSpec([None, None], tf.int32, name="ids"),
            tf.TensorSpec([None], tf.bool, name="flag"),
        ]
    )
    def several(self, x, ids, flag):
        return {"x": x * self.factor, "ids": ids * 2, "flag": ~flag}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def single(self, x):
        return {"product": x * self.factor}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def counted(self, x):
        return {"rows": tf.fill(tf.shape(x), tf.size(x))}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def total(self, x):
        return {"total": tf.reduce_sum(x)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def uneven(self, x):
        return {"x": x + 1, "twice": tf.repeat(x, 2)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def positive(self, x):
        with tf.control_dependencies([tf.debugging.assert_positive(x, LONG)]):
            return {"x": tf.identity(x)}

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32, name="ids")])
    def padded(self, ids):
        return {"ids": ids + 0}


def published(
    folder: Path, version: int, factor: float, warm_up: Sequence[predict_pb2.PredictRequest] = ()
) -> Path:
    """Saves a version of the model `toy`, which multiplies by `factor`; returns its folder."""
    toy = Toy(factor)
    names = ("several", "single", "counted", "total", "uneven", "positive", "padded")
    signatures = {"serving_default": toy.echo} | {name: getattr(toy, name) for name in names}
    path = folder / "toy" / str(version)
    tf.saved_model.save(toy, str(path), signatures=signatures)
    if warm_up:
        (path / "assets.extra").mkdir()
        with tf.io.TFRecordWriter(
            str(path / "assets.extra" / "tf_serving_warmup_requests")
        ) as file:
            for request in warm_up:
                log = prediction_log_pb2.PredictLog(request=request)
                file.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())
    return path
