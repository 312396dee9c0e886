"""Settings of sequence-to-sequence tasks."""

import dataclasses
from typing import Any

from tasks.core import config
from tasks.core.config import CorpusSize
from tasks.core.settings import setting
from tasks.shapes import generation

# Those of `models.layers.decoder`, without importing Keras.
ATTENTIONS = ("multiplicative", "additive", "none")
_UNIT = "words of both languages"
# By the least number of them; of few words, an epoch would have too few batches.
_AUTOMATIC = {
    0: {"batch_tokens": 256, "epochs": 30, "patience": 5},
    50_000: {"batch_tokens": 1024, "epochs": 15, "patience": 3},
}


@dataclasses.dataclass(frozen=True)
class Config(generation.Config):
    """Settings of N→M."""

    batch_tokens: int | None = config.automatic_setting("batch_tokens", _AUTOMATIC, _UNIT)
    epochs: int | None = config.automatic_setting("epochs", _AUTOMATIC, _UNIT)
    patience: int | None = config.automatic_setting("patience", _AUTOMATIC, _UNIT)
    max_length: int = setting(
        256, "subwords read per text; longer texts are truncated", at_least=1, old_name="longest"
    )
    vocabulary: int = setting(
        4000, "subwords, shared by both languages", at_least=300, aliases=("vocab_size",)
    )
    attention: str = setting(
        "multiplicative", "attention of the decoder", choices=ATTENTIONS, affects="training"
    )
    max_side_ratio: float = setting(
        4.0,
        "training skips pairs in which one side has more subwords than this times those of the "
        "other, plus 5",
        at_least=1,
        old_name="unequal",
    )
    bpe_dropout: float = setting(
        0.0,
        "probability that a merge of subwords is dropped in training, so that each epoch segments "
        "words differently (BPE-dropout); 0: none",
        at_least=0,
        at_most=1,
        affects="training",
        absent=0.0,
    )
    stream: bool = setting(
        False,
        "whether versions also have the signatures start, feed and finish, for texts that arrive "
        "in pieces, which are translated at their end",
        affects="serving",
    )
    max_length_ratio: float = setting(
        2.0,
        "maximum subwords of a translation: this times those of its source, plus 10",
        above=0,
        below=1000,
        affects="serving",
        old_name="longest_output",
    )

    def automatic(self, size: CorpusSize) -> dict[str, Any]:
        return config.by_size(size.tokens, _AUTOMATIC)
