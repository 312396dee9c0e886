"""N→1: a text to one of K classes.

Signature, B texts:

    serving_default(text: string[B]) -> label: string[B], probability: float32[B],
        probabilities: float32[B, K]

The columns of `probabilities` are the lines of the asset `labels.txt`.
"""

from tasks.shapes.classification.evaluation import Evaluator
from tasks.shapes.classification.inspection import Inspector
from tasks.shapes.classification.requests import RequestFormat
from tasks.shapes.classification.settings import Config
from tasks.shapes.classification.task import Classification

__all__ = ["Classification", "Config", "Evaluator", "Inspector", "RequestFormat"]
