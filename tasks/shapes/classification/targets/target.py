"""The interface of a target.

Shapes: B texts, T words, K outputs of the network.
"""

import abc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from models.networks.ensemble import ensemble, members
from tasks.core.evaluation import Evaluator
from tasks.core.examples import Example
from tasks.shapes.classification.linear_path import Likelihood
from tasks.shapes.classification.settings import Config

if TYPE_CHECKING:  # a task has a target
    from tasks.core.task import Task

Batches = Iterable[dict[str, np.ndarray]]
LINEAR_PATH = "linear_path"  # name of a layer


class Explanation(NamedTuple):
    """What an inspection explains about a response.

    Attributes:
        text: The response, for people.
        name: The output whose saliency is shown.
        value: Function of the outputs of the network, (N, K), that returns that output, (N,).
        quantity: What that output is.
    """

    text: str
    name: str
    value: Callable[[tf.Tensor], tf.Tensor]
    quantity: str = "log-probability"


class Learner(abc.ABC):
    """Learns the assets of a target from the training part.

    Args:
        config: Settings of the task.
    """

    def __init__(self, config: Config):
        self.config = config

    @abc.abstractmethod
    def add(self, example: Example) -> None:
        """Counts an example."""

    @abc.abstractmethod
    def write(self, folder: Path) -> None:
        """Writes the assets.

        Raises:
            UserError: The target cannot be learnt from these examples.
        """


class Target(tf.Module, abc.ABC):
    """What is predicted; everything that depends on it.

    Args:
        config: Settings of the task.
        folder: Folder of the assets that the learner wrote.

    Class attributes:
        Learner: Class that learns the assets.
        Evaluator: Class that computes the scores.
        key: Key of an example's value.
        likelihood: What the linear path maximises.
        has_evidence: Whether words can be counted by class.
        ensemble_mean: What an ensemble averages, one of `models.networks.ensemble.MEANS`.

    Attributes:
        outputs: K.
    """

    Learner: ClassVar[type[Learner]]
    Evaluator: ClassVar[type[Evaluator]]
    key: ClassVar[str] = "label"
    likelihood: ClassVar[Likelihood]
    has_evidence: ClassVar[bool] = True
    ensemble_mean: ClassVar[str]
    outputs: int

    def __init__(self, config: Config, folder: Path):
        super().__init__()
        self.config = config

    # --- Examples ------------------------------------------------------------

    def rejection_reason(self, example: Example) -> str | None:
        """Returns why an example cannot be evaluated; None if it can."""
        return None

    @abc.abstractmethod
    def encode(self, values: tf.Tensor | tf.RaggedTensor) -> tf.Tensor | tf.RaggedTensor:
        """Encodes the values of B examples under `key`."""

    @abc.abstractmethod
    def to_target(self, encoded: tf.Tensor) -> tf.Tensor:
        """Returns the target of the loss for encoded values, padded with 0."""

    def memberships(self, target: tf.Tensor) -> tf.Tensor:
        """Returns 1 for the classes that a text was counted in, (B, K), for `Evidence`.

        Only called for targets that have evidence.
        """
        raise NotImplementedError(f"{type(self).__name__} has no evidence.")

    def sample_weights(self, target: tf.Tensor) -> tf.Tensor | None:
        """Returns the weights of rows in training, (B,); None if they are equal."""
        return None

    def documents(self, batches: Batches) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields ids, (B, T), and the class that each row is counted in, (B,).

        Only called for targets that have evidence.
        """
        raise NotImplementedError(f"{type(self).__name__} has no evidence.")

    @abc.abstractmethod
    def linear_targets(self, encoded: np.ndarray) -> np.ndarray:
        """Returns the targets of `linear_path.fit` for encoded values, padded with 0."""

    # --- Network -------------------------------------------------------------

    def head(self) -> list[keras.layers.Layer] | None:
        """Returns the layers that follow the logits; None for those of classes."""
        return None

    def combine(self, networks: Sequence[keras.Model]) -> keras.Model:
        """Returns the ensemble of networks; see `Task.combine`."""
        return ensemble(networks, self.ensemble_mean, self.head() or ())

    @abc.abstractmethod
    def distillation_loss(
        self,
        model: keras.Model,
        teacher_outputs: tf.Tensor,
        outputs: tf.Tensor,
        weight: tf.Tensor | None,
    ) -> tf.Tensor:
        """Returns the loss of learning the outputs of another; see `Task.distillation_loss`."""

    @abc.abstractmethod
    def compile(self, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
        """Compiles a model with loss and metrics."""

    @abc.abstractmethod
    def fit_on_valid(self, task: "Task", model: keras.Model, batches: Batches) -> None:
        """Sets the weights that are fitted on the validation part; see `Task.fit_on_valid`."""

    @abc.abstractmethod
    def fitted_on_valid(self, model: keras.Model) -> dict[str, float]:
        """Returns what `fit_on_valid` has set, by name."""

    # --- Serving -------------------------------------------------------------

    @abc.abstractmethod
    def signature_outputs(self, model: keras.Model, outputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the outputs of the signature.

        Args:
            model: The network.
            outputs: What it returned for B texts, (B, K).
        """

    @abc.abstractmethod
    def explain(self, response: Mapping) -> Explanation:
        """Returns what an inspection explains about a response of the published model."""

    @abc.abstractmethod
    def limits(self) -> Sequence[str]:
        """Describes limits and caveats of the responses, in sentences."""


def has_linear_path(model: keras.Model) -> bool:
    """Returns whether a network has a linear path."""
    return any(layer.name == LINEAR_PATH for layer in model.layers)


def unmixed(model: keras.Model) -> keras.Model:
    """Returns a network of the logits, (B, K), or with those of the linear path, (B, 2 K)."""
    outputs = model.get_layer("logits").output
    if has_linear_path(model):
        outputs = ops.concatenate([outputs, model.get_layer(LINEAR_PATH).output], axis=-1)
    return keras.Model(model.input, outputs)


def mixed(
    model: keras.Model, outputs: np.ndarray, fit: Callable[[np.ndarray, np.ndarray], float]
) -> np.ndarray:
    """Returns the logits of the mixture, whose share is fitted and assigned.

    Args:
        model: The network.
        outputs: What `unmixed` returned for N rows.
        fit: Returns the share of the second of two arrays of logits, (N, K).
    """
    if not has_linear_path(model):
        return outputs
    first, second = np.split(outputs, 2, axis=1)
    share = fit(first, second)
    model.get_layer("mixture").share.assign(share)
    return (1 - share) * first + share * second


def linear_path_share(model: keras.Model) -> dict[str, float]:
    """Returns the fitted share of the linear path by its name; nothing without one.

    Of an ensemble it is the mean share of its networks.
    """
    networks = members(model)
    if not has_linear_path(networks[0]):
        return {}
    shares = [member.get_layer("mixture").share.numpy() for member in networks]
    return {"linear_path_share": float(np.mean(shares))}
