"""The interface of a task: data, network and signatures of one problem."""

import abc
import dataclasses
import hashlib
import itertools
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, Self

import keras
import numpy as np
import tensorflow as tf

from models.layers.temperature import Temperature
from models.networks.ensemble import ensemble
from models.text.words import LossyCounter, Vocabulary
from tasks.core import unlabelled, word_vectors
from tasks.core.config import Config, CorpusSize
from tasks.core.corpus import Corpus
from tasks.core.errors import UserError
from tasks.core.evaluation import Evaluator
from tasks.core.examples import Example, Stream
from tasks.core.id_map import IdMap
from tasks.core.id_rules import IdRules
from tasks.core.inspection import Inspector
from tasks.core.request_format import RequestFormat
from tasks.core.settings import from_record
from tasks.core.unlabelled import UnlabelledTexts

Purpose = Literal["training", "reuse", "serving"]
_BATCH_SIZE = 1024  # examples that are split to words together
_CLASSES = ("label", "value")  # keys of examples whose values are no text


class ValidationSample(NamedTuple):
    """Result of sampling a model after an epoch: scores by name, and lines to be printed."""

    figures: dict[str, float]
    lines: Sequence[str]


class Task(tf.Module, abc.ABC):
    """One problem: its data, network and signatures.

    `learn` makes a task from examples, `restore` from a folder; both return the same task.

    Class attributes:
        Config: Dataclass of the settings.
        Corpus: Dataclass of the location of the examples.
        RequestFormat: Dataclass of the format of requests and responses on the command line.
        Evaluator: Class that computes the scores.
        Inspector: Class that shows gates, states and saliency for one request.
        evaluation_signature: Signature by which the task is evaluated.
        request: Inputs of that signature, by name.
        vocabularies: Files of the vocabularies that grow if training continues from a published
            version, by the names of their attributes.
        label_vocabularies: Names of those that hold classes or tags.
        inherited_assets: Files that a continued training takes from the version as they are.
        layer_groups: Patterns of the names of layers, by the name of a group that training can
            leave as it is.
        word_reader: Name of the recurrent layer that reads words, whose first inputs are those of
            the layer "embedding"; a language model can give both their initial weights. "" for
            tasks without one.
    """

    Config: ClassVar[type[Config]] = Config
    Corpus: ClassVar[type[Corpus]]
    RequestFormat: ClassVar[type[RequestFormat]]
    Evaluator: ClassVar[type[Evaluator]]
    Inspector: ClassVar[type[Inspector]]
    evaluation_signature: ClassVar[str] = "serving_default"
    request: ClassVar[dict[str, tf.TensorSpec]]
    vocabularies: ClassVar[Mapping[str, str]] = {}
    label_vocabularies: ClassVar[Sequence[str]] = ()
    inherited_assets: ClassVar[Sequence[str]] = ()
    layer_groups: ClassVar[Mapping[str, Sequence[str]]] = {}
    word_reader: ClassVar[str] = ""

    def __init__(self, config: Config, folder: Path):
        """Loads the assets that `learn` wrote to `folder`."""
        super().__init__()
        self.config = config
        self._config_file = tf.saved_model.Asset(str(folder / "config.json"))
        self.vectors: word_vectors.KeptVectors | None = None
        if getattr(config, "vectors", ""):
            self.vectors = word_vectors.restore(folder)
            self._vectors_file = tf.saved_model.Asset(str(word_vectors.record_file(folder)))

    @property
    def monitor(self) -> str:
        """Metric that selects the best epoch: minimised if its name ends in "loss" or "error"."""
        return f"val_{self.config.monitor}"

    @classmethod
    def settle(cls, config: Config, corpus: Corpus) -> tuple[Config, Corpus, list[str]]:
        """Makes settings and corpus agree, before any example is read as one of the task.

        Args:
            config: The settings; those of a published version, if it is evaluated.
            corpus: The corpus.

        Returns:
            The settings and the corpus, with what follows from the first examples, and notes.

        Raises:
            UserError: They contradict each other.
        """
        corpus, notes = corpus.resolved()
        return config, corpus, notes

    @classmethod
    def learn(
        cls,
        config: Config,
        train: Stream,
        folder: Path,
        valid: Stream | None = None,
        base: Path | None = None,
        drop_labels: bool = False,
        more_words: Iterable[str] = (),
    ) -> Self:
        """Learns assets such as vocabularies, and validates the examples in the same pass.

        Args:
            config: The settings; those that are automatic follow from the size of the part.
            train: The training part.
            folder: Existing folder for the assets.
            valid: The validation part, whose words are looked up in a file of word vectors.
            base: Folder of the assets of a task that is continued: its words, classes and tags
                keep their ids, and new ones follow. None for none.
            drop_labels: Whether classes and tags of `base` that the part does not have are
                dropped; then ids change.
            more_words: Words that follow those of the part in its vocabulary, up to the limit of
                the settings; for tasks that read words.

        Raises:
            UserError: The task cannot be learnt from these examples.
        """
        if cls.variant(config) is not cls:
            return cls.variant(config).learn(config, train, folder, valid, base, drop_labels)
        measured = _MeasuredStream(train)
        counts = cls._learn_assets(config, measured.stream, folder)
        if base:
            cls._continue_assets(base, folder, drop_labels)
        if getattr(config, "vectors", ""):
            words = set()
            for batch in valid.batches(_BATCH_SIZE) if valid else ():
                words.update(cls._looked_up_words(config, batch).flat_values.numpy().tolist())
            sentences = ()
            if config.vectors == word_vectors.TRAIN:
                streams = [train]
                if config.unlabelled:
                    streams.append(unlabelled.stream(config.unlabelled))
                read = itertools.chain.from_iterable(cls.words_of(config, s) for s in streams)
                sentences = (example.values["words"] for example in read)
            word_vectors.learn(config, counts, words, folder, sentences)
        elif getattr(config, "has_language_model", False):
            cls._learn_unlabelled(config, folder)
        if more_words:
            cls._extend_vocabulary(config, more_words, folder)
        config = cls._resolve(config, measured.size, folder)
        record = json.dumps(dataclasses.asdict(config), indent=2)
        (folder / "config.json").write_text(record, encoding="utf-8")
        return cls(config, folder)

    @classmethod
    def restore(cls, folder: Path) -> Self:
        """Returns the task whose assets are in `folder`, such as `assets/` of a SavedModel."""
        record = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config = from_record(cls.Config, record)
        return cls.variant(config)(config, folder)

    @classmethod
    def variant(cls, config: Config) -> type[Self]:
        """Returns the class for some settings: this one, or a subclass with another network.

        `learn` and `restore` return its instances; class attributes that commands read before
        them are the same.
        """
        return cls

    @classmethod
    def _continue_assets(cls, base: Path, folder: Path, drop_labels: bool) -> None:
        """Merges the assets in `folder` with those of a task that is continued."""
        for name in cls.inherited_assets:
            if (base / name).exists():
                shutil.copyfile(base / name, folder / name)
        for name, file in cls.vocabularies.items():
            if not (folder / file).exists() or (drop_labels and name in cls.label_vocabularies):
                continue
            old, new = (Vocabulary.read(path / file) for path in (base, folder))
            Vocabulary.write(folder / file, dict.fromkeys([*old, *new]))

    def moved_inputs(self, id_maps: Mapping[str, IdMap]) -> Sequence[IdMap]:
        """Returns where features that depend on a vocabulary come from; none by default.

        Args:
            id_maps: Where the ids of the vocabularies come from, by the names of `vocabularies`.
        """
        return ()

    @classmethod
    @abc.abstractmethod
    def _learn_assets(
        cls, config: Config, train: Stream, folder: Path
    ) -> Mapping[str | bytes, int] | None:
        """Writes the assets learnt from the training part to `folder`.

        Returns:
            The counts of words as they are looked up, where the settings have word vectors.
        """

    @classmethod
    def _resolve(cls, config: Config, size: CorpusSize, folder: Path) -> Config:
        """Returns the settings with a value for each that is None.

        Args:
            config: The settings.
            size: Size of the training part.
            folder: Folder of the assets that were learnt.
        """
        return config.resolved(size)

    @classmethod
    def _looked_up_words(cls, config: Config, batch: Sequence[Example]) -> tf.RaggedTensor:
        """Returns the words of examples as they are looked up, (B, T) strings.

        Only called for settings with word vectors, by tasks that read words.

        Args:
            config: The settings.
            batch: B examples; those without labels have only the key `text`.
        """
        raise NotImplementedError(f"{cls.__name__} does not look up words.")

    @classmethod
    def words_of(cls, config: Config, examples: Stream) -> Stream:
        """Returns the words of examples, as they are looked up, under the key `words`.

        Only called for tasks that read words.

        Args:
            config: The settings.
            examples: Examples of the task, or texts without labels, with only the key `text`.
        """

        def read() -> Iterator[Example]:
            for batch in examples.batches(_BATCH_SIZE):
                rows = cls._looked_up_words(config, batch).to_list()
                for example, words in zip(batch, rows, strict=True):
                    decoded = tuple(word.decode("utf-8", "replace") for word in words)
                    yield Example({"words": decoded}, example.origin)

        return Stream(read)

    @classmethod
    def _learn_unlabelled(cls, config: Config, folder: Path) -> None:
        """Adds the words of texts without labels to the vocabulary, and writes their record."""
        counts, digest, texts, count = LossyCounter(), hashlib.sha256(), 0, 0
        for example in cls.words_of(config, unlabelled.stream(config.unlabelled)):
            words = example.values["words"]
            counts.update(words)
            digest.update(" ".join(words).encode() + b"\n")
            texts, count = texts + 1, count + len(words)
        common = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        new_words = cls._extend_vocabulary(config, (word for word, _ in common), folder)
        name = unlabelled.path_of(config.unlabelled).name
        record = UnlabelledTexts(name, digest.hexdigest(), texts, count, new_words)
        record.write(folder)

    @classmethod
    def _extend_vocabulary(cls, config: Config, words: Iterable[str], folder: Path) -> int:
        """Adds words to the vocabulary in a folder, up to its limit, and returns their number."""
        path = folder / cls.vocabularies["words"]
        own = dict.fromkeys(Vocabulary.read(path))
        extended = itertools.islice(dict.fromkeys([*own, *words]), max(len(own), config.vocabulary))
        extended = list(extended)
        Vocabulary.write(path, extended)
        return len(extended) - len(own)

    def rejection_reason(self, example: Example) -> str | None:
        """Returns why an example cannot be evaluated, such as an unknown class; None if it can."""
        return None

    @classmethod
    def row(cls, values: Mapping) -> dict:
        """Returns the request for an example: a value for each input of every signature."""
        return {name: values[name] for name in cls.request}

    @abc.abstractmethod
    def encode(self, values: dict[str, tf.Tensor]) -> dict[str, tf.Tensor | tf.RaggedTensor]:
        """Encodes a batch of B examples with the ops of the served graph.

        Args:
            values: Values of the examples by key: strings (B,), or (B, T) ragged where the
                values are tuples.

        Returns:
            Tensors by name, ragged in time. They have B rows, more if examples are divided,
            and fewer if some are unsuitable for training. `length` is the number of steps of
            each row, int32.
        """

    def skip_reason(self) -> str:
        """Describes the examples that `encode` skips."""
        return "none"

    def augment(self, encoded: dict[str, tf.Tensor], seed: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns encoded training examples with random changes; by default they are unchanged.

        It is called in every epoch, before `to_inputs`.

        Args:
            encoded: Encoded examples, padded with 0.
            seed: (2,) int64, for stateless random ops; it follows from the seed of the run and the
                number of the batch, so that a resumed run draws the same changes.
        """
        return encoded

    @abc.abstractmethod
    def to_inputs(self, encoded: dict[str, tf.Tensor], *, training: bool) -> tuple:
        """Returns the `(x, y)` or `(x, y, sample_weight)` that the network is trained on.

        Args:
            encoded: Encoded examples, padded with 0.
            training: Whether they belong to the training part.
        """

    @abc.abstractmethod
    def build(self, purpose: Purpose = "training") -> keras.Model:
        """Returns the network with new weights, which have the same paths for every purpose.

        Args:
            purpose: "training", with the inputs of `to_inputs`; "reuse", in float32, as other
                programs load it; or "serving", in float32, with an implementation that runs
                on every device and without the layers that only training needs.
        """

    def combine(self, networks: Sequence[keras.Model]) -> keras.Model:
        """Returns the network whose prediction is the mean of those of several.

        It has the inputs and outputs of `build`, and its own weights are neutral or follow from
        those of the networks. See `models.networks.ensemble`.

        Args:
            networks: Networks that `build` returned for one purpose, with any weights.
        """
        return ensemble(networks)

    def distillation_loss(
        self,
        model: keras.Model,
        teacher_outputs: tf.Tensor,
        outputs: tf.Tensor,
        weight: tf.Tensor | None,
    ) -> tf.Tensor:
        """Returns the loss of a model that learns the predictions of another.

        By default that is the cross-entropy with the probabilities of classes that the other
        predicts (Hinton et al. 2015, with temperature 1).

        Args:
            model: The model, compiled; the loss is reduced like its own.
            teacher_outputs: What the other model returned for a batch.
            outputs: What the model returned for it.
            weight: Sample weights of the batch, or None.
        """
        loss = keras.losses.CategoricalCrossentropy(
            from_logits=True, reduction=model.loss.reduction
        )
        return loss(tf.nn.softmax(teacher_outputs), outputs, sample_weight=weight)

    def adapt(
        self,
        model: keras.Model,
        train: Iterable[dict[str, np.ndarray]],
        valid: Iterable[dict[str, np.ndarray]],
    ) -> None:
        """Sets the weights of a new model that are counted instead of trained; none by default.

        Args:
            model: The network for training.
            train: Batches of the encoded training part, padded with 0; an iterable that can be
                read several times.
            valid: The same of the validation part, which may select among solutions.
        """

    def fit_on_valid(self, model: keras.Model, batches: Iterable[dict[str, np.ndarray]]) -> None:
        """Sets the weights of a trained model that are fitted on the validation part.

        It is called after training, with the weights of the best epoch, whenever a run ends or
        a finished one is resumed; by default it sets nothing. The weights must not be trainable,
        and neutral in the model that `build` returns: training does not see what is set here,
        and the state of the run does not contain it.

        Args:
            model: The network for training, which all others get their weights from; or an
                ensemble of them, after it was called for each.
            batches: The encoded validation part, padded with 0. See
                `tasks.core.calibration` for what a network returns for it.
        """

    def calibration_layers(self, model: keras.Model) -> Sequence[Temperature]:
        """Returns layers whose temperatures change probabilities beyond what responses tell.

        The evaluation also computes the probabilities at the temperature 1. None by default, for
        tasks without temperatures, or with responses that have the probabilities of all classes.

        Args:
            model: A network that `build` or `combine` returned.
        """
        return ()

    def fitted_on_valid(self, model: keras.Model) -> dict[str, float]:
        """Returns what `fit_on_valid` has set in a model, by name, as recorded in `run.json`."""
        return {}

    @abc.abstractmethod
    def compile(self, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
        """Compiles a model with the loss and metrics of the task."""

    @abc.abstractmethod
    def signatures(self, model: keras.Model) -> dict[str, Callable]:
        """Returns the signatures of the SavedModel by name, each a `tf.function`.

        Their inputs and outputs are strings, images and numbers, never ids.
        """

    def id_signature(self, model: keras.Model) -> Callable:
        """Returns the network as a function of ids, for formats without strings.

        It is a `tf.function` with named inputs and outputs, which are numbers; the inputs follow
        from texts by `id_rules`. By default a network has none.

        Args:
            model: The network, built for serving.

        Raises:
            UserError: The network has no such function; the message says why.
        """
        raise UserError(
            "the sentences of this task are written step by step in a beam search, which is a loop "
            "around several networks; it is exported as a SavedModel only."
        )

    def id_rules(self) -> IdRules:
        """Returns how the inputs of `id_signature` follow from a text.

        Only called for tasks with such a signature.
        """
        raise NotImplementedError(f"{type(self).__name__} has no signature of ids.")

    def validation_sampler(
        self, model: keras.Model, valid: Stream
    ) -> Callable[[], ValidationSample] | None:
        """Returns a function that samples the model after each epoch; None by default.

        Args:
            model: The network for training.
            valid: The validation part.
        """
        return None

    def remarks(self) -> Sequence[str]:
        """Describes what was learnt, in sentences that are printed before training."""
        return self.vectors.remarks(self.config.vectors_mode) if self.vectors else ()

    @abc.abstractmethod
    def limits(self) -> Sequence[str]:
        """Describes limits of length and caveats about the numbers, in sentences."""


class _MeasuredStream:
    """A stream that measures the text it yields, in its last pass.

    Args:
        examples: The examples.
    """

    def __init__(self, examples: Stream):
        self._examples, self.size = examples, CorpusSize(0, 0)
        self.stream = Stream(self._read)

    def _read(self):
        count = tokens = 0
        for example in self._examples:
            count += 1
            values = example.values
            if "tokens" in values:  # the others are annotations of them
                values = {"tokens": values["tokens"]}
            tokens += sum(_tokens(v) for key, v in values.items() if key not in _CLASSES)
            yield example
        self.size = CorpusSize(count, tokens)


def _tokens(value: str | bytes | tuple[str, ...]) -> int:
    """Returns the approximate number of tokens of a text; 0 for images."""
    if isinstance(value, bytes):
        return 0
    if isinstance(value, tuple):
        return len(value)
    return max(len(value.split()), len(value) // 6)
