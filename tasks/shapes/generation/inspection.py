"""What inspections of models with a decoder share."""

from collections.abc import Iterable, Sequence

import tensorflow as tf

from models.cells.tracing import CellTrace
from models.text.subwords import MARKS, START
from tasks.core import inspection
from tasks.core.inspection import Reading


class Inspector(inspection.Inspector):
    """Inspection of a decoder that writes subwords."""

    def piece_ids(self, pieces: Sequence[str]) -> tf.Tensor:
        """Returns the ids (1, T) of subwords that are given as a signature returns them."""
        subwords = self.task.subwords
        vocabulary = subwords.pieces(tf.range(len(subwords))).numpy()
        ids = {piece.decode("utf-8"): number for number, piece in enumerate(vocabulary)}
        return tf.constant([ids[piece] for piece in pieces], tf.int32)[None]

    def decoder_readings(self, traces: Iterable[CellTrace], pieces: Sequence[str]) -> list[Reading]:
        """Returns the readings of the decoder's cells, which read the previous subword."""
        decoder = [cell for cell in traces if cell.place.startswith("decoder/")]
        return [
            inspection.reading(cell, "decoder", [MARKS[START], *pieces], first_layer=layer)
            for layer, cell in enumerate(decoder)
        ]

    def decoder_notes(self) -> list[str]:
        """Returns remarks on the readings of the decoder."""
        if self.task.config.input_feeding:
            return ["The cells of a decoder with input feeding are not shown."]
        return ["At each step the decoder reads the subword that it wrote before."]
