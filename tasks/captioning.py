"""Captioning, 1→N: what does an image show?"""

import dataclasses

from tasks.core.settings import setting
from tasks.corpora.captioned_images import CaptionedImages
from tasks.corpora.samples import scenes
from tasks.shapes import image_to_text


@dataclasses.dataclass(frozen=True)
class Config(image_to_text.Config):
    """Settings that do well on thousands of small images."""

    cell: str = setting("gru", "a name that app.cells lists, a spec as JSON, or a .json file")
    units: int = setting(128, "units of each layer, and features of a place", at_least=1)
    tokens: int = setting(512, "token budget of a batch, padding included", at_least=1)
    rate: float = setting(2e-3, "learning rate of Adam", above=0)
    epochs: int = setting(15, "most epochs", at_least=1)
    dropout: float = setting(0.1, "share of features dropped in training", at_least=0, below=1)
    averaging: float = setting(
        0.998,
        "momentum of the moving average of the weights that is judged and kept; 0: none",
        at_least=0,
        below=1,
    )


class Task(image_to_text.Description):
    """Images and their captions."""

    Config = Config
    Corpus = CaptionedImages

    def right(self, example, text):
        right = super().right(example, text)
        if scene := example.values.get("scene"):  # the sample knows what it has drawn
            return {"true": scenes.is_true(text, scene), **right}
        return right
