"""Generation of sentences, shared by 1→N and N→M.

A decoder writes subwords with beam search inside the served graph. A shape on top of this
encodes its source (`Generation.encode_source`); learning, search, sampling during training and
evaluation are here.
"""

from tasks.core.lazy import lazy_attributes
from tasks.shapes.generation.requests import RequestFormat
from tasks.shapes.generation.settings import Config

__all__ = [
    "Config",
    "Evaluator",
    "Generation",
    "Inspector",
    "RequestFormat",
    "SearchDecoder",
    "teacher_forcing",
]
__getattr__ = lazy_attributes(
    __name__,
    {
        "Evaluator": "evaluation",
        "Generation": "task",
        "Inspector": "inspection",
        "SearchDecoder": "search",
        "teacher_forcing": "task",
    },
)
