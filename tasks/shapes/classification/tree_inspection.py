"""Inspection of a classifier of trees."""

import dataclasses

import numpy as np
import tensorflow as tf

from tasks.core import inspection
from tasks.core.errors import UserError
from tasks.core.evaluation import Alignment
from tasks.core.inspection import Inspection
from tasks.corpora import treebank


class Inspector(inspection.Inspector):
    """The saliency of each word for the label of the root; there are no gates by step."""

    def inspect(self, row: dict, token: str = "") -> Inspection:
        (response,) = self.predictor.predict([row])
        if not response["valid"]:
            raise UserError(
                "nothing to inspect: the text must be a tree such as "
                "(3 (2 It) (4 (2 's) (4 good))), and not too large."
            )
        words = np.array(treebank.parse(response["tree"].decode("utf-8")).words, object)
        explanation = self.task.target.explain(response)
        ids, trees = self.task.read(tf.constant([row["text"]]))
        saliency = inspection.token_saliency(
            self.model,
            self.model.get_layer("embedding").output,
            {"ids": ids, "parents": trees.parents},
            lambda outputs, _: explanation.value(outputs),
            (words, [explanation.name]),
            explanation.quantity,
        )
        is_word = words != ""
        weights = np.asarray(saliency.contributions.weights)
        rest = weights[:, ~is_word].sum()
        shown = Alignment(words[is_word].tolist(), [explanation.name], weights[:, is_word])
        return Inspection(
            response=f"{explanation.text}\n{response['tree'].decode('utf-8')}",
            token=inspection.select_token(
                token, inspection.numbered_tokens(shown.source), shown.weights
            ),
            readings=[],
            saliency=dataclasses.replace(saliency, contributions=shown),
            notes=[
                f"Nodes without a word have the other contributions, {rest:.3f} in total.",
                "Gates and states are shown of sequences only, not of trees.",
            ],
        )
