"""Scores of generated sentences: BLEU and chrF by sacreBLEU."""

import abc
import functools
import heapq
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from models import metrics
from tasks.core import evaluation
from tasks.core.evaluation import Alignment, AttentionMaps, Evaluation, Table
from tasks.core.examples import Example, Stream
from tasks.core.predictor import Predictor

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric

_MISTAKES = 20  # shown in the report


class Evaluator(evaluation.Evaluator):
    """BLEU, chrF and the sentences farthest from their references.

    Class attributes:
        reported: Metrics that are scores; the others are only listed in a table.
    """

    reported: ClassVar[Sequence[str]] = ("bleu", "chrf")

    def correct(self, example: Example, prediction: str) -> dict[str, bool]:
        """Returns whether a sentence is correct, by name of a score that counts it; none here."""
        return {}

    def source(self, example: Example) -> str | bytes:
        """Returns the source of an example for the report: text, or the bytes of an image."""
        return self.task.source_text(example)

    @abc.abstractmethod
    def attention(self, example: Example, response: dict) -> Alignment | AttentionMaps:
        """Returns the attention weights of a response of the signature that returns them."""

    def illustrate(
        self, predictor: Predictor, examples: Stream
    ) -> Sequence[Alignment | AttentionMaps]:
        first = self.task.first_examples(examples)
        rows = [self.task.row(example.values) for example in first]
        responses = predictor.predict(rows, self.task.RequestFormat.figure_field)
        return [
            self.attention(example, response)
            for example, response in zip(first, responses, strict=True)
        ]

    def statistics(self, example: Example, response: Mapping) -> dict[str, Sequence[float]]:
        prediction = response[self.task.output_name].decode("utf-8")
        references = [self.task.references(example.values)]
        return {
            name: _statistics(self._metrics[name], [prediction], references)[0]
            for name in self.reported
        }

    def score_of(self, name: str, sums: np.ndarray) -> float:
        return _score_of(self._metrics[name], sums)

    @functools.cached_property
    def _metrics(self) -> "dict[str, Metric]":
        from sacrebleu.metrics import BLEU, CHRF  # takes long to import

        return {"bleu": BLEU(force=True), "chrf": CHRF()}

    def preview(self) -> Evaluation:
        return self.evaluate(())

    def evaluate(self, responses: Iterable[tuple[Example, dict]]) -> Evaluation:
        predictions, references, worst, correct = [], [], [], {}
        from sacrebleu.metrics import BLEU, CHRF  # takes long to import

        chrf = CHRF()
        for number, (example, response) in enumerate(responses):
            prediction = response[self.task.output_name].decode("utf-8")
            predictions.append(prediction)
            references.append(self.task.references(example.values))
            for name, is_correct in self.correct(example, prediction).items():
                correct[name] = correct.get(name, 0) + is_correct
            score = chrf.sentence_score(prediction, references[-1]).score
            heapq.heappush(worst, (-score, -number, prediction, example))
            if len(worst) > _MISTAKES:
                heapq.heappop(worst)
        scores = {name: count / len(predictions) for name, count in correct.items()}
        intervals = {
            name: metrics.wilson_interval(count, len(predictions))
            for name, count in correct.items()
        }
        rows = []
        for name, metric in (
            ("bleu", BLEU(force=True)),  # no warning about text that is already tokenised
            ("bleu, lower case", BLEU(force=True, lowercase=True)),
            ("chrf", CHRF()),
        ):
            score = corpus_score(metric, predictions, references)
            rows.append([name, score, str(metric.get_signature()) if predictions else ""])
            if name in self.reported:
                scores[name] = score
                if predictions:
                    intervals[name] = corpus_interval(metric, predictions, references)
        return Evaluation(
            count=len(predictions),
            scores=scores,
            intervals=intervals,
            tables=[Table("Scores by sacreBLEU", ["metric", "score", "signature"], rows)],
            mistakes=Table(
                f"{self.task.output_name.capitalize()}s farthest from their references, by chrF",
                ["chrf", "source", "prediction", "reference", "origin"],
                [
                    [
                        -negative,
                        self.source(example),
                        prediction,
                        " / ".join(self.task.references(example.values)),
                        example.origin,
                    ]
                    for negative, _, prediction, example in sorted(worst, reverse=True)
                ],
            ),
        )


def corpus_score(
    metric: "Metric", predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> float:
    """Returns the score of a metric of sacreBLEU; sentences may differ in their references."""
    if not predictions:
        return 0.0
    return metric.corpus_score(predictions, _by_number(references)).score


def corpus_interval(
    metric: "Metric", predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[float, float]:
    """Returns the 95 % interval of a score of sacreBLEU, by a bootstrap over sentences."""
    rows = np.array(_statistics(metric, predictions, references))
    return metrics.bootstrap_interval(rows, lambda sums: _score_of(metric, sums))


# The methods that sacreBLEU's own bootstrap is made of, which it does not export.


def _statistics(
    metric: "Metric", predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> list[list[int]]:
    """Returns the sufficient statistics of each sentence."""
    return metric._extract_corpus_statistics(predictions, _by_number(references))


def _score_of(metric: "Metric", sums: np.ndarray) -> float:
    return metric._compute_score_from_stats(sums.round().astype(int).tolist()).score


def _by_number(references: Sequence[Sequence[str]]) -> list[tuple[str | None, ...]]:
    """Returns the references in sacreBLEU's order: the first of all sentences, the second, ..."""
    most = max(map(len, references))
    padded = [[*row, *[None] * (most - len(row))] for row in references]
    return list(zip(*padded, strict=True))
