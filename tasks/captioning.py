"""Captioning, 1→N: a sentence that describes an image."""

from tasks.core.examples import Example
from tasks.core.settings import with_defaults
from tasks.corpora.captioned_images import CaptionedImages
from tasks.corpora.samples import scenes
from tasks.shapes import image_to_text


class Evaluator(image_to_text.Evaluator):
    """Also the share of true captions, for the embedded sample, which records its scenes."""

    def correct(self, example: Example, prediction: str) -> dict[str, bool]:
        correct = super().correct(example, prediction)
        if scene := example.values.get("scene"):
            return {"true": scenes.is_true(prediction, scene), **correct}
        return correct


class Task(image_to_text.ImageToText):
    """Images and their captions."""

    Config = with_defaults(
        image_to_text.Config,
        cell="gru",
        units=128,
        learning_rate=2e-3,
        dropout=0.1,
        ema_momentum=0.998,
    )
    Corpus = CaptionedImages
    Evaluator = Evaluator
