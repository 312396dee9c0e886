"""One cell on one probe: how well it learns what only memory can."""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf

from models.cells import specs
from models.networks.probe_network import reader
from tasks import probes
from tasks.core.errors import UserError
from tasks.core.settings import CELL_HELP, check, find_cell, setting

_JUDGED_AT_ONCE = 250
_LEFT = ("batch", "steps", "learning_rate")  # 0 leaves them to the probe


@dataclasses.dataclass(frozen=True)
class Config:
    """How a cell is trained on a probe."""

    cell: str = setting("lstm", CELL_HELP)
    units: int = setting(64, "units of each layer", at_least=1)
    layers: int = setting(1, "recurrent layers", at_least=1)
    embedding: int = setting(32, "features of an embedded symbol", at_least=1)
    batch: int = setting(0, "examples of a batch; 0: as the probe has it", at_least=0)
    steps: int = setting(0, "batches to learn from; 0: as the probe has it", at_least=0)
    evaluations: int = setting(5, "times that the test part is judged", at_least=1, old_name="looks")
    learning_rate: float = setting(0.0, "learning rate of Adam; 0: as the probe has it", at_least=0, old_name="rate")
    clip_norm: float = setting(1.0, "largest norm of all gradients together; 0: any", at_least=0)
    clip_value: float = setting(0.0, "largest absolute value of a gradient; 0: any", at_least=0)
    seed: int = setting(0, "of weights and examples", at_least=0)

    def __post_init__(self):
        check(self)
        find_cell(self.cell)


def network(probe: probes.Probe, config: Config, dtype: str = "float32") -> keras.Model:
    """The network of a probe, not yet trained."""
    return reader(
        features=probe.features,
        outputs=probe.outputs,
        cell=config.cell,
        units=config.units,
        layers=config.layers,
        embedding=config.embedding if probe.symbols else 0,
        each=probe.per_step,
        dtype=dtype,
    )


def loss(probe: probes.Probe) -> keras.losses.Loss:
    """What is lessened: the mean over what is asked of the probe's own loss."""
    kinds = {
        "number": keras.losses.MeanSquaredError,
        "class": keras.losses.SparseCategoricalCrossentropy,
        "bits": keras.losses.BinaryCrossentropy,
    }
    told = {} if probe.kind == "number" else {"from_logits": True}
    return kinds[probe.kind](reduction="mean_with_sample_weight", **told)


def optimizer(config: Config) -> keras.optimizers.Optimizer:
    """Adam, with its gradients clipped as the settings say."""
    clip = {"global_clipnorm": config.clip_norm or None, "clipvalue": config.clip_value or None}
    return keras.optimizers.Adam(config.learning_rate, **clip)


def batches(probe: probes.Probe, config: Config) -> tf.data.Dataset:
    """What to learn from: batches without end, a function of the seed."""
    rng = np.random.default_rng([config.seed, 1])

    def drawn():
        while True:
            yield tuple(probe.draw(rng, config.batch))

    sample = probe.draw(np.random.default_rng(0), 2)
    told = tuple(tf.TensorSpec([None] * each.ndim, each.dtype) for each in sample[:2])
    if not probe.symbols:
        told = (tf.TensorSpec([None, None, probe.features], tf.float32), told[1])
    weights = tf.TensorSpec([None] * sample.weights.ndim, tf.float32)
    dataset = tf.data.Dataset.from_generator(drawn, output_signature=(*told, weights))
    return dataset.prefetch(4)


def measure(
    probe: probes.Probe, config: Config, told: Callable[[str], None] = lambda line: None
) -> dict:
    """Trains a cell on a probe, and judges it.

    Args:
        probe: The probe.
        config: How.
        told: Is given a line after each look at the test part.

    Returns:
        "scores" of the test part, those of parts from elsewhere among them; "history", the
        same after each look, with the steps taken; "parameters" and "seconds" of training.
        Where the loss is no number any more the scores are nan.
    """
    keras.utils.set_random_seed(config.seed)
    model = network(probe, config)
    model.compile(optimizer(config), loss(probe), jit_compile=False)
    stream, steps = iter(batches(probe, config)), config.steps
    evaluations = min(config.evaluations, steps)
    test, history, seconds = probe.test(), [], 0.0
    for number in range(evaluations):
        count = steps * (number + 1) // evaluations - steps * number // evaluations
        began = time.monotonic()
        lost = [float(model.train_on_batch(*next(stream))) for _ in range(count)]
        seconds += time.monotonic() - began
        scores = probe.score(test, outputs(model, test.inputs))
        history.append({"steps": steps * (number + 1) // evaluations, "loss": lost[-1], **scores})
        told(", ".join(f"{name} {value:.4g}" for name, value in history[-1].items()))
        if not math.isfinite(lost[-1]):
            break
    for name, part in probe.external_tests().items():
        scores |= probe.score_external(name, outputs(model, part.inputs))
    return {
        "scores": scores if math.isfinite(lost[-1]) else dict.fromkeys(scores, math.nan),
        "history": history,
        "parameters": model.count_params(),
        "seconds": round(seconds, 2),
    }


def outputs(model: keras.Model, inputs: np.ndarray) -> np.ndarray:
    """What a network gives for inputs, a few at once."""
    some = [inputs[at : at + _JUDGED_AT_ONCE] for at in range(0, len(inputs), _JUDGED_AT_ONCE)]
    return np.concatenate([model.predict_on_batch(each) for each in some])


def of_settings(name: str, settings: Mapping) -> tuple[probes.Probe, Config]:
    """The probe and the config that settings tell, each of which belongs to one of them.

    What the config leaves to the probe is as the probe has it.
    """
    probe = probes.find(name)
    own = {field.name for field in dataclasses.fields(probe)}
    told = {True: {}, False: {}}
    for key, value in settings.items():
        told[key in own][key] = value
    config = Config(**told[False])
    left = {key: getattr(probe, key) for key in _LEFT if not getattr(config, key)}
    return probe(**told[True]), dataclasses.replace(config, **left)
