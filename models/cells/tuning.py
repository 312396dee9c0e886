"""Choice of the implementation of a layer in training, by timing on this machine.

Which implementation is the fastest depends on the processor and on the sizes of a layer, more
than a rule can say. `tune` times a training step of a layer in each of those that compute it on
a CPU, and has the layer run the fastest one in training. Values differ by rounding only.

    >>> from models import GatedRNN
    >>> layer = GatedRNN(8, direction="both", return_sequences=True)
    >>> layer.build((None, None, 4))
    >>> tuning = tune(layer, batch=4, time=6)
    >>> layer.implementation_for(training=True) == tuning.implementation
    True

Shapes: B batch, T time, D input features.
"""

import contextlib
import dataclasses
import random
import statistics
import time as clock
from collections.abc import Callable, Iterator, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from .cell import GatedCell, Noise, Tensor
from .implementations import scan
from .recurrent import GatedRNN, implementations_of
from .tracing import implemented_by, recurrent_layers

CANDIDATES = ("loop", "block", "scan")
MARGIN = 0.9  # of the time of the rule's implementation, below which another one is chosen
SLOW = 2.0  # times the fastest, after one step, from which a candidate is not timed further
MIN_TIMES, MAX_TIMES = 5, 25  # steps of each candidate
SECONDS = 0.3  # of all steps together, once there are enough


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Sizes of the inputs of a layer, as a layer is timed.

    Attributes:
        batch: B.
        time: T.
        features: D.
        masked: Whether there is a mask.
    """

    batch: int
    time: int
    features: int
    masked: bool

    def rounded(self) -> "Sizes":
        """Returns the sizes with B and T rounded to powers of two, for a class of sizes."""
        batch, time = (2 ** round(np.log2(max(1, size))) for size in (self.batch, self.time))
        return dataclasses.replace(self, batch=batch, time=time)


@dataclasses.dataclass(frozen=True)
class Tuning:
    """Implementation of a layer in training, and what was timed.

    Attributes:
        implementation: Name of the implementation.
        milliseconds: Median time of a training step by implementation, that of the rule first.
        batch: B of the step.
        time: T of the step.
    """

    implementation: str
    milliseconds: Mapping[str, float]
    batch: int
    time: int

    def sentence(self) -> str:
        """Returns the implementation and all times, in one line."""
        times = ", ".join(f"{name} {value:.3g}" for name, value in self.milliseconds.items())
        return f"{self.implementation} (ms for {self.batch} × {self.time} steps: {times})"


def candidates(layer: GatedRNN, time: int) -> list[str]:
    """Returns the names of the implementations that are timed, that of the rule first.

    There are none, and nothing to choose, if the layer names its implementation or has
    checkpoints, on a GPU, and on other backends than TensorFlow.

    Args:
        layer: The layer.
        time: T, on which the rule for cells with linear states depends.
    """
    if layer.implementation != "auto" or layer.checkpoint_every:
        return []
    if keras.backend.backend() != "tensorflow":
        return []
    if tf.config.get_visible_devices("GPU"):
        return []
    available = implementations_of(layer.spec, "cpu", layer.compute_dtype)
    names = [name for name in CANDIDATES if name in available]
    if "scan" in names and time > scan.CHUNK:
        names.sort(key=lambda name: name != "scan")
    return names


def tune(layer: GatedRNN, batch: int, time: int, *, masked: bool = True) -> Tuning | None:
    """Times training steps of a layer, and has it run the fastest implementation in training.

    Args:
        layer: A layer, built.
        batch: B, a usual number of rows.
        time: T, a usual number of steps.
        masked: Whether its calls have a mask.

    Returns:
        What was timed, which is also `layer.tuning`; None if there is nothing to choose from.
        Another implementation than that of the rule must take less than `MARGIN` of its time.
    """
    sizes = Sizes(batch, time, layer.input_spec.axes[-1], masked)
    names = candidates(layer, time)
    if len(names) > 1:
        layer.tuning = choose(measure(layer, names, sizes), sizes)
    return layer.tuning


def choose(milliseconds: Mapping[str, float], sizes: Sizes) -> Tuning:
    """Returns the choice that times imply; the first one is that of the rule's implementation."""
    rule, fastest = next(iter(milliseconds)), min(milliseconds, key=milliseconds.get)
    is_faster = milliseconds[fastest] < MARGIN * milliseconds[rule]
    return Tuning(fastest if is_faster else rule, milliseconds, sizes.batch, sizes.time)


def measure(layer: GatedRNN, names: Sequence[str], sizes: Sizes) -> dict[str, float]:
    """Returns the median milliseconds of a training step of a layer, by implementation.

    Steps of copies of the layer are timed, in turns; the weights of the layer and Python's
    random numbers are not touched.
    """
    with _random_state():
        calls = {name: _training_step(layer, name, sizes) for name in names}
    for call in calls.values():
        call()  # traces
    times = {name: [_seconds(call)] for name, call in calls.items()}
    fastest = min(first for (first,) in times.values())
    calls = {name: call for name, call in calls.items() if times[name][0] < SLOW * fastest}
    end = clock.perf_counter() + SECONDS
    for count in range(MAX_TIMES if len(calls) > 1 else 0):
        if count >= MIN_TIMES and clock.perf_counter() > end:
            break
        for name, call in calls.items():
            times[name].append(_seconds(call))
    return {name: 1000 * statistics.median(values) for name, values in times.items()}


def input_sizes(model: keras.Layer, inputs: Tensor | Mapping[str, Tensor]) -> dict[str, Sizes]:
    """Returns the sizes of the inputs of each recurrent layer in a call of a model, by its path.

    Layers whose cells are run one step at a time are not among them.

    Args:
        model: A model or layer.
        inputs: Its inputs; it is called without training.
    """
    sizes = {}
    with implemented_by(model, lambda layer, path: _SizeRecorder(path, sizes)):
        model(inputs, training=False)
    return sizes


def layers_of(model: keras.Layer) -> dict[str, GatedRNN]:
    """Returns the recurrent layers of a model by their paths, as in `input_sizes`."""
    return {path: layer for layer, path in recurrent_layers(model)}


class _SizeRecorder:
    """An implementation that records the sizes of the first inputs of a layer."""

    def __init__(self, path: str, sizes: dict[str, Sizes]):
        self._path, self._sizes = path, sizes

    def run(
        self,
        cell: GatedCell,
        inputs: tf.Tensor,
        mask: tf.Tensor | None,
        states: Sequence[tf.Tensor],
        noise: Noise,
        training: bool,
        concurrent: int = 1,
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Returns zeros for `cell` over inputs (B, T, D); the sizes do not depend on values."""
        self._sizes.setdefault(self._path, Sizes(*inputs.shape, mask is not None))
        return tf.zeros([*inputs.shape[:2], cell.output_size], cell.state_dtype), list(states)


def _training_step(layer: GatedRNN, name: str, sizes: Sizes) -> Callable[[], object]:
    """Returns a call of a training step of a copy of a layer."""
    initializer = keras.initializers.RandomNormal(stddev=0.05, seed=0)
    copy = GatedRNN(
        layer.units,
        layer.spec,
        layers=layer.layers,
        direction=layer.direction,
        merge=layer.merge or "concat",
        return_sequences=True,
        implementation=name,
        kernel_initializer=initializer,
        recurrent_initializer=initializer,
        seed=0,
        dtype=layer.dtype_policy,
        name="timed",
    )
    numbers = np.random.default_rng(0)
    shape = (sizes.batch, sizes.time, sizes.features)
    inputs = tf.constant(numbers.normal(size=shape), layer.compute_dtype)
    lengths = numbers.integers(sizes.time * 3 // 4, sizes.time + 1, sizes.batch)
    mask = tf.sequence_mask(lengths, sizes.time)
    copy.build((None, None, sizes.features))

    # In training, the numbers of rows and steps are not known when a graph is made.
    @tf.function(
        autograph=False,
        input_signature=[
            tf.TensorSpec([None, None, sizes.features], inputs.dtype),
            tf.TensorSpec([None, None], tf.bool),
        ],
    )
    def step(inputs, mask):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = copy(inputs, mask=mask if sizes.masked else None, training=True)
            loss = tf.reduce_sum(tf.square(outputs))
        weights = [weight.value for weight in copy.trainable_variables]
        gradients = tape.gradient(loss, [inputs, *weights])
        return tf.add_n([tf.cast(tf.reduce_max(d), tf.float32) for d in gradients])

    return lambda: step(inputs, mask).numpy()


def _seconds(call: Callable[[], object]) -> float:
    began = clock.perf_counter()
    call()
    return clock.perf_counter() - began


@contextlib.contextmanager
def _random_state() -> Iterator[None]:
    """Restores the state of Python's random numbers, from which Keras draws default seeds."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)
