"""1→N: an image in, a sentence out, written subword by subword by beam search in the graph.

Signatures, B images, N = the setting `n_best`, H and W the height and width of the grid:

    serving_default(image_bytes: string[B]) -> caption: string[B], log_probability: float32[B],
        valid: bool[B]
    n_best(image_bytes: string[B]) -> captions: string[B, N], log_probabilities: float32[B, N],
        valid: bool[B]
    attend(image_bytes: string[B]) -> caption: string[B], tokens: string[B, T],
        attention: float32[B, T, H, W], lengths: int32[B], valid: bool[B]

An image is the bytes of a JPEG or PNG. What is none, is truncated or has more than
`models.images.LARGEST` pixels has an empty caption and is not `valid`. A log-probability is
normalised by length, as `models.beam_search` does it. The tokens of `attend` are subwords,
"" beyond their lengths.
"""

import dataclasses
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from models import images
from models.cells.recurrent import PORTABLE
from models.cells.tracing import trace
from models.layers.grid import AXES
from models.networks import pretrained
from models.networks.captioner import ATTENTIONS, captioner
from models.text.subwords import BLANK, END, MARKS, START
from models.text.words import PADDING
from tasks.core import inspection
from tasks.core.errors import UserError
from tasks.core.evaluation import AttentionMaps
from tasks.core.inspection import Inspection, Reading
from tasks.core.settings import setting
from tasks.shapes import generation

_LINES = "Of what reads the grid, the line through its middle is shown."


@dataclasses.dataclass(frozen=True)
class Config(generation.Config):
    """Settings of 1→N."""

    max_length: int = setting(60, "maximum subwords of a caption", at_least=1, old_name="longest")
    vocabulary: int = setting(2000, "subwords of the captions", at_least=300)
    attention: str = setting(
        "grid", "memory of the decoder", choices=ATTENTIONS, affects="training"
    )
    height: int = setting(64, "height to which images are scaled, in pixels", at_least=8)
    width: int = setting(64, "width to which images are scaled, in pixels", at_least=8)
    filters: int = setting(
        16, "filters of the first of four convolutions", at_least=1, affects="training"
    )
    sweeps: int = setting(
        2,
        "recurrent sweeps over the rows and columns of the grid",
        at_least=0,
        affects="training",
    )
    encoder: str = setting(
        "",
        "frozen network of keras.applications that replaces the convolutions",
    )
    encoder_weights: str = setting(
        "", "weights of --encoder without its top: .weights.h5, or .h5 as published by Keras"
    )

    def __post_init__(self):
        super().__post_init__()
        if bool(self.encoder) != bool(self.encoder_weights):
            raise UserError("--encoder and --encoder-weights go together; give both or neither.")
        if self.encoder and self.encoder not in pretrained.names():
            raise UserError(f"--encoder must be one of {pretrained.names()}, got {self.encoder!r}.")


@dataclasses.dataclass(frozen=True)
class RequestFormat(generation.RequestFormat):
    """The path of an image a line, answered by a line: its caption."""

    picture = "attend"
    attend: str = setting("", "file to be made: a PNG of what each word looked at; of one image")

    def requests(self, lines: Iterable[bytes]) -> Iterator[tuple[dict, Path]]:
        for line in lines:
            path = Path(line.decode("utf-8", "surrogateescape"))
            try:
                yield {"image_bytes": path.read_bytes()}, path
            except OSError as error:
                raise UserError(f"{path}: cannot be read: {error.strerror}.") from error

    def show(self, asked, answer):
        if not answer["valid"]:
            return f"{asked}: no image: neither JPEG nor PNG, broken or too large"
        return answer["caption"].replace("\n", " ")

    def echo(self, row, asked):
        return {"image": str(asked)}

    def pictured(self, asked, answer):
        return _gaze(asked.read_bytes(), answer)


class Description(generation.Generation):
    """Images to sentences; a task of this shape says where its examples come from."""

    Config = Config
    RequestFormat = RequestFormat
    request = {"image_bytes": tf.TensorSpec([None], tf.string, "image_bytes")}
    answer = "caption"
    reported = ("bleu",)

    def __init__(self, config, folder):
        super().__init__(config, folder)
        self._grid = None
        if config.encoder:
            file = folder / _encoder_file(config)
            self._encoder_file = tf.saved_model.Asset(str(file))
            try:
                grid, network = pretrained.frozen_encoder(
                    config.encoder, file, config.height, config.width
                )
            except ValueError as error:
                raise UserError(f"--encoder-weights {config.encoder_weights}: {error}") from error
            self._encoder_weights = [weight.value for weight in network.weights]
            self._grid, self._grid_shape = grid, network.output.shape[1:]

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
    def texts(cls, values):
        return values["captions"]

    def wanted(self, values):
        return values["captions"]

    def shown(self, example):
        return example.origin

    def pictured(self, example):
        return example.values["image_bytes"]

    def right(self, example, text):
        return {"exact": text in example.values["captions"]}

    def encode(self, values):
        pixels, valid = self._pixels(values["image_bytes"])
        pixels = tf.boolean_mask(pixels, valid)
        if self._grid:  # one by one, for many grids at once could fill the memory
            kind = tf.TensorSpec(self._grid_shape, tf.float32)
            pixels = tf.map_fn(lambda each: self._grid(each[None])[0], pixels, kind)
        captions = values["captions"]
        ids = self.subwords.encode(captions.flat_values)[:, : self.config.max_length]
        end = tf.fill([ids.nrows(), 1], END)
        ids = captions.with_flat_values(tf.concat([ids, end], axis=1)).merge_dims(1, 2)
        return {
            "image": pixels,
            "captions": tf.ragged.boolean_mask(ids, valid),
            "length": tf.boolean_mask(tf.cast(ids.row_lengths(), tf.int32), valid),
        }

    def _pixels(self, image_bytes):
        return images.pixels(image_bytes, self.config.height, self.config.width)

    def skip_reason(self):
        return "images that cannot be read"

    def tensors(self, encoded, *, learning):
        ids = encoded["captions"]  # of each image all its captions, each with its end
        flat, ends = tf.boolean_mask(ids, ids != PADDING), ids == END
        limits = tf.where(flat == END)[:, 0] + 1
        captions = tf.RaggedTensor.from_row_limits(flat, limits)
        count = tf.reduce_sum(tf.cast(ends, tf.int64), axis=1)
        after = tf.RaggedTensor.from_row_lengths(captions, count).to_tensor(PADDING)
        before = tf.pad(after[..., :-1], [[0, 0], [0, 0], [1, 0]], constant_values=START)
        there = after != PADDING
        before = tf.where(there, before, PADDING)
        return {"image": encoded["image"], "before": before}, after, tf.cast(there, tf.float32)

    def build(self, purpose="training"):
        c, trains = self.config, purpose != "serving"
        return captioner(
            image=tuple(self._grid_shape) if self._grid else (c.height, c.width, 3),
            vocabulary=len(self.subwords),
            cell=c.cell,
            units=c.units,
            layers=c.layers,
            embedding=c.embedding,
            filters=0 if self._grid else c.filters,
            sweeps=c.sweeps,
            attention=c.attention,
            input_feeding=c.input_feeding,
            dropout=c.dropout if trains else 0.0,
            implementation="auto" if trains else PORTABLE,
            dtype=c.precision if purpose == "training" else "float32",
        )

    # --- Serving -------------------------------------------------------------

    def signatures(self, model):
        image_bytes, writer = self.request["image_bytes"], self.writer(model)

        @tf.function(input_signature=[image_bytes])
        def serving_default(image_bytes):
            memory, longest = self.read(model, image_bytes)
            return self.best(writer.write(memory, longest)) | {"valid": longest > 0}

        @tf.function(input_signature=[image_bytes])
        def n_best(image_bytes):
            memory, longest = self.read(model, image_bytes)
            return self.n_best(writer.write(memory, longest)) | {"valid": longest > 0}

        @tf.function(input_signature=[image_bytes])
        def attend(image_bytes):
            memory, longest = self.read(model, image_bytes)
            found = writer.write(memory, longest)
            lengths = found.lengths[:, 0]
            tokens = found.tokens[:, 0, : tf.reduce_max(tf.concat([[0], lengths], 0))]
            weights = writer.attention(memory, tokens)
            grid = model.get_layer("grid").output.shape[1:3]
            grid = grid if self.config.attention == "grid" else (1, 1)
            return {
                "caption": self.subwords.decode(tokens),
                "tokens": self.subwords.pieces(tokens),
                "attention": tf.reshape(weights, tf.concat([tf.shape(tokens), grid], 0)),
                "lengths": lengths,
                "valid": longest > 0,
            }

        return {"serving_default": serving_default, "n_best": n_best, "attend": attend}

    def read(self, model, asked):
        pixels, valid = self._pixels(asked)
        # A convolution of oneDNN's gives no images another shape than it should.
        pixels = tf.pad(pixels, [[0, tf.maximum(1 - tf.shape(asked)[0], 0)], *[[0, 0]] * 3])
        encoder = keras.Model(model.input["image"], model.get_layer("memory").output)
        values = encoder(self._grid(pixels) if self._grid else pixels, training=False)
        memory = model.get_layer("decoder").prepare_memory(values[: tf.shape(asked)[0]])
        return memory, tf.where(valid, self.config.max_length, 0)

    def illustrate(self, ask, examples):
        shown = self.first(examples)
        answers = ask([self.row(example.values) for example in shown], "attend")
        return [
            _gaze(example.values["image_bytes"], answer)
            for example, answer in zip(shown, answers, strict=True)
        ]

    def inside(self, model, ask, row, at=""):
        (answer,) = ask([row], "attend")
        if not answer["valid"]:
            raise UserError("there is nothing to look at: no JPEG or PNG, broken or too large.")
        pieces = [piece.decode("utf-8") for piece in answer["tokens"][: answer["lengths"]]]
        before, after, _ = generation.taught(self.ids_of(pieces))
        pixels, _ = self._pixels(tf.constant([row["image_bytes"]]))
        strength = self._strength(model, pixels, before, after[0])
        tokens = inspection.numbered(pieces) or [MARKS[START]]
        at = inspection.chosen(at, tokens, strength.sum(axis=(1, 2))[None, : len(tokens)])
        with trace(model) as seen:
            grid = self._grid(pixels) if self._grid else pixels
            model({"image": grid, "before": before[:, None]}, training=False)
        looked = {"tokens": answer["tokens"], "lengths": answer["lengths"]}
        maps = inspection.relative(strength[: len(pieces)])
        attends = self.config.attention == "grid"
        return Inspection(
            answer=answer["caption"].decode("utf-8"),
            at=at,
            readings=[*_swept(seen, model), *self.decoded(seen, pieces)],
            saliency=_gaze(row["image_bytes"], {**looked, "attention": maps}),
            attention=_gaze(row["image_bytes"], answer) if attends else None,
            notes=[*self.notes_inside(), *([_LINES] if self.config.sweeps else [])],
        )

    def _strength(self, model, pixels, before, after):
        """The norm of the gradient of each subword at each pixel: (T, H, W)."""
        if self._grid:
            x = tf.cast(pixels[0], tf.float32)

            def logits_of(rows, several):
                return model({"image": self._grid(rows), "before": several}, training=False)
        else:
            first = model.get_layer("rescaled")
            onward = keras.Model([first.output, model.input["before"]], model.output)
            x = first(pixels)[0]

            def logits_of(rows, several):
                return onward([rows, several], training=False)

        def of(rows, which):
            several = tf.repeat(before[:, None], len(rows), axis=0)
            return inspection.picked(logits_of(rows, several)[:, 0], which, after)

        return np.linalg.norm(inspection.gradients(of, x, len(after)), axis=-1)

    def limits(self):
        c = self.config
        return (
            f"Sees every image at {c.width} x {c.height} pixels, whatever its proportions, and "
            f"none of more than {images.LARGEST:,} pixels.",
            f"Writes no caption of more than {c.max_length} subwords.",
            "Its probabilities are those of the network and have not been calibrated.",
        )


def _encoder_file(config) -> str:
    """What the weights of the encoder are called among the assets: Keras tells formats by it."""
    now = config.encoder_weights.endswith(".weights.h5")
    return "encoder.weights.h5" if now else "encoder.h5"  # as those to be downloaded are


def _swept(seen, model) -> list[Reading]:
    """What the cells did that read the grid, of the line through its middle."""
    readings = []
    for each in seen:
        if each.place.startswith(AXES):
            name, at = each.place.split("/")[0].split("_")
            lines, steps = model.get_layer("grid").output.shape[1:3][
                :: 1 if name == AXES[0] else -1
            ]
            told = [str(step + 1) for step in range(steps)]
            which = lines // 2
            what = f"sweep along {name}, {name[:-1]} {which + 1} of {lines}"
            readings.append(inspection.reading(each, what, told, row=which, layer=int(at)))
    return readings


def _gaze(image_bytes, answer) -> AttentionMaps:
    """What an answer of `attend` shows: subwords joined to words, each with their mean map."""
    words, maps = [], []
    length = answer["lengths"]
    for piece, weights in zip(answer["tokens"][:length], answer["attention"][:length], strict=True):
        piece = piece.decode("utf-8") if isinstance(piece, bytes) else piece
        if words and not piece.startswith(BLANK):
            words[-1] += piece
            maps[-1].append(weights)
        else:
            words.append(piece.removeprefix(BLANK))
            maps.append([weights])
    return AttentionMaps(image_bytes, words, [np.mean(some, axis=0) for some in maps])
