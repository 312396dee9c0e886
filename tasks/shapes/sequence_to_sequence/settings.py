"""Settings of sequence-to-sequence tasks."""

import dataclasses

from tasks.core.settings import setting
from tasks.shapes import generation

# Those of `models.layers.decoder`, without importing Keras.
ATTENTIONS = ("multiplicative", "additive", "none")


@dataclasses.dataclass(frozen=True)
class Config(generation.Config):
    """Settings of N→M."""

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
