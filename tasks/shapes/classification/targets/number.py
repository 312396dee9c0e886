"""A number."""

import array
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from models.layers.losses import ScaledHuber
from models.layers.mixture import fit_share_of_values
from models.networks.ensemble import ensemble
from tasks.core import calibration
from tasks.core.errors import UserError
from tasks.core.examples import Example
from tasks.shapes.classification import linear_path
from tasks.shapes.classification.settings import Config
from tasks.shapes.classification.targets import target
from tasks.shapes.classification.targets.number_evaluation import Evaluator
from tasks.shapes.classification.targets.target import Batches, Explanation, Target

if TYPE_CHECKING:
    from tasks.core.task import Task

_STATISTICS = "number.json"
_UNIT = ("mean", "standard_deviation")  # of the values, which weights have learnt


class Learner(target.Learner):
    """Measures the values, of each of which 8 bytes are held."""

    def __init__(self, config: Config):
        super().__init__(config)
        self._values = array.array("d")

    def add(self, example: Example) -> None:
        self._values.append(float(example.values["value"]))

    def write(self, folder: Path) -> None:
        values = np.array(self._values)
        if len(values) and np.ptp(values) == 0:
            raise UserError(
                f"all {len(values)} numbers of the train part are {values[0]:g}; --target number "
                "needs different ones."
            )
        if not len(values):
            raise UserError("the train part contains no numbers.")
        statistics = {
            "mean": values.mean(),
            "standard_deviation": values.std(),
            "median": np.median(values),
            "minimum": values.min(),
            "maximum": values.max(),
        }
        text = json.dumps({name: float(value) for name, value in statistics.items()}, indent=2)
        (folder / _STATISTICS).write_text(text, encoding="utf-8")


def continue_unit(base: Path, folder: Path) -> None:
    """Takes the unit of the values in `folder` from a task that is continued, if both have one.

    The range of the values and their median remain those of the new training part.
    """
    files = [path / _STATISTICS for path in (base, folder)]
    if not all(file.exists() for file in files):
        return
    old, new = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    new |= {name: old[name] for name in _UNIT}
    files[1].write_text(json.dumps(new, indent=2), encoding="utf-8")


class Number(Target):
    """A number: one output in units of the standard deviation of the training part."""

    Learner = Learner
    Evaluator = Evaluator
    key = "value"
    likelihood = linear_path.ValueLikelihood()
    ensemble_mean = "values"
    has_evidence = False
    outputs = 1

    def __init__(self, config: Config, folder: Path):
        super().__init__(config, folder)
        path = folder / _STATISTICS
        self._file = tf.saved_model.Asset(str(path))
        statistics = json.loads(path.read_text(encoding="utf-8"))
        self.mean, self.scale = statistics["mean"], statistics["standard_deviation"]
        self.median = statistics["median"]
        self.minimum, self.maximum = statistics["minimum"], statistics["maximum"]

    def encode(self, values: tf.Tensor | tf.RaggedTensor) -> tf.Tensor | tf.RaggedTensor:
        return tf.strings.to_number(values)

    def to_target(self, encoded: tf.Tensor) -> tf.Tensor:
        return encoded[:, None]

    def linear_targets(self, encoded: np.ndarray) -> np.ndarray:
        return (encoded - np.float32(self.mean)) / np.float32(self.scale)

    def head(self) -> list[keras.layers.Layer] | None:
        return [keras.layers.Rescaling(self.scale, self.mean, dtype="float32", name="unit")]

    def combine(self, networks: Sequence[keras.Model]) -> keras.Model:
        return ensemble(networks, self.ensemble_mean)  # of values in their unit already

    def distillation_loss(
        self,
        model: keras.Model,
        teacher_outputs: tf.Tensor,
        outputs: tf.Tensor,
        weight: tf.Tensor | None,
    ) -> tf.Tensor:
        return model.loss(teacher_outputs, outputs, sample_weight=weight)

    def compile(self, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
        model.compile(
            optimizer,
            loss=ScaledHuber(self.scale),
            weighted_metrics=[keras.metrics.MeanAbsoluteError("mean_absolute_error")],
            jit_compile=False,  # XLA would compile again for each length
        )

    def fit_on_valid(self, task: "Task", model: keras.Model, batches: Batches) -> None:
        if not target.has_linear_path(model):
            return
        network = target.unmixed(model)
        outputs, values = calibration.outputs_and_targets(task, network, batches, self.config.seed)
        values = self.linear_targets(values)[:, 0]
        target.mixed(
            model,
            outputs,
            lambda first, second: fit_share_of_values(first[:, 0], second[:, 0], values),
        )

    def fitted_on_valid(self, model: keras.Model) -> dict[str, float]:
        return target.linear_path_share(model)

    def signature_outputs(self, model: keras.Model, outputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"value": tf.clip_by_value(outputs[:, 0], self.minimum, self.maximum)}

    def explain(self, response: Mapping) -> Explanation:
        value = float(response["value"])
        text = f"{value:.4g}"
        return Explanation(text, text, lambda outputs: outputs[:, 0], "number")

    def limits(self) -> Sequence[str]:
        digits = max(0, 3 - math.floor(math.log10(self.scale)))
        low, high = (f"{value:.{digits}f}" for value in (self.minimum, self.maximum))
        return (
            f"The values are those of the training part, from {low} to {high}; others are never "
            "predicted.",
        )
