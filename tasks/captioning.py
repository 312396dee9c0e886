"""Captioning, 1→N: what does an image show?"""

import dataclasses

from tasks.corpora import scenes
from tasks.corpora.captioned import CaptionedImages
from tasks.shapes import description
from tasks.shapes.settings import setting


@dataclasses.dataclass(frozen=True)
class Config(description.Config):
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


class Task(description.Description):
    """Images and their captions."""

    Config = Config
    Corpus = CaptionedImages

    def right(self, example, text):
        right = super().right(example, text)
        if scene := example.values.get("scene"):  # the sample knows what it has drawn
            return {"true": scenes.is_true(text, scene), **right}
        return right
