"""Generated sequence problems that require memory, on which cells are compared.

Each module of this package is one probe. A probe generates an unlimited number of training
examples, has a fixed test part, and knows the score that is reachable without memory.

Shapes: N examples, T steps, D features of a step.
"""

import abc
import dataclasses
import importlib
import pkgutil
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from tasks.core.errors import UserError
from tasks.core.settings import check

PADDING = 0  # the symbol for padding
SEED = 2018  # of the test part; independent of the seed for training
Kind = Literal["number", "class", "bits"]


class Batch(NamedTuple):
    """Batch of examples, padded at the end.

    Attributes:
        inputs: (N, T, D) float32, or symbols (N, T) int32 with `PADDING` at the end.
        targets: Classes, int32, or numbers or bits, float32. Of shape (N,) or (N, O) for
            one output after the last step; (N, T) or (N, T, O) for one output per step.
        weights: (N,) or (N, T) float32; 0 where there is no target.
    """

    inputs: np.ndarray
    targets: np.ndarray
    weights: np.ndarray


@dataclasses.dataclass(frozen=True)
class Probe(abc.ABC):
    """Sequence problem for a network with one gated layer; its fields are flags.

    Class attributes:
        kind: Type of the targets: a number, one of several classes, or several bits.
        per_step: Whether there is a target after every step, or only after the last.
        has_trees: Whether the examples can be read as trees (`trees`).
        greater_is_better: Whether a greater score is better.
        curves: Names of scores at increasing difficulty, by the source of the difficulty;
            each entry is plotted as one curve.
        steps: Default number of training batches, enough for a gated cell to learn it.
        batch: Default number of examples per batch.
        learning_rate: Default learning rate, for Adam.
    """

    kind: ClassVar[Kind]
    per_step: ClassVar[bool] = False
    has_trees: ClassVar[bool] = False
    greater_is_better: ClassVar[bool] = True
    curves: ClassVar[dict[str, tuple[str, ...]]] = {}
    steps: ClassVar[int] = 1000
    batch: ClassVar[int] = 64
    learning_rate: ClassVar[float] = 2e-3

    def __post_init__(self) -> None:
        check(self)

    @property
    @abc.abstractmethod
    def features(self) -> int:
        """D, or the number of symbols including padding."""

    @property
    def symbols(self) -> bool:
        """Whether inputs are symbols rather than vectors of features."""
        return False

    @property
    @abc.abstractmethod
    def outputs(self) -> int:
        """Number of classes, or of numbers or bits in a target."""

    @abc.abstractmethod
    def draw(self, rng: np.random.Generator, count: int) -> Batch:
        """Generates `count` examples for training; a function of the state of `rng`."""

    @abc.abstractmethod
    def test(self) -> Batch:
        """Returns the test part, which is always the same."""

    def trees(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns inputs (N, T) of a probe that `has_trees` as trees of M nodes.

        Returns:
            The symbols of the nodes, (N, M) int32 with `PADDING` at the end; and the index of each
            node's parent, (N, M) int32, -1 for a root and for padding.
        """
        raise NotImplementedError(f"{type(self).__name__} has no trees.")

    @abc.abstractmethod
    def score(self, batch: Batch, outputs: np.ndarray) -> dict[str, float]:
        """Scores the outputs of a network; the first score is the main one.

        Args:
            batch: The examples.
            outputs: Outputs of `models.networks.probe_network`, (N, O) or (N, T, O).

        Returns:
            The scores by name.
        """

    @abc.abstractmethod
    def chance(self) -> dict[str, float]:
        """Returns the scores reachable without memory; a name may state the method."""

    def external_tests(self) -> dict[str, Batch]:
        """Returns test sets from other sources, by name; none by default."""
        return {}

    def score_external(self, name: str, outputs: np.ndarray) -> dict[str, float]:
        """Scores the outputs for one of the `external_tests`."""
        return {}


def names() -> list[str]:
    """Returns the names of all probes."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find(name: str) -> type[Probe]:
    """Returns the class `Probe` of the module `tasks.probes.<name>`.

    Raises:
        UserError: There is no such probe; the message lists the choices.
    """
    if name not in names():
        raise UserError(f"probe must be one of {names()}, got {name!r}.")
    return importlib.import_module(f"{__name__}.{name}").Probe


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Returns the log-probabilities of classes (..., C), normalised over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def cross_entropy(batch: Batch, outputs: np.ndarray) -> float:
    """Returns the weighted mean cross-entropy, in nats."""
    log_probabilities = log_softmax(outputs)
    target = np.take_along_axis(log_probabilities, batch.targets[..., None], axis=-1)[..., 0]
    return float(-(target * batch.weights).sum() / batch.weights.sum())


def accuracy(batch: Batch, outputs: np.ndarray) -> float:
    """Returns the weighted mean accuracy."""
    correct = outputs.argmax(axis=-1) == batch.targets
    return float((correct * batch.weights).sum() / batch.weights.sum())


def one_hot(symbols: np.ndarray, count: int) -> np.ndarray:
    """Returns symbols (...) as one-hot vectors (..., count), float32."""
    return np.eye(count, dtype=np.float32)[symbols]
