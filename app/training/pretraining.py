"""A language model whose weights are the initial ones of a network that reads the same words.

It is trained on texts without labels and on the training part (`--unlabelled`), in a run of its
own, or is a published version (`--from`). In both cases it gives the network its embedding and its
recurrent cells (Dai & Le 2015).
"""

import dataclasses
import itertools
import json
import math
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import models
from app.core.console import say, with_progress
from app.serving.base_version import BaseVersion
from app.training import distribution, example_cache, loop, run_state
from app.training.continuation import InitialWeights
from app.training.example_cache import EncodedExamples
from app.training.run_state import Run
from models.cells.recurrent import GatedRNN
from models.networks import ensemble
from models.networks.transfer import initialise_reader
from models.text.words import PADDING, UNKNOWN
from tasks.core import unlabelled
from tasks.core.config import Config
from tasks.core.errors import UserError
from tasks.core.examples import Splits, Stream
from tasks.core.reader_language_model import ReaderLanguageModel
from tasks.core.task import Task
from tasks.core.unlabelled import UnlabelledTexts

_FOLDER = "language_model"  # of the runs of language models, and of their encoded examples


class _Encoder(InitialWeights):
    """Embedding and cells of a language model as the start of a network."""

    def freeze_layers(self, model):
        return

    def _assign(
        self,
        task: Task,
        model: keras.Model,
        rows: np.ndarray,
        sources: Mapping[str, GatedRNN],
    ) -> None:
        """Gives a network of a task the vectors of its words and the cells of its directions."""
        model.get_layer("embedding").embeddings.assign(rows)
        try:
            initialise_reader(model.get_layer(task.word_reader), sources)
        except ValueError as error:
            raise UserError(f"the language model does not fit: {error}") from error


# --- Trained here ------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class TrainedEncoder(_Encoder):
    """A language model that was trained on texts without labels and the training part.

    Attributes:
        model: The network, with the weights of its best epoch.
        texts: The texts without labels.
        perplexity: Perplexity of the words of the validation part.
        epochs: Number of epochs.
        best_epoch: The best of them, from 1.
        run: Name of its run.
    """

    model: keras.Model
    texts: UnlabelledTexts
    perplexity: float
    epochs: int
    best_epoch: int
    run: str

    def sentences(self, task: Task) -> list[str]:
        """Returns what is initialised, for people."""
        sides = " and ".join(self._sources())
        return [
            f"a language model of {self.texts.file} and the train part (perplexity "
            f"{self.perplexity:.1f} on the validation part, best epoch {self.best_epoch} of "
            f"{self.epochs}) gives the initial weights of the embedding of "
            f"{len(task.words.words)} words and of the cells that read {sides}",
            f"{self.texts.new_words} words that the train part does not have are known from "
            f"{self.texts.file}",
        ]

    def record(self) -> dict[str, Any]:
        """Returns the entry of `run.json`."""
        return {
            "language_model": f"{self.texts.file} and the train part",
            "perplexity": self.perplexity,
            "directions": list(self._sources()),
            "texts": dataclasses.asdict(self.texts),
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "run": self.run,
        }

    def initialise(self, task: Task, model: keras.Model, number: int = 0) -> None:
        rows = self.model.get_layer("embedding").embeddings.numpy()
        self._assign(task, model, rows, self._sources())

    def _sources(self) -> dict[str, GatedRNN]:
        names = {layer.name for layer in self.model.layers}
        return {
            side: self.model.get_layer(side) for side in ("forward", "backward") if side in names
        }


def train(
    task: Task,
    config: Config,
    splits: Splits,
    assets: Path,
    checksum: str,
    runs: Path,
    strategy: tf.distribute.Strategy,
    recurrent: loop.RecurrentOptions = loop.BY_RULE,
) -> TrainedEncoder:
    """Trains the language model of a task, from the state of its run.

    Args:
        task: The task whose network it is for.
        config: The settings of the task as they were given, with the path of the texts.
        splits: The examples of the task; the validation part selects the best epoch.
        assets: Folder of the assets of the task.
        checksum: Checksum of the examples.
        runs: Folder of training state.
        strategy: Strategy from `distribution.strategy_of`.
        recurrent: How recurrent layers run.

    Raises:
        UserError: The texts cannot be read, or another process trains the same language model.
    """
    texts = UnlabelledTexts.read(assets)

    def words(*streams: Stream) -> Stream:
        return Stream(
            lambda: itertools.chain.from_iterable(task.words_of(config, s) for s in streams)
        )

    parts = {
        "train": words(splits.train, unlabelled.stream(config.unlabelled)),
        "valid": words(splits.valid),
    }
    say(f"language model of {texts.file} ({texts.texts} texts) and the train part")
    with tempfile.TemporaryDirectory(prefix="draft-", dir=runs) as name:
        draft = Path(name)
        count = texts.words + sum(len(example.values["words"]) for example in words(splits.train))
        ReaderLanguageModel.write_assets(task, assets, draft, count)
        own = ReaderLanguageModel.restore(draft)
        identity = run_state.identity(
            "reader_language_model", own.config, checksum + texts.sha256, draft
        )
        run = Run(runs / _FOLDER / identity)
        run.replace_assets(draft)
    try:
        own = ReaderLanguageModel.restore(run.assets)
        ops = example_cache.ops_fingerprint(own, next(iter(parts["valid"])))
        name = example_cache.identity(own.config, checksum + texts.sha256, run.assets, ops)
        cache = runs / "encoded" / _FOLDER / name
        run.record_cache(cache)
        encoded = {
            part: EncodedExamples.write(
                own, with_progress(stream, f"encoding {part} for the language model"), cache / part
            )
            for part, stream in parts.items()
        }
        for part, examples in encoded.items():
            if not len(examples):
                raise UserError(
                    f"the {part} part has no text of several words for {unlabelled.FLAG}."
                )
        distribution.broadcast_state(run, strategy)
        epoch = run.progress().epoch
        if run.progress().ended(own.config):
            line = f"the language model has been trained in {run.folder}"
            if epoch > own.config.epochs:
                line += f", for {epoch} epochs instead of {own.config.epochs}"
            say(line)
        elif epoch:
            say(f"resuming {run.folder} after epoch {epoch}")
        own_splits = Splits(parts["train"], parts["valid"], parts["valid"])
        model, progress = loop.fit(
            own,
            encoded["train"],
            encoded["valid"],
            run,
            own_splits,
            strategy,
            recurrent=recurrent,
        )
    finally:
        run.close()
    loss = progress.history[progress.best_epoch - 1]["val_loss"]
    return TrainedEncoder(
        model, texts, math.exp(loss), progress.epoch, progress.best_epoch, run.folder.name
    )


# --- Published ---------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class PublishedEncoder(_Encoder):
    """A published language model of words, which reads forward.

    Attributes:
        base: The version.
        task: Its task, restored.
    """

    base: BaseVersion
    task: Task

    def sentences(self, task: Task) -> list[str]:
        """Returns what is initialised, for people."""
        perplexity = self._perplexity()
        score = f" (perplexity {perplexity:.1f} on its test part)" if perplexity else ""
        rows = self._rows(task)
        count = int((rows > UNKNOWN).sum())
        backward = (
            "" if task.config.direction == "forward" else "; those that read backward are new"
        )
        return [
            f"the language model {self.base.folder}{score} gives the initial weights of the "
            f"embedding of {count} of {len(task.words.words)} words and of the cells that read "
            f"forward{backward}"
        ]

    def record(self) -> dict[str, Any]:
        """Returns the entry of `run.json`."""
        return {
            "language_model": self.base.record()["version"],
            "perplexity": self._perplexity(),
            "directions": ["forward"],
        }

    def initialise(self, task: Task, model: keras.Model, number: int = 0) -> None:
        networks = ensemble.members(models.load(self.base.folder))
        network = networks[number % len(networks)]
        vectors = network.get_layer("embedding").embeddings.numpy()
        sources = {"forward": network.get_layer("reader")}
        self._assign(task, model, vectors[self._rows(task)], sources)

    def _rows(self, task: Task) -> np.ndarray:
        """Returns the id that the language model has for each id of the task."""
        exact = {word: number for number, word in enumerate(self.task.words.words, start=2)}
        lower: dict[str, int] = {}
        for word, number in exact.items():  # the most frequent form first
            lower.setdefault(word.lower(), number)
        rows = [exact.get(word, lower.get(word, UNKNOWN)) for word in task.words.words]
        return np.array([PADDING, UNKNOWN, *rows])

    def _perplexity(self) -> float | None:
        record = (self.base.folder / "assets.extra/run.json").read_text(encoding="utf-8")
        return json.loads(record)["scores"].get("perplexity")


def words_of_version(base: BaseVersion, config: Config) -> Iterable[str]:
    """Returns the words of a published language model, as a task looks them up.

    Args:
        base: The version.
        config: Settings of the task.
    """
    lines = (base.folder / "assets/words.txt").read_text(encoding="utf-8").split("\n")[2:-1]
    return [line.lower() for line in lines] if config.fold_case else lines
