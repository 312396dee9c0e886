"""Settings of classification."""

import dataclasses

from tasks.core import config
from tasks.core.class_weights import class_weights_setting
from tasks.core.settings import setting


@dataclasses.dataclass(frozen=True)
class Config(config.Config):
    """Settings of N→1."""

    vocabulary: int = setting(
        20_000, "maximum number of words in the vocabulary", at_least=1, aliases=("vocab_size",)
    )
    evidence: int = setting(
        2**18,
        "buckets of word pairs counted by class (naive Bayes features); 0: none",
        at_least=0,
        affects="training",
    )
    word_dropout: float = setting(
        0.2,
        "share of words that training replaces by the unknown word",
        at_least=0,
        below=1,
        affects="training",
    )
    class_weights: str = class_weights_setting("classes")
    monitor: str = setting(
        "loss",
        "score on the validation part that selects the best epoch: loss, accuracy or macro_f1; of "
        "equal epochs, the one with the lowest loss",
        choices=("loss", "accuracy", "macro_f1"),
        affects="training",
    )
    calibrate: bool = setting(
        True,
        "whether a temperature, fitted on the validation part, calibrates the probabilities",
        affects="serving",
    )
