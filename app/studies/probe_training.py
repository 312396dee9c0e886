"""Training and evaluation of one cell on one probe."""

import math
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from app.studies.probe_settings import Config
from app.training.batches import prefetched
from models.networks.probe_network import reader
from models.networks.tree_network import tree_reader
from tasks import probes

_PREDICT_BATCH = 250


def network(probe: probes.Probe, config: Config, dtype: str = "float32") -> keras.Model:
    """Returns the untrained network for a probe."""
    shared = {
        "features": probe.features,
        "outputs": probe.outputs,
        "cell": config.cell,
        "units": config.units,
        "layers": config.layers,
        "return_sequences": probe.per_step,
        "dtype": dtype,
    }
    if config.tree:
        return tree_reader(embedding=config.embedding, **shared)
    return reader(embedding=config.embedding if probe.symbols else 0, **shared)


def network_inputs(
    probe: probes.Probe, config: Config, inputs: np.ndarray
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """Returns the inputs of the network for those of a batch: themselves, or nodes and parents."""
    return probe.trees(inputs) if config.tree else inputs


def loss(probe: probes.Probe) -> keras.losses.Loss:
    """Returns the probe's loss, averaged over the steps that have a target."""
    kinds = {
        "number": keras.losses.MeanSquaredError,
        "class": keras.losses.SparseCategoricalCrossentropy,
        "bits": keras.losses.BinaryCrossentropy,
    }
    kwargs = {} if probe.kind == "number" else {"from_logits": True}
    return kinds[probe.kind](reduction="mean_with_sample_weight", **kwargs)


def optimizer(config: Config) -> keras.optimizers.Optimizer:
    """Returns Adam with the gradient clipping of the config."""
    clip = {"global_clipnorm": config.clip_norm or None, "clipvalue": config.clip_value or None}
    return keras.optimizers.Adam(config.learning_rate, **clip)


def batches(probe: probes.Probe, config: Config) -> tf.data.Dataset:
    """Returns an endless dataset of training batches, a function of the seed."""
    rng = np.random.default_rng([config.seed, 1])

    def generate():
        while True:
            inputs, targets, weights = probe.draw(rng, config.batch)
            yield network_inputs(probe, config, inputs), targets, weights

    sample = probe.draw(np.random.default_rng(0), 2)
    inputs, targets = (tf.TensorSpec([None] * array.ndim, array.dtype) for array in sample[:2])
    if not probe.symbols:
        inputs = tf.TensorSpec([None, None, probe.features], tf.float32)
    weights = tf.TensorSpec([None] * sample.weights.ndim, tf.float32)
    signature = ((inputs, inputs) if config.tree else inputs, targets, weights)
    dataset = tf.data.Dataset.from_generator(generate, output_signature=signature)
    return prefetched(dataset)


def measure(
    probe: probes.Probe, config: Config, log: Callable[[str], None] = lambda line: None
) -> dict[str, object]:
    """Trains a cell on a probe, and evaluates it.

    Args:
        probe: Probe to train on.
        config: Training settings.
        log: Called with a line after each evaluation.

    Returns:
        "scores" on the test part and on external test parts; "history", the scores, loss and
        steps of each evaluation; "parameters" of the network; "seconds" of training, and
        "cpu_seconds" of the process, which other processes lengthen less. If the loss becomes
        non-finite, training stops and the scores are nan.
    """
    keras.utils.set_random_seed(config.seed)
    model = network(probe, config)
    model.compile(optimizer(config), loss(probe), jit_compile=False)
    stream, steps = iter(batches(probe, config)), config.steps
    evaluations = min(config.evaluations, steps)
    test, history, seconds, cpu_seconds = probe.test(), [], 0.0, 0.0
    test_inputs = network_inputs(probe, config, test.inputs)
    for number in range(evaluations):
        count = steps * (number + 1) // evaluations - steps * number // evaluations
        began, cpu_began = time.monotonic(), time.process_time()
        losses = [float(model.train_on_batch(*next(stream))) for _ in range(count)]
        seconds += time.monotonic() - began
        cpu_seconds += time.process_time() - cpu_began
        scores = probe.score(test, outputs(model, test_inputs))
        history.append({"steps": steps * (number + 1) // evaluations, "loss": losses[-1], **scores})
        log(", ".join(f"{name} {value:.4g}" for name, value in history[-1].items()))
        if not math.isfinite(losses[-1]):
            break
    for name, part in probe.external_tests().items():
        scores |= probe.score_external(name, outputs(model, part.inputs))
    return {
        "scores": scores if math.isfinite(losses[-1]) else dict.fromkeys(scores, math.nan),
        "history": history,
        "parameters": model.count_params(),
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu_seconds, 2),
    }


def outputs(model: keras.Model, inputs: np.ndarray | tuple[np.ndarray, ...]) -> np.ndarray:
    """Returns the outputs of a network, computed in batches; of `network_inputs`."""
    arrays = inputs if isinstance(inputs, tuple) else (inputs,)
    starts = range(0, len(arrays[0]), _PREDICT_BATCH)
    batches = [[array[start : start + _PREDICT_BATCH] for array in arrays] for start in starts]
    return np.concatenate(
        [model.predict_on_batch(batch if len(batch) > 1 else batch[0]) for batch in batches]
    )
