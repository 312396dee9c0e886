"""Sentiment, N→1: the label of a text, such as positive or negative."""

from tasks.core.settings import with_defaults
from tasks.corpora.labelled_text import LabelledTexts
from tasks.shapes import classification


class Task(classification.Classification):
    """Texts with labels such as positive and negative; any labels will do."""

    Config = with_defaults(classification.Config, units=32, embedding=50, dropout=0.5)
    Corpus = LabelledTexts
