"""1→N: an image to a sentence, written in subwords by beam search inside the graph.

Signatures, B images, N = the setting `n_best`, H and W the height and width of the grid:

    serving_default(image_bytes: string[B]) -> caption: string[B], log_probability: float32[B],
        valid: bool[B]
    n_best(image_bytes: string[B]) -> captions: string[B, N], log_probabilities: float32[B, N],
        valid: bool[B]
    attend(image_bytes: string[B]) -> caption: string[B], tokens: string[B, T],
        attention: float32[B, T, H, W], lengths: int32[B], valid: bool[B]

An image is the bytes of a JPEG or PNG. Other bytes, a truncated image and one of more than
`models.images.MAX_PIXELS` pixels have an empty caption and are not `valid`. A log-probability is
normalised by length (`models.beam_search`). The tokens of `attend` are subwords, "" beyond
`lengths`.
"""

from tasks.core.declaration import Declaration
from tasks.core.lazy import lazy_attributes
from tasks.shapes.image_to_text.requests import RequestFormat
from tasks.shapes.image_to_text.settings import Config

__all__ = ["Config", "Evaluator", "ImageToText", "Inspector", "RequestFormat"]
__getattr__ = lazy_attributes(__name__, {"Evaluator": "evaluation", "Inspector": "inspection"})


class ImageToText(Declaration):
    """Task of this shape; a subclass adds its `Corpus`."""

    Config = Config
    RequestFormat = RequestFormat
    implementation = (f"{__name__}.task", "ImageToText")
