"""Inspection of a classifier."""

import tensorflow as tf

from models.cells.tracing import trace
from models.text.words import PADDING, split
from tasks.core import inspection
from tasks.core.errors import UserError
from tasks.core.inspection import Inspection
from tasks.shapes.classification.targets.target import linear_path_share


class Inspector(inspection.Inspector):
    """Gates and states of the reader, and the saliency of each word for what is predicted."""

    def inspect(self, row: dict, token: str = "") -> Inspection:
        text = tf.constant([row["text"]])
        words = [word.decode("utf-8") for word in split(text)[0].numpy()]
        if not words:
            raise UserError("nothing to inspect: the text contains no words.")
        (response,) = self.predictor.predict([row])
        explanation = self.task.target.explain(response)
        ids = self.task.ids(text).to_tensor(PADDING)
        read = words[: ids.shape[1]]
        saliency = inspection.token_saliency(
            self.model,
            self.model.get_layer("reader").input[0],
            {"ids": ids},
            lambda outputs, _: explanation.value(outputs),
            (read, [explanation.name]),
            explanation.quantity,
        )
        weights = saliency.contributions.weights
        token = inspection.select_token(token, inspection.numbered_tokens(read), weights)
        with trace(self.model) as traces:
            self.model(ids, training=False)
        notes = []
        if len(read) < len(words):
            notes.append(f"The model reads only the first {len(read)} of {len(words)} words.")
        if share := linear_path_share(self.model).get("linear_path_share"):
            notes.append(
                "The linear path, which counts words and word pairs, accounts for "
                f"{100 * share:.0f} % of the logits. The saliency does not include it."
            )
        return Inspection(
            response=explanation.text,
            token=token,
            readings=[inspection.reading(cell, "reader", read) for cell in traces],
            saliency=saliency,
            notes=notes,
        )
