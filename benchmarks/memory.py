"""Peak memory of a training step of one recurrent layer; `benchmarks.kernels` prints it.

On a CPU it is the most that the process has resident, on a GPU what TensorFlow
allocates there; of a step at each of `TIMES`, in a fresh process.
"""

import concurrent.futures
import multiprocessing
import statistics
from collections.abc import Mapping
from pathlib import Path

from benchmarks import kernel_contestants, results
from benchmarks.kernel_contestants import Point, Size

TIMES = (100, 200, 400)
BATCH, INPUTS, UNITS = 32, 128, 256


def peak_bytes(who: str, cell: str, time: int, device: str) -> int:
    """The most memory that a step takes beyond its input; in a process of its own.

    It has run at a tiny size before, so that what tracing takes is not counted.

    Args:
        who: "ours" or "Keras".
        cell: A key of `PEERS`.
        time: Steps of the sequence.
        device: "cpu" or "gpu".
    """
    kernel_contestants.choose(device)
    import tensorflow as tf

    point = Point(cell, "training", "float32", "forward", Size(BATCH, time, INPUTS, UNITS))
    if who == "Keras":
        layer = kernel_contestants.keras_layer(point)
    else:
        layer = kernel_contestants.gated_layer(point, "auto")
    inputs, weighting = map(tf.constant, point.data())
    layer.build(inputs.shape)
    signature = [tf.TensorSpec((None, None, array.shape[-1])) for array in (inputs, weighting)]
    step = kernel_contestants.tensorflow_step(layer, point.pass_, signature)
    step(inputs[:1, :2], weighting[:1, :2])[1].numpy()
    before = _held(device)
    step(inputs, weighting)[1].numpy()
    return _peak(device) - before


def _held(device):
    """What is held now, from which the peak begins anew."""
    if device == "gpu":
        import tensorflow as tf

        tf.config.experimental.reset_memory_stats("GPU:0")
    else:
        Path("/proc/self/clear_refs").write_text("5")
    return _peak(device)


def _peak(device):
    if device == "gpu":
        import tensorflow as tf

        return tf.config.experimental.get_memory_info("GPU:0")["peak"]
    # Not ru_maxrss: a process inherits it from its parent.
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def measure(who: str, cell: str, device: str) -> dict:
    """`peak_bytes` at each of `TIMES`."""
    peaks = []
    for time in TIMES:
        fresh = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(1, fresh) as pool:
            peaks.append(pool.submit(peak_bytes, who, cell, time, device).result())
    return {"bytes": peaks}


def block(found: Mapping[str, dict]) -> str:
    """The table, of what `measure` gave by name."""
    lines = []
    for name, result in found.items():
        peaks = result["bytes"]
        slope = statistics.linear_regression(TIMES, peaks).slope / (BATCH * UNITS)
        lines.append([name, *(f"{peak / 2**20:.0f}" for peak in peaks), f"{slope:.0f}"])
    columns = ["layer", *(f"MiB at time {time}" for time in TIMES)]
    table = results.markdown([*columns, "bytes per batch × time × unit"], lines)
    return (
        f"### Peak memory of a training step, float32, {BATCH}×time×{INPUTS}×{UNITS}\n\n{table}\n"
    )
