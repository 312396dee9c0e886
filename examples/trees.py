"""Sentiment of trees: a label for each node, read by a binary `GatedTree`, trained and exported.

    python -m examples.trees                 # the embedded sample
    python -m examples.trees --data TREES    # train.txt, dev.txt, test.txt of a treebank
    python -m examples.trees --cell gru --out saved_models/trees/1

Files have a tree in each line, such as `(3 (2 It) (4 (2 's) (4 good)))`, as those of the Stanford
Sentiment Treebank. The exported signature reads the same, with any labels:

    serving_default(text: string[B]) -> label: string[B], probabilities: float32[B, K],
        labels: string[B, K], valid: bool[B]
"""

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from app import cli
from models.cells.tree import valid_trees
from models.networks.tree_network import tree_reader
from models.text import trees
from models.text.words import PADDING, Vocabulary
from tasks.core.examples import Stream
from tasks.core.settings import find_cell
from tasks.corpora import treebank
from tasks.corpora.samples import review_trees

ARITY = 2
BATCH = 25
FILES = {"train": "train.txt", "valid": "dev.txt", "test": "test.txt"}


class Encoder(tf.Module):
    """Texts to nodes, parents and labels, in training and in the served graph.

    Args:
        texts: Trees of the train part, whose words and labels are learnt.
        folder: Folder of the vocabularies.
    """

    def __init__(self, texts: Iterable[str], folder: Path):
        super().__init__()
        words, labels = Counter(), Counter()
        for text in texts:
            tree = treebank.parse(text)
            words.update(filter(None, tree.words))
            labels.update(tree.labels)
        Vocabulary.write(folder / "words.txt", [word for word, _ in words.most_common()])
        Vocabulary.write(folder / "labels.txt", sorted(labels))
        self.words = Vocabulary(folder / "words.txt")
        self.labels = Vocabulary(folder / "labels.txt", first=0)

    @property
    def features(self) -> int:
        """One more than the largest id of a node; that one is of nodes without a word."""
        return len(self.words) + 1

    def __call__(self, text: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns nodes, parents and labels, (B, N) int32, and which texts are valid, (B,) bool.

        Labels that training did not have are -1, as those of padding.
        """
        batch = trees.parse(text)
        valid = batch.valid & valid_trees(batch.parents, batch.present, ARITY)
        ids = tf.where(batch.words == "", len(self.words), self.words.encode(batch.words))
        nodes = tf.where(batch.present & valid[:, None], ids, PADDING)
        return nodes, batch.parents, self.labels.encode(batch.labels), valid


def corpus(data: str) -> Mapping[str, Stream]:
    """Returns the parts of a folder of trees, or of the embedded sample.

    Raises:
        UserError: While they are read: a line is not a binary tree, with file and line.
    """
    if data == "sample":
        return review_trees.parts()
    return {part: treebank.read(Path(data) / name, ARITY) for part, name in FILES.items()}


def batches(encoder: Encoder, texts: list[str], seed: int | None = None) -> tf.data.Dataset:
    """Returns batches of nodes and parents, labels, and weights of nodes, for `Model.fit`."""
    dataset = tf.data.Dataset.from_tensor_slices(texts)
    if seed is not None:
        dataset = dataset.shuffle(len(texts), seed)

    def encode(text):
        nodes, parents, labels, _ = encoder(text)
        return (nodes, parents), tf.maximum(labels, 0), tf.cast(labels >= 0, tf.float32)

    return dataset.batch(BATCH).map(encode).prefetch(2)


def train(
    encoder: Encoder, parts: Mapping[str, list[str]], cell: str, units: int, epochs: int
) -> keras.Model:
    """Trains on the labels of all nodes, and returns the best epoch by the loss on valid."""
    keras.utils.set_random_seed(0)
    labels = len(encoder.labels)
    model = tree_reader(
        features=encoder.features,
        outputs=labels,
        cell=cell,
        units=units,
        arity=ARITY,
        return_sequences=True,
    )
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )
    model.compile(keras.optimizers.Adam(5e-3, global_clipnorm=1.0), loss, jit_compile=False)
    best = keras.callbacks.EarlyStopping(patience=3, restore_best_weights=True)
    train_batches = batches(encoder, parts["train"], seed=0)
    valid_batches = batches(encoder, parts["valid"])
    model.fit(
        train_batches,
        validation_data=valid_batches,
        epochs=epochs,
        shuffle=False,  # the data set does it
        callbacks=[best],
        verbose=2,
    )
    return model


def evaluate(model: keras.Model, encoder: Encoder, texts: list[str]) -> dict[str, float]:
    """Returns the accuracy of the roots and of all nodes."""
    correct, weights, roots = [], [], []
    for inputs, labels, labelled in batches(encoder, texts):
        # A label that training did not have is never right.
        right = np.argmax(model(inputs, training=False), axis=-1) == labels.numpy()
        right &= labelled.numpy() > 0
        roots += right[:, 0].tolist()
        correct.append(float(np.sum(right)))
        weights.append(float(np.sum(labelled.numpy())))
    return {"root accuracy": sum(roots) / len(roots), "node accuracy": sum(correct) / sum(weights)}


def export(model: keras.Model, encoder: Encoder, folder: Path) -> None:
    """Writes a SavedModel for TensorFlow Serving."""
    served = tf.Module()
    served.encoder = encoder  # owns the tables and the assets
    # A server restores these variables alone; those of a Keras model that is an attribute are lost.
    served.variables_of_network = [weight.value for weight in model.weights]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
    def classify(text):
        nodes, parents, _, valid = encoder(text)
        logits = model((nodes, parents), training=False)
        # A text of the batch may have no tree, and all of them none: there is a first node anyway.
        root = tf.pad(logits, [(0, 0), (0, 1), (0, 0)])[:, 0]
        names = encoder.labels.decode(tf.range(len(encoder.labels)))
        return {
            "label": tf.where(valid, tf.gather(names, tf.argmax(root, axis=-1)), ""),
            "probabilities": tf.nn.softmax(root),
            "labels": tf.tile(names[None], (tf.shape(root)[0], 1)),
            "valid": valid,
        }

    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    signatures = {"serving_default": classify}
    tf.saved_model.save(served, str(folder), signatures=signatures, options=options)


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Trains, evaluates and exports; returns the scores on the test part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="sample", help="sample, or a folder of trees")
    parser.add_argument("--cell", default="lstm")
    parser.add_argument("--units", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--out", type=Path, help="folder of the SavedModel, which must not exist")
    args = parser.parse_args(argv)
    if find_cell(args.cell).random:
        parser.error(f"--cell must be without zoneout and recurrent dropout, got {args.cell}")
    if min(args.units, args.epochs) < 1:
        parser.error("--units and --epochs must be at least 1")
    if args.out and args.out.exists():
        parser.error(f"--out {args.out} exists")
    parts = {
        part: [example.values["text"] for example in examples]
        for part, examples in corpus(args.data).items()
    }
    with tempfile.TemporaryDirectory() as folder:
        encoder = Encoder(parts["train"], Path(folder))
        model = train(encoder, parts, args.cell, args.units, args.epochs)
        scores = evaluate(model, encoder, parts["test"])
        print(", ".join(f"{name} {value:.4f}" for name, value in scores.items()))
        if args.out:
            export(model, encoder, args.out)
    return scores


if __name__ == "__main__":
    cli.run(main)
