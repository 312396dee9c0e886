"""Tagging, N→N: which part of speech, or what else, is each word of a sentence?"""

import dataclasses

from tasks.core.settings import setting
from tasks.corpora.tagged_sentences import TaggedSentences
from tasks.shapes import sequence_labelling


@dataclasses.dataclass(frozen=True)
class Config(sequence_labelling.Config):
    """Settings that do well on treebanks of thousands of sentences."""

    units: int = setting(200, "units of each direction of each layer", at_least=1)
    layers: int = setting(2, "recurrent layers", at_least=1)
    embedding: int = setting(100, "features of an embedded word", at_least=1)
    dropout: float = setting(0.5, "share of features dropped in training", at_least=0, below=1)
    tokens: int = setting(640, "token budget of a batch, padding included", at_least=1)
    epochs: int = setting(12, "most epochs", at_least=1)
    averaging: float = setting(
        0.99,
        "momentum of the moving average of the weights that is judged and kept; 0: none",
        at_least=0,
        below=1,
    )
    rate: float = setting(2e-3, "learning rate of Adam", above=0)


class Task(sequence_labelling.SequenceLabelling):
    """Words with tags such as parts of speech; any tags will do."""

    Config = Config
    Corpus = TaggedSentences
