"""Generation: what tasks that write sentences share."""

import abc
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import keras
import tensorflow as tf
from sacrebleu.metrics import BLEU, CHRF

from models.beam_search import BeamSearchConfig, Hypotheses
from models.layers.decoder import Memory
from models.layers.losses import SmoothedCrossEntropy, StepAccuracy
from models.networks.ensemble import ensemble, members
from models.text.subwords import END, START, Subwords
from models.text.words import PADDING
from tasks.core import task
from tasks.core.examples import Example, Stream
from tasks.shapes.generation.evaluation import corpus_score
from tasks.shapes.generation.search import SearchDecoder
from tasks.shapes.generation.settings import Config

_SUBWORDS = "subwords.txt"
_SAMPLES = 3  # examples shown after each epoch and in the report
_BATCH_SIZE = 64  # of sampling


class Generation(task.Task):
    """Task that generates sentences from a source.

    Class attributes:
        output_name: Name of the output that is the sentence.
    """

    Config = Config
    inherited_assets = (_SUBWORDS,)
    output_name: ClassVar[str]

    def __init__(self, config: Config, folder: Path):
        super().__init__(config, folder)
        self.subwords = Subwords(folder / _SUBWORDS)

    @classmethod
    def _learn_assets(cls, config, train, folder):
        texts = (text for example in train for text in cls.training_texts(example.values))
        Subwords.learn(folder / _SUBWORDS, texts, config.vocabulary)

    @classmethod
    @abc.abstractmethod
    def training_texts(cls, values: Mapping) -> Iterable[str]:
        """Returns the texts of an example from which subwords are learnt."""

    @abc.abstractmethod
    def references(self, values: Mapping) -> Sequence[str]:
        """Returns the reference sentences of an example."""

    @abc.abstractmethod
    def source_text(self, example: Example) -> str:
        """Returns a text that identifies the source of an example for people."""

    @abc.abstractmethod
    def prepare_source(self, source: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Prepares the source of a request for the networks.

        Args:
            source: The single input of the request, (B,).

        Returns:
            The input of an encoder, with B rows, and the maximum number of tokens to be written
            per row, (B,) int32.
        """

    @abc.abstractmethod
    def encode_source(self, model: keras.Model, source: tf.Tensor) -> Memory:
        """Encodes what `prepare_source` returned for the layer "decoder" of a model.

        Args:
            model: A network returned by `build`.
            source: The input of its encoder.
        """

    def combine(self, networks: Sequence[keras.Model]) -> keras.Model:
        return ensemble(networks, "log_probabilities")

    def compile(self, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
        model.compile(
            optimizer,
            loss=SmoothedCrossEntropy(self.config.label_smoothing),
            weighted_metrics=[StepAccuracy("accuracy")],
            jit_compile=False,  # XLA would compile again for each length
        )

    # --- Serving -------------------------------------------------------------

    def source_search(
        self, model: keras.Model
    ) -> Callable[[tf.Tensor], tuple[Hypotheses, list[Memory], tf.Tensor]]:
        """Returns the search of a model as a function that all signatures share.

        It is traced and saved once, not once for each of them.

        Args:
            model: A network returned by `build`.

        Returns:
            A function of the source of a request, (B,), that returns the hypotheses, the memory
            of each network of an ensemble, and the maximum lengths of `prepare_source`.
        """
        (spec,) = self.request.values()
        decoder = self.search_decoder(model)

        @tf.function(input_signature=[tf.TensorSpec(spec.shape, spec.dtype)], autograph=False)
        def search(source):
            prepared, max_length = self.prepare_source(source)
            memories = [self.encode_source(member, prepared) for member in members(model)]
            return decoder.generate(memories, max_length), memories, max_length

        return search

    def search_decoder(self, model: keras.Model) -> SearchDecoder:
        """Returns the decoder of a model with the search settings of the config."""
        c = self.config
        search = BeamSearchConfig(c.beam_size, c.length_penalty, c.coverage, c.no_repeat_ngram)
        return SearchDecoder([member.get_layer("decoder") for member in members(model)], search)

    def best_outputs(self, hypotheses: Hypotheses) -> dict[str, tf.Tensor]:
        """Returns the outputs of a signature with the best sentence of each row."""
        return {
            self.output_name: self.subwords.decode(hypotheses.tokens[:, 0]),
            "log_probability": hypotheses.scores[:, 0],
        }

    def n_best_outputs(self, hypotheses: Hypotheses) -> dict[str, tf.Tensor]:
        """Returns the outputs of a signature with the `n_best` sentences of each row."""
        count = self.config.n_best
        tokens = hypotheses.tokens[:, :count]
        batch, _, length = tf.unstack(tf.shape(tokens))
        flat, shape = tf.reshape(tokens, [batch * count, length]), [batch, count]
        return {
            f"{self.output_name}s": tf.reshape(self.subwords.decode(flat), shape),
            "log_probabilities": hypotheses.scores[:, :count],
        }

    # --- Training ------------------------------------------------------------

    def validation_sampler(
        self, model: keras.Model, valid: Stream
    ) -> Callable[[], task.ValidationSample]:
        """Returns a function that prints greedy outputs, and computes their monitored score."""
        ((name, spec),) = self.request.items()
        decoder = SearchDecoder([model.get_layer("decoder")], BeamSearchConfig(1))
        monitored = {"bleu": BLEU(force=True), "chrf": CHRF()}.get(self.config.monitor)

        @tf.function(input_signature=[spec], autograph=False)
        def generate(source):
            prepared, max_length = self.prepare_source(source)
            hypotheses = decoder.generate([self.encode_source(model, prepared)], max_length)
            return self.subwords.decode(hypotheses.tokens[:, 0])

        def sample() -> task.ValidationSample:
            batches = valid.batches(_BATCH_SIZE) if monitored else [self.first_examples(valid)]
            lines, predictions, references = [], [], []
            for batch in batches:
                outputs = generate(tf.constant([example.values[name] for example in batch]))
                texts = [text.decode("utf-8") for text in outputs.numpy()]
                predictions += texts
                references += [self.references(example.values) for example in batch]
                for example, text in zip(batch[: _SAMPLES - len(lines)], texts, strict=False):
                    lines.append(f"  {self.source_text(example)} -> {text}")
            figures = {}
            if monitored:
                figures[self.monitor] = corpus_score(monitored, predictions, references)
            return task.ValidationSample(figures, lines)

        return sample

    def first_examples(self, examples: Stream) -> list[Example]:
        """Returns the few examples that are shown to people."""
        return next(examples.batches(_SAMPLES))


def teacher_forcing(target: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the decoder's inputs and targets for teacher forcing.

    Args:
        target: Token ids (B, T), int32, padded with 0.

    Returns:
        The previous token of each step and the token to be predicted, int32, and sample
        weights, float32, 0 at padding; each of shape (B, T + 1).
    """
    length = tf.reduce_sum(tf.cast(target != PADDING, tf.int32), axis=1, keepdims=True)
    position = tf.range(tf.shape(target)[1] + 1)[None]
    previous = tf.concat([tf.fill([tf.shape(target)[0], 1], START), target], axis=1)
    following = tf.where(position == length, END, tf.pad(target, [[0, 0], [0, 1]]))
    return previous, following, tf.cast(position <= length, tf.float32)
