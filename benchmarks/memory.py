"""Peak memory of a training step of one recurrent layer; `benchmarks.kernels` prints it.

On a CPU it is the peak resident memory of the process, on a GPU the peak that TensorFlow
allocates. Each length of `TIMES` is measured in a fresh process.
"""

import concurrent.futures
import multiprocessing
import statistics
from collections.abc import Mapping
from pathlib import Path

from benchmarks import kernel_contestants, records
from benchmarks.kernel_contestants import Case, Size

TIMES = (100, 200, 400)
BATCH, INPUTS, UNITS = 32, 128, 256


def peak_bytes(library: str, cell: str, time: int, device: str) -> int:
    """Returns the peak memory of a training step, without its input; run in a fresh process.

    The step first runs at a tiny size, so that the memory of tracing is not counted.

    Args:
        library: "ours" or "Keras".
        cell: A key of `PEERS`.
        time: Number of steps of the sequence.
        device: "cpu" or "gpu".
    """
    kernel_contestants.select_device(device)
    import tensorflow as tf

    case = Case(cell, "training", "float32", "forward", Size(BATCH, time, INPUTS, UNITS))
    if library == "Keras":
        layer = kernel_contestants.keras_layer(case)
    else:
        layer = kernel_contestants.gated_layer(case, "auto")
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


def measure(library: str, cell: str, device: str) -> dict:
    """Returns the record with `peak_bytes` at each of `TIMES`."""
    peaks = []
    for time in TIMES:
        spawn = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(1, spawn) as pool:
            peaks.append(pool.submit(peak_bytes, library, cell, time, device).result())
    return {"bytes": peaks}


def section(by_layer: Mapping[str, dict]) -> str:
    """Returns the table of memory as Markdown, with its heading.

    Args:
        by_layer: Records of `measure` by the name of the layer.
    """
    rows = []
    for name, record in by_layer.items():
        peaks = record["bytes"]
        slope = statistics.linear_regression(TIMES, peaks).slope / (BATCH * UNITS)
        rows.append([name, *(f"{peak / 2**20:.0f}" for peak in peaks), f"{slope:.0f}"])
    columns = ["layer", *(f"MiB at time {time}" for time in TIMES)]
    table = records.markdown_table([*columns, "bytes per batch × time × unit"], rows)
    return (
        f"### Peak memory of a training step, float32, {BATCH}×time×{INPUTS}×{UNITS}\n\n{table}\n"
    )
