"""Language model of the words that a network reads, trained to give it its initial weights.

It is no task of its own and is never served: it has the words, cell and sizes of the task that it
is for, and a direction for each of that one's.
"""

import dataclasses
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import tensorflow as tf

from models.layers.losses import OutputLoss
from models.networks.language_model import reader_language_model
from models.text.windows import windows
from models.text.words import PADDING, UNKNOWN, Vocabulary
from tasks.core import config, task
from tasks.core.direction import BOTH, direction_setting
from tasks.core.task import Purpose

_WORDS = "words.txt"
_STEPS = 128  # words that gradients flow back through
_MORE_STEPS = 4  # as many in an epoch as a classifier has; with fewer, it learns little


@dataclasses.dataclass(frozen=True)
class Config(config.Config):
    """Settings of the language model."""

    direction: str = direction_setting()


class ReaderLanguageModel(task.Task):
    """The language model; its examples have the key `words`, as `Task.words_of` returns them."""

    Config = Config

    def __init__(self, config: Config, folder: Path):
        super().__init__(config, folder)
        self.words = Vocabulary(folder / _WORDS)

    @classmethod
    def write_assets(cls, reader: task.Task, folder: Path, assets: Path, words: int) -> None:
        """Writes the assets of the language model of a task.

        Args:
            reader: The task.
            folder: Folder of the task's assets.
            assets: Existing folder to write to.
            words: Number of words that the language model is trained on in an epoch.
        """
        shutil.copyfile(folder / reader.vocabularies["words"], assets / _WORDS)
        own, size = reader.config, config.CorpusSize(0, words // _MORE_STEPS)
        settings = cls.Config(
            **{name: getattr(own, name) for name in ("cell", "units", "layers", "embedding")},
            **{name: getattr(own, name) for name in ("direction", "seed", "precision", "buffer")},
            dropout=0.2,
            learning_rate=3e-3,
            epochs=own.pretraining_epochs,
            patience=2,
            batch_tokens=config.automatic_batch_tokens(size, 256, 4096),
        )
        record = json.dumps(dataclasses.asdict(settings), indent=2)
        (assets / "config.json").write_text(record, encoding="utf-8")

    @classmethod
    def _learn_assets(cls, config, train, folder):
        raise NotImplementedError("the assets are those of another task: see write_assets.")

    def encode(self, values: dict[str, tf.Tensor]) -> dict[str, tf.Tensor | tf.RaggedTensor]:
        ids = self.words.encode(values["words"])
        steps, _ = windows(ids.row_lengths(), _STEPS)
        steps = tf.ragged.boolean_mask(steps, steps.row_lengths() > 1)
        return {
            "ids": tf.gather(ids.flat_values, steps),
            "length": tf.cast(steps.row_lengths(), tf.int32),
        }

    def skip_reason(self) -> str:
        return "texts of a single word"

    def to_inputs(self, encoded: dict[str, tf.Tensor], *, training: bool) -> tuple:
        ids = encoded["ids"]
        targets = [tf.pad(ids[:, 1:], [[0, 0], [0, 1]])]
        if self.config.direction == BOTH:
            targets.append(tf.pad(ids[:, :-1], [[0, 0], [1, 0]]))
        # Not after the last word, where the previous word is the last one.
        weights = [(ids != PADDING) & (t != PADDING) & (t != UNKNOWN) for t in targets]
        targets = tf.concat(targets, axis=1)
        inputs = {"ids": ids, "targets": targets}
        return inputs, targets, tf.cast(tf.concat(weights, axis=1), tf.float32)

    def build(self, purpose: Purpose = "training") -> keras.Model:
        c = self.config
        return reader_language_model(
            vocabulary=len(self.words),
            cell=c.cell,
            units=c.units,
            layers=c.layers,
            embedding=c.embedding,
            direction=c.direction,
            dropout=c.dropout,
            dtype=c.precision if purpose == "training" else "float32",
        )

    def compile(self, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
        model.compile(optimizer, loss=OutputLoss(), jit_compile=False)

    def signatures(self, model: keras.Model) -> dict[str, Callable]:
        return {}

    def limits(self) -> Sequence[str]:
        return ()
