"""Classification: data, network and signature."""

import collections
import math
from collections.abc import Collection

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from models.cells.recurrent import PORTABLE
from models.layers.losses import SmoothedCrossEntropy
from models.layers.macro_f1 import MacroF1
from models.layers.mixture import fit_share
from models.layers.temperature import Temperature, fit_temperature
from models.layers.threshold import Threshold, coverage_threshold, precision_threshold
from models.networks.classifier import classifier
from models.networks.ensemble import ensemble, is_ensemble, members
from models.text.words import PADDING, LossyCounter, Vocabulary, split, truncate_bytes
from tasks.core import calibration, class_weights, task
from tasks.core.errors import UserError
from tasks.shapes.classification import linear_path
from tasks.shapes.classification.evaluation import Evaluator
from tasks.shapes.classification.inspection import Inspector
from tasks.shapes.classification.requests import RequestFormat
from tasks.shapes.classification.settings import Config

_WORDS, _LABELS = "words.txt", "labels.txt"
_CLASS_WEIGHTS = "class_weights.json"  # only with --class-weights
_MAX_NUMBERS = 20  # different labels up to which numbers with decimals are classes
_BATCH_SIZE = 1024  # texts that are split together to count their words


class Classification(task.Task):
    """Task of this shape; a subclass adds its `Corpus`."""

    Config = Config
    RequestFormat = RequestFormat
    Evaluator = Evaluator
    Inspector = Inspector
    request = {"text": tf.TensorSpec([None], tf.string, "text")}

    def __init__(self, config, folder):
        super().__init__(config, folder)
        self.words = Vocabulary(folder / _WORDS)
        self.labels = Vocabulary(folder / _LABELS, first=0)
        self._linear_path = linear_path.buckets(
            config.linear_path, len(self.words), len(self.labels)
        )
        self._class_weights = None
        if config.class_weights != class_weights.NONE:
            path = folder / _CLASS_WEIGHTS
            self._class_weights_file = tf.saved_model.Asset(str(path))
            self._class_weights = class_weights.read(path, self.labels.words)

    @classmethod
    def _learn_assets(cls, config, train, folder):
        words, labels = LossyCounter(), collections.Counter()
        for batch in train.batches(_BATCH_SIZE):
            texts = tf.constant([example.values["text"] for example in batch])
            words.update(_words(texts, config).flat_values.numpy().tolist())
            labels.update(example.values["label"] for example in batch)
        if len(labels) < 2:
            raise UserError(
                f"the train part needs at least two classes, got {len(labels)}: {sorted(labels)}."
            )
        if numbers := _continuous(labels):
            raise UserError(
                f"the labels of the train part are {len(labels)} different numbers, such as "
                f"{numbers[0]} and {numbers[-1]}: this task predicts classes, and cannot predict "
                f"numbers. Round them to at most {_MAX_NUMBERS} classes."
            )
        if not words:
            raise UserError("the train part contains no words, only blanks.")
        if config.class_weights != class_weights.NONE:
            weights = class_weights.resolve(config.class_weights, labels)
            class_weights.write(folder / _CLASS_WEIGHTS, weights)
        # By count, then alphabetically, so that the order of the files does not matter.
        common = sorted(words.items(), key=lambda item: (-item[1], item[0]))[: config.vocabulary]
        Vocabulary.write(folder / _WORDS, (word.decode("utf-8") for word, _ in common))
        Vocabulary.write(folder / _LABELS, sorted(labels))

    def rejection_reason(self, example):
        label = example.values["label"]
        if label in self.labels.words:
            return None
        return f"the train part has no class {label!r}"

    def encode(self, values):
        ids = self.ids(values["text"])
        return {
            "ids": ids,
            "label": self.labels.encode(values["label"]),
            "length": tf.cast(ids.row_lengths(), tf.int32),
        }

    def ids(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Returns the word ids of texts (B,): (B, T) int32, truncated to `max_length`."""
        max_length = self.config.max_length
        words = _words(truncate_bytes(text, max_length), self.config)
        return self.words.encode(words[:, :max_length])

    def to_inputs(self, encoded, *, training):
        inputs, label = encoded["ids"], encoded["label"]
        if self.config.evidence:
            left_out = tf.one_hot(label, len(self.labels)) * (1.0 if training else 0.0)
            inputs = {"ids": inputs, "left_out": left_out}
        if self._class_weights is not None and training:
            return inputs, label, tf.gather(self._class_weights, label)
        return inputs, label

    def build(self, purpose="training"):
        c, trainable = self.config, purpose != "serving"
        return classifier(
            vocabulary=len(self.words),
            classes=len(self.labels),
            cell=c.cell,
            units=c.units,
            layers=c.layers,
            embedding=c.embedding,
            evidence=c.evidence,
            leaves_out=purpose == "training",
            linear_path=self._linear_path,
            dropout=c.dropout if trainable else 0.0,
            word_dropout=c.word_dropout if trainable else 0.0,
            implementation="auto" if trainable else PORTABLE,
            dtype=c.precision if purpose == "training" else "float32",
        )

    def combine(self, networks):
        def head(logits, _):
            logits = Temperature(dtype="float32", name="calibration")(logits)
            return Threshold(dtype="float32", name="confidence")(logits)

        return ensemble(networks, head=head)

    def adapt(self, model, train, valid):
        if self.config.evidence:
            model.get_layer("evidence").adapt(_ids_and_labels(train))
        if self._linear_path:
            linear_path.fit(
                model.get_layer("linear_path"),
                _ids_and_labels(train),
                _ids_and_labels(valid),
                self.config.seed,
            )

    def fit_on_valid(self, model, batches):
        c = self.config
        has_linear_path = self._linear_path and not is_ensemble(model)
        if not (has_linear_path or c.calibrate or c.has_threshold):
            return
        outputs = model.get_layer("mean" if is_ensemble(model) else "logits").output
        if has_linear_path:
            outputs = ops.concatenate([outputs, model.get_layer("linear_path").output], axis=-1)
        network = keras.Model(model.input, outputs)
        logits, classes = calibration.logits_and_classes(self, network, batches, c.seed)
        if has_linear_path:
            first, second = np.split(logits, 2, axis=1)
            share = fit_share(first, second, classes)
            model.get_layer("mixture").share.assign(share)
            logits = (1 - share) * first + share * second
        if c.calibrate:
            temperature = fit_temperature(logits, classes)
            model.get_layer("calibration").temperature.assign(temperature)
            logits = logits / np.float32(temperature)
        if c.has_threshold:
            probability = tf.reduce_max(tf.nn.softmax(logits), axis=-1).numpy()
            if c.coverage:
                threshold = coverage_threshold(probability, c.coverage)
            else:
                correct = np.argmax(logits, axis=-1) == classes
                threshold = precision_threshold(probability, correct, c.min_precision)
            model.get_layer("confidence").threshold.assign(threshold)

    def fitted_on_valid(self, model):
        fitted = {"temperature": float(model.get_layer("calibration").temperature.numpy())}
        if self._linear_path:
            shares = [member.get_layer("mixture").share.numpy() for member in members(model)]
            fitted["linear_path_share"] = float(np.mean(shares))
        if self.config.has_threshold:
            fitted["threshold"] = float(model.get_layer("confidence").threshold.numpy())
        return fitted

    def compile(self, model, optimizer):
        metrics = [keras.metrics.SparseCategoricalAccuracy("accuracy")]
        if self.config.monitor == "macro_f1":
            metrics.append(MacroF1(len(self.labels)))
        model.compile(
            optimizer,
            loss=SmoothedCrossEntropy(self.config.label_smoothing, reduction="sum_over_batch_size"),
            weighted_metrics=metrics,
            jit_compile=False,  # XLA would compile again for each length
        )

    def signatures(self, model):
        @tf.function(input_signature=[self.request["text"]])
        def classify(text):
            logits = model(self.ids(text).to_tensor(PADDING), training=False)
            probabilities = tf.nn.softmax(logits)
            labels = self.labels.decode(tf.range(len(self.labels)))[None]
            probability = tf.reduce_max(probabilities, axis=-1)
            outputs = {
                "label": self.labels.decode(tf.argmax(probabilities, axis=-1)),
                "probability": probability,
                "probabilities": probabilities,
                "labels": tf.tile(labels, [tf.shape(text)[0], 1]),
            }
            if self.config.has_threshold:
                threshold = model.get_layer("confidence").threshold
                outputs["confident"] = probability >= tf.convert_to_tensor(threshold)
            return outputs

        return {"serving_default": classify}

    def limits(self):
        return (
            f"Reads the first {self.config.max_length} tokens of a text and ignores the rest.",
            calibration.caveat(self.config.calibrate),
        )


def _ids_and_labels(batches):
    """Returns an iterator over the ids and the classes of encoded batches."""
    return ((batch["ids"], batch["label"]) for batch in batches)


def _words(text: tf.Tensor, config: Config) -> tf.RaggedTensor:
    """Returns the words of texts (B,) as they are looked up in the vocabulary, (B, T)."""
    words = split(text)
    if config.fold_case:
        words = words.with_flat_values(tf.strings.lower(words.flat_values, encoding="utf-8"))
    return words


def _continuous(labels: Collection[str]) -> list[str]:
    """Returns labels in ascending order if they are measured numbers; [] if they are classes.

    Whole numbers are classes, and so are few numbers with decimals, such as ratings.
    """
    try:
        numbers = {label: float(label) for label in labels}
    except ValueError:
        return []
    is_measured = len(numbers) > _MAX_NUMBERS and all(map(math.isfinite, numbers.values()))
    if not is_measured or all(number.is_integer() for number in numbers.values()):
        return []
    return sorted(numbers, key=numbers.__getitem__)
