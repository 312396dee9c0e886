"""Classification of trees: a text is an s-expression, and each node has a label; `--trees`.

Signature, B texts:

    serving_default(text: string[B]) -> label: string[B], probability: float32[B],
        probabilities: float32[B, K], labels: string[B, K], tree: string[B], valid: bool[B]

`tree` is the text with the predicted label at each node. The labels in a request have no effect.
What is not a tree, or too large, is not `valid`: its label and tree are "", its probabilities 0.

Shapes: B texts, N nodes of the largest tree, K classes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from models.cells.tree import valid_trees
from models.networks.tree_network import tree_classifier
from models.text import trees
from models.text.words import PADDING, truncate_bytes
from tasks.core import task, word_vectors
from tasks.core.errors import UserError
from tasks.core.id_map import IdMap
from tasks.core.task import Purpose
from tasks.shapes.classification.task import Classification
from tasks.shapes.classification.tree_inspection import Inspector

# The word of nodes without a word: the first of the vocabulary. No word contains a bracket.
INNER = "( )"
_INNER_ID = 2


class TreeClassification(Classification):
    """Task of this shape with `trees` in its settings."""

    Inspector = Inspector
    layer_groups = {"embeddings": ["embedding"], "encoder": ["embedding", "reader_*"]}
    special_words = (INNER,)

    @property
    def _arity(self) -> int | None:
        return self.config.tree_arity or None

    @classmethod
    def _looked_up_words(cls, config, batch):
        words = _parsed([example.values["text"] for example in batch], config).words
        words = tf.ragged.boolean_mask(words, words != "")
        return cls._folded(config, words)

    def moved_inputs(self, id_maps: Mapping[str, IdMap]) -> Sequence[IdMap]:
        return ()

    def encode(self, values: dict[str, tf.Tensor]) -> dict[str, tf.Tensor | tf.RaggedTensor]:
        ids, batch = self.read(values["text"])
        length = tf.reduce_sum(tf.cast(batch.present, tf.int32), axis=1)
        labels = self.target.encode(batch.labels)
        rows = {"ids": ids, "parents": batch.parents, "labels": labels}
        length = tf.boolean_mask(length, batch.valid)
        encoded = {
            name: tf.RaggedTensor.from_tensor(tf.boolean_mask(row, batch.valid), length)
            for name, row in rows.items()
        }
        return {**encoded, "length": length}

    def skip_reason(self) -> str:
        return f"trees with more than {self.config.max_length} nodes"

    def read(self, text: tf.Tensor) -> tuple[tf.Tensor, trees.Trees]:
        """Returns the ids of nodes, (B, N) int32, and their trees; only valid ones have nodes."""
        batch = _parsed(text, self.config)
        valid = batch.valid & valid_trees(batch.parents, batch.present, self._arity)
        present = batch.present & valid[:, None]
        words = tf.where(batch.words == "", INNER, self._folded(self.config, batch.words))
        ids = tf.where(present, self.words.encode(words), PADDING)
        return ids, batch._replace(present=present, valid=valid)

    def to_inputs(self, encoded: dict[str, tf.Tensor], *, training: bool) -> tuple:
        ids, labels = encoded["ids"], encoded["labels"]
        is_labelled = (ids != PADDING) & (labels >= 0)  # others are padding, or unknown
        labels = tf.maximum(labels, 0)
        weights = tf.cast(is_labelled, tf.float32)
        if not training:  # scores are of roots
            weights *= tf.one_hot(0, tf.shape(ids)[1])
        elif (of_classes := self.target.sample_weights(labels)) is not None:
            weights *= of_classes
        return {"ids": ids, "parents": encoded["parents"]}, labels, weights

    def build(self, purpose: Purpose = "training") -> keras.Model:
        c, trainable = self.config, purpose != "serving"
        return tree_classifier(
            vocabulary=self._trained_size,
            vectors=self.vectors and self.vectors.layer(c.vectors_mode),
            classes=self.target.outputs,
            cell=c.cell,
            units=c.units,
            layers=c.layers,
            embedding=c.embedding,
            inner=_INNER_ID,
            arity=self._arity,
            dropout=c.dropout if trainable else 0.0,
            word_dropout=c.word_dropout if trainable else 0.0,
            head=self.target.head(),
            dtype=c.precision if purpose == "training" else "float32",
        )

    def distillation_loss(
        self,
        model: keras.Model,
        teacher_outputs: tf.Tensor,
        outputs: tf.Tensor,
        weight: tf.Tensor | None,
    ) -> tf.Tensor:
        return task.Task.distillation_loss(self, model, teacher_outputs, outputs, weight)

    def adapt(
        self,
        model: keras.Model,
        train: Iterable[dict[str, np.ndarray]],
        valid: Iterable[dict[str, np.ndarray]],
    ) -> None:
        if self.vectors:
            table = word_vectors.table(self._folder)
            model.get_layer("embedding").set_vectors(table, self.config.seed)

    def signatures(self, model: keras.Model) -> dict[str, Callable]:
        @tf.function(input_signature=[self.request["text"]], autograph=False)
        def classify(text):
            ids, batch = self.read(text)
            logits = model({"ids": ids, "parents": batch.parents}, training=False)
            # There may be no tree at all, but there is always a root.
            root = tf.pad(logits, [(0, 0), (0, 1), (0, 0)])[:, 0]
            response = self.target.signature_outputs(model, root)
            labels = self.target.names.decode(tf.argmax(logits, axis=-1))
            cut, limit = _cut(text, self.config), self.config.max_length
            response["tree"] = trees.relabel(cut, labels, limit)
            return _of_valid(response, batch.valid)

        return {"serving_default": classify}

    def id_signature(self, model: keras.Model) -> Callable:
        raise UserError(
            "the network reads trees, level by level in a loop; it is exported as a SavedModel "
            "only."
        )

    def limits(self) -> Sequence[str]:
        most = f" and {self._arity} children of a node" if self._arity else ""
        return (
            f"Reads trees with at most {self.config.max_length} nodes{most}; larger trees, and "
            "texts that are not trees, get `valid: false`.",
            *self.target.limits(),
        )


def _cut(text: tf.Tensor, config) -> tf.Tensor:
    """Returns the first bytes of texts (B,), in UTF-8."""
    text = truncate_bytes(text, config.max_length)
    return tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace")


def _parsed(text: tf.Tensor, config) -> trees.Trees:
    return trees.parse(_cut(text, config), config.max_length)


def _of_valid(response: dict[str, tf.Tensor], valid: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns a response with "", 0 or false in rows that are not valid, but for `labels`."""
    for name, values in response.items():
        if name == "labels":
            continue
        mask = valid if values.shape.rank == 1 else valid[:, None]
        response[name] = tf.where(mask, values, tf.zeros([], values.dtype))
    return {**response, "valid": valid}
