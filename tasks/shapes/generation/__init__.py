"""Generation of sentences, shared by 1→N and N→M.

A decoder writes subwords with beam search inside the served graph. A shape on top of this
encodes its source (`Generation.encode_source`); learning, search, sampling during training and
evaluation are here.
"""

from tasks.shapes.generation.evaluation import Evaluator
from tasks.shapes.generation.inspection import Inspector
from tasks.shapes.generation.requests import RequestFormat
from tasks.shapes.generation.search import SearchDecoder
from tasks.shapes.generation.settings import Config
from tasks.shapes.generation.task import Generation, teacher_forcing

__all__ = [
    "Config",
    "Evaluator",
    "Generation",
    "Inspector",
    "RequestFormat",
    "SearchDecoder",
    "teacher_forcing",
]
