"""Tagging, N→N: a tag for each word of a sentence, such as its part of speech."""

from tasks.core.settings import with_defaults
from tasks.corpora.tagged_sentences import TaggedSentences
from tasks.shapes import sequence_labelling


class Task(sequence_labelling.SequenceLabelling):
    """Words with tags such as parts of speech; any tags will do."""

    Config = with_defaults(
        sequence_labelling.Config,
        units=200,
        layers=2,
        embedding=100,
        dropout=0.5,
        ema_momentum=0.99,
        learning_rate=2e-3,
    )
    Corpus = TaggedSentences
