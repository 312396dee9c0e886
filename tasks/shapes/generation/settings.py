"""Settings of tasks that generate sentences."""

import dataclasses

from tasks.core import config
from tasks.core.errors import UserError
from tasks.core.settings import setting


@dataclasses.dataclass(frozen=True)
class Config(config.Config):
    """Settings of tasks that generate sentences."""

    vocabulary: int = setting(
        4000, "maximum number of subwords", at_least=300, aliases=("vocab_size",)
    )
    input_feeding: bool = setting(
        False,
        "whether each step of the decoder reads the attentional state of the previous one; slower",
        affects="training",
    )
    monitor: str = setting(
        "loss",
        "score on the validation part that selects the best epoch: loss, or bleu or chrf of greedy "
        "outputs; of equal epochs, the one with the lowest loss",
        choices=("loss", "bleu", "chrf"),
        affects="training",
        aliases=("metric",),
        old_name="choose_by",
    )
    label_smoothing: float = setting(
        0.1,
        "share of the target that is spread over all subwords",
        at_least=0,
        below=1,
        affects="training",
        old_name="smoothing",
    )
    # Beam search of the served graph; training does not depend on it.
    beam_size: int = setting(
        4,
        "hypotheses that beam search keeps in the served graph; 1: greedy search",
        at_least=1,
        below=1025,  # the scores of all hypotheses must fit into the memory of a server
        affects="serving",
        old_name="beams",
    )
    n_best: int = setting(
        4, "sentences returned by the signature n_best", at_least=1, affects="serving"
    )
    length_penalty: float = setting(
        1.0,
        "exponent of the length penalty (Wu et al. 2016, eq. 14)",
        at_least=0,
        affects="serving",
        old_name="normalization",
    )
    coverage: float = setting(
        0.0,
        "weight of the coverage penalty (Wu et al. 2016, eq. 14)",
        at_least=0,
        affects="serving",
    )
    no_repeat_ngram: int = setting(
        0,
        "length of subword n-grams that may not repeat; 0: all may",
        at_least=0,
        affects="serving",
        old_name="no_repeat",
    )

    def __post_init__(self):
        super().__post_init__()
        if self.n_best > self.beam_size:
            raise UserError(
                f"--n-best must be at most --beam-size ({self.beam_size}), got {self.n_best}."
            )
