"""Inspection of an image-to-text model."""

from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf

from models.cells.tracing import CellTrace, trace
from models.layers.grid import AXES
from models.text.subwords import MARKS, START
from tasks.core import inspection
from tasks.core.errors import UserError
from tasks.core.inspection import Inspection, Reading
from tasks.shapes import generation
from tasks.shapes.image_to_text.requests import attention_maps


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
        gradient = self._gradient_norm(pixels, previous, following[0])
        tokens = inspection.numbered_tokens(pieces) or [MARKS[START]]
        sums = gradient.sum(axis=(1, 2))[None, : len(tokens)]
        token = inspection.select_token(token, tokens, sums)
        with trace(self.model) as traces:
            image = self.task.encode_pixels(pixels)
            self.model({"image": image, "before": previous[:, None]}, training=False)
        saliency = {
            "tokens": response["tokens"],
            "lengths": response["lengths"],
            "attention": inspection.relative(gradient[: len(pieces)]),
        }
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
            saliency=attention_maps(image_bytes, saliency),
            attention=attention,
            notes=notes,
        )

    def _gradient_norm(
        self, pixels: tf.Tensor, previous: tf.Tensor, targets: tf.Tensor
    ) -> np.ndarray:
        """Returns the norm of the gradient of each subword at each pixel, (T, H, W)."""
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

        return np.linalg.norm(inspection.gradients(log_probability, x, len(targets)), axis=-1)

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
