"""Peak memory of a training step of one recurrent layer; `benchmarks.kernels` prints it.

The time of a step is measured as well, because checkpoints save memory at the cost of time.

On a CPU it is the peak resident memory of the process, on a GPU the peak that TensorFlow
allocates. Each length of `TIMES` is measured in a fresh process.
"""

import concurrent.futures
import multiprocessing
import statistics
import time as clock
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import kernel_contestants, records
from benchmarks.kernel_contestants import PEERS, Case, Size

TIMES = (200, 400, 800, 1600)
BATCH, INPUTS, UNITS = 32, 128, 256
REPEATS = 9  # of the times


class Contestant(NamedTuple):
    """A layer whose memory is measured.

    Attributes:
        library: "ours" or "Keras".
        cell: A key of `PEERS`.
        checkpoint_every: Argument of `GatedRNN`.
    """

    library: str
    cell: str
    checkpoint_every: int | None = None

    def __str__(self) -> str:
        if self.library == "Keras":
            return f"Keras {PEERS[self.cell]}"
        every = self.checkpoint_every
        return f"ours {self.cell}" + (f", checkpoint_every={every}" if every else "")

    def layer(self, case: Case) -> Any:
        """Returns the layer."""
        if self.library == "Keras":
            return kernel_contestants.keras_layer(case)
        layer = kernel_contestants.gated_layer(case, "auto")
        layer.checkpoint_every = self.checkpoint_every
        return layer


CONTESTANTS = (
    *(Contestant("ours", cell) for cell in PEERS),
    *(Contestant("ours", "lstm", every) for every in (16, 64)),
    *(Contestant("Keras", cell) for cell in ("lstm", "gru")),
)


def peak_bytes(contestant: Contestant, time: int, device: str) -> int:
    """Returns the peak memory of a training step, without its input; run in a fresh process.

    The step first runs at a tiny size, so that the memory of tracing is not counted.

    Args:
        contestant: The layer.
        time: Number of steps of the sequence.
        device: "cpu" or "gpu".
    """
    kernel_contestants.select_device(device)
    import tensorflow as tf

    case = _case(contestant, time)
    layer = contestant.layer(case)
    inputs, weighting = map(tf.constant, case.data())
    layer.build(inputs.shape)
    signature = [tf.TensorSpec((None, None, array.shape[-1])) for array in (inputs, weighting)]
    step = kernel_contestants.tensorflow_step(layer, case.pass_, signature)
    step(inputs[:1, :2], weighting[:1, :2])[1].numpy()
    before = _reset_peak(device)
    step(inputs, weighting)[1].numpy()
    return _peak(device) - before


def _reset_peak(device: str) -> int:
    """Resets the peak to the memory that is in use, and returns it in bytes."""
    if device == "gpu":
        import tensorflow as tf

        tf.config.experimental.reset_memory_stats("GPU:0")
    else:
        Path("/proc/self/clear_refs").write_text("5")
    return _peak(device)


def _peak(device: str) -> int:
    if device == "gpu":
        import tensorflow as tf

        return tf.config.experimental.get_memory_info("GPU:0")["peak"]
    # Not ru_maxrss, which a process inherits from its parent.
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def seconds_of_steps(device: str) -> dict[str, float]:
    """Returns the median seconds of a training step of all layers, in turns; in a fresh process."""
    kernel_contestants.select_device(device)
    calls = {}
    for contestant in CONTESTANTS:
        case = _case(contestant, TIMES[-1])
        calls[str(contestant)] = kernel_contestants.tensorflow_call(contestant.layer(case), case)
    seconds = {name: [] for name in calls}
    for call in calls.values():
        call()  # traces
    for _ in range(REPEATS):
        for name, call in calls.items():
            began = clock.perf_counter()
            call()
            seconds[name].append(clock.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _case(contestant: Contestant, time: int) -> Case:
    size = Size(BATCH, time, INPUTS, UNITS)
    return Case(contestant.cell, "training", "float32", "forward", size)


def measure(contestant: Contestant, device: str) -> dict:
    """Returns the record with `peak_bytes` at each of `TIMES`."""
    return {"bytes": [_in_process(peak_bytes, contestant, time, device) for time in TIMES]}


def measure_times(device: str) -> dict:
    """Returns the record with `seconds_of_steps`."""
    return {"seconds": _in_process(seconds_of_steps, device)}


def _in_process(function: Callable, *arguments: Any) -> Any:
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, spawn) as pool:
        return pool.submit(function, *arguments).result()


def section(by_layer: Mapping[str, dict], seconds: Mapping[str, float]) -> str:
    """Returns the table of memory as Markdown, with its heading.

    Args:
        by_layer: Records of `measure` by the name of the layer.
        seconds: Times of training steps by the name of the layer.
    """
    rows = []
    for name, record in by_layer.items():
        peaks = record["bytes"]
        slope = statistics.linear_regression(TIMES, peaks).slope / (BATCH * UNITS)
        time = f"{seconds[name] / seconds[str(CONTESTANTS[0])]:.2f}"
        rows.append([name, *(f"{peak / 2**20:.0f}" for peak in peaks), f"{slope:.0f}", time])
    columns = ["layer", *(f"MiB at time {time}" for time in TIMES)]
    columns += ["bytes per batch × time × unit", f"time / {CONTESTANTS[0]}"]
    table = records.markdown_table(columns, rows)
    return (
        f"### Peak memory of a training step, float32, {BATCH}×time×{INPUTS}×{UNITS}\n\n{table}\n"
    )
