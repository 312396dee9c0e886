"""Scores of image-to-text tasks: exact match and BLEU."""

from tasks.core.evaluation import AttentionMaps
from tasks.core.examples import Example
from tasks.shapes.generation import evaluation
from tasks.shapes.image_to_text.requests import attention_maps


class Evaluator(evaluation.Evaluator):
    """Share of captions equal to a reference, and BLEU; figures show attention maps."""

    reported = ("bleu",)

    def correct(self, example: Example, prediction: str) -> dict[str, bool]:
        return {"exact": prediction in example.values["captions"]}

    def source(self, example: Example) -> bytes:
        return example.values["image_bytes"]

    def attention(self, example: Example, response: dict) -> AttentionMaps:
        return attention_maps(example.values["image_bytes"], response)
