"""N→N: the probability of each token of a text, given those before it.

Signatures, B texts:

    serving_default(text: string[B]) -> tokens: string[B, T], log_probabilities: float32[B, T],
        lengths: int32[B], log_probability: float32[B], perplexity: float32[B]
    next(text: string[B]) -> tokens: string[B, 10], log_probabilities: float32[B, 10]
    generate(text: string[B], seed: int32[B], temperature: float32[B], length: int32[B]) ->
        continuation: string[B], tokens: string[B, T], log_probabilities: float32[B, T],
        lengths: int32[B]

The last token of a whole text is its end, "</s>". Outputs of T tokens are "" and 0 beyond the
`lengths` of their rows; `log_probability` is the sum of a row, and its perplexity the exponential
of minus the mean. A text without tokens has none of them, the log-probability 0 and the
perplexity 1. `next` returns the most probable tokens after a text. `generate` continues it by at
most `length` tokens, which are drawn with the logits divided by `temperature` from the random
numbers that `seed` gives: equal requests have equal responses, whatever else is in the batch. With
the temperature 0 it takes the most probable token at each step. See `streaming` for `start`, `feed`
and `finish`.
"""

from tasks.core.declaration import Declaration
from tasks.core.lazy import lazy_attributes
from tasks.shapes.language_modelling.requests import RequestFormat
from tasks.shapes.language_modelling.settings import Config

__all__ = ["Config", "Evaluator", "Inspector", "LanguageModelling", "RequestFormat"]
__getattr__ = lazy_attributes(__name__, {"Evaluator": "evaluation", "Inspector": "inspection"})


class LanguageModelling(Declaration):
    """Task of this shape; a subclass adds its `Corpus`."""

    Config = Config
    RequestFormat = RequestFormat
    implementation = (f"{__name__}.task", "LanguageModelling")
