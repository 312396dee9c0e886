"""Translation, N→M: what does a sentence say in another language?"""

import dataclasses

from tasks.core.settings import setting
from tasks.corpora.parallel_text import ParallelSentences
from tasks.shapes import sequence_to_sequence


@dataclasses.dataclass(frozen=True)
class Config(sequence_to_sequence.Config):
    """Settings that do well on tens of thousands of pairs of sentences."""

    cell: str = setting("gru", "a name that app.cells lists, a spec as JSON, or a .json file")
    units: int = setting(256, "units of each direction of each layer", at_least=1)
    embedding: int = setting(256, "features of an embedded subword", at_least=1)
    dropout: float = setting(0.3, "share of features dropped in training", at_least=0, below=1)
    tokens: int = setting(1024, "token budget of a batch, padding included", at_least=1)
    epochs: int = setting(15, "most epochs", at_least=1)
    averaging: float = setting(
        0.998,
        "momentum of the moving average of the weights that is judged and kept; 0: none",
        at_least=0,
        below=1,
    )


class Task(sequence_to_sequence.Transduction):
    """Sentences and their translations."""

    Config = Config
    Corpus = ParallelSentences
