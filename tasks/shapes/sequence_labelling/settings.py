"""Settings of sequence labelling."""

import dataclasses
from typing import Any

from tasks.core import config, word_vectors
from tasks.core.class_weights import NONE, class_weights_setting
from tasks.core.config import CorpusSize
from tasks.core.direction import FORWARD, direction_setting
from tasks.core.errors import UserError
from tasks.core.settings import setting
from tasks.corpora import conllu

MAX_LOOKAHEAD = 16
MAX_LAG = 64
AUTO, NO_SCHEME, SAME_SCHEME = "auto", "none", "same"
# Scores of one of several annotations, such as columns of CoNLL-U.
MONITORED = tuple(f"{name}_accuracy" for name in conllu.TAGS)
# By the least number of words; of few words, an epoch would have too few batches.
_AUTOMATIC = {
    0: {"batch_tokens": 128, "epochs": 30, "patience": 5},
    10_000: {"batch_tokens": 640, "epochs": 12, "patience": 3},
}


@dataclasses.dataclass(frozen=True)
class Config(word_vectors.Config):
    """Settings of N→N."""

    batch_tokens: int | None = config.automatic_setting("batch_tokens", _AUTOMATIC, "words")
    epochs: int | None = config.automatic_setting("epochs", _AUTOMATIC, "words")
    patience: int | None = config.automatic_setting("patience", _AUTOMATIC, "words")
    max_length: int = setting(
        128,
        "tokens read together; longer sentences are read in overlapping windows",
        at_least=2,
        old_name="longest",
    )
    max_tokens: int = setting(
        2048,
        "tokens tagged per sentence of a request; the rest has no tags",
        at_least=1,
        at_most=2**16,
        affects="serving",
    )
    vocabulary: int = setting(
        100_000, "maximum number of words in the vocabulary", at_least=1, aliases=("vocab_size",)
    )
    fold_case: bool = setting(
        True, "whether words are looked up in lower case; characters keep their case"
    )
    word_dropout: float = setting(
        1.0,
        "strength s of word dropout: a word with n occurrences in the training part is replaced "
        "by the unknown word with probability s / (s + n)",
        at_least=0,
        affects="training",
    )
    label_smoothing: float = setting(
        0.0,
        "share of the target that is spread over all tags; not with --crf",
        at_least=0,
        below=1,
        affects="training",
    )
    characters: int = setting(
        64, "units per direction of the character reader; 0: words only", at_least=0
    )
    character_embedding: int = setting(
        32, "features of an embedded character", at_least=1, affects="training"
    )
    affixes: int = setting(
        4,
        "length of the longest embedded prefix and suffix, in characters",
        at_least=0,
        affects="training",
    )
    max_word_length: int = setting(
        24,
        "characters read per word; of longer words, the head and the tail",
        at_least=1,
        old_name="longest_word",
    )
    direction: str = direction_setting()
    lookahead: int = setting(
        0,
        "with --direction forward: number of following words that the tag of a word depends on; "
        "it is known when they have arrived",
        at_least=0,
        at_most=MAX_LOOKAHEAD,
        affects="training",
    )
    lag: int = setting(
        4,
        "with --direction forward, and --crf or tags of entities: number of following words that "
        "are decoded together with a word; its tag is final when these words and their "
        "--lookahead have arrived",
        at_least=1,
        at_most=MAX_LAG,
        affects="serving",
    )
    crf: bool = setting(False, "whether a CRF scores whole sequences of tags", affects="training")
    scheme: str = setting(
        AUTO,
        "scheme of tags that mark entities: IO, IOB1, BIO, BIOES or BILOU; auto detects it; "
        "none: tags do not mark entities",
        choices=(AUTO, NO_SCHEME, "IO", "IOB1", "BIO", "BIOES", "BILOU"),
    )
    train_scheme: str = setting(
        "BIOES",
        "scheme of the tags of entities that the network is trained on: BIOES, or same as the "
        "data; responses have the scheme of the data",
        choices=("BIOES", SAME_SCHEME),
        absent=SAME_SCHEME,
    )
    constrain: bool = setting(
        True,
        "whether decoding, and with --crf also training, allows only well-formed sequences of "
        "tags of entities",
        affects="training",
        absent=False,
    )
    class_weights: str = class_weights_setting("tags")
    monitor: str | None = setting(
        None,
        "score on the validation part that selects the best epoch: accuracy (with several "
        "annotations, of words of which all are right), loss, macro_f1 (without --crf), entity_f1 "
        "(of tags such as B-PER), or that of one of several annotations, such as lemma_accuracy; "
        "auto is entity_f1 for tags of entities, and accuracy for others; of equal epochs, the one "
        "with the lowest loss",
        choices=("accuracy", "loss", "macro_f1", "entity_f1", *MONITORED),
        affects="training",
        aliases=("metric",),
        absent="accuracy",
        auto=str,
    )
    calibrate: bool = setting(
        True,
        "whether a temperature, fitted on the validation part, calibrates the probabilities; "
        "those of a CRF are not calibrated",
        affects="serving",
        absent=False,
    )

    def __post_init__(self):
        super().__post_init__()
        if self.lookahead and self.direction != FORWARD:
            raise UserError(
                f"--lookahead ({self.lookahead}) needs --direction forward: a network that reads "
                "in both directions depends on all words."
            )
        if self.crf and self.monitor == "macro_f1":
            raise UserError(
                "--monitor macro_f1 cannot be combined with --crf; choose accuracy, loss or "
                "entity_f1."
            )
        if self.crf and self.class_weights != NONE:
            raise UserError(
                "--class-weights cannot be combined with --crf, whose loss is that of sentences."
            )
        if self.crf and self.label_smoothing:
            raise UserError(
                "--label-smoothing cannot be combined with --crf, whose loss is that of sentences."
            )
        if self.crf and self.distill:
            raise UserError(
                "--distill cannot be combined with --crf, which has no probabilities of single "
                "tags to train on."
            )

    def automatic(self, size: CorpusSize) -> dict[str, Any]:
        return config.by_size(size.tokens, _AUTOMATIC)
