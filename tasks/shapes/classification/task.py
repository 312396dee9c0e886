"""Classification: data, network and signature."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import keras
import numpy as np
import tensorflow as tf

from models.cells.recurrent import PORTABLE
from models.networks.classifier import classifier
from models.text import case
from models.text.pieces import CHUNK_RULES, chunks
from models.text.words import (
    MAX_TOKEN_BYTES,
    PADDING,
    RULES,
    UNKNOWN,
    LossyCounter,
    Vocabulary,
    split,
    truncate_bytes,
)
from tasks.core import targets as names
from tasks.core import task, word_vectors
from tasks.core.corpus import Corpus
from tasks.core.direction import FORWARD
from tasks.core.errors import UserError
from tasks.core.examples import Example
from tasks.core.id_map import IdMap
from tasks.core.id_rules import IdRules, Stage
from tasks.core.settings import flag
from tasks.core.task import Purpose
from tasks.shapes.classification import linear_path, targets
from tasks.shapes.classification.evaluation import Evaluator
from tasks.shapes.classification.inspection import Inspector
from tasks.shapes.classification.requests import RequestFormat
from tasks.shapes.classification.settings import Config
from tasks.shapes.classification.streaming import TextStream

_WORDS = "words.txt"
_BATCH_SIZE = 1024  # texts that are split together to count their words


class Classification(task.Task):
    """Task of this shape; a subclass adds its `Corpus`.

    What differs between classes, labels and numbers is in its `target`; see `targets`.
    """

    Config = Config
    RequestFormat = RequestFormat
    Evaluator = Evaluator
    Inspector = Inspector
    request = {"text": tf.TensorSpec([None], tf.string, "text")}
    vocabularies = {"words": _WORDS, "labels": targets.LABELS_FILE}
    label_vocabularies = ("labels",)
    special_words = ()  # first of the vocabulary, and not in any text
    layer_groups = {"embeddings": ["embedding"], "encoder": ["embedding", "reader"]}
    word_reader = "reader"

    def __init__(self, config: Config, folder: Path):
        # Versions of earlier releases, and settings that no corpus has completed, have classes.
        if config.target == names.AUTO:
            config = dataclasses.replace(config, target=names.CLASSES)
        super().__init__(config, folder)
        lower_unknown = bool(config.vectors) and not config.fold_case
        self.words = Vocabulary(folder / _WORDS, lower_unknown=lower_unknown)
        self._trained_size = self.vectors.vocabulary if self.vectors else len(self.words)
        self._folder = folder
        self.target = targets.find(config)(config, folder)
        self.Evaluator = self.target.Evaluator
        self._reads_forward = config.direction == FORWARD
        self._linear_path = linear_path.buckets(
            0 if self._reads_forward else config.linear_path,
            self._trained_size,
            self.target.outputs,
        )
        self._evidence = config.evidence if self.target.has_evidence else 0

    @classmethod
    def variant(cls, config: Config) -> type[Self]:
        return _of_trees(cls) if config.trees else cls

    @property
    def labels(self) -> Vocabulary:
        """The classes or labels, which numbers do not have."""
        return self.target.names

    @classmethod
    def settle(cls, config: Config, corpus: Corpus) -> tuple[Config, Corpus, list[str]]:
        fields = {field.name for field in dataclasses.fields(corpus)}
        if config.trees != getattr(corpus, "trees", False):
            if not config.trees:
                raise UserError("--trees: the settings of the model are those of texts.")
            if "trees" not in fields:
                raise UserError("--trees: the corpus of this task has no trees.")
            corpus = dataclasses.replace(corpus, trees=True)
        target, notes = config.target, []
        if "target" in fields:
            both = {config.target, corpus.target} - {names.AUTO}
            if len(both) > 1:
                raise UserError(
                    f"{flag('target')} must be {config.target}, as in the settings of the model, "
                    f"got {corpus.target}."
                )
            corpus = dataclasses.replace(corpus, target=next(iter(both), names.AUTO))
            corpus, notes = corpus.resolved()
            target = corpus.target
        if target == names.AUTO:
            target = names.CLASSES
        config, more = config.with_target(target)
        if config.direction == FORWARD and config.linear_path:
            config = dataclasses.replace(config, linear_path=0)
            more = [*more, "chosen for --direction forward: --linear-path 0, which has no stream"]
        return config, corpus, [*notes, *more]

    @classmethod
    def _learn_assets(cls, config, train, folder):
        words, learner = LossyCounter(), targets.find(config).Learner(config)
        for batch in train.batches(_BATCH_SIZE):
            words.update(cls._looked_up_words(config, batch).flat_values.numpy().tolist())
            for example in batch:
                learner.add(example)
        learner.write(folder)
        if not words:
            raise UserError("the train part contains no words, only whitespace.")
        # By count, then alphabetically, so that the order of the files does not matter.
        common = sorted(words.items(), key=lambda item: (-item[1], item[0]))[: config.vocabulary]
        common = [word.decode("utf-8") for word, _ in common]
        Vocabulary.write(folder / _WORDS, [*cls.special_words, *common])
        return words

    @classmethod
    def _continue_assets(cls, base, folder, drop_labels):
        super()._continue_assets(base, folder, drop_labels)
        targets.continue_unit(base, folder)

    @classmethod
    def _looked_up_words(cls, config, batch):
        return cls._folded(config, split(tf.constant([e.values["text"] for e in batch])))

    @classmethod
    def _folded(cls, config: Config, words: tf.Tensor | tf.RaggedTensor) -> tf.RaggedTensor:
        """Returns words as they are looked up in the vocabulary."""
        if isinstance(words, tf.RaggedTensor):
            return words.with_flat_values(cls._folded(config, words.flat_values))
        return case.lower(words) if config.fold_case else words

    def moved_inputs(self, id_maps: Mapping[str, IdMap]) -> Sequence[IdMap]:
        if not self._evidence or "labels" not in id_maps:
            return ()
        # The reader sees the embedding, and the evidence of words and of pairs for each class.
        labels, size = id_maps["labels"], self.config.embedding
        offsets = (size, size + labels.before)
        evidence = [np.where(labels.sources < 0, -1, labels.sources + each) for each in offsets]
        sources = np.concatenate([np.arange(size), *evidence])
        return [IdMap(size + 2 * labels.before, sources)]

    def rejection_reason(self, example: Example) -> str | None:
        return self.target.rejection_reason(example)

    def encode(self, values: dict[str, tf.Tensor]) -> dict[str, tf.Tensor | tf.RaggedTensor]:
        ids, key = self.ids(values["text"]), self.target.key
        return {
            "ids": ids,
            key: self.target.encode(values[key]),
            "length": tf.cast(ids.row_lengths(), tf.int32),
        }

    def ids(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Returns the word ids of texts (B,): (B, T) int32, truncated to `max_length`."""
        max_length = self.config.max_length
        text = truncate_bytes(text, max_length)
        return self.word_ids(chunks(text) if self._reads_forward else text)[:, :max_length]

    def word_ids(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Returns the ids of all words of texts (B,): (B, T) int32."""
        return self.words.encode(self._folded(self.config, split(text)))

    def to_inputs(self, encoded: dict[str, tf.Tensor], *, training: bool) -> tuple:
        inputs, target = encoded["ids"], self.target.to_target(encoded[self.target.key])
        if self._evidence:
            left_out = self.target.memberships(target) * (1.0 if training else 0.0)
            inputs = {"ids": inputs, "left_out": left_out}
        weights = self.target.sample_weights(target) if training else None
        return (inputs, target) if weights is None else (inputs, target, weights)

    def build(self, purpose: Purpose = "training") -> keras.Model:
        c, trainable = self.config, purpose != "serving"
        return classifier(
            vocabulary=self._trained_size,
            vectors=self.vectors and self.vectors.layer(c.vectors_mode),
            classes=self.target.outputs,
            cell=c.cell,
            units=c.units,
            layers=c.layers,
            embedding=c.embedding,
            evidence=self._evidence,
            leaves_out=purpose == "training",
            linear_path=self._linear_path,
            direction=c.direction,
            dropout=c.dropout if trainable else 0.0,
            word_dropout=c.word_dropout if trainable else 0.0,
            head=self.target.head(),
            implementation="auto" if trainable else PORTABLE,
            dtype=c.precision if purpose == "training" else "float32",
        )

    def combine(self, networks: Sequence[keras.Model]) -> keras.Model:
        return self.target.combine(networks)

    def distillation_loss(
        self,
        model: keras.Model,
        teacher_outputs: tf.Tensor,
        outputs: tf.Tensor,
        weight: tf.Tensor | None,
    ) -> tf.Tensor:
        return self.target.distillation_loss(model, teacher_outputs, outputs, weight)

    def adapt(
        self,
        model: keras.Model,
        train: Iterable[dict[str, np.ndarray]],
        valid: Iterable[dict[str, np.ndarray]],
    ) -> None:
        if self.vectors:
            table = word_vectors.table(self._folder)
            model.get_layer("embedding").set_vectors(table, self.config.seed)
        if self._evidence:
            model.get_layer("evidence").adapt(self.target.documents(self._counted(train)))
        if self._linear_path:
            linear_path.fit(
                model.get_layer("linear_path"),
                self._linear_examples(train),
                self._linear_examples(valid),
                self.config.seed,
                self.target.likelihood,
            )

    def _linear_examples(
        self, batches: Iterable[dict[str, np.ndarray]]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields the ids and the targets of encoded batches."""
        target = self.target
        return ((b["ids"], target.linear_targets(b[target.key])) for b in self._counted(batches))

    def _counted(self, batches: Iterable[dict[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
        """Yields encoded batches in which words known only by their vectors are unknown."""
        for batch in batches:
            ids = batch["ids"]
            yield {**batch, "ids": np.where(ids < self._trained_size, ids, UNKNOWN)}

    def fit_on_valid(self, model: keras.Model, batches: Iterable[dict[str, np.ndarray]]) -> None:
        self.target.fit_on_valid(self, model, batches)

    def fitted_on_valid(self, model: keras.Model) -> dict[str, float]:
        return self.target.fitted_on_valid(model)

    def compile(self, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
        self.target.compile(model, optimizer)

    def signatures(self, model: keras.Model) -> dict[str, Callable]:
        @tf.function(input_signature=[self.request["text"]], autograph=False)
        def classify(text):
            outputs = model(self.ids(text).to_tensor(PADDING), training=False)
            return self.target.signature_outputs(model, outputs)

        streaming = TextStream(self, model).signatures() if self._reads_forward else {}
        return {"serving_default": classify, **streaming}

    def id_signature(self, model: keras.Model) -> Callable:
        @tf.function(
            input_signature=[tf.TensorSpec([None, None], tf.int32, "ids")], autograph=False
        )
        def classify_ids(ids):
            outputs = self.target.signature_outputs(model, model(ids, training=False))
            return {name: value for name, value in outputs.items() if value.dtype != tf.string}

        return classify_ids

    def id_rules(self) -> IdRules:
        c = self.config
        return IdRules(
            stages=[Stage([*(CHUNK_RULES if self._reads_forward else ()), *RULES])],
            max_bytes=c.max_length * MAX_TOKEN_BYTES,
            max_length=c.max_length,
            fold_case=c.fold_case,
            lower_unknown=self.words.lower_unknown,
            words=self.words.words,
            names=self.labels.words if hasattr(self.target, "names") else None,
        )

    def limits(self) -> Sequence[str]:
        return (
            f"Reads the first {self.config.max_length} tokens of a text and ignores the rest.",
            *self.target.limits(),
        )


@functools.cache
def _of_trees(task_class: type[Classification]) -> type[Classification]:
    """Returns the class of a task whose texts are trees."""
    from tasks.shapes.classification.trees import TreeClassification  # which inherits from here

    if issubclass(task_class, TreeClassification):
        return task_class
    namespace = {"__doc__": task_class.__doc__, "__module__": task_class.__module__}
    return type(task_class.__name__, (TreeClassification, task_class), namespace)
