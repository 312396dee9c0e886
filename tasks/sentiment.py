"""Sentiment, N→1: what does a text say of its subject?"""

import dataclasses

from tasks.core.settings import setting
from tasks.corpora.labelled_text import LabelledTexts
from tasks.shapes import classification


@dataclasses.dataclass(frozen=True)
class Config(classification.Config):
    """Settings that do well on some thousand sentences."""

    units: int = setting(32, "units of each direction of each layer", at_least=1)
    embedding: int = setting(50, "features of an embedded word", at_least=1)
    dropout: float = setting(0.5, "share of features dropped in training", at_least=0, below=1)
    epochs: int = setting(20, "most epochs", at_least=1)
    patience: int = setting(5, "epochs without a better one on valid before it stops", at_least=1)


class Task(classification.Classification):
    """Texts with labels such as positive and negative; any labels will do."""

    Config = Config
    Corpus = LabelledTexts
