"""N→M: a text to another text, written in subwords by beam search inside the graph.

Signatures, B texts, N = the setting `n_best`:

    serving_default(text: string[B]) -> translation: string[B], log_probability: float32[B]
    n_best(text: string[B]) -> translations: string[B, N], log_probabilities: float32[B, N]
    align(text: string[B]) -> translation: string[B], source_tokens: string[B, S],
        target_tokens: string[B, T], attention: float32[B, T, S], source_lengths: int32[B],
        target_lengths: int32[B]

A log-probability is normalised by length (`models.beam_search`). If a text has fewer than N
translations, the others are "" with `models.beam_search.IMPOSSIBLE`. The tokens of `align` are
subwords of the best translation, "" beyond their lengths.
"""

from tasks.core.declaration import Declaration
from tasks.core.lazy import lazy_attributes
from tasks.shapes.sequence_to_sequence.requests import RequestFormat
from tasks.shapes.sequence_to_sequence.settings import Config

__all__ = ["Config", "Evaluator", "Inspector", "RequestFormat", "SequenceToSequence"]
__getattr__ = lazy_attributes(__name__, {"Evaluator": "evaluation", "Inspector": "inspection"})


class SequenceToSequence(Declaration):
    """Task of this shape; a subclass adds its `Corpus`."""

    Config = Config
    RequestFormat = RequestFormat
    implementation = (f"{__name__}.task", "SequenceToSequence")
