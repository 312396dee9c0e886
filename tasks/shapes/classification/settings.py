"""Settings of classification."""

import dataclasses
from typing import Any, Self

from tasks.core import config, targets, word_vectors
from tasks.core.class_weights import NONE, class_weights_setting
from tasks.core.config import CorpusSize
from tasks.core.direction import FORWARD, direction_setting
from tasks.core.errors import UserError
from tasks.core.settings import find_cell, flag, setting
from tasks.core.trees import trees_setting

_MONITORS = {
    targets.CLASSES: ("loss", "accuracy", "macro_f1"),
    targets.LABELS: ("loss", "micro_f1", "macro_f1"),
    targets.NUMBER: ("loss", "mean_absolute_error"),
}
# Settings that other targets do not have, with the value that leaves them out.
_OF_CLASSES = (("class_weights", NONE), ("coverage", 0), ("min_precision", 0))
# Length of training by the least number of words. A large corpus is learnt in few passes, of which
# a falling learning rate makes more than early stopping does.
_LENGTHS = {
    0: {"epochs": 20, "patience": 5, "schedule": "constant"},
    1_000_000: {"epochs": 4, "patience": 4, "schedule": "cosine"},
}
_OF_SEQUENCES = ("evidence", "linear_path")  # they count pairs of adjacent words


@dataclasses.dataclass(frozen=True)
class Config(word_vectors.Config):
    """Settings of N→1."""

    target: str = targets.target_setting()
    trees: bool = trees_setting()
    tree_arity: int = setting(
        2,
        "with --trees: maximum number of children of a node, each position with recurrent "
        "matrices of its own (N-ary); 0: any number of children, which share them (child-sum)",
        at_least=0,
        at_most=64,
    )
    vocabulary: int = setting(
        20_000, "maximum number of words in the vocabulary", at_least=1, aliases=("vocab_size",)
    )
    fold_case: bool = setting(True, "whether words are looked up in lower case", absent=False)
    evidence: int = setting(
        2**18,
        "buckets of word pairs counted by class (naive Bayes features); 0: none",
        at_least=0,
        affects="training",
    )
    linear_path: int = setting(
        2**18,
        "buckets of word pairs of a linear classifier whose logits are mixed with those of the "
        "network, by a weight fitted on the validation part; 0: none. Fewer with many classes",
        at_least=0,
        affects="training",
        absent=0,
    )
    direction: str = direction_setting()
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
        "score on the validation part that selects the best epoch: loss, accuracy or macro_f1 of "
        "classes; loss, micro_f1 or macro_f1 of labels; mean_absolute_error of numbers; of equal "
        "epochs, the one with the lowest loss",
        choices=("loss", "accuracy", "macro_f1", "micro_f1", "mean_absolute_error"),
        affects="training",
        aliases=("metric",),
    )
    label_smoothing: float = setting(
        0.1,
        "share of the target that is spread over all classes",
        at_least=0,
        below=1,
        affects="training",
        absent=0.0,
    )
    batch_tokens: int | None = setting(
        None,
        "tokens per batch, including padding; auto: about 128 batches per epoch",
        at_least=1,
        affects="training",
        old_name="tokens",
        auto=int,
    )
    epochs: int | None = config.automatic_setting("epochs", _LENGTHS, "words")
    patience: int | None = config.automatic_setting("patience", _LENGTHS, "words")
    schedule: str | None = config.automatic_setting(
        "schedule", _LENGTHS, "words", absent="constant"
    )
    calibrate: bool = setting(
        True,
        "whether a temperature, fitted on the validation part, calibrates the probabilities",
        affects="serving",
        absent=False,
    )
    coverage: float = setting(
        0.0,
        "share of the predictions on the validation part that are to be confident: adds the "
        "output `confident`, whether the probability reaches the threshold fitted for this "
        "share; 0: no such output",
        at_least=0,
        at_most=1,
        affects="serving",
    )
    min_precision: float = setting(
        0.0,
        "minimum accuracy of the confident predictions on the validation part: adds the output "
        "`confident`, with the lowest threshold that reaches it; 0: no such output",
        at_least=0,
        at_most=1,
        affects="serving",
    )

    def __post_init__(self):
        super().__post_init__()
        if self.coverage and self.min_precision:
            raise UserError(
                f"--coverage ({self.coverage}) and --min-precision ({self.min_precision}) exclude "
                "each other; set one of them to 0."
            )
        self._check_target()
        if self.trees:
            self._check_trees()

    def _check_trees(self) -> None:
        """Checks that the settings have a meaning for trees."""
        if self.target not in (targets.AUTO, targets.CLASSES):
            raise UserError(
                f"--trees: each node has one label, which is a class; got --target {self.target}."
            )
        if self.direction == FORWARD:
            raise UserError(
                f"--trees: a tree is read from its leaves to its root, not in a direction; got "
                f"--direction {self.direction}."
            )
        if self.unlabelled:
            raise UserError("--trees: --unlabelled has no meaning, because texts are not trees.")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in _OF_SEQUENCES and value not in (0, field.default):
                raise UserError(
                    f"--trees: {flag(field.name)} counts pairs of adjacent words, which trees do "
                    f"not have; it must be 0, got {value}."
                )
        if find_cell(self.cell).random:
            raise UserError(
                "--trees: --cell must be without zoneout and recurrent dropout, got "
                f"{self.cell}; --dropout drops features between layers."
            )

    def _check_target(self) -> None:
        """Checks that the settings have a meaning for the target."""
        if self.target not in (targets.AUTO, targets.CLASSES):
            flags = [flag(name) for name, value in _OF_CLASSES if getattr(self, name) != value]
            if flags:
                raise UserError(
                    f"{' and '.join(flags)}: only for --target classes, got --target {self.target}."
                )
        choices = _MONITORS.get(self.target, sum(_MONITORS.values(), ()))
        if self.monitor not in choices:
            raise UserError(
                f"--monitor must be one of {list(choices)} for --target {self.target}, got "
                f"{self.monitor!r}."
            )

    def with_target(self, target: str) -> tuple[Self, list[str]]:
        """Returns the settings for a target, with those that have no meaning for it replaced.

        Args:
            target: One of `tasks.core.targets.TARGETS`.

        Returns:
            The settings, and a note on what was replaced.

        Raises:
            UserError: A setting was chosen that the target does not have.
        """
        replaced = {}
        if target == targets.NUMBER:
            if self.evidence:
                replaced["evidence"] = 0  # it counts words by class
            if self.monitor == "loss":
                replaced["monitor"] = "mean_absolute_error"
        if self.trees:
            replaced = dict.fromkeys((n for n in _OF_SEQUENCES if getattr(self, n)), 0)
        config = dataclasses.replace(self, target=target, **replaced)
        if not replaced:
            return config, []
        values = ", ".join(f"{flag(name)} {value}" for name, value in replaced.items())
        reason = "--trees" if self.trees else f"--target {target}"
        return config, [f"chosen for {reason}: {values}"]

    @property
    def has_threshold(self) -> bool:
        """Whether predictions above a threshold of the probability are marked as confident."""
        return bool(self.coverage or self.min_precision)

    def automatic(self, size: CorpusSize) -> dict[str, Any]:
        tokens = config.automatic_batch_tokens(size, 256, 16_384)
        return {"batch_tokens": tokens, **config.by_size(size.tokens, _LENGTHS)}
