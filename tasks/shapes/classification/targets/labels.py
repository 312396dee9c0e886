"""Any of K labels: none, one or several."""

import collections
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from models.layers.macro_f1 import LabelF1
from models.layers.mixture import fit_share
from models.layers.temperature import Temperature, fit_temperature
from models.layers.threshold import Threshold, f1_threshold
from models.text.words import Vocabulary
from tasks.core import calibration
from tasks.core.errors import UserError
from tasks.core.examples import Example
from tasks.core.targets import SEPARATOR
from tasks.shapes.classification import linear_path
from tasks.shapes.classification.settings import Config
from tasks.shapes.classification.targets import target
from tasks.shapes.classification.targets.classes import LABELS_FILE
from tasks.shapes.classification.targets.labels_evaluation import Evaluator
from tasks.shapes.classification.targets.target import Batches, Explanation, Target

if TYPE_CHECKING:
    from tasks.core.task import Task

_MIN_POSITIVES = 5  # of a label in the validation part, for a threshold of its own


class Learner(target.Learner):
    """Counts the labels."""

    def __init__(self, config: Config):
        super().__init__(config)
        self._counts = collections.Counter()

    def add(self, example: Example) -> None:
        self._counts.update(example.values["label"])

    def write(self, folder: Path) -> None:
        if not self._counts:
            raise UserError("no text of the train part has a label; --target labels needs them.")
        Vocabulary.write(folder / LABELS_FILE, sorted(self._counts))


class Labels(Target):
    """Any of K labels: a sigmoid for each, with a common temperature and a threshold for each."""

    Learner = Learner
    Evaluator = Evaluator
    likelihood = linear_path.LabelLikelihood()
    ensemble_mean = "label_probabilities"

    def __init__(self, config: Config, folder: Path):
        super().__init__(config, folder)
        self.names = Vocabulary(folder / LABELS_FILE, first=0)
        self.outputs = len(self.names)

    def rejection_reason(self, example: Example) -> str | None:
        for label in example.values["label"]:
            if label not in self.names.words:
                return f"the train part has no label {label!r}"
        return None

    def encode(self, values: tf.Tensor | tf.RaggedTensor) -> tf.Tensor | tf.RaggedTensor:
        return self.names.encode(values) + 1  # 0 is padding

    def to_target(self, encoded: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.one_hot(encoded - 1, self.outputs), axis=1)

    def memberships(self, target: tf.Tensor) -> tf.Tensor:
        return target

    def documents(self, batches: Batches) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """A text with several labels counts in each of them, and one without labels in none."""
        for batch in batches:
            rows, columns = np.nonzero(batch["label"])
            yield batch["ids"][rows], batch["label"][rows, columns] - 1

    def linear_targets(self, encoded: np.ndarray) -> np.ndarray:
        labels = np.zeros((len(encoded), self.outputs), np.float32)
        rows, columns = np.nonzero(encoded)
        labels[rows, encoded[rows, columns] - 1] = 1
        return labels

    def head(self) -> list[keras.layers.Layer] | None:
        return [
            Temperature(dtype="float32", name="calibration"),
            Threshold([self.outputs], dtype="float32", name="thresholds"),
        ]

    def distillation_loss(
        self,
        model: keras.Model,
        teacher_outputs: tf.Tensor,
        outputs: tf.Tensor,
        weight: tf.Tensor | None,
    ) -> tf.Tensor:
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        return loss(tf.sigmoid(teacher_outputs), outputs, sample_weight=weight)

    def compile(self, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
        averages = ["micro", *(["macro"] if self.config.monitor == "macro_f1" else [])]
        model.compile(
            optimizer,
            loss=keras.losses.BinaryCrossentropy(
                from_logits=True, label_smoothing=self.config.label_smoothing
            ),
            weighted_metrics=[LabelF1(self.outputs, name, f"{name}_f1") for name in averages],
            jit_compile=False,  # XLA would compile again for each length
        )

    def fit_on_valid(self, task: "Task", model: keras.Model, batches: Batches) -> None:
        network = target.unmixed(model)
        outputs, labels = calibration.outputs_and_targets(task, network, batches, self.config.seed)
        decisions = labels.astype(int).reshape(-1)
        logits = target.mixed(
            model, outputs, lambda *both: fit_share(*map(_binary, both), decisions)
        )
        if self.config.calibrate:
            temperature = fit_temperature(_binary(logits), decisions)
            model.get_layer("calibration").temperature.assign(temperature)
            logits = logits / np.float32(temperature)
        probabilities = tf.sigmoid(logits).numpy()
        model.get_layer("thresholds").threshold.assign(fit_thresholds(probabilities, labels))

    def fitted_on_valid(self, model: keras.Model) -> dict[str, float]:
        thresholds = model.get_layer("thresholds").threshold.numpy()
        fitted = {"temperature": float(model.get_layer("calibration").temperature.numpy())}
        fitted |= target.linear_path_share(model)
        names = zip(self.names.words, thresholds, strict=True)
        return fitted | {f"threshold of {name}": float(value) for name, value in names}

    def signature_outputs(self, model: keras.Model, outputs: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = tf.sigmoid(outputs)
        thresholds = tf.convert_to_tensor(model.get_layer("thresholds").threshold)
        chosen = probabilities >= thresholds
        names = self.names.decode(tf.range(self.outputs))[None]
        labels = tf.tile(names, [tf.shape(outputs)[0], 1])
        separated = tf.strings.reduce_join(
            tf.stack([tf.fill(tf.shape(labels), SEPARATOR), labels], axis=-1), axis=-1
        )
        joined = tf.strings.reduce_join(tf.where(chosen, separated, ""), axis=-1)
        return {
            "label": tf.strings.regex_replace(joined, r"^\|", ""),
            "chosen": chosen,
            "probabilities": probabilities,
            "labels": labels,
        }

    def explain(self, response: Mapping) -> Explanation:
        chosen = [label.decode("utf-8") for label in response["labels"][response["chosen"]]]
        index = int(np.argmax(response["probabilities"]))
        name, probability = self.names.words[index], response["probabilities"][index]
        labels = SEPARATOR.join(chosen) or "no label"
        return Explanation(
            f"{labels} (most probable: {name}, {probability:.3f})",
            name,
            lambda logits: tf.math.log_sigmoid(logits)[:, index],
        )

    def limits(self) -> Sequence[str]:
        return (
            "A text may have any number of labels. The threshold of a label maximises its F1 on "
            f"the validation part; labels with fewer than {_MIN_POSITIVES} texts there have the "
            "threshold that maximises the F1 of all labels together.",
            calibration.caveat(self.config.calibrate),
        )


def fit_thresholds(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the threshold of each label, (K,), with the highest F1 of that label.

    A label with few positives has the threshold with the highest F1 of all labels together.

    Args:
        probabilities: Probabilities of labels, (N, K).
        labels: 1 for the labels of a text, (N, K).
    """
    common = f1_threshold(probabilities.reshape(-1), labels.reshape(-1))
    return np.array(
        [
            f1_threshold(probability, label) if label.sum() >= _MIN_POSITIVES else common
            for probability, label in zip(probabilities.T, labels.T, strict=True)
        ],
        np.float32,
    )


def _binary(logits: np.ndarray) -> np.ndarray:
    """Returns logits of labels, (N, K), as logits of two classes, (N * K, 2)."""
    logits = logits.reshape(-1)
    return np.stack([np.zeros_like(logits), logits], axis=1)
