"""Inspection of an image-to-text model."""

from collections.abc import Iterable, Sequence

import keras
import numpy as np
import tensorflow as tf

from models.cells.tracing import CellTrace, trace
from models.layers.grid import AXES
from models.text.subwords import MARKS, START
from tasks.core import inspection
from tasks.core.errors import UserError
from tasks.core.inspection import Inspection, Reading, Saliency
from tasks.shapes import generation
from tasks.shapes.image_to_text.requests import attention_maps, word_starts

_PIXEL_NODES = 12  # of the quadrature; a network of images is slow


def _sums(values: np.ndarray, starts: Sequence[int]) -> np.ndarray:
    """Returns the sums of the values of subwords over words that start at given subwords."""
    return np.add.reduceat(values, starts) if len(starts) else values


class Inspector(generation.Inspector):
    """Gates and states of sweeps and decoder, saliency of pixels, and attention maps."""

    def inspect(self, row: dict, token: str = "") -> Inspection:
        image_bytes = row["image_bytes"]
        (response,) = self.predictor.predict([row], "attend")
        if not response["valid"]:
            raise UserError("nothing to inspect: neither JPEG nor PNG, damaged, or too large.")
        pieces = [piece.decode("utf-8") for piece in response["tokens"][: response["lengths"]]]
        previous, following, _ = generation.teacher_forcing(self.piece_ids(pieces))
        pixels, _ = self.task.pixels(tf.constant([image_bytes]))
        gradients, values, baselines = self._integrated_gradients(
            pixels, previous, following[0], len(pieces)
        )
        tokens = inspection.numbered_tokens(pieces) or [MARKS[START]]
        sums = np.abs(gradients).sum(axis=(1, 2))[None] if pieces else np.zeros((1, 1))
        token = inspection.select_token(token, tokens, sums)
        with trace(self.model) as traces:
            image = self.task.encode_pixels(pixels)
            self.model({"image": image, "before": previous[:, None]}, training=False)
        maps = attention_maps(image_bytes, {**response, "attention": gradients}, np.sum)
        starts = word_starts(pieces)
        saliency = Saliency(maps, *(_sums(ends, starts) for ends in (values, baselines)))
        attention = None
        if self.task.config.attention == "grid":
            attention = attention_maps(image_bytes, response)
        notes = self.decoder_notes()
        if self.task.config.sweeps:
            notes.append("Of the sweeps over the grid, the middle row and column are shown.")
        return Inspection(
            response=response["caption"].decode("utf-8"),
            token=token,
            readings=[*self._sweep_readings(traces), *self.decoder_readings(traces, pieces)],
            saliency=saliency,
            attention=attention,
            notes=notes,
        )

    def _integrated_gradients(
        self, pixels: tf.Tensor, previous: tf.Tensor, targets: tf.Tensor, count: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the contributions of pixels, (T, H, W), to the first subwords, and their ends."""
        if self.task.has_frozen_encoder:
            x = tf.cast(pixels[0], tf.float32)

            def logits(images, tokens):
                image = self.task.encode_pixels(images)
                return self.model({"image": image, "before": tokens}, training=False)
        else:
            rescaled = self.model.get_layer("rescaled")
            rest = keras.Model([rescaled.output, self.model.input["before"]], self.model.output)
            x = rescaled(pixels)[0]

            def logits(images, tokens):
                return rest([images, tokens], training=False)

        def log_probability(images, indices):
            tokens = tf.repeat(previous[:, None], len(images), axis=0)
            return inspection.target_log_probability(logits(images, tokens)[:, 0], indices, targets)

        results = inspection.integrated_gradients(log_probability, x, count, _PIXEL_NODES)
        return results[0].sum(axis=-1), *results[1:]

    def _sweep_readings(self, traces: Iterable[CellTrace]) -> list[Reading]:
        """Returns the readings of the sweeps along the middle row and column of the grid."""
        height, width = self.model.get_layer("grid").output.shape[1:3]
        readings = []
        for cell in traces:
            if not cell.place.startswith(AXES):
                continue
            axis, layer = cell.place.split("/")[0].split("_")
            lines, steps = (height, width) if axis == AXES[0] else (width, height)
            middle = lines // 2
            positions = [str(step + 1) for step in range(steps)]
            part = f"sweep along {axis}, {axis[:-1]} {middle + 1} of {lines}"
            readings.append(
                inspection.reading(cell, part, positions, row=middle, first_layer=int(layer))
            )
        return readings
