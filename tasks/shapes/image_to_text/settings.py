"""Settings of image-to-text tasks."""

import dataclasses

from tasks.core.errors import UserError
from tasks.core.settings import setting
from tasks.shapes import generation

ATTENTIONS = ("grid", "none")  # of `models.networks.captioner`, without importing Keras


@dataclasses.dataclass(frozen=True)
class Config(generation.Config):
    """Settings of 1→N."""

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
