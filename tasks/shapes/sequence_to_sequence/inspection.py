"""Inspection of a sequence-to-sequence model."""

import tensorflow as tf

from models.cells.tracing import trace
from models.text.subwords import END, MARKS
from tasks.core import inspection
from tasks.core.errors import UserError
from tasks.core.inspection import Inspection
from tasks.shapes import generation
from tasks.shapes.sequence_to_sequence.requests import alignment


class Inspector(generation.Inspector):
    """Gates and states of encoder and decoder, saliency, and attention weights."""

    def inspect(self, row: dict, token: str = "") -> Inspection:
        (response,) = self.predictor.predict([row], "align")
        attention = alignment(response)
        if not attention.source:
            raise UserError("nothing to inspect: the text is empty.")
        previous, following, _ = generation.teacher_forcing(self.piece_ids(attention.target))
        inputs = {"source": self.task.source_ids(tf.constant([row["text"]])), "before": previous}
        saliency = inspection.token_saliency(
            self.model,
            self.model.get_layer("embedding").output,
            inputs,
            lambda logits, indices: inspection.target_log_probability(
                logits, indices, following[0]
            ),
            (attention.source, [*attention.target, MARKS[END]]),
        )
        tokens = [
            *inspection.numbered_tokens(attention.source),
            *inspection.numbered_tokens(attention.target),
        ]
        token = inspection.select_token(token, tokens, saliency.contributions.weights)
        with trace(self.model) as traces:
            self.model(inputs, training=False)
        encoder_readings = [
            inspection.reading(
                cell, "encoder", attention.source, first_layer=int(cell.place.split("_")[1])
            )
            for cell in traces
            if cell.place.startswith("encoder_")
        ]
        return Inspection(
            response=response["translation"].decode("utf-8"),
            token=token,
            readings=[*encoder_readings, *self.decoder_readings(traces, attention.target)],
            saliency=saliency,
            attention=None if self.task.config.attention == "none" else attention,
            notes=self.decoder_notes(),
        )
