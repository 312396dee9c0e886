"""Translation, N→M: a sentence in another language."""

from tasks.core.settings import with_defaults
from tasks.corpora.parallel_text import ParallelSentences
from tasks.shapes import sequence_to_sequence


class Task(sequence_to_sequence.SequenceToSequence):
    """Sentences and their translations."""

    Config = with_defaults(
        sequence_to_sequence.Config,
        cell="gru",
        units=256,
        embedding=256,
        dropout=0.3,
        ema_momentum=0.998,
    )
    Corpus = ParallelSentences
