"""Ensemble of networks of one task, whose predictions are averaged.

Shapes: B batch, K classes.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
from keras import ops

from ..cells.cell import Tensor

# What is averaged: probabilities of classes, their logarithms, probabilities of labels, or values.
MEANS = ("probabilities", "log_probabilities", "label_probabilities", "values")
_MEMBER = "member_{}"


@keras.saving.register_keras_serializable(package="gated")
class MeanPrediction(keras.layers.Layer):
    """Mean of the predictions of several networks, as logits.

    Args:
        mean: What is averaged: "probabilities", the softmax of the logits; "log_probabilities",
            which is the geometric mean of the probabilities; "label_probabilities", the sigmoid
            of each logit; or "values", the outputs themselves.
        **kwargs: `name` and `dtype` of a Keras layer.

    Call arguments:
        logits: A list of logits, or of values, each (..., K).

    Returns:
        (..., K), logits of the mean probabilities, or the mean values.

    Raises:
        ValueError: There is no such mean.

    Example:
        >>> MeanPrediction()([ops.log([[0.2, 0.8]]), ops.log([[0.6, 0.4]])]).shape
        TensorShape([1, 2])
    """

    def __init__(self, mean: str = "probabilities", **kwargs: Any):
        super().__init__(**kwargs)
        if mean not in MEANS:
            raise ValueError(f"mean must be one of {list(MEANS)}, got {mean!r}.")
        self.mean = mean
        self.supports_masking = True
        self.built = True

    def call(self, logits: Sequence[Tensor]) -> Tensor:
        if self.mean == "values":
            return ops.mean(ops.stack(logits), axis=0)
        if self.mean == "label_probabilities":
            positive, negative = (
                ops.logsumexp(ops.stack([ops.log_sigmoid(sign * each) for each in logits]), axis=0)
                for sign in (1.0, -1.0)
            )
            return positive - negative
        logs = ops.stack([ops.log_softmax(each) for each in logits])
        if self.mean == "log_probabilities":
            return ops.mean(logs, axis=0)
        return ops.logsumexp(logs, axis=0) - ops.log(ops.cast(len(logits), logs.dtype))

    def compute_mask(self, logits: Any, mask: Any = None) -> Any:
        return mask[0] if isinstance(mask, (list, tuple)) else mask

    def compute_output_shape(
        self, logits_shapes: Sequence[Sequence[int | None]]
    ) -> tuple[int | None, ...]:
        return tuple(logits_shapes[0])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mean": self.mean}


def ensemble(
    networks: Sequence[keras.Model],
    mean: str = "probabilities",
    head: Iterable[keras.layers.Layer] = (),
) -> keras.Model:
    """Builds a network whose prediction is the mean of those of others.

    The networks become its layers, under the names "member_0", "member_1" and so on, which
    `members` returns; they share their weights with it.

    Args:
        networks: Networks that have the same inputs and return logits of the same classes.
        mean: The mean, as in `MeanPrediction`.
        head: Layers that follow the mean, which is the output of a layer "logits".
    """
    inputs = keras.tree.map_structure(
        lambda tensor: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=tensor.name),
        networks[0].input,
    )
    outputs = []
    for number, network in enumerate(networks):
        network.name = _MEMBER.format(number)
        outputs.append(network(inputs))
    logits = MeanPrediction(mean, dtype="float32", name="logits")(outputs)
    for layer in head:
        logits = layer(logits)
    return keras.Model(inputs, logits, name="ensemble")


def members(model: keras.Model) -> list[keras.Model]:
    """Returns the networks of an ensemble; the model itself if it is none."""
    layers = {layer.name: layer for layer in model.layers}
    count = 0
    while isinstance(layers.get(_MEMBER.format(count)), keras.Model):
        count += 1
    return [layers[_MEMBER.format(number)] for number in range(count)] or [model]


def is_ensemble(model: keras.Model) -> bool:
    """Returns whether a model was built by `ensemble`."""
    return members(model) != [model]
