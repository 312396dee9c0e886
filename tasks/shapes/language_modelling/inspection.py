"""Inspection of a language model."""

import tensorflow as tf

from models.cells.tracing import trace
from models.text.words import PADDING
from tasks.core import inspection
from tasks.core.errors import UserError
from tasks.core.inspection import Inspection


class Inspector(inspection.Inspector):
    """Gates and states of the reader, and the saliency of each token for those that follow."""

    def inspect(self, row: dict, token: str = "") -> Inspection:
        tokens = self.task.tokens
        following = self.task.ids(tf.constant([row["text"]]))
        if not following.row_lengths()[0]:
            raise UserError("nothing to inspect: the text has no tokens.")
        before = tf.concat([[[tokens.start]], following], axis=1)[:, :-1].to_tensor(PADDING)
        read, target = ([p.decode("utf-8") for p in tokens.pieces(ids).numpy()[0]]
                        for ids in (before, following.to_tensor(PADDING)))  # fmt: skip
        (response,) = self.predictor.predict([row])
        saliency = inspection.token_saliency(
            self.model,
            self.model.get_layer("reader").input,
            {"ids": before},
            lambda logits, indices: inspection.target_log_probability(
                logits, indices, following[0]
            ),
            (read, target),
        )
        weights = saliency.contributions.weights
        token = inspection.select_token(token, inspection.numbered_tokens(read), weights)
        with trace(self.model) as traces:
            self.model(before, training=False)
        notes = []
        if following.flat_values[-1] != tokens.end:
            notes.append(f"The model scores only the first {len(target)} tokens.")
        return Inspection(
            response=f"perplexity {response['perplexity']:.4g}",
            token=token,
            readings=[inspection.reading(cell, "reader", read) for cell in traces],
            saliency=saliency,
            notes=notes,
        )
