"""Settings of language modelling."""

import dataclasses
from typing import Any

from tasks.core import config
from tasks.core.config import CorpusSize
from tasks.core.errors import UserError
from tasks.core.settings import setting

WORDS, SUBWORDS, CHARACTERS = TOKENS = ("words", "subwords", "characters")
_MIN_SUBWORDS = 300  # of which 259 are marks and bytes


@dataclasses.dataclass(frozen=True)
class Config(config.Config):
    """Settings of language models."""

    token: str = setting(
        SUBWORDS,
        "what the model predicts: words, where rare ones are unknown; subwords; or characters",
        choices=TOKENS,
    )
    vocabulary: int = setting(
        4000,
        "maximum number of words, subwords or characters",
        at_least=1,
        aliases=("vocab_size",),
    )
    tied: bool = setting(
        True, "whether the output weights are those of the embedding", affects="training"
    )
    steps: int = setting(
        128,
        "tokens that gradients flow back through in training: longer documents are cut into "
        "windows, each of which is read from the initial state",
        at_least=1,
    )
    max_length: int = setting(
        1000,
        "tokens read per text of a request; of longer texts the first are scored, and the last "
        "are continued",
        at_least=1,
    )
    max_generated: int = setting(
        256, "maximum number of tokens of a continuation", at_least=1, affects="serving"
    )
    batch_tokens: int | None = setting(
        None,
        "tokens per batch, including padding; auto: about 128 batches per epoch",
        at_least=1,
        affects="training",
        auto=int,
    )

    def __post_init__(self):
        super().__post_init__()
        if self.token != WORDS and self.vocabulary < _MIN_SUBWORDS:
            raise UserError(
                f"--vocabulary must be at least {_MIN_SUBWORDS} for --token {self.token}, of "
                f"which 259 are marks and bytes, got {self.vocabulary}."
            )

    def automatic(self, size: CorpusSize) -> dict[str, Any]:
        return {"batch_tokens": config.automatic_batch_tokens(size, 512, 8192)}
