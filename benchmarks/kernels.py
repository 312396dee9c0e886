"""Speed and memory of one recurrent layer, compared with Keras, PyTorch and the naive loop.

    python -m benchmarks.kernels                    # both passes, dtypes and directions
    python -m benchmarks.kernels --device gpu
    python -m benchmarks.kernels --cells gru --pass training --implementations all
    python -m benchmarks.kernels --memory           # peak memory of a training step alone
    python -m benchmarks.kernels --scan             # minGRU by scan, next to LSTM and GRU, alone

The contestants of a case run in one process and take turns; a time is the median over turns.
PyTorch is skipped if it is not installed or sees no such device. The naive loop is
`implementation="reference"`; it is slow and timed once per case. The limit of the machine is the
time of the layer's matrix products, at the speed of one plain product of all inputs and the
input kernel that is timed in the same turns.

Other work on the machine slows PyTorch's threads most, up to a hundred times. A case that was
measured next to such work is marked as disturbed, and measured again the next time the command
runs.
"""

import argparse
import functools
import gc
import hashlib
import importlib.util
import itertools
import json
import math
import os
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from app import cli
from benchmarks import kernel_contestants, memory, records
from benchmarks.kernel_contestants import DIRECTIONS, PASSES, PEERS, POLICIES, Case, Size
from models.cells import specs
from tasks.core.errors import UserError

SIZES = (
    Size(1, 50, 128, 256),
    Size(1, 200, 128, 256),
    Size(8, 200, 128, 256),
    Size(32, 100, 128, 256),
    Size(64, 200, 128, 128),
    Size(64, 50, 256, 512),
    Size(128, 50, 128, 256),
    Size(256, 40, 64, 64),
    Size(16, 1000, 64, 128),
)
# Of the table of minGRU, whose steps are computed at once.
SCAN_SIZES = tuple(Size(b, t, 128, 128) for t in (50, 200, 1000, 4000) for b in (1, 8, 64))
SCAN_CONTESTANTS = (  # with the implementation, None for the layer of Keras
    ("minGRU by scan", "mingru", "scan"),
    ("minGRU by loop", "mingru", "loop"),
    ("lstm", "lstm", "auto"),
    ("Keras LSTM", "lstm", None),
    ("Keras GRU", "gru", None),
)
MIN_SECONDS = 0.02  # of one timing; shorter calls are repeated within it
PAUSE = 0.01  # seconds before a timing, as PyTorch's threads spin for a while after a call
DISTURBED = 0.1  # cores kept busy by other processes above which a case is measured again
FULL_BATCH = 32  # smallest batch size of the mean ratio to PyTorch


# --- Measuring ----------------------------------------------------------------


def seconds(call: Callable[[], object], count: int) -> float:
    """Returns the mean seconds of `count` calls."""
    time.sleep(PAUSE)
    began = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - began) / count


def medians(calls: dict[str, Callable[[], object]], repeats: int, once: str) -> dict[str, float]:
    """Returns the median milliseconds of each call by name; `once` names one that is timed once."""
    counts = {}
    for name, call in calls.items():
        call()  # traces
        counts[name] = math.ceil(MIN_SECONDS / seconds(call, 1))
    timings = {name: [] for name in calls}
    for repeat in range(repeats):
        for name, call in calls.items():
            if name != once or repeat == 0:
                timings[name].append(seconds(call, counts[name]))
    return {name: 1000 * statistics.median(values) for name, values in timings.items()}


def other_cpu_seconds() -> float:
    """Returns the CPU time of all other processes since the machine started."""
    fields = Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0].split()[1:9]
    user, nice, system, _, _, *interrupts_and_steal = map(int, fields)
    ticks = user + nice + system + sum(interrupts_and_steal)
    return ticks / os.sysconf("SC_CLK_TCK") - time.process_time()


def measure(
    case: Case,
    implementations: Sequence[str],
    others: Sequence[str],
    repeats: int,
    device: str,
) -> dict:
    """Times the contestants of a case.

    Args:
        case: The layer and the call.
        implementations: Implementations of this project.
        others: "PyTorch" and "naive", or one or none of them; Keras always takes part.
        repeats: Number of timings of each.
        device: "cpu" or "gpu".

    Returns:
        Record with the median milliseconds by contestant, the implementation that each of
        `implementations` ran, and the number of cores that other processes kept busy.
    """
    import keras

    began, busy = time.monotonic(), other_cpu_seconds()
    ours = {name: kernel_contestants.gated_layer(case, name) for name in implementations}
    layers = {**ours, "Keras": kernel_contestants.keras_layer(case)}
    if "naive" in others:
        layers["naive"] = kernel_contestants.gated_layer(case, "reference")
    calls = {
        name: kernel_contestants.tensorflow_call(layer, case) for name, layer in layers.items()
    }
    if "PyTorch" in others:
        calls["PyTorch"] = kernel_contestants.torch_call(case, device)
    calls["product"], factor = kernel_contestants.product_call(case, device)
    milliseconds = medians(calls, repeats, once="naive")
    milliseconds["limit"] = factor * milliseconds.pop("product")
    keras.backend.clear_session()
    gc.collect()
    ran = {name: layer.implementation_for() for name, layer in ours.items()}
    disturbance = (other_cpu_seconds() - busy) / (time.monotonic() - began)
    return {"milliseconds": milliseconds, "ran": ran, "cores_of_others": disturbance}


def measure_scan(pass_: str, size: Size, repeats: int) -> dict:
    """Times minGRU by `scan` next to other layers of the same size.

    Args:
        pass_: "forward" or "training".
        size: Sizes of each layer and of its input.
        repeats: Number of timings of each.

    Returns:
        Record with the median milliseconds by contestant, and the number of cores that other
        processes kept busy.
    """
    import keras

    began, busy = time.monotonic(), other_cpu_seconds()
    calls = {}
    for name, cell, implementation in SCAN_CONTESTANTS:
        case = Case(cell, pass_, "float32", "forward", size)
        if implementation is None:
            layer = kernel_contestants.keras_layer(case)
        else:
            layer = kernel_contestants.gated_layer(case, implementation)
        calls[name] = kernel_contestants.tensorflow_call(layer, case)
    milliseconds = medians(calls, repeats, once="")
    keras.backend.clear_session()
    gc.collect()
    disturbance = (other_cpu_seconds() - busy) / (time.monotonic() - began)
    return {"milliseconds": milliseconds, "cores_of_others": disturbance}


# --- Tables -------------------------------------------------------------------


def disturbed(record: dict | None) -> bool:
    """Returns whether other work disturbed a measurement."""
    return record is not None and record.get("cores_of_others", 0) > DISTURBED


def section(title: str, by_size: dict[Size, dict], peers: Sequence[str]) -> str:
    """Returns the table of one cell, pass, dtype and direction as Markdown, with its heading.

    Args:
        title: The heading.
        by_size: Records of `measure`.
        peers: Contestants to whose times those of this project are divided.
    """
    rows = []
    for size, record in by_size.items():
        milliseconds = record["milliseconds"]
        mark = " (disturbed)" if disturbed(record) else ""
        for name, ran in record["ran"].items():
            ours = milliseconds[name]
            implementation = name if ran == name else f"{name} ({ran})"
            ratios = [f"{ours / milliseconds[peer]:.2f}" for peer in peers]
            limit = f"{ours / milliseconds['limit']:.1f}"
            rows.append([f"{size}{mark}", implementation, f"{ours:.3g}", *ratios, limit])
    columns = ["batch×time×inputs×units", "implementation", "ms"]
    columns += [*(f"/ {peer}" for peer in peers), "× limit"]
    return f"### {title}\n\n{records.markdown_table(columns, rows)}\n"


def mean_rows(title: str, by_size: dict[Size, dict], peers: Sequence[str]) -> list[list[str]]:
    """Returns a row for each implementation: geometric means of its ratios, and the worst."""
    rows = []
    for name in next(iter(by_size.values()))["ran"]:
        row = [title if name == "auto" else f"{title}, {name}"]
        for peer, min_batch in (("Keras", 1), ("PyTorch", FULL_BATCH), ("limit", 1)):
            ratios = {
                size: record["milliseconds"][name] / record["milliseconds"][peer]
                for size, record in by_size.items()
                if size.batch >= min_batch and peer in ("limit", *peers)
            }
            row.append(f"{statistics.geometric_mean(ratios.values()):.2f}" if ratios else "")
            if peer == "Keras":
                worst = max(ratios, key=ratios.get)
                row.append(f"{ratios[worst]:.2f} at {worst}")
        rows.append(row)
    return rows


def describe_machine(device: str) -> tuple[str, bool]:
    """Returns the machine with the versions of libraries, and whether PyTorch takes part."""
    import keras
    import tensorflow as tf

    text = f"{records.machine()}; TensorFlow {tf.__version__}, Keras {keras.__version__}"
    if device == "gpu":
        gpu = tf.config.list_physical_devices("GPU")[0]
        text = f"{tf.config.experimental.get_device_details(gpu)['device_name']}, {text}"
    if not importlib.util.find_spec("torch"):
        return f"{text}, PyTorch skipped: not installed", False
    import torch

    if device == "gpu" and not torch.cuda.is_available():
        return f"{text}, PyTorch skipped: it sees no GPU", False
    return f"{text}, PyTorch {torch.__version__}", True


def size(text: str) -> Size:
    """Parses a size given as "batch,time,inputs,units"."""
    parts = text.split(",")
    if len(parts) != 4 or not all(part.isdecimal() and int(part) for part in parts):
        raise argparse.ArgumentTypeError(
            f"must be four integers B,T,D,H of at least 1, got {text!r}"
        )
    return Size(*map(int, parts))


def count(text: str) -> int:
    """Parses an integer of at least 1."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1, got {text!r}")
    return int(text)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parses the command line."""
    first = __doc__.splitlines()[0]
    parser = cli.Parser(prog="python -m benchmarks.kernels", description=first)
    add = functools.partial(parser.add_argument, nargs="+", metavar="NAME")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="(default: cpu)")

    def options(names):
        return {"choices": list(names), "default": list(names), "help": f"of {', '.join(names)}"}

    add("--cells", **options(PEERS))
    add("--directions", **options(DIRECTIONS))
    add("--dtypes", **options(POLICIES))
    add("--pass", dest="passes", **options(PASSES))
    add(
        "--implementations",
        default=["auto"],
        help="this project's implementations, or all (default: auto)",
    )
    sizes = "(default: a grid of nine; with --scan, of twelve)"
    add("--sizes", type=size, default=None, metavar="B,T,D,H", help=sizes)
    parser.add_argument("--scan", action="store_true", help="measure minGRU by scan alone")
    parser.add_argument("--repeats", type=count, default=9, help="timings of each (default: 9)")
    parser.add_argument("--no-naive", action="store_true", help="skip the naive loop")
    parser.add_argument(
        "--memory",
        action=argparse.BooleanOptionalAction,
        help="measure memory alone, or skip it (default: speed, then memory)",
    )
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="ignore stored records, for example after a change of an implementation",
    )
    args = parser.parse_args(argv)
    args.sizes = args.sizes or (SCAN_SIZES if args.scan else SIZES)
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Measures all cases without a record, and prints the tables."""
    args = parse(argv)
    kernel_contestants.select_device(args.device)
    from models.cells.recurrent import IMPLEMENTATIONS

    if unknown := sorted(set(args.implementations) - {*IMPLEMENTATIONS, "all"}):
        raise UserError(f"--implementations must be of {[*IMPLEMENTATIONS, 'all']}, got {unknown}.")
    about, has_torch = describe_machine(args.device)
    others = [*(["PyTorch"] if has_torch else []), *([] if args.no_naive else ["naive"])]

    def stored(name: str, settings: Sequence, measure: Callable[[], dict]) -> dict:
        # Other settings, devices or versions of libraries make another record.
        text = json.dumps([args.device, about, settings])
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        key = ("kernels", f"{name}-{digest}")
        fresh = args.fresh or disturbed(records.load(*key))
        return records.load_or_measure(*key, measure, fresh)

    if args.scan:
        print_scan(args, stored)
        print(f"{about}; medians of {args.repeats} interleaved timings")
        return
    if args.memory is not True:
        print_speed(args, others, stored)
    if args.memory is not False:
        print_memory(args, stored)
    naive = ", the naive loop timed once" if "naive" in others else ""
    times = f"; medians of {args.repeats} interleaved timings{naive}"
    print(about + ("" if args.memory else times))


def print_speed(args: argparse.Namespace, others: Sequence[str], stored: Callable) -> None:
    """Prints a table for each cell, pass, dtype and direction, and a table of means."""
    from models.cells.recurrent import implementations_of

    axes = list(itertools.product(args.cells, args.passes, args.dtypes, args.directions))
    total, done, summary = len(axes) * len(args.sizes), 0, []
    for cell, pass_, dtype, direction in axes:
        available = ["auto", *implementations_of(specs.find(cell), args.device, dtype)]
        selected = [name for name in available if {name, "all"} & set(args.implementations)]
        if not selected:
            print(f"{cell}, {dtype}: none of --implementations", file=sys.stderr)
            continue
        by_size = {}
        for size in args.sizes:
            case = Case(cell, pass_, dtype, direction, size)
            settings = (selected, others, args.repeats)
            timed = functools.partial(measure, case, *settings, args.device)
            record = by_size[size] = stored(case.name, settings, timed)
            done += 1
            times = ", ".join(f"{k} {v:.3g}" for k, v in record["milliseconds"].items())
            warning = ", DISTURBED by other work" if disturbed(record) else ""
            line = f"{done} of {total} {case.name}: {times} ms{warning}"
            print(line, file=sys.stderr, flush=True)
        directions = "one direction" if direction == "forward" else "two directions"
        title = f"{cell}, {pass_}, {dtype}, {directions}"
        print(section(title, by_size, ["Keras", *others]), flush=True)
        summary += mean_rows(title, by_size, ["Keras", *others])
    columns = ["geometric means", "/ Keras", "worst", f"/ PyTorch, batch ≥ {FULL_BATCH}", "× limit"]
    print(records.markdown_table(columns, summary) + "\n")


def print_scan(args: argparse.Namespace, stored: Callable) -> None:
    """Prints the times of minGRU by `scan`, and those of other layers as multiples of them."""
    first, *others = (name for name, *_ in SCAN_CONTESTANTS)
    rows = []
    for pass_, size in itertools.product(args.passes, args.sizes):
        timed = functools.partial(measure_scan, pass_, size, args.repeats)
        record = stored(f"scan-{pass_}-{'x'.join(map(str, size))}", [args.repeats], timed)
        milliseconds = record["milliseconds"]
        mark = " (disturbed)" if disturbed(record) else ""
        ratios = [f"{milliseconds[name] / milliseconds[first]:.1f}" for name in others]
        rows.append([pass_, f"{size}{mark}", f"{milliseconds[first]:.3g}", *ratios])
        print(f"{pass_} {size}: {' '.join(ratios)}", file=sys.stderr, flush=True)
    columns = ["pass", "batch×time×inputs×units", f"{first}, ms", *(f"× {n}" for n in others)]
    print(records.markdown_table(columns, rows) + "\n")


def print_memory(args: argparse.Namespace, stored: Callable) -> None:
    """Prints the table of peak memory."""
    by_layer = {}
    for contestant in memory.CONTESTANTS:
        if contestant.cell in args.cells:
            measured = functools.partial(memory.measure, contestant, args.device)
            name = re.sub(r"\W+", "-", str(contestant))
            by_layer[str(contestant)] = stored(f"memory-{name}", [], measured)
    times = stored("memory-times", [], functools.partial(memory.measure_times, args.device))
    print(memory.section(by_layer, times["seconds"]))


if __name__ == "__main__":
    cli.run(main, interrupted="interrupted; the same command resumes")
