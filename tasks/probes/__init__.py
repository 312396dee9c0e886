"""Small sequences in which memory is all that counts: what cells are compared on.

A module a probe; the modules of this package are the probes. Each draws examples for
training without end, has a test part that is always the same, and knows what is reached
without any memory.

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

PADDING = 0  # of symbols
SEED = 2018  # of the test part, whatever training draws
Kind = Literal["number", "class", "bits"]


class Batch(NamedTuple):
    """Examples, padded at their ends.

    Attributes:
        inputs: (N, T, D) float32, or symbols (N, T) int32, 0 at padding.
        answers: To be given after the last step, (N,) or (N, O), or after each, (N, T)
            or (N, T, O): a class, int32, or numbers or bits, float32.
        weights: (N,) or (N, T) float32, 0 where nothing is asked.
    """

    inputs: np.ndarray
    answers: np.ndarray
    weights: np.ndarray


@dataclasses.dataclass(frozen=True)
class Probe(abc.ABC):
    """One problem for one layer of gated cells; its fields are flags.

    Class attributes:
        kind: What an answer is: a number, one of some classes, or several bits.
        each: Whether an answer is asked after each step, or after the last.
        greater: Whether the greater score is the better.
        curves: Scores that are one figure at several difficulties, in their order, by what
            makes them difficult.
        steps, batch, learning_rate: Batches that it takes a gated cell to learn it, the examples of
            each, and a learning rate of Adam that does.
    """

    kind: ClassVar[Kind]
    each: ClassVar[bool] = False
    greater: ClassVar[bool] = True
    curves: ClassVar[dict[str, tuple[str, ...]]] = {}
    steps: ClassVar[int] = 1000
    batch: ClassVar[int] = 64
    learning_rate: ClassVar[float] = 2e-3

    def __post_init__(self):
        check(self)

    @property
    @abc.abstractmethod
    def features(self) -> int:
        """D; or of symbols how many there are, padding among them."""

    @property
    def symbols(self) -> bool:
        """Whether a step is a symbol."""
        return False

    @property
    @abc.abstractmethod
    def outputs(self) -> int:
        """How many numbers, classes or bits an answer has."""

    @abc.abstractmethod
    def draw(self, rng: np.random.Generator, count: int) -> Batch:
        """Examples to learn from."""

    @abc.abstractmethod
    def test(self) -> Batch:
        """Examples to be judged on, always the same."""

    @abc.abstractmethod
    def score(self, batch: Batch, outputs: np.ndarray) -> dict[str, float]:
        """Judges outputs; the first score is the one that counts.

        Args:
            batch: The examples.
            outputs: Of the network in `models.networks.probe_network`: (N, O) or (N, T, O).
        """

    @abc.abstractmethod
    def chance(self) -> dict[str, float]:
        """What is reached without memory, by the name of the score; it may say by what."""

    def outside(self) -> dict[str, Batch]:
        """Test parts from elsewhere by name, which `score_outside` judges; mostly none."""
        return {}

    def score_outside(self, name: str, outputs: np.ndarray) -> dict[str, float]:
        """Judges the outputs for one of them."""
        return {}


def names() -> list[str]:
    """Names every probe there is."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find(name: str) -> type[Probe]:
    """Returns the `Probe` of the module `tasks.probes.<name>`.

    Raises:
        UserError: There is no such probe.
    """
    if name not in names():
        raise UserError(f"probe must be one of {names()}, got {name!r}.")
    return importlib.import_module(f"{__name__}.{name}").Probe


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """The logs of the probabilities of classes, over the last axis."""
    away = logits - logits.max(axis=-1, keepdims=True)
    return away - np.log(np.exp(away).sum(axis=-1, keepdims=True))


def surprise(batch: Batch, outputs: np.ndarray) -> float:
    """The mean cross-entropy of the right classes, in nats, over the steps that are asked."""
    right = np.take_along_axis(log_softmax(outputs), batch.answers[..., None], axis=-1)[..., 0]
    return float(-(right * batch.weights).sum() / batch.weights.sum())


def accuracy(batch: Batch, outputs: np.ndarray) -> float:
    """The share of right classes among the steps that are asked."""
    right = outputs.argmax(axis=-1) == batch.answers
    return float((right * batch.weights).sum() / batch.weights.sum())


def one_hot(symbols: np.ndarray, count: int) -> np.ndarray:
    """Symbols (...) as rows of zeros with a one, (..., count) float32."""
    return np.eye(count, dtype=np.float32)[symbols]
