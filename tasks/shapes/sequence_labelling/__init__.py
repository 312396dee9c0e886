"""N→N: a tag for each token of a sentence.

Signatures, B sentences of up to T tokens:

    serving_default(text: string[B]) -> tokens: string[B, T], tags: string[B, T],
        probability: float32[B, T], lengths: int32[B]
    tokens(tokens: string[B, T], lengths: int32[B]) -> the same
    entities(text: string[B])      only if tags mark entities; see `entity_signature`

The first tokenises text (`models.text.ud_tokenizer`). The second takes tokens, one length per
sentence, and ignores what is beyond it. Outputs are padded with "" and 0 beyond `lengths`. The
probability is that of the tag: its softmax, or its marginal under a CRF.
"""

from tasks.core.declaration import Declaration
from tasks.core.lazy import lazy_attributes
from tasks.shapes.sequence_labelling.requests import RequestFormat
from tasks.shapes.sequence_labelling.settings import Config

__all__ = ["Config", "Evaluator", "Inspector", "RequestFormat", "SequenceLabelling"]
__getattr__ = lazy_attributes(__name__, {"Evaluator": "evaluation", "Inspector": "inspection"})


class SequenceLabelling(Declaration):
    """Task of this shape; a subclass adds its `Corpus`."""

    Config = Config
    RequestFormat = RequestFormat
    implementation = (f"{__name__}.task", "SequenceLabelling")
