"""Calls of one recurrent layer: this project's, Keras's, PyTorch's, and a plain matrix product.

A training step computes the values, then the gradients of the weights and of the input; its loss
is the sum of the outputs times a fixed random tensor. Each call ends by copying one number of
its results to the host, so that it waits for a GPU.
"""

import dataclasses
import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from app import cli
from models.cells import specs
from tasks.core.errors import UserError

PEERS = {"lstm": "LSTM", "gru": "GRU", "lstm_peephole": "LSTM"}  # no other library has peepholes
PASSES = {"forward": 1, "training": 3}  # matrix products per product of the layer
DIRECTIONS = {"forward": 1, "both": 2}
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
# Rows of a matrix product from which the overhead of a call is negligible.
MIN_ROWS = {"cpu": 2**12, "gpu": 2**17}


class Size(NamedTuple):
    """Sizes of a layer and of its input."""

    batch: int
    time: int
    inputs: int
    units: int

    def __str__(self) -> str:
        return "×".join(map(str, self))


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer and the call that is timed."""

    cell: str
    pass_: str
    dtype: str
    direction: str
    size: Size

    @property
    def name(self) -> str:
        """Name of the record."""
        size = "x".join(map(str, self.size))
        return f"{self.cell}-{self.pass_}-{self.dtype}-{self.direction}-{size}"

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the input, and the tensor by which the loss multiplies the outputs."""
        random, size = np.random.default_rng(0), self.size
        outputs = size.units * DIRECTIONS[self.direction]
        shapes = ((size.batch, size.time, n) for n in (size.inputs, outputs))
        return tuple(random.standard_normal(shape, np.float32) for shape in shapes)


def select_device(device: str) -> None:
    """Makes TensorFlow run on a device, "cpu" or "gpu"."""
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # leaves memory for PyTorch
    with cli.quiet():
        import tensorflow as tf
    visible = tf.config.get_visible_devices("GPU")
    if device == "gpu" and not visible:
        raise UserError("TensorFlow sees no GPU; --device cpu needs none.")
    if device == "cpu" and visible:
        tf.config.set_visible_devices([], "GPU")


def gated_layer(case: Case, implementation: str):
    """Returns this project's layer."""
    from models.cells.recurrent import GatedRNN

    return GatedRNN(
        case.size.units,
        case.cell,
        direction=case.direction,
        return_sequences=True,
        implementation=implementation,
        dtype=POLICIES[case.dtype],
    )


def keras_layer(case: Case):
    """Returns the Keras layer of the same kind."""
    import keras

    policy = POLICIES[case.dtype]
    kind = getattr(keras.layers, PEERS[case.cell])
    layer = kind(case.size.units, return_sequences=True, dtype=policy)
    return keras.layers.Bidirectional(layer, dtype=policy) if case.direction == "both" else layer


def tensorflow_step(layer, pass_: str, signature=None) -> Callable:
    """Returns a `tf.function` of input and loss weights to all results and one number of them."""
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


def tensorflow_call(layer, case: Case) -> Callable[[], object]:
    """Returns a call of a Keras layer."""
    import tensorflow as tf

    inputs, weighting = (tf.constant(array, case.dtype) for array in case.data())
    layer.build(inputs.shape)
    step = tensorflow_step(layer, case.pass_)
    return lambda: step(inputs, weighting)[1].numpy()


def torch_call(case: Case, device: str) -> Callable[[], object]:
    """Returns a call of the PyTorch layer of the same kind."""
    import torch

    kwargs = {"dtype": getattr(torch, case.dtype), "device": "cuda" if device == "gpu" else "cpu"}
    module = getattr(torch.nn, PEERS[case.cell])(
        case.size.inputs,
        case.size.units,
        batch_first=True,
        bidirectional=case.direction == "both",
        **kwargs,
    )
    inputs, weighting = (torch.tensor(array, **kwargs) for array in case.data())

    def forward():
        with torch.no_grad():
            return module(inputs)[0].flatten()[0].item()

    def training():
        loss = (module(inputs)[0] * weighting).sum()
        results = torch.autograd.grad(loss, [inputs, *module.parameters()])
        return results[0].flatten()[0].item()

    trains = case.pass_ == "training"
    inputs.requires_grad_(trains)
    module.train(trains)
    return training if trains else forward


def product_call(case: Case, device: str) -> tuple[Callable[[], object], float]:
    """Returns a call of the product of all inputs and the input kernel, and a factor.

    The time of the call times the factor is the time of all matrix products of the layer:
    2 B T (D + H) G H operations per pass and direction, where G is the number of maps.
    """
    import tensorflow as tf

    size = case.size
    count = max(size.batch * size.time, MIN_ROWS[device])
    columns = len(specs.find(case.cell).maps) * size.units
    inputs = tf.random.normal((count, size.inputs), dtype=case.dtype)
    kernel = tf.random.normal((size.inputs, columns), dtype=case.dtype)

    @tf.function
    def multiply(inputs, kernel):
        product = tf.matmul(inputs, kernel)
        return product, product[0, 0]

    share = size.batch * size.time / count * (size.inputs + size.units) / size.inputs
    share *= PASSES[case.pass_] * DIRECTIONS[case.direction]
    return lambda: multiply(inputs, kernel)[1].numpy(), share
