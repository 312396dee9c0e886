"""Scores of several annotations that one network predicts together."""

import collections
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from models import metrics
from tasks.core.evaluation import Confusion, Evaluation, Table, class_warnings
from tasks.core.examples import Example
from tasks.shapes.sequence_labelling import tables, word_confidence
from tasks.shapes.sequence_labelling.annotations import Annotation
from tasks.shapes.sequence_labelling.word_confidence import WordConfidence
from tasks.shapes.sequence_labelling.word_scores import WordScores, is_right, lemmas, repeated

if TYPE_CHECKING:
    from tasks.core.evaluation import Evaluator

_MAX_ROWS = 25  # of tables


def score_name(annotation: str) -> str:
    """Returns the name of the score of an annotation, such as "upos_accuracy"."""
    return "ufeats_accuracy" if annotation == "feats" else f"{annotation}_accuracy"


def outcomes(annotations: Sequence[Annotation], example: Example, response: Mapping) -> list[bool]:
    """Returns for each word whether all annotations are right."""
    columns = (_Predictions.of(each, example, response).right() for each in annotations)
    return [all(word) for word in zip(*columns, strict=True)]


class _Predictions:
    """Values of one annotation of a sentence.

    Attributes:
        references: Correct values: tags, or lemmas.
        predictions: Predicted values.
    """

    def __init__(self, name: str, references: Sequence[str], predictions: Sequence[str]):
        self._name, self.references, self.predictions = name, references, predictions

    @classmethod
    def of(cls, annotation: Annotation, example: Example, response: Mapping) -> "_Predictions":
        references = example.values[annotation.name]
        if annotation.edit_scripts:
            references = lemmas(references, example.values["tokens"])
        predictions = [value.decode("utf-8") for value in response[annotation.name]]
        return cls(annotation.name, references, predictions)

    def right(self, predictions: Sequence[str] | None = None) -> list[bool]:
        """Returns whether each prediction, or each of others, is right."""
        pairs = zip(self.references, predictions or self.predictions, strict=True)
        return [is_right(self._name, *pair) for pair in pairs]


class _Details:
    """What is confused in one annotation."""

    def __init__(self, annotation: Annotation):
        self._annotation = annotation
        self.counts = collections.Counter()  # by reference and prediction

    def tables(self) -> Iterable[Table]:
        """Yields the scores of tags, unless there are as many as lemmas, and the confusions."""
        name = self._annotation.name
        if not self._annotation.edit_scripts:
            table = tables.scores_by_tag(*self._matrix(), title=f"Tags of {name}")
            yield tables.most_frequent(table, _MAX_ROWS)
        yield tables.confused_tags(
            self.counts, _MAX_ROWS, title=f"Most frequent confusions of {name}"
        )

    def confusion(self) -> Confusion | None:
        """Returns the confusion matrix of the most frequent tags; None for lemmas."""
        if self._annotation.edit_scripts:
            return None
        title = f"Reference and predicted tags of {self._annotation.name}"
        return Confusion(title, *self._matrix()).most_frequent()

    def warnings(self, advice: str) -> list[str]:
        """Returns warnings about tags that are never predicted; none for lemmas."""
        if self._annotation.edit_scripts:
            return []
        lines = class_warnings(*self._matrix(), advice)
        return [f"{self._annotation.name}: {line}" for line in lines]

    def _matrix(self) -> tuple[list[str], np.ndarray]:
        return tables.confusion_matrix(self._annotation.tags.words, self.counts)


def evaluate(
    evaluator: "Evaluator", responses: Iterable[tuple[Example, Mapping]], advice: str
) -> Evaluation:
    """Returns the scores of each annotation, and of all together.

    Args:
        evaluator: Evaluator of a task with several annotations.
        responses: Examples with their responses.
        advice: What helps rare tags.
    """
    annotations, words = evaluator.task.annotations, evaluator.task.training_words
    details = {each.name: _Details(each) for each in annotations}
    # The names that a score is about: one annotation, the tags of words, and all annotations.
    groups = {score_name(each.name): [each.name] for each in annotations}
    tags = [name for name in ("upos", "xpos", "feats") if name in details]
    if {"upos", "feats"} <= set(tags):
        groups["alltags_accuracy"] = tags
    groups["accuracy"] = list(details)
    scorers = {name: WordScores(name, words) for name in groups}
    confidences = {
        name: WordConfidence(evaluator.fitted.get(f"{name}_temperature"), f"{name}_")
        for name in details
    }
    sentences = collections.Counter()  # by whether all of their words are right
    baseline_sentences = 0
    mistakes = {}
    for example, response in responses:
        tokens = example.values["tokens"]
        right, of_baseline = {}, {}
        for annotation in annotations:
            own = _Predictions.of(annotation, example, response)
            right[annotation.name] = own.right()
            of_baseline[annotation.name] = own.right(repeated(annotation.majority, tokens))
            pairs = list(zip(own.references, own.predictions, strict=True))
            details[annotation.name].counts.update(pairs)
            confidences[annotation.name].add(response, right[annotation.name])
            for position, pair in enumerate(pairs):
                if not right[annotation.name][position]:
                    key = (tokens[position], annotation.name, *pair)
                    first = (tables.mark_word(tokens, position), example.origin)
                    mistakes.setdefault(key, [0, *first])[0] += 1
        for name, members in groups.items():
            rows = (
                [all(word) for word in zip(*(values[m] for m in members), strict=True)]
                for values in (right, of_baseline)
            )
            scorers[name].add(tokens, *rows)
        sentences[all(map(all, right.values()))] += 1
        baseline_sentences += all(map(all, of_baseline.values()))
    count = sentences[True] + sentences[False]
    scores, baseline, intervals = ({} for _ in range(3))
    for scorer in scorers.values():
        scores |= scorer.scores()
        baseline |= scorer.baselines()
        intervals |= scorer.intervals()
    if count:
        scores["sentence_accuracy"] = sentences[True] / count
        baseline["sentence_accuracy"] = baseline_sentences / count
        intervals["sentence_accuracy"] = metrics.wilson_interval(sentences[True], count)
    return Evaluation(
        count=count,
        scores=scores,
        intervals=intervals,
        baselines={"majority": baseline} if count else {},
        warnings=[line for each in details.values() for line in each.warnings(advice)],
        tables=[
            *(table for each in details.values() for table in each.tables()),
            word_confidence.table(confidences),
        ],
        confusions=[c for c in (each.confusion() for each in details.values()) if c],
        mistakes=tables.frequent_mistakes(
            mistakes, _MAX_ROWS, ["word", "annotation", "reference", "prediction"]
        ),
    )
