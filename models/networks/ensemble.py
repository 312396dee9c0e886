"""Ensemble of networks of one task, whose predictions are averaged.

Shapes: B batch, K classes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from ..cells.cell import Tensor

MEANS = ("arithmetic", "geometric")
_MEMBER = "member_{}"


@keras.saving.register_keras_serializable(package="gated")
class MeanPrediction(keras.layers.Layer):
    """Logits whose probabilities are the mean of those of several networks.

    Args:
        mean: "arithmetic", the mean of the probabilities, or "geometric", of their logarithms.
        **kwargs: `name` and `dtype` of a Keras layer.

    Call arguments:
        logits: A list of logits, each (..., K).

    Returns:
        (..., K), up to a constant the logarithms of the mean probabilities.

    Raises:
        ValueError: There is no such mean.

    Example:
        >>> MeanPrediction()([ops.log([[0.2, 0.8]]), ops.log([[0.6, 0.4]])]).shape
        TensorShape([1, 2])
    """

    def __init__(self, mean: str = "arithmetic", **kwargs):
        super().__init__(**kwargs)
        if mean not in MEANS:
            raise ValueError(f"mean must be one of {list(MEANS)}, got {mean!r}.")
        self.mean = mean
        self.supports_masking = True
        self.built = True

    def call(self, logits: Sequence[Tensor]) -> Tensor:
        logs = ops.stack([ops.log_softmax(each) for each in logits])
        if self.mean == "geometric":
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
    mean: str = "arithmetic",
    head: Callable[[Tensor, Any], Tensor] | None = None,
) -> keras.Model:
    """Builds a network whose prediction is the mean of those of others.

    The networks become its layers, under the names "member_0", "member_1" and so on, which
    `members` returns; they share their weights with it.

    Args:
        networks: Networks that have the same inputs and return logits of the same classes.
        mean: The mean, as in `MeanPrediction`.
        head: Function that applies further layers to the mean, given it and the inputs; None
            for none.
    """
    inputs = keras.tree.map_structure(
        lambda tensor: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=tensor.name),
        networks[0].input,
    )
    outputs = []
    for number, network in enumerate(networks):
        network.name = _MEMBER.format(number)
        outputs.append(network(inputs))
    logits = MeanPrediction(mean, dtype="float32", name="mean")(outputs)
    if head:
        logits = head(logits, inputs)
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
