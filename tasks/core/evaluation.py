"""Evaluation of a task: scores of its responses, with tables and figures that explain them."""

import abc
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Self

import numpy as np

from models import metrics
from tasks.core.examples import Example, Splits, Stream
from tasks.core.predictor import Predictor

if TYPE_CHECKING:  # a task names its evaluator
    from tasks.core.task import Task

_ALMOST_ALL = 0.98  # share of predictions of one class that a warning is due for
_NAMED = 5  # classes that a warning names
# Ends of the names of scores and metrics of which a lower value is better.
_LOWER_IS_BETTER = ("loss", "error", "perplexity", "bits_per_character")
MAX_CLASSES = 25  # rows of a confusion matrix that a page has room for


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of a report; a float is shown with three digits, bytes as an image."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | int | float | bytes]]


@dataclasses.dataclass(frozen=True)
class Confusion:
    """Confusion matrix: counts of references (rows) by prediction (columns)."""

    title: str
    classes: Sequence[str]
    counts: Sequence[Sequence[int]]

    def most_frequent(self, count: int = MAX_CLASSES) -> Self:
        """Returns the matrix of the most frequent classes; the others are summed up as one.

        A matrix of C classes has C² cells, so that of many classes is neither legible nor
        small. One of at most `count` + 1 classes is returned as it is.
        """
        matrix = np.asarray(self.counts, int)
        if len(self.classes) <= count + 1:
            return dataclasses.replace(self, counts=matrix.tolist())
        order = np.argsort(-matrix.sum(axis=1), kind="stable")
        frequent, rest = np.sort(order[:count]), order[count:]
        summed = np.zeros([count + 1] * 2, int)
        summed[:-1, :-1] = matrix[np.ix_(frequent, frequent)]
        summed[:-1, -1] = matrix[np.ix_(frequent, rest)].sum(axis=1)
        summed[-1, :-1] = matrix[np.ix_(rest, frequent)].sum(axis=0)
        summed[-1, -1] = matrix[np.ix_(rest, rest)].sum()
        return dataclasses.replace(
            self,
            title=f"{self.title}, the {count} most frequent",
            classes=[*(self.classes[index] for index in frequent), f"{len(rest)} others"],
            counts=summed.tolist(),
        )


@dataclasses.dataclass(frozen=True)
class Alignment:
    """Weights in [0, 1] of S source tokens for T target tokens, shape (T, S)."""

    source: Sequence[str]
    target: Sequence[str]
    weights: Sequence[Sequence[float]]


@dataclasses.dataclass(frozen=True)
class AttentionMaps:
    """Weights in [0, 1] over the area of an image for T words, shape (T, H, W)."""

    image_bytes: bytes
    words: Sequence[str]
    maps: Sequence[Sequence[Sequence[float]]]


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How far the probabilities of predictions agree with the share that is correct.

    Attributes:
        temperature: Temperature of the served probabilities; None if there is none.
        before: Rows of `models.metrics.reliability` at the temperature 1; None if the served
            model does not return these probabilities.
        after: Rows of the served probabilities.
    """

    temperature: float | None
    before: np.ndarray | None
    after: np.ndarray

    @classmethod
    def of(
        cls,
        before: Sequence[float] | None,
        after: Sequence[float],
        correct: Sequence[bool],
        temperature: float | None,
    ) -> Self:
        """Returns the calibration of N predictions.

        Args:
            before: Probabilities of the predictions at the temperature 1, (N,); None if they are
                unknown.
            after: Served probabilities of the predictions, (N,).
            correct: Whether the predictions are correct, (N,).
            temperature: Temperature of the served probabilities; None if there is none.
        """
        rows = [
            None
            if confidence is None
            else metrics.reliability(np.asarray(confidence, float), np.asarray(correct, float))
            for confidence in (before, after)
        ]
        return cls(temperature, *rows)

    def errors(self) -> dict[str, float | None]:
        """Returns the expected calibration error "before", if it is known, and "after"."""
        return {
            "before": None if self.before is None else metrics.calibration_error(self.before),
            "after": metrics.calibration_error(self.after),
        }

    def sentence(self) -> str:
        """Returns the errors as text."""
        errors = self.errors()
        served = f"expected calibration error {errors['after']:.4f}"
        if self.temperature is None:
            return f"{served}, without a temperature"
        if self.before is None:
            return f"{served} with temperature {self.temperature:.3f}"
        return (
            f"{served} with temperature {self.temperature:.3f}, {errors['before']:.4f} without it"
        )


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Result of an evaluation on one part of a corpus.

    Attributes:
        count: Number of evaluated examples.
        scores: Scores by name; the first is the main one.
        tables: Details of the scores, as printed by `app.evaluate`.
        confusions: Confusion matrices, drawn in the report.
        mistakes: The worst mistakes, for the report.
        intervals: 95 % confidence intervals of scores by name, without those undefined.
        baselines: Scores of simple methods on the same examples, by method and name.
        calibration: Calibration of the probabilities; None where it was not computed.
        warnings: Warnings about the predictions, each with advice, in one line.
    """

    count: int
    scores: dict[str, float]
    tables: Sequence[Table] = ()
    confusions: Sequence[Confusion] = ()
    mistakes: Table | None = None
    intervals: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    baselines: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    calibration: Calibration | None = None
    warnings: Sequence[str] = ()

    def context(self, name: str) -> str:
        """Returns the interval and the baselines of a score as text; "" if it has neither."""
        parts = []
        if name in self.intervals:
            low, high = self.intervals[name]
            parts.append(f"95 % interval {low:.4f} to {high:.4f}")
        for method, scores in self.baselines.items():
            if name in scores:
                parts.append(f"{method} baseline {scores[name]:.4f}")
        return "; ".join(parts)

    def below_baselines(self) -> list[str]:
        """Returns a sentence for each baseline that is better than the model.

        The first score that differs decides.
        """
        sentences = []
        for method, baseline in self.baselines.items():
            names = (name for name in self.scores if name in baseline)
            name = next((name for name in names if self.scores[name] != baseline[name]), None)
            if name is None:
                continue
            score, other = self.scores[name], baseline[name]
            is_worse, relation = score < other, "below"
            if lower_is_better(name):
                is_worse, relation = score > other, "worse than"
            if is_worse:
                sentences.append(
                    f"The model is {relation} the {method} baseline: {name} {score:.4f} against "
                    f"{other:.4f}."
                )
        return sentences


def lower_is_better(name: str) -> bool:
    """Returns whether a lower value of a score or a metric is better, given its name."""
    return name.endswith(_LOWER_IS_BETTER)


def class_warnings(classes: Sequence[str], counts: np.ndarray, advice: str) -> list[str]:
    """Returns warnings about classes that a model neglects, each in one line.

    Args:
        classes: Names of the classes.
        counts: Confusion matrix (K, K).
        advice: What helps rare classes.
    """
    references, predictions = counts.sum(axis=1), counts.sum(axis=0)
    total, occurring = int(references.sum()), int((references > 0).sum())
    if not total or occurring < 2:
        return []
    common = int(np.argmax(predictions))
    share = predictions[common] / total
    if share >= _ALMOST_ALL > references[common] / total:
        return [
            f"{share:.1%} of the predictions are {classes[common]!r}, and only "
            f"{references[common] / total:.1%} of the references: {advice}"
        ]
    never = [
        classes[index] for index in np.flatnonzero((references > 0) & (predictions == 0)).tolist()
    ]
    if not never:
        return []
    names = ", ".join(map(repr, never[:_NAMED])) + (", ..." if len(never) > _NAMED else "")
    verb = "class of the references is" if len(never) == 1 else "classes of the references are"
    return [f"{len(never)} {verb} never predicted ({names}): {advice}"]


class Evaluator(abc.ABC):
    """Evaluation of a task; a task with other scores names a subclass as its `Evaluator`.

    Args:
        task: The task to be evaluated.
        majority: The most frequent class or tag of the train part, whose scores are a baseline;
            None if it is unknown.
        fitted: What `Task.fit_on_valid` has set, by name; see `Task.fitted_on_valid`.
    """

    def __init__(
        self,
        task: "Task",
        majority: str | None = None,
        fitted: Mapping[str, float] | None = None,
    ):
        self.task, self.majority, self.fitted = task, majority, fitted or {}

    @classmethod
    def target_classes(cls, example: Example) -> Sequence[str]:
        """Returns the correct classes or tags of an example; none for tasks without them."""
        return ()

    @abc.abstractmethod
    def evaluate(self, responses: Iterable[tuple[Example, dict]]) -> Evaluation:
        """Computes the scores.

        Args:
            responses: Examples, each with the response of the task's `evaluation_signature`.
        """

    def baselines(self, splits: Splits) -> dict[str, dict[str, float]]:
        """Returns scores on the test part of simple methods that learn from the train part.

        None by default; that of the most frequent class is part of `evaluate`.

        Args:
            splits: The corpus that the model was trained on.
        """
        return {}

    def outcomes(self, example: Example, response: Mapping) -> Sequence[bool]:
        """Returns whether each prediction of a response is right, for comparisons of versions.

        None by default, for tasks whose predictions are not right or wrong.
        """
        return ()

    def statistics(self, example: Example, response: Mapping) -> dict[str, Sequence[float]]:
        """Returns the sufficient statistics of scores, for comparisons of versions.

        None by default. Over examples, the statistics of a score add up to what `score_of` needs.

        Returns:
            The statistics of the example by name of the score.
        """
        return {}

    def score_of(self, name: str, sums: np.ndarray) -> float:
        """Returns the score of sums of `statistics`."""
        raise NotImplementedError(f"{type(self).__name__} has no statistics of {name!r}.")

    def preview(self) -> Evaluation:
        """Returns an evaluation of no responses, with the names of classes that it will have.

        Training renders a report with it before the first step. An evaluator that accepts no
        responses may return `self.evaluate(())`; by default nothing is previewed.
        """
        return Evaluation(count=0, scores={})

    def illustrate(
        self, predictor: Predictor, examples: Stream
    ) -> Sequence[Alignment | AttentionMaps]:
        """Returns figures of single responses for the report; none by default.

        Args:
            predictor: The exported model.
            examples: The test part.
        """
        return ()
