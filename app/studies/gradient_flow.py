"""What is measured of how far gradients reach: in cells, in matrices, and under clipping."""

import dataclasses
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from app.studies import probe_training
from models.cells import jacobians
from models.cells.cell import GatedCell
from tasks import probes
from tasks.core.errors import UserError

RADII = (0.9, 1.0, 1.1, 1.5)  # spectral radii of the linear case
# Where plain descent on a vanilla unit meets gradients that explode; found by trying.
CLIPPED = {"cell": "rnn", "length": 30, "learning_rate": 0.1, "steps": 400}
CLIPPED_PROBE, CLIPPED_RADIUS = "temporal_order", 1.1


@dataclasses.dataclass(frozen=True)
class Moment:
    """A network at one time.

    Attributes:
        log_norms: As `jacobians.log_norms` has them, of some test sequences, (B, T + 1).
        matrices: As `jacobians.recurrent_matrices` has them.
        score: The probe's first score, of its test part.
    """

    log_norms: np.ndarray
    matrices: dict[str, np.ndarray]
    score: float

    @property
    def norms(self) -> np.ndarray:
        """The geometric mean over sequences of the norm for each lag, (T + 1,)."""
        return np.exp(self.log_norms.mean(axis=0))

    def fallen(self, to: float) -> int | None:
        """The first lag over which the mean norm has fallen to a share; None if over none."""
        found = np.flatnonzero(self.norms <= to)
        return int(found[0]) if len(found) else None


@dataclasses.dataclass(frozen=True)
class Trained:
    """A cell before and after training."""

    label: str
    before: Moment
    after: Moment


@dataclasses.dataclass(frozen=True)
class Powers:
    """Products of one matrix alone, and of the Jacobians of a tanh unit that has it.

    Attributes:
        kind: How the matrix was drawn.
        radius: Its largest absolute eigenvalue.
        linear: Logs of the norms of its powers 0 to T, (T + 1,).
        real: `jacobians.log_norms` of the unit on some sequences, (B, T + 1).
    """

    kind: str
    radius: float
    linear: np.ndarray
    real: np.ndarray


@dataclasses.dataclass(frozen=True)
class Descent:
    """Plain gradient descent, step by step.

    Attributes:
        losses: Before each step.
        norms: Of the gradient of all weights, before it is clipped.
        angles: From the gradient to what clipping makes of it, in degrees.
        score: The probe's first score after the last step.
    """

    losses: np.ndarray
    norms: np.ndarray
    angles: np.ndarray
    score: float


def train(label: str, probe: probes.Probe, config: probe_training.Config, sequences: int) -> Trained:
    """Trains a cell on a probe, and measures it before and after.

    Args:
        label: What to call it.
        probe: The probe, of sequences of numbers.
        config: How.
        sequences: How many of the test part to differentiate.

    Raises:
        UserError: Its weights are no numbers any more.
    """
    keras.utils.set_random_seed(config.seed)
    model = probe_training.network(probe, config)
    model.compile(probe_training.optimizer(config), probe_training.loss(probe), jit_compile=False)
    test, stream = probe.test(), iter(probe_training.batches(probe, config))
    before = _moment(model, probe, test, sequences)
    for _ in range(config.steps):
        model.train_on_batch(*next(stream))
    if not all(np.isfinite(weight).all() for weight in model.get_weights()):
        raise UserError(f"{label} diverged; --learning-rate must be less for it, got {config.learning_rate:g}.")
    return Trained(label, before, _moment(model, probe, test, sequences))


def _moment(model, probe, test, sequences):
    cell = model.get_layer("reader").cells[0]
    return Moment(
        jacobians.log_norms(jacobians.of_steps(cell, test.inputs[:sequences])),
        jacobians.recurrent_matrices(cell),
        _score(model, probe, test),
    )


def _score(model, probe, test):
    return next(iter(probe.score(test, probe_training.outputs(model, test.inputs)).values()))


def powers(inputs: np.ndarray, units: int, seed: int) -> list[Powers]:
    """The linear case and the real one, of the same matrices.

    Args:
        inputs: What drives the tanh unit, (B, T, D).
        units: H; the matrices are (H, H).
        seed: Of the matrices and of how the unit sees its input.
    """
    keras.utils.set_random_seed(seed)
    cell = GatedCell(units, "rnn")
    cell.build((None, inputs.shape[-1]))
    found = []
    for kind, drawn in _matrices(units, seed).items():
        for radius in RADII:
            cell.recurrent_kernel.assign(radius * drawn)
            constant = np.broadcast_to(radius * drawn, (1, inputs.shape[1], units, units))
            real = jacobians.log_norms(jacobians.of_steps(cell, inputs))
            found.append(Powers(kind, radius, jacobians.log_norms(constant)[0], real))
    return found


def _matrices(units, seed):
    """Matrices of spectral radius 1 by the way in which they are drawn."""
    normal = np.random.default_rng(seed).normal(size=(units, units))
    return {
        "orthogonal": np.linalg.qr(normal)[0],
        "Gaussian": normal / np.abs(np.linalg.eigvals(normal)).max(),
    }


def descend(norm: float = 0.0, value: float = 0.0, **settings) -> Descent:
    """Plain gradient descent with a vanilla unit, from the same start however it is clipped.

    Its recurrent matrix is orthogonal times `CLIPPED_RADIUS` at first, so that gradients do not
    begin by vanishing.

    Args:
        norm, value: As `clip` takes them.
        **settings: Of `probing.of_settings`, instead of those of `CLIPPED`.
    """
    settings = {**CLIPPED, **settings, "clip_norm": norm, "clip_value": value}
    probe, config = probe_training.of_settings(CLIPPED_PROBE, settings)
    keras.utils.set_random_seed(config.seed)
    model = probe_training.network(probe, config)
    kernel = model.get_layer("reader").cells[0].recurrent_kernel
    kernel.assign(CLIPPED_RADIUS * kernel)
    step, stream = _descending(model, probe, config), iter(probe_training.batches(probe, config))
    rows = np.array([[float(each) for each in step(*next(stream))] for _ in range(config.steps)])
    losses, norms, cosines = rows.T
    angles = np.degrees(np.arccos(np.minimum(cosines, 1.0)))
    return Descent(losses, norms, angles, _score(model, probe, probe.test()))


def _descending(model, probe, config) -> Callable:
    """A step of descent: the loss, the gradient's norm, and its cosine with what is clipped."""
    optimizer, loss = keras.optimizers.SGD(config.learning_rate), probe_training.loss(probe)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(inputs, answers, weights):
        with tf.GradientTape() as tape:
            lost = loss(answers, model(inputs, training=True), weights)
        raw = tape.gradient(lost, model.trainable_variables)
        clipped = clip(raw, config.clip_norm, config.clip_value)
        optimizer.apply(clipped, model.trainable_variables)
        one, other = _in_a_row(raw), _in_a_row(clipped)
        return lost, tf.norm(one), tf.tensordot(one / tf.norm(one), other / tf.norm(other), 1)

    return step


def _in_a_row(gradients):
    """All numbers of some tensors in one vector, of which angles keep their digits."""
    return tf.cast(tf.concat([tf.reshape(each, [-1]) for each in gradients], 0), "float64")


def clip(gradients: Sequence[tf.Tensor], norm: float, value: float) -> list[tf.Tensor]:
    """Gradients scaled together to a norm, and each number cut to a value; 0: to any."""
    clipped = list(gradients)
    if norm:
        clipped, _ = tf.clip_by_global_norm(clipped, norm)
    if value:
        clipped = [tf.clip_by_value(each, -value, value) for each in clipped]
    return clipped
