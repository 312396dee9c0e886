"""Comparison of two versions of a task on the same examples."""

import collections
import dataclasses
import functools
import math
from pathlib import Path

import numpy as np
from scipy import stats

import tasks
from app.serving import versions
from app.serving.session import SavedModelSession
from models import metrics
from tasks.core.errors import UserError
from tasks.core.evaluation import Table
from tasks.core.examples import Example, Stream
from tasks.core.task import Task


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Scores of two versions on the examples that both can be evaluated on.

    Attributes:
        versions: Names of the versions.
        examples: Number of examples.
        scores: Scores of both by name.
        gained: Predictions that only the second has right: labels of texts, or tags of words.
        lost: Predictions that only the first has right.
        p_value: Probability of a difference at least as large between equally good versions, by
            McNemar's exact test; None for tasks without one such prediction for each example.
        p_values: The same by name of a score, by a paired bootstrap over the examples (Koehn
            2004); for the accuracy of tags, BLEU, chrF and entity F1.
    """

    versions: tuple[str, str]
    examples: int
    scores: dict[str, tuple[float, float]]
    gained: int
    lost: int
    p_value: float | None
    p_values: dict[str, float]

    @property
    def _has_outcomes(self) -> bool:
        return bool(self.gained or self.lost or self.p_value is not None)

    def sentences(self) -> list[str]:
        """Returns the comparison in sentences."""
        first, second = self.versions
        scores = ", ".join(f"{name} {a:.4f} and {b:.4f}" for name, (a, b) in self.scores.items())
        lines = [f"{first} and {second} on {self.examples} examples: {scores}"]
        if self._has_outcomes:
            test = "" if self.p_value is None else f": {_verdict(self.p_value)}, McNemar's test)"
            lines.append(
                f"{second} gets {self.gained} right that {first} gets wrong, and {self.lost} wrong "
                f"that {first} gets right{test}"
            )
        for name, p_value in self.p_values.items():
            a, b = self.scores[name]
            lines.append(f"{name} {b - a:+.4f}: {_verdict(p_value)}, paired bootstrap)")
        return lines

    def table(self) -> Table:
        """Returns the comparison as a table of a report."""
        rows = [[name, *both] for name, both in self.scores.items()]
        if self._has_outcomes:
            rows += [["right only in this version", self.lost, self.gained]]
        if self.p_value is not None:
            rows += [["p, McNemar's test", "", self.p_value]]
        rows += [[f"p of {name}, bootstrap", "", p] for name, p in self.p_values.items()]
        return Table(f"Comparison on {self.examples} examples", ["score", *self.versions], rows)


def _verdict(p_value: float) -> str:
    """Returns the beginning of a remark that ends with the name of the test."""
    return f"{'significant' if p_value < 0.05 else 'not significant'} (p = {p_value:.2g}"


def compare(
    name: str, first: Path, second: Path, examples: Stream, second_name: str = ""
) -> Comparison | None:
    """Compares two versions on the examples of a part.

    Args:
        name: Name of the task.
        first: Folder of the first version.
        second: Folder of the second, which may be a draft.
        examples: The examples; those that one of the versions cannot be evaluated on are left out.
        second_name: Name of the second version; that of its folder by default.

    Returns:
        The comparison; None if no example is left.

    Raises:
        UserError: The versions predict different targets.
    """
    task_class = tasks.find(name)
    restored = [task_class.restore(folder / "assets") for folder in (first, second)]

    if restored[0].Evaluator is not restored[1].Evaluator:
        raise UserError(
            f"{versions.title(first)} and {second_name or versions.title(second)} predict "
            "different targets, which have no score in common."
        )

    def is_common(example: Example) -> bool:
        return not any(task.rejection_reason(example) for task in restored)

    common = examples.filter(is_common)
    (one, right, rows), (other, right_of_other, other_rows) = (
        _evaluate(task, folder, common)
        for task, folder in zip(restored, (first, second), strict=True)
    )
    if not one.count:
        return None
    # Some scores exist for some versions only, such as that of words unseen in training.
    scores = {
        name: (score, other.scores[name])
        for name, score in one.scores.items()
        if name in other.scores
    }
    pairs = list(zip(right, right_of_other, strict=True))
    lost, gained = pairs.count((True, False)), pairs.count((False, True))
    p_value = None
    if len(pairs) == one.count:  # the words of a sentence are not independent of each other
        different = gained + lost
        p_value = stats.binomtest(lost, different).pvalue if different else 1.0
    evaluator = restored[0].Evaluator(restored[0])
    p_values = {
        score: metrics.paired_bootstrap(
            np.array(rows[score]),
            np.array(other_rows[score]),
            functools.partial(evaluator.score_of, score),
        )
        for score in sorted(rows.keys() & other_rows.keys() & scores.keys())
    }
    p_values = {score: p for score, p in p_values.items() if not math.isnan(p)}
    names = versions.title(first), second_name or versions.title(second)
    return Comparison(names, one.count, scores, gained, lost, p_value, p_values)


def _evaluate(task: Task, folder: Path, examples: Stream):
    """Evaluates a version.

    Returns:
        The evaluation; for each prediction, whether it is right; and the statistics of each
        example, by score.
    """
    evaluator, outcomes, rows = task.Evaluator(task), [], collections.defaultdict(list)

    def responses():
        for example, response in SavedModelSession(folder).predict_examples(task, examples):
            outcomes.extend(evaluator.outcomes(example, response))
            for score, statistics in evaluator.statistics(example, response).items():
                rows[score].append(statistics)
            yield example, response

    return evaluator.evaluate(responses()), outcomes, rows
