"""Scores of sequence labelling: accuracy of tags, of unseen words and of whole sentences."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from models.text import entities
from tasks.core import evaluation
from tasks.core.evaluation import Confusion, Evaluation, class_warnings
from tasks.core.examples import Example
from tasks.shapes.sequence_labelling import joint_evaluation, tables
from tasks.shapes.sequence_labelling.entity_scores import EntityScores, entity_f1
from tasks.shapes.sequence_labelling.tag_counts import TagCounts
from tasks.shapes.sequence_labelling.word_confidence import WordConfidence
from tasks.shapes.sequence_labelling.word_scores import (
    WordScores,
    is_features,
    is_right,
    lemmas,
    repeated,
)

_ADVICE = "add examples of rare tags, or try --class-weights balanced."
_JOINT_ADVICE = "add examples of rare tags."
_MAX_ROWS = 25  # of tables


class Evaluator(evaluation.Evaluator):
    """Accuracy, scores per tag, calibration, and the most frequent confusions and mistakes."""

    @classmethod
    def target_classes(cls, example: Example) -> Sequence[str]:
        return example.values["tags"]

    def outcomes(self, example: Example, response: Mapping) -> Sequence[bool]:
        if self.task.annotations:
            return joint_evaluation.outcomes(self.task.annotations, example, response)
        pairs = zip(example.values["tags"], response["tags"], strict=True)
        return tuple(reference == tag.decode("utf-8") for reference, tag in pairs)

    def statistics(self, example: Example, response: Mapping) -> dict[str, Sequence[float]]:
        outcomes = self.outcomes(example, response)
        statistics = {"accuracy": (sum(outcomes), len(outcomes))}
        if self.task.scheme.scheme_name:
            counts = EntityScores()
            predictions = [tag.decode("utf-8") for tag in response["tags"]]
            counts.add(example.values["tags"], predictions)
            statistics["entity_f1"] = counts.statistics()[0]
        return statistics

    def score_of(self, name: str, sums: np.ndarray) -> float:
        return entity_f1(sums) if name == "entity_f1" else sums[0] / sums[1]

    def preview(self) -> Evaluation:
        return self.evaluate(())

    def evaluate(self, responses: Iterable[tuple[Example, dict]]) -> Evaluation:
        if self.task.annotations:
            return joint_evaluation.evaluate(self, responses, _JOINT_ADVICE)
        counts = TagCounts(self.task.training_words, self.majority)
        confidence = WordConfidence(self.fitted.get("temperature"))
        entity_scores = EntityScores() if self.task.scheme.scheme_name else None
        column, ud_scores = self._column(), None
        if column:
            name = joint_evaluation.score_name(column)
            ud_scores = WordScores(name, self.task.training_words)
        for example, response in responses:
            predictions = tuple(tag.decode("utf-8") for tag in response["tags"])
            counts.add(example, predictions)
            confidence.add(response, self.outcomes(example, response))
            if entity_scores:
                entity_scores.add(example.values["tags"], predictions)
            if ud_scores:
                outcomes = self._outcomes(column, example, response)
                ud_scores.add(example.values["tokens"], *outcomes)
        classes, matrix = tables.confusion_matrix(self.task.scheme.reported, counts.confusions)
        scores, baseline, intervals = counts.scores(), counts.baseline(), counts.intervals()
        most_confused = tables.confused_tags(counts.confusions, _MAX_ROWS)
        shown = [tables.scores_by_tag(classes, matrix), most_confused]
        if entity_scores:  # first, as the scores of tags that mark entities say little
            scores = entity_scores.scores() | scores
            intervals = entity_scores.intervals() | intervals
            if self.majority == entities.OUTSIDE:
                baseline |= dict.fromkeys(entity_scores.scores(), 0.0)
            shown = [*entity_scores.tables(), *shown]
        if ud_scores:
            scores = ud_scores.scores() | scores
            intervals = ud_scores.intervals() | intervals
            baseline |= ud_scores.baselines()
            shown[0] = tables.most_frequent(shown[0], _MAX_ROWS)
        return Evaluation(
            count=counts.count,
            scores=scores,
            intervals=intervals,
            baselines={"majority": baseline} if self.majority and counts.count else {},
            calibration=confidence.calibration(),
            warnings=class_warnings(classes, matrix, _ADVICE),
            tables=shown,
            confusions=[Confusion("Reference and predicted tags", classes, matrix).most_frequent()],
            mistakes=tables.frequent_mistakes(
                counts.mistakes, _MAX_ROWS, ["word", "reference", "prediction"]
            ),
        )

    def _column(self) -> str:
        """Returns the column of Universal Dependencies that tags have a score of; "" for none."""
        if self.task.edit_scripts:
            return "lemma"
        return "feats" if is_features(self.task.scheme.reported) else ""

    def _outcomes(self, column: str, example: Example, response: Mapping) -> list[list[bool]]:
        """Returns whether each word is right, and whether the most frequent tag would be."""
        tokens, references = example.values["tokens"], example.values["tags"]
        predictions = response["tags"]
        if column == "lemma":
            references, predictions = lemmas(references, tokens), response["lemmas"]
        predictions = [value.decode("utf-8") for value in predictions]
        return [
            [is_right(column, *pair) for pair in zip(references, values, strict=True)]
            for values in (predictions, repeated(self.majority, tokens))
        ]
