"""N→1: a text to one of K classes, to any of K labels, or to a number; see `targets`.

Signature of classes, B texts:

    serving_default(text: string[B]) -> label: string[B], probability: float32[B],
        probabilities: float32[B, K], labels: string[B, K]

`labels` are the classes of the columns of `probabilities`, the same in every row: the lines of
the asset `labels.txt`. With --coverage or --min-precision there is also `confident: bool[B]`.
With `--target labels` the outputs are `label`, which joins the chosen labels by `|`, `chosen:
bool[B, K]`, `probabilities` and `labels`; with `--target number` there is `value: float32[B]`.
"""

from tasks.core.declaration import Declaration
from tasks.core.lazy import lazy_attributes
from tasks.shapes.classification.requests import RequestFormat
from tasks.shapes.classification.settings import Config

__all__ = ["Classification", "Config", "Evaluator", "Inspector", "RequestFormat"]
__getattr__ = lazy_attributes(__name__, {"Evaluator": "evaluation", "Inspector": "inspection"})


class Classification(Declaration):
    """Task of this shape; a subclass adds its `Corpus`."""

    Config = Config
    RequestFormat = RequestFormat
    implementation = (f"{__name__}.task", "Classification")
