"""Measurements of gradient flow: in trained cells, in matrix powers, and under clipping."""

import dataclasses
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from app.studies import probe_settings, probe_training
from models.cells import jacobians
from models.cells.cell import GatedCell
from tasks import probes
from tasks.core.errors import UserError

RADII = (0.9, 1.0, 1.1, 1.5)  # spectral radii of the matrices
# Settings with which gradients of a vanilla unit explode in plain descent; found by trial.
CLIPPED = {"cell": "rnn", "length": 30, "learning_rate": 0.1, "steps": 400}
CLIPPED_PROBE, CLIPPED_RADIUS = "temporal_order", 1.1


@dataclasses.dataclass(frozen=True)
class Moment:
    """Measurements of a network at one point of training.

    Attributes:
        log_norms: Output of `jacobians.log_norms` for B test sequences, (B, T + 1).
        matrices: Output of `jacobians.recurrent_matrices`, (H, H) by name; empty if the cell
            has none.
        score: Main score of the probe on its test part.
    """

    log_norms: np.ndarray
    matrices: dict[str, np.ndarray]
    score: float

    @property
    def norms(self) -> np.ndarray:
        """Geometric mean of the norm over sequences, for each lag, (T + 1,)."""
        return np.exp(self.log_norms.mean(axis=0))

    def decay_lag(self, share: float) -> int | None:
        """Returns the first lag at which the mean norm is at most `share`, or None."""
        lags = np.flatnonzero(self.norms <= share)
        return int(lags[0]) if len(lags) else None


@dataclasses.dataclass(frozen=True)
class Trained:
    """Measurements of a cell before and after training."""

    label: str
    before: Moment
    after: Moment


@dataclasses.dataclass(frozen=True)
class Powers:
    """Powers of a matrix, and products of the Jacobians of a tanh unit that uses it.

    Attributes:
        kind: Distribution of the matrix.
        radius: Its spectral radius (largest absolute eigenvalue).
        linear: Logarithms of the norms of its powers 0 to T, (T + 1,).
        real: Output of `jacobians.log_norms` for the unit on B sequences, (B, T + 1).
    """

    kind: str
    radius: float
    linear: np.ndarray
    real: np.ndarray


@dataclasses.dataclass(frozen=True)
class Descent:
    """Record of plain gradient descent, one value per step.

    Attributes:
        losses: Loss before each step, (steps,).
        norms: Norm of the gradient of all weights, before clipping, (steps,).
        angles: Angle between the gradient and the clipped gradient, in degrees, (steps,).
        score: Main score of the probe after the last step.
    """

    losses: np.ndarray
    norms: np.ndarray
    angles: np.ndarray
    score: float


def train(
    label: str, probe: probes.Probe, config: probe_settings.Config, sequences: int
) -> Trained:
    """Trains a cell on a probe, and measures it before and after training.

    Args:
        label: Name of the cell in tables.
        probe: Probe with numeric inputs.
        config: Training settings.
        sequences: Number of test sequences to differentiate.

    Raises:
        UserError: Training diverged to non-finite weights.
    """
    keras.utils.set_random_seed(config.seed)
    model = probe_training.network(probe, config)
    model.compile(probe_training.optimizer(config), probe_training.loss(probe), jit_compile=False)
    test, stream = probe.test(), iter(probe_training.batches(probe, config))
    before = _moment(model, probe, test, sequences)
    for _ in range(config.steps):
        model.train_on_batch(*next(stream))
    if not all(np.isfinite(weight).all() for weight in model.get_weights()):
        raise UserError(
            f"{label} diverged with --learning-rate {config.learning_rate:g}; "
            "use a lower learning rate."
        )
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
    """Measures powers of matrices, and tanh units with the same matrices.

    Args:
        inputs: Input of the tanh unit, (B, T, D).
        units: Number of units, H; the matrices are (H, H).
        seed: Random seed of the matrices and of the unit's input weights.
    """
    keras.utils.set_random_seed(seed)
    cell = GatedCell(units, "rnn")
    cell.build((None, inputs.shape[-1]))
    results = []
    for kind, drawn in _matrices(units, seed).items():
        for radius in RADII:
            cell.recurrent_kernel.assign(radius * drawn)
            constant = np.broadcast_to(radius * drawn, (1, inputs.shape[1], units, units))
            real = jacobians.log_norms(jacobians.of_steps(cell, inputs))
            results.append(Powers(kind, radius, jacobians.log_norms(constant)[0], real))
    return results


def _matrices(units, seed):
    """Returns matrices of spectral radius 1, by the name of their distribution."""
    normal = np.random.default_rng(seed).normal(size=(units, units))
    return {
        "orthogonal": np.linalg.qr(normal)[0],
        "Gaussian": normal / np.abs(np.linalg.eigvals(normal)).max(),
    }


def descend(norm: float = 0.0, value: float = 0.0, **settings: object) -> Descent:
    """Runs plain gradient descent on a vanilla unit; the start does not depend on clipping.

    Its initial recurrent matrix is an orthogonal matrix times `CLIPPED_RADIUS`, so that gradients
    do not vanish at first.

    Args:
        norm: Global norm to clip to; 0 for no limit.
        value: Absolute value to clip to; 0 for no limit.
        **settings: Settings of `probe_settings.of_settings` that replace those in `CLIPPED`.
    """
    settings = {**CLIPPED, **settings, "clip_norm": norm, "clip_value": value}
    probe, config = probe_settings.of_settings(CLIPPED_PROBE, settings)
    keras.utils.set_random_seed(config.seed)
    model = probe_training.network(probe, config)
    kernel = model.get_layer("reader").cells[0].recurrent_kernel
    kernel.assign(CLIPPED_RADIUS * kernel)
    step, stream = _descending(model, probe, config), iter(probe_training.batches(probe, config))
    rows = np.array(
        [[float(number) for number in step(*next(stream))] for _ in range(config.steps)]
    )
    losses, norms, cosines = rows.T
    angles = np.degrees(np.arccos(np.minimum(cosines, 1.0)))
    return Descent(losses, norms, angles, _score(model, probe, probe.test()))


def _descending(model, probe, config) -> Callable:
    """Returns a step function: its loss, gradient norm, and cosine to the clipped gradient."""
    optimizer, loss = keras.optimizers.SGD(config.learning_rate), probe_training.loss(probe)
    optimizer.build(model.trainable_variables)

    @tf.function(autograph=False)
    def step(inputs, targets, weights):
        with tf.GradientTape() as tape:
            batch_loss = loss(targets, model(inputs, training=True), weights)
        raw = tape.gradient(batch_loss, model.trainable_variables)
        clipped = clip(raw, config.clip_norm, config.clip_value)
        optimizer.apply(clipped, model.trainable_variables)
        before, after = _concatenated(raw), _concatenated(clipped)
        cosine = tf.tensordot(before / tf.norm(before), after / tf.norm(after), 1)
        return batch_loss, tf.norm(before), cosine

    return step


def _concatenated(gradients):
    """Concatenates tensors into one float64 vector, for accurate angles."""
    return tf.cast(tf.concat([tf.reshape(gradient, [-1]) for gradient in gradients], 0), "float64")


def clip(gradients: Sequence[tf.Tensor], norm: float, value: float) -> list[tf.Tensor]:
    """Clips gradients by global norm, then by absolute value; 0 disables a limit."""
    clipped = list(gradients)
    if norm:
        clipped, _ = tf.clip_by_global_norm(clipped, norm)
    if value:
        clipped = [tf.clip_by_value(gradient, -value, value) for gradient in clipped]
    return clipped
