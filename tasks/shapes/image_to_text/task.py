"""Image to text: data, network and signatures."""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import keras
import tensorflow as tf

from models import images as image_ops
from models.cells.recurrent import PORTABLE
from models.layers.decoder import Memory
from models.networks import pretrained
from models.networks.captioner import captioner
from models.networks.ensemble import members
from models.text.subwords import END, START
from models.text.words import PADDING
from tasks.core.errors import UserError
from tasks.core.examples import Example
from tasks.core.task import Purpose
from tasks.shapes import generation
from tasks.shapes.image_to_text.evaluation import Evaluator
from tasks.shapes.image_to_text.inspection import Inspector
from tasks.shapes.image_to_text.requests import RequestFormat
from tasks.shapes.image_to_text.settings import Config


class ImageToText(generation.Generation):
    """Task of this shape; a subclass adds its `Corpus`."""

    Config = Config
    RequestFormat = RequestFormat
    Evaluator = Evaluator
    Inspector = Inspector
    request = {"image_bytes": tf.TensorSpec([None], tf.string, "image_bytes")}
    output_name = "caption"
    layer_groups = {
        "encoder": ["convolution_*", "grid", "rows_*", "columns_*", "vector", "normed_vector"]
    }

    def __init__(self, config: Config, folder: Path):
        super().__init__(config, folder)
        self._frozen_encoder = None
        if config.encoder:
            file = folder / _encoder_file(config)
            self._encoder_file = tf.saved_model.Asset(str(file))
            try:
                encoder, network = pretrained.frozen_encoder(
                    config.encoder, file, config.height, config.width
                )
            except ValueError as error:
                raise UserError(f"--encoder-weights {config.encoder_weights}: {error}") from error
            self._encoder_weights = [weight.value for weight in network.weights]
            self._frozen_encoder, self._grid_shape = encoder, network.output.shape[1:]

    @classmethod
    def _learn_assets(cls, config, train, folder):
        if config.encoder:
            try:
                shutil.copyfile(
                    Path(config.encoder_weights).expanduser(), folder / _encoder_file(config)
                )
            except OSError as error:
                raise UserError(
                    f"--encoder-weights: {config.encoder_weights!r} cannot be read: "
                    f"{error.strerror}."
                ) from error
        super()._learn_assets(config, train, folder)

    @classmethod
    def training_texts(cls, values: Mapping) -> Iterable[str]:
        return values["captions"]

    def references(self, values: Mapping) -> Sequence[str]:
        return values["captions"]

    def source_text(self, example: Example) -> str:
        return example.origin

    def encode(self, values: dict[str, tf.Tensor]) -> dict[str, tf.Tensor | tf.RaggedTensor]:
        pixels, valid = self.pixels(values["image_bytes"])
        images = tf.boolean_mask(pixels, valid)
        if self._frozen_encoder:  # one by one, since a batch of feature maps could fill the memory
            spec = tf.TensorSpec(self._grid_shape, tf.float32)
            images = tf.map_fn(lambda image: self._frozen_encoder(image[None])[0], images, spec)
        captions = values["captions"]
        ids = self.subwords.encode(captions.flat_values)[:, : self.config.max_length]
        end = tf.fill([ids.nrows(), 1], END)
        ids = captions.with_flat_values(tf.concat([ids, end], axis=1)).merge_dims(1, 2)
        return {
            "image": images,
            "captions": tf.ragged.boolean_mask(ids, valid),
            "length": tf.boolean_mask(tf.cast(ids.row_lengths(), tf.int32), valid),
        }

    def pixels(self, image_bytes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the pixels (B, H, W, 3) of images (B,), and which of them are valid, (B,)."""
        return image_ops.pixels(image_bytes, self.config.height, self.config.width)

    @property
    def has_frozen_encoder(self) -> bool:
        """Whether a network of keras.applications replaces the convolutions."""
        return self._frozen_encoder is not None

    def encode_pixels(self, pixels: tf.Tensor) -> tf.Tensor:
        """Returns the network's input for pixels: feature maps of a frozen encoder, if any."""
        return self._frozen_encoder(pixels) if self._frozen_encoder else pixels

    def skip_reason(self) -> str:
        return "images that cannot be read"

    def to_inputs(self, encoded: dict[str, tf.Tensor], *, training: bool) -> tuple:
        ids = encoded["captions"]  # all captions of an image, each followed by END
        flat, ends = tf.boolean_mask(ids, ids != PADDING), ids == END
        limits = tf.where(flat == END)[:, 0] + 1
        captions = tf.RaggedTensor.from_row_limits(flat, limits)
        count = tf.reduce_sum(tf.cast(ends, tf.int64), axis=1)
        following = tf.RaggedTensor.from_row_lengths(captions, count).to_tensor(PADDING)
        previous = tf.pad(following[..., :-1], [[0, 0], [0, 0], [1, 0]], constant_values=START)
        valid = following != PADDING
        inputs = {"image": encoded["image"], "before": tf.where(valid, previous, PADDING)}
        return inputs, following, tf.cast(valid, tf.float32)

    def build(self, purpose: Purpose = "training") -> keras.Model:
        c, trainable = self.config, purpose != "serving"
        return captioner(
            image=tuple(self._grid_shape) if self._frozen_encoder else (c.height, c.width, 3),
            vocabulary=len(self.subwords),
            cell=c.cell,
            units=c.units,
            layers=c.layers,
            embedding=c.embedding,
            filters=0 if self._frozen_encoder else c.filters,
            sweeps=c.sweeps,
            attention=c.attention,
            input_feeding=c.input_feeding,
            dropout=c.dropout if trainable else 0.0,
            implementation="auto" if trainable else PORTABLE,
            dtype=c.precision if purpose == "training" else "float32",
        )

    # --- Serving -------------------------------------------------------------

    def signatures(self, model: keras.Model) -> dict[str, Callable]:
        spec, decoder = self.request["image_bytes"], self.search_decoder(model)
        search = self.source_search(model)

        @tf.function(input_signature=[spec], autograph=False)
        def serving_default(image_bytes):
            hypotheses, _, max_length = search(image_bytes)
            outputs = self.best_outputs(hypotheses)
            return outputs | {"valid": max_length > 0}

        @tf.function(input_signature=[spec], autograph=False)
        def n_best(image_bytes):
            hypotheses, _, max_length = search(image_bytes)
            outputs = self.n_best_outputs(hypotheses)
            return outputs | {"valid": max_length > 0}

        @tf.function(input_signature=[spec], autograph=False)
        def attend(image_bytes):
            hypotheses, memories, max_length = search(image_bytes)
            lengths = hypotheses.lengths[:, 0]
            longest = tf.reduce_max(tf.concat([[0], lengths], 0))
            tokens = hypotheses.tokens[:, 0, :longest]
            weights = decoder.attention(memories, tokens)
            grid = members(model)[0].get_layer("grid").output.shape[1:3]
            grid = grid if self.config.attention == "grid" else (1, 1)
            return {
                "caption": self.subwords.decode(tokens),
                "tokens": self.subwords.pieces(tokens),
                "attention": tf.reshape(weights, tf.concat([tf.shape(tokens), grid], 0)),
                "lengths": lengths,
                "valid": max_length > 0,
            }

        return {"serving_default": serving_default, "n_best": n_best, "attend": attend}

    def prepare_source(self, source: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pixels, valid = self.pixels(source)
        images = _of_rows(self.encode_pixels, pixels) if self._frozen_encoder else pixels
        return images, tf.where(valid, self.config.max_length, 0)

    def encode_source(self, model: keras.Model, source: tf.Tensor) -> Memory:
        encoder = keras.Model(model.input["image"], model.get_layer("memory").output)
        values = _of_rows(lambda images: encoder(images, training=False), source)
        return model.get_layer("decoder").prepare_memory(values)

    def limits(self) -> Sequence[str]:
        c = self.config
        return (
            f"Scales every image to {c.width} x {c.height} pixels, whatever its proportions, and "
            f"rejects images of more than {image_ops.MAX_PIXELS:,} pixels, and JPEG files of more "
            f"than {image_ops.MAX_SCANS} scans.",
            f"Writes captions of at most {c.max_length} subwords.",
            "The probabilities are the network's own and have not been calibrated.",
        )


def _of_rows(function: Callable[[tf.Tensor], tf.Tensor], images: tf.Tensor) -> tf.Tensor:
    """Applies a function to images (B, H, W, D), with a row of padding if there are none.

    The convolution of oneDNN returns a wrong shape for an empty batch.
    """
    batch_size = tf.shape(images)[0]
    padding = [[0, tf.maximum(1 - batch_size, 0)], *[[0, 0]] * 3]
    return function(tf.pad(images, padding))[:batch_size]


def _encoder_file(config) -> str:
    """Returns the name of the asset with the encoder's weights, by which Keras knows the format."""
    if config.encoder_weights.endswith(".weights.h5"):
        return "encoder.weights.h5"
    return "encoder.h5"  # the format of the weights that Keras publishes
