"""One recurrent layer as others have it and as we do: each a call that returns with its results.

A training step takes the values, then the gradients of the weights and of the
input; its loss is the sum of the outputs times a fixed random tensor. Each
call ends by reading one number of the last results, so that a GPU is waited for.
"""

import dataclasses
import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from app import cli
from models.cells import specs
from tasks.core.errors import UserError

PEERS = {"lstm": "LSTM", "gru": "GRU", "lstm_peephole": "LSTM"}  # nobody else has peepholes
PASSES = {"forward": 1, "training": 3}  # how many products each product of the layer comes to
DIRECTIONS = {"forward": 1, "both": 2}
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
LEAST_ROWS = {"cpu": 2**12, "gpu": 2**17}  # of a product that tells no more what a call takes


class Size(NamedTuple):
    """What a layer reads and how many units it has."""

    batch: int
    time: int
    inputs: int
    units: int

    def __str__(self) -> str:
        return "×".join(map(str, self))


@dataclasses.dataclass(frozen=True)
class Point:
    """One layer and what it is to do."""

    cell: str
    pass_: str
    dtype: str
    direction: str
    size: Size

    @property
    def name(self) -> str:
        """The point as a file name."""
        size = "x".join(map(str, self.size))
        return f"{self.cell}-{self.pass_}-{self.dtype}-{self.direction}-{size}"

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """The input, and what the loss multiplies the outputs by."""
        random, size = np.random.default_rng(0), self.size
        outputs = size.units * DIRECTIONS[self.direction]
        shapes = ((size.batch, size.time, n) for n in (size.inputs, outputs))
        return tuple(random.standard_normal(shape, np.float32) for shape in shapes)


def choose(device: str) -> None:
    """Has TensorFlow run on a device."""
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # others are to fit beside it
    with cli.quiet():
        import tensorflow as tf
    visible = tf.config.get_visible_devices("GPU")
    if device == "gpu" and not visible:
        raise UserError("TensorFlow sees no GPU; --device cpu needs none.")
    if device == "cpu" and visible:
        tf.config.set_visible_devices([], "GPU")


def gated_layer(point: Point, implementation: str):
    """Our layer."""
    from models.cells.recurrent import GatedRNN

    return GatedRNN(
        point.size.units,
        point.cell,
        direction=point.direction,
        return_sequences=True,
        implementation=implementation,
        dtype=POLICIES[point.dtype],
    )


def keras_layer(point: Point):
    """Keras's layer of the same kind."""
    import keras

    policy = POLICIES[point.dtype]
    kind = getattr(keras.layers, PEERS[point.cell])
    layer = kind(point.size.units, return_sequences=True, dtype=policy)
    return keras.layers.Bidirectional(layer, dtype=policy) if point.direction == "both" else layer


def tensorflow_step(layer, pass_: str, signature=None) -> Callable:
    """A `tf.function` of input and loss weights: all results, and one number of the last."""
    import tensorflow as tf

    @tf.function(input_signature=signature)
    def step(inputs, weighting):
        if pass_ == "forward":
            results = [layer(inputs, training=False)]
        else:
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                loss = tf.reduce_sum(layer(inputs, training=True) * weighting)
            weights = [weight.value for weight in layer.trainable_variables]
            results = tape.gradient(loss, [inputs, *weights])
        return results, tf.reshape(results[0], [-1])[0]

    return step


def tensorflow_call(layer, point: Point) -> Callable[[], object]:
    """A Keras layer at a point."""
    import tensorflow as tf

    inputs, weighting = (tf.constant(array, point.dtype) for array in point.data())
    layer.build(inputs.shape)
    step = tensorflow_step(layer, point.pass_)
    return lambda: step(inputs, weighting)[1].numpy()


def torch_call(point: Point, device: str) -> Callable[[], object]:
    """PyTorch's layer of the same kind at a point."""
    import torch

    told = {"dtype": getattr(torch, point.dtype), "device": "cuda" if device == "gpu" else "cpu"}
    module = getattr(torch.nn, PEERS[point.cell])(
        point.size.inputs,
        point.size.units,
        batch_first=True,
        bidirectional=point.direction == "both",
        **told,
    )
    inputs, weighting = (torch.tensor(array, **told) for array in point.data())

    def forward():
        with torch.no_grad():
            return module(inputs)[0].flatten()[0].item()

    def training():
        loss = (module(inputs)[0] * weighting).sum()
        results = torch.autograd.grad(loss, [inputs, *module.parameters()])
        return results[0].flatten()[0].item()

    trains = point.pass_ == "training"
    inputs.requires_grad_(trains)
    module.train(trains)
    return training if trains else forward


def product_call(point: Point, device: str) -> tuple[Callable[[], object], float]:
    """All inputs times the input kernel, and how many times as long all the layer's products are.

    Those are 2 B T (D + H) G H operations a pass and direction, G being the maps.
    """
    import tensorflow as tf

    size = point.size
    count = max(size.batch * size.time, LEAST_ROWS[device])
    columns = len(specs.find(point.cell).maps) * size.units
    left = tf.random.normal((count, size.inputs), dtype=point.dtype)
    right = tf.random.normal((size.inputs, columns), dtype=point.dtype)

    @tf.function
    def multiply(left, right):
        product = tf.matmul(left, right)
        return product, product[0, 0]

    share = size.batch * size.time / count * (size.inputs + size.units) / size.inputs
    share *= PASSES[point.pass_] * DIRECTIONS[point.direction]
    return lambda: multiply(left, right)[1].numpy(), share
