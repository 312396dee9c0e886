"""Settings that every task has, importable without TensorFlow."""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any, Self

from models.cells import specs
from tasks.core.errors import UserError
from tasks.core.settings import CELL_HELP, check, find_cell, setting

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
OPTIMIZERS = ("adam", "adamw", "sgd", "schedule_free")
SCHEDULES = ("constant", "linear", "cosine", "plateau")
_STEPS = 128  # in an epoch, if the token budget of a batch is automatic


@dataclasses.dataclass(frozen=True)
class CorpusSize:
    """Size of a training part, from which automatic settings follow.

    Attributes:
        examples: Number of examples.
        tokens: Number of words, or, for scripts without blanks, a sixth of the characters.
    """

    examples: int
    tokens: int


def automatic_batch_tokens(size: CorpusSize, least: int, most: int) -> int:
    """Returns the token budget of a batch that gives an epoch about 128 steps.

    Small corpora need small batches for enough steps, large ones large batches for speed.

    Args:
        size: Size of the corpus.
        least: Smallest budget.
        most: Largest budget.
    """
    return min(most, max(least, 2 ** round(math.log2(max(1, size.tokens) / _STEPS))))


def by_size(count: int, values: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the values of settings for a corpus.

    Args:
        count: Size of the corpus.
        values: Values by name, by the smallest size that they are for; the first of them is 0.
    """
    return dict(values[max(least for least in values if least <= count)])


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings that define a model and its training; the fields are flags and are recorded."""

    cell: str = setting("lstm", CELL_HELP, affects="training")
    units: int = setting(
        128,
        "units per direction of each recurrent layer",
        at_least=1,
        affects="training",
        aliases=("hidden_size", "hidden"),
    )
    layers: int = setting(
        1, "number of recurrent layers", at_least=1, affects="training", aliases=("num_layers",)
    )
    embedding: int = setting(
        128,
        "features of an embedded word",
        at_least=1,
        affects="training",
        aliases=("embedding_dim", "embed_dim"),
    )
    dropout: float = setting(
        0.3, "share of features dropped in training", at_least=0, below=1, affects="training"
    )
    batch_tokens: int = setting(
        1024,
        "tokens per batch, including padding",
        at_least=1,
        affects="training",
        old_name="tokens",
    )
    max_length: int = setting(
        500, "tokens read per text; longer texts are truncated", at_least=1, old_name="longest"
    )
    epochs: int = setting(
        10, "maximum number of epochs", at_least=1, affects="schedule", aliases=("num_epochs",)
    )
    steps_per_epoch: int = setting(
        0, "batches per epoch; 0: one pass over the training part", at_least=0, affects="training"
    )
    learning_rate: float = setting(
        1e-3,
        "learning rate, the largest of its schedule",
        above=0,
        affects="training",
        old_name="rate",
        aliases=("lr",),
    )
    optimizer: str = setting(
        "adam",
        f"optimizer of Keras: {', '.join(OPTIMIZERS)}",
        choices=OPTIMIZERS,
        affects="training",
    )
    weight_decay: float = setting(
        0.0,
        "decoupled weight decay: each step removes this share, times the learning rate, of each "
        "weight",
        at_least=0,
        affects="training",
    )
    schedule: str = setting(
        "constant",
        "learning rate after warm-up: constant, or falling to 0 at the end of --epochs, as a line "
        "or as half a cosine; plateau: halved after each epoch without improvement",
        choices=SCHEDULES,
        affects="training",
    )
    warmup_steps: int = setting(
        0,
        "steps in which the learning rate grows from 0",
        at_least=0,
        affects="training",
    )
    clip_norm: float = setting(
        1.0, "maximum global norm of the gradients; 0: no limit", at_least=0, affects="training"
    )
    clip_value: float = setting(
        0.0,
        "maximum absolute value of each component of the gradients; 0: no limit",
        at_least=0,
        affects="training",
    )
    monitor: str = setting(
        "loss",
        "score on the validation part that selects the best epoch; of equal epochs, the one with "
        "the lowest loss",
        choices=("loss",),
        affects="training",
        aliases=("metric",),
    )
    patience: int = setting(
        3,
        "epochs without improvement on the validation part before training stops",
        at_least=1,
        affects="schedule",
    )
    ema_momentum: float = setting(
        0.0,
        "momentum of the exponential moving average of the weights, which is validated and "
        "published; 0: no averaging",
        at_least=0,
        below=1,
        affects="training",
        old_name="averaging",
    )
    buffer: int = setting(
        32,
        "megabytes of encoded examples that are shuffled together",
        at_least=1,
        affects="training",
    )
    seed: int = setting(
        0, "seed of weights, dropout and the order of examples", at_least=0, affects="training"
    )
    ensemble: int = setting(
        1,
        "networks, trained with consecutive seeds, that are served together: their predictions are "
        "averaged",
        at_least=1,
        affects="ensemble",
        aliases=("num_models",),
    )
    distill: bool = setting(
        False,
        "whether a single network is trained on the predictions of the ensemble, and served "
        "instead of it",
        affects="ensemble",
    )
    precision: str = setting(
        "float32", "Keras dtype policy of training", choices=PRECISIONS, affects="training"
    )

    def __post_init__(self):
        check(self)
        if self.clip_norm and self.clip_value:
            raise UserError(
                f"--clip-norm ({self.clip_norm}) and --clip-value ({self.clip_value}) exclude each "
                "other; set one of them to 0."
            )
        if self.weight_decay and self.optimizer == "schedule_free":
            raise UserError(
                f"--weight-decay ({self.weight_decay}) has no defined effect with --optimizer "
                "schedule_free of Keras; set it to 0 or choose another optimizer."
            )
        if self.warmup_steps and self.schedule == "plateau":
            raise UserError(
                f"--warmup-steps ({self.warmup_steps}) cannot be combined with --schedule plateau; "
                "choose another schedule."
            )
        if self.distill and self.ensemble == 1:
            raise UserError("--distill needs the predictions of an ensemble: add --ensemble 3.")
        spec = find_cell(self.cell)
        if self.cell not in specs.CELLS:  # the record holds the spec, not the path of a file
            object.__setattr__(self, "cell", json.dumps(spec.to_json()))

    def check_files(self) -> None:
        """Checks the files that settings name, before a corpus is read.

        Raises:
            UserError: A file cannot be used.
        """
        return

    def automatic(self, size: CorpusSize) -> dict[str, Any]:
        """Returns the values that settings have if they are left to the corpus, by name."""
        return {}

    def resolved(self, size: CorpusSize) -> Self:
        """Returns the settings with a value for each that is None.

        Args:
            size: Size of the training part.
        """
        values = self.automatic(size).items()
        return dataclasses.replace(self, **{k: v for k, v in values if getattr(self, k) is None})


def automatic_setting(
    name: str, values: Mapping[int, Mapping[str, Any]], unit: str, absent: Any = None
) -> Any:
    """Returns a setting of `Config` as a dataclass field whose value follows from the corpus.

    Args:
        name: Name of the setting.
        values: Values by name, by the smallest size of a corpus that they are for, as for
            `by_size`.
        unit: What sizes count, such as "words".
        absent: Value in records that were written before the field existed.

    Example:
        >>> values = {0: {"epochs": 30}, 10_000: {"epochs": 12}}
        >>> automatic_setting("epochs", values, "words").metadata["help"]
        'maximum number of epochs; auto: 30, or 12 from 10,000 words'
    """
    [base] = [field for field in dataclasses.fields(Config) if field.name == name]
    *smaller, largest = (
        f"{own[name]} from {least:,} {unit}" if least else str(own[name])
        for least, own in values.items()
    )
    metadata = {
        **base.metadata,
        "help": f"{base.metadata['help']}; auto: {', '.join(smaller)}, or {largest}",
        "absent": absent,
        "auto": type(base.default),
    }
    return dataclasses.field(default=None, metadata=metadata)
