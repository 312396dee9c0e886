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


class _Counts:
    """What is counted in the responses of a task with several annotations.

    Args:
        evaluator: Evaluator of the task.
    """

    def __init__(self, evaluator: "Evaluator"):
        self._annotations = evaluator.task.annotations
        self.details = {each.name: _Details(each) for each in self._annotations}
        # The names that a score is about: one annotation, the tags of words, and all annotations.
        self._groups = {score_name(each.name): [each.name] for each in self._annotations}
        tags = [name for name in ("upos", "xpos", "feats") if name in self.details]
        if {"upos", "feats"} <= set(tags):
            self._groups["alltags_accuracy"] = tags
        self._groups["accuracy"] = list(self.details)
        words = evaluator.task.training_words
        self._scorers = {name: WordScores(name, words) for name in self._groups}
        self.confidences = {
            name: WordConfidence(evaluator.fitted.get(f"{name}_temperature"), f"{name}_")
            for name in self.details
        }
        self._sentences = collections.Counter()  # by whether all of their words are right
        self._baseline_sentences = 0
        self.mistakes = {}

    def add(self, example: Example, response: Mapping) -> None:
        """Counts the words of a sentence."""
        tokens = example.values["tokens"]
        right, of_baseline = {}, {}
        for annotation in self._annotations:
            name, own = annotation.name, _Predictions.of(annotation, example, response)
            right[name] = own.right()
            of_baseline[name] = own.right(repeated(annotation.majority, tokens))
            pairs = list(zip(own.references, own.predictions, strict=True))
            self.details[name].counts.update(pairs)
            self.confidences[name].add(response, right[name])
            for position, pair in enumerate(pairs):
                if not right[name][position]:
                    key = (tokens[position], name, *pair)
                    first = (tables.mark_word(tokens, position), example.origin)
                    self.mistakes.setdefault(key, [0, *first])[0] += 1
        for name, members in self._groups.items():
            rows = (
                [all(word) for word in zip(*(values[m] for m in members), strict=True)]
                for values in (right, of_baseline)
            )
            self._scorers[name].add(tokens, *rows)
        self._sentences[all(map(all, right.values()))] += 1
        self._baseline_sentences += all(map(all, of_baseline.values()))

    @property
    def count(self) -> int:
        """Number of sentences."""
        return self._sentences.total()

    def scores(self) -> tuple[dict, dict, dict]:
        """Returns the scores by name, those of the baseline, and intervals of the scores."""
        scores, baseline, intervals = ({} for _ in range(3))
        for scorer in self._scorers.values():
            scores |= scorer.scores()
            baseline |= scorer.baselines()
            intervals |= scorer.intervals()
        if self.count:
            name, right = "sentence_accuracy", self._sentences[True]
            scores[name] = right / self.count
            baseline[name] = self._baseline_sentences / self.count
            intervals[name] = metrics.wilson_interval(right, self.count)
        return scores, baseline, intervals


def evaluate(
    evaluator: "Evaluator", responses: Iterable[tuple[Example, Mapping]], advice: str
) -> Evaluation:
    """Returns the scores of each annotation, and of all together.

    Args:
        evaluator: Evaluator of a task with several annotations.
        responses: Examples with their responses.
        advice: What helps rare tags.
    """
    counts = _Counts(evaluator)
    for example, response in responses:
        counts.add(example, response)
    scores, baseline, intervals = counts.scores()
    details = counts.details.values()
    return Evaluation(
        count=counts.count,
        scores=scores,
        intervals=intervals,
        baselines={"majority": baseline} if counts.count else {},
        warnings=[line for each in details for line in each.warnings(advice)],
        tables=[
            *(table for each in details for table in each.tables()),
            word_confidence.table(counts.confidences),
        ],
        confusions=[c for c in (each.confusion() for each in details) if c],
        mistakes=tables.frequent_mistakes(
            counts.mistakes, _MAX_ROWS, ["word", "annotation", "reference", "prediction"]
        ),
    )
