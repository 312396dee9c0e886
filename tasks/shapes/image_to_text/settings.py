"""Settings of image-to-text tasks."""

import dataclasses
from typing import Any

from tasks.core import config
from tasks.core.config import CorpusSize
from tasks.core.errors import UserError
from tasks.core.settings import setting
from tasks.shapes import generation

ATTENTIONS = ("grid", "none")  # of `models.networks.captioner`, without importing Keras
# By the least number of images; of few images, an epoch would have too few batches.
_AUTOMATIC = {
    0: {"batch_tokens": 256, "epochs": 40, "patience": 5},
    2_500: {"batch_tokens": 512, "epochs": 15, "patience": 3},
}


@dataclasses.dataclass(frozen=True)
class Config(generation.Config):
    """Settings of 1→N."""

    batch_tokens: int | None = config.automatic_setting("batch_tokens", _AUTOMATIC, "images")
    epochs: int | None = config.automatic_setting("epochs", _AUTOMATIC, "images")
    patience: int | None = config.automatic_setting("patience", _AUTOMATIC, "images")
    max_length: int = setting(60, "maximum subwords of a caption", at_least=1, old_name="longest")
    vocabulary: int = setting(
        2000, "subwords of the captions", at_least=300, aliases=("vocab_size",)
    )
    attention: str = setting(
        "grid", "memory of the decoder", choices=ATTENTIONS, affects="training"
    )
    height: int = setting(64, "height to which images are scaled, in pixels", at_least=8)
    width: int = setting(64, "width to which images are scaled, in pixels", at_least=8)
    filters: int = setting(
        16, "filters of the first of four convolutions", at_least=1, affects="training"
    )
    sweeps: int = setting(
        2,
        "recurrent sweeps over the rows and columns of the grid",
        at_least=0,
        affects="training",
    )
    encoder: str = setting(
        "",
        "frozen network of keras.applications that replaces the convolutions",
    )
    encoder_weights: str = setting(
        "", "weights of --encoder without its top: .weights.h5, or .h5 as published by Keras"
    )

    def __post_init__(self):
        super().__post_init__()
        if bool(self.encoder) != bool(self.encoder_weights):
            raise UserError("--encoder and --encoder-weights go together; give both or neither.")
        if self.encoder:
            from models.networks import pretrained  # imports Keras, which has the names

            if self.encoder not in pretrained.names():
                raise UserError(
                    f"--encoder must be one of {pretrained.names()}, got {self.encoder!r}."
                )

    def automatic(self, size: CorpusSize) -> dict[str, Any]:
        return config.by_size(size.examples, _AUTOMATIC)
