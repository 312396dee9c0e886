"""Sequence to sequence: data, network and signatures."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import keras
import tensorflow as tf

from models.cells.recurrent import PORTABLE
from models.layers.decoder import Memory
from models.networks.translator import translator
from models.text.words import PADDING, truncate_bytes
from tasks.core.examples import Example
from tasks.core.task import Purpose
from tasks.shapes import generation
from tasks.shapes.sequence_to_sequence.evaluation import Evaluator
from tasks.shapes.sequence_to_sequence.inspection import Inspector
from tasks.shapes.sequence_to_sequence.requests import RequestFormat
from tasks.shapes.sequence_to_sequence.settings import Config
from tasks.shapes.sequence_to_sequence.streaming import SourceStream

_ONLY_BLANKS = r"^[\s\x0b\x1c-\x1f\x85\pZ]+$"


class SequenceToSequence(generation.Generation):
    """Task of this shape; a subclass adds its `Corpus`."""

    Config = Config
    RequestFormat = RequestFormat
    Evaluator = Evaluator
    Inspector = Inspector
    request = {"text": tf.TensorSpec([None], tf.string, "text")}
    output_name = "translation"
    layer_groups = {"embeddings": ["embedding"], "encoder": ["embedding", "encoder_*"]}

    @classmethod
    def training_texts(cls, values: Mapping) -> Iterable[str]:
        return values.values()

    def references(self, values: Mapping) -> Sequence[str]:
        return [values["translation"]]

    def source_text(self, example: Example) -> str:
        return example.values["text"]

    def encode(self, values: dict[str, tf.Tensor]) -> dict[str, tf.Tensor | tf.RaggedTensor]:
        source = self.subwords.encode(values["text"])
        target = self.subwords.encode(values["translation"])
        lengths = [tf.cast(side.row_lengths(), tf.int32) for side in (source, target)]
        short, long = tf.minimum(*lengths), tf.maximum(*lengths)
        max_long = self.config.max_side_ratio * tf.cast(short, tf.float32) + 5
        fits = (short > 0) & (long <= self.config.max_length)
        fits &= tf.cast(long, tf.float32) <= max_long
        return {
            "source": tf.ragged.boolean_mask(source, fits),
            "target": tf.ragged.boolean_mask(target, fits),
            "length": tf.boolean_mask(long, fits) + 1,
        }

    def skip_reason(self) -> str:
        c = self.config
        return (
            f"pairs with an empty side, a side of more than {c.max_length} subwords, or one of "
            f"more than {c.max_side_ratio:g} times the subwords of the other plus 5"
        )

    def augment(self, encoded: dict[str, tf.Tensor], seed: tf.Tensor) -> dict[str, tf.Tensor]:
        dropout = self.config.bpe_dropout
        if not dropout:
            return encoded
        segmented = {}
        for number, side in enumerate(("source", "target")):
            text, draw = self.subwords.decode(encoded[side]), tf.random.fold_in(seed, number)
            ids = self.subwords.encode_with_dropout(text, dropout, draw)
            segmented[side] = ids.to_tensor(PADDING)
        return encoded | segmented

    def to_inputs(self, encoded: dict[str, tf.Tensor], *, training: bool) -> tuple:
        previous, following, weights = generation.teacher_forcing(encoded["target"])
        return {"source": encoded["source"], "before": previous}, following, weights

    def build(self, purpose: Purpose = "training") -> keras.Model:
        c, trainable = self.config, purpose != "serving"
        return translator(
            source_vocabulary=len(self.subwords),
            target_vocabulary=len(self.subwords),
            cell=c.cell,
            units=c.units,
            layers=c.layers,
            embedding=c.embedding,
            attention=c.attention,
            input_feeding=c.input_feeding,
            dropout=c.dropout if trainable else 0.0,
            implementation="auto" if trainable else PORTABLE,
            dtype=c.precision if purpose == "training" else "float32",
        )

    # --- Serving -------------------------------------------------------------

    def signatures(self, model: keras.Model) -> dict[str, Callable]:
        spec, decoder = self.request["text"], self.search_decoder(model)
        search = self.source_search(model)

        def translate(text):
            hypotheses, _, _ = search(text)
            return self.best_outputs(hypotheses)

        @tf.function(input_signature=[spec], autograph=False)
        def serving_default(text):
            return translate(text)

        @tf.function(input_signature=[spec], autograph=False)
        def n_best(text):
            hypotheses, _, _ = search(text)
            return self.n_best_outputs(hypotheses)

        @tf.function(input_signature=[spec], autograph=False)
        def align(text):
            hypotheses, memories, _ = search(text)
            lengths = hypotheses.lengths[:, 0]
            longest = tf.reduce_max(tf.concat([[0], lengths], 0))
            source, tokens = self.source_ids(text), hypotheses.tokens[:, 0, :longest]
            return {
                "translation": self.subwords.decode(tokens),
                "source_tokens": self.subwords.pieces(source),
                "target_tokens": self.subwords.pieces(tokens),
                "attention": decoder.attention(memories, tokens),
                "source_lengths": _lengths(source),
                "target_lengths": lengths,
            }

        signatures = {"serving_default": serving_default, "n_best": n_best, "align": align}
        if self.config.stream:
            signatures |= SourceStream(self, model).signatures(translate)
        return signatures

    def prepare_source(self, source: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        ids = self.source_ids(source)
        length = tf.cast(_lengths(ids), tf.float32)
        # An empty text has an empty translation.
        max_length = tf.where(length > 0, length * self.config.max_length_ratio + 10, 0)
        return ids, tf.cast(max_length, tf.int32)

    def encode_source(self, model: keras.Model, source: tf.Tensor) -> Memory:
        encoder = keras.Model(model.input["source"], model.get_layer("memory").output)
        values = encoder(source, training=False)
        return model.get_layer("decoder").prepare_memory(values, source != PADDING)

    def source_ids(self, text: tf.Tensor) -> tf.Tensor:
        """Returns the subword ids of texts (B,): (B, S) int32, padded with 0, S >= 1."""
        max_length = self.config.max_length
        text = tf.strings.regex_replace(self.truncate_source(text), _ONLY_BLANKS, "")
        ids = self.subwords.encode(text)[:, :max_length].to_tensor(PADDING)
        return tf.pad(ids, [[0, 0], [0, tf.maximum(1 - tf.shape(ids)[1], 0)]])

    def truncate_source(self, text: tf.Tensor) -> tf.Tensor:
        """Returns the bytes of texts (B,) on which a translation depends; it reads no others."""
        # One token more, since the last word may have been cut.
        return truncate_bytes(text, self.config.max_length + 1)

    def limits(self) -> Sequence[str]:
        return (
            f"Reads the first {self.config.max_length} subwords of a text and ignores the rest.",
            "The probabilities are the network's own and have not been calibrated.",
        )


def _lengths(ids: tf.Tensor) -> tf.Tensor:
    """Returns the number of ids (B, S) that are not padding, (B,) int32."""
    return tf.reduce_sum(tf.cast(ids != PADDING, tf.int32), axis=1)
