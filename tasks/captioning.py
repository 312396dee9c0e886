"""Captioning, 1→N: a sentence that describes an image."""

from tasks.core.settings import with_defaults
from tasks.corpora.captioned_images import CaptionedImages
from tasks.corpora.samples import scenes
from tasks.shapes import image_to_text


class Task(image_to_text.Description):
    """Images and their captions."""

    Config = with_defaults(
        image_to_text.Config,
        cell="gru",
        units=128,
        batch_tokens=512,
        learning_rate=2e-3,
        epochs=15,
        dropout=0.1,
        ema_momentum=0.998,
    )
    Corpus = CaptionedImages

    def right(self, example, text):
        right = super().right(example, text)
        if scene := example.values.get("scene"):  # the embedded sample records its scenes
            return {"true": scenes.is_true(text, scene), **right}
        return right
