"""Scores of sequence-to-sequence tasks."""

from tasks.core.evaluation import Alignment
from tasks.core.examples import Example
from tasks.shapes.generation import evaluation
from tasks.shapes.sequence_to_sequence.requests import alignment


class Evaluator(evaluation.Evaluator):
    """BLEU and chrF; figures show the alignment."""

    def attention(self, example: Example, response: dict) -> Alignment:
        return alignment(response)
