"""One of K classes."""

import collections
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from models.layers.losses import SmoothedCrossEntropy
from models.layers.macro_f1 import MacroF1
from models.layers.mixture import fit_share
from models.layers.temperature import Temperature, fit_temperature
from models.layers.threshold import Threshold, coverage_threshold, precision_threshold
from models.text.words import Vocabulary
from tasks.core import calibration, class_weights
from tasks.core.errors import UserError
from tasks.core.examples import Example
from tasks.core.summary import MAX_NUMBERS, measured_numbers
from tasks.shapes.classification import linear_path
from tasks.shapes.classification.evaluation import Evaluator
from tasks.shapes.classification.settings import Config
from tasks.shapes.classification.targets import target
from tasks.shapes.classification.targets.target import Batches, Explanation, Target

if TYPE_CHECKING:
    from tasks.core.task import Task

LABELS_FILE = "labels.txt"
_CLASS_WEIGHTS = "class_weights.json"  # only with --class-weights


class Learner(target.Learner):
    """Counts the classes."""

    def __init__(self, config: Config):
        super().__init__(config)
        self._counts = collections.Counter()

    def add(self, example: Example) -> None:
        self._counts[example.values["label"]] += 1

    def write(self, folder: Path) -> None:
        labels = self._counts
        if len(labels) < 2:
            raise UserError(
                f"the train part needs at least two classes, got {len(labels)}: {sorted(labels)}."
            )
        if numbers := measured_numbers(labels):
            raise UserError(
                f"the labels of the train part are {len(labels)} different numbers, such as "
                f"{numbers[0]} and {numbers[-1]}: this task predicts classes by default. Give "
                f"--target number to predict numbers, or round them to at most {MAX_NUMBERS} "
                "classes."
            )
        if self.config.class_weights != class_weights.NONE:
            weights = class_weights.resolve(self.config.class_weights, labels)
            class_weights.write(folder / _CLASS_WEIGHTS, weights)
        Vocabulary.write(folder / LABELS_FILE, sorted(labels))


class Classes(Target):
    """One of K classes: softmax, with a temperature and a threshold of confidence.

    Class attributes:
        reduction: Reduction of the loss, as in `keras.losses.Loss`.
        accuracy: Class of the metric.
    """

    Learner = Learner
    Evaluator = Evaluator
    likelihood = linear_path.ClassLikelihood()
    ensemble_mean = "probabilities"
    reduction = "sum_over_batch_size"
    accuracy = keras.metrics.SparseCategoricalAccuracy

    def __init__(self, config: Config, folder: Path):
        super().__init__(config, folder)
        self.names = Vocabulary(folder / LABELS_FILE, first=0)
        self.outputs = len(self.names)
        self._class_weights = None
        if config.class_weights != class_weights.NONE:
            path = folder / _CLASS_WEIGHTS
            self._class_weights_file = tf.saved_model.Asset(str(path))
            self._class_weights = class_weights.read(path, self.names.words)

    def rejection_reason(self, example: Example) -> str | None:
        label = example.values["label"]
        if label in self.names.words:
            return None
        return f"the train part has no class {label!r}"

    def encode(self, values: tf.Tensor | tf.RaggedTensor) -> tf.Tensor | tf.RaggedTensor:
        return self.names.encode(values)

    def to_target(self, encoded: tf.Tensor) -> tf.Tensor:
        return encoded

    def memberships(self, target: tf.Tensor) -> tf.Tensor:
        return tf.one_hot(target, self.outputs)

    def sample_weights(self, target: tf.Tensor) -> tf.Tensor | None:
        if self._class_weights is None:
            return None
        return tf.gather(self._class_weights, target)

    def documents(self, batches: Batches) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return ((batch["ids"], batch["label"]) for batch in batches)

    def linear_targets(self, encoded: np.ndarray) -> np.ndarray:
        return encoded

    def head(self) -> list[keras.layers.Layer] | None:
        return [
            Temperature(dtype="float32", name="calibration"),
            Threshold(dtype="float32", name="confidence"),
        ]

    def distillation_loss(
        self,
        model: keras.Model,
        teacher_outputs: tf.Tensor,
        outputs: tf.Tensor,
        weight: tf.Tensor | None,
    ) -> tf.Tensor:
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        return loss(tf.nn.softmax(teacher_outputs), outputs, sample_weight=weight)

    def compile(self, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
        metrics = [self.accuracy("accuracy")]
        if self.config.monitor == "macro_f1":
            metrics.append(MacroF1(self.outputs))
        model.compile(
            optimizer,
            loss=SmoothedCrossEntropy(self.config.label_smoothing, reduction=self.reduction),
            weighted_metrics=metrics,
            jit_compile=False,  # XLA would compile again for each length
        )

    def fit_on_valid(self, task: "Task", model: keras.Model, batches: Batches) -> None:
        c = self.config
        if not (target.has_linear_path(model) or c.calibrate or c.has_threshold):
            return
        network = target.unmixed(model)
        outputs, classes = calibration.logits_and_classes(task, network, batches, c.seed)
        logits = target.mixed(model, outputs, lambda *both: fit_share(*both, classes))
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

    def fitted_on_valid(self, model: keras.Model) -> dict[str, float]:
        fitted = {"temperature": float(model.get_layer("calibration").temperature.numpy())}
        fitted |= target.linear_path_share(model)
        if self.config.has_threshold:
            fitted["threshold"] = float(model.get_layer("confidence").threshold.numpy())
        return fitted

    def signature_outputs(self, model: keras.Model, outputs: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = tf.nn.softmax(outputs)
        labels = self.names.decode(tf.range(self.outputs))[None]
        probability = tf.reduce_max(probabilities, axis=-1)
        response = {
            "label": self.names.decode(tf.argmax(probabilities, axis=-1)),
            "probability": probability,
            "probabilities": probabilities,
            "labels": tf.tile(labels, [tf.shape(outputs)[0], 1]),
        }
        if self.config.has_threshold:
            threshold = model.get_layer("confidence").threshold
            response["confident"] = probability >= tf.convert_to_tensor(threshold)
        return response

    def explain(self, response: Mapping) -> Explanation:
        label = response["label"].decode("utf-8")
        index = self.names.words.index(label)
        return Explanation(
            f"{label} ({response['probability']:.3f})",
            label,
            lambda logits: tf.nn.log_softmax(logits)[:, index],
        )

    def limits(self) -> Sequence[str]:
        return (calibration.caveat(self.config.calibrate),)
