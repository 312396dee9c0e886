"""Speed and memory of one recurrent layer beside Keras's, PyTorch's and the naive loop.

    python -m benchmarks.kernels                    # both passes, dtypes and directions
    python -m benchmarks.kernels --device gpu
    python -m benchmarks.kernels --cells gru --pass training --implementations all
    python -m benchmarks.kernels --memory           # peak memory of a training step alone

The contestants of a point run in one process, one after another in each
repetition; a time is the median of a contestant's repetitions. PyTorch is left
out where it is not installed or sees no such device. The naive loop is
`implementation="reference"`, timed once a point, for it is slow. The machine's
own limit is the time of the layer's matrix products at the rate of one plain
product of all inputs with the input kernel, timed in the same repetitions.

Other work on the machine slows PyTorch's threads most, up to a hundred times:
a point that was measured beside such work is told of, and measured anew when
the command is run again.
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
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from app import cli
from benchmarks import kernel_contestants, memory, results
from benchmarks.kernel_contestants import DIRECTIONS, PASSES, PEERS, POLICIES, Point, Size
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
LEAST_SECONDS = 0.02  # of one timing; a shorter call is repeated within it
PAUSE = 0.01  # seconds before a timing: PyTorch's threads keep a core busy for some after its call
DISTURBED = 0.1  # cores that others kept busy: a result that does not count for long
FULL_BATCH = 32  # from here on the mean against PyTorch is taken


# --- Measuring ----------------------------------------------------------------


def seconds(call: Callable[[], object], count: int) -> float:
    """How long a call takes, from `count` of them."""
    time.sleep(PAUSE)
    began = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - began) / count


def medians(calls: dict[str, Callable[[], object]], repeats: int, once: str) -> dict[str, float]:
    """The median milliseconds of each call; the one named `once` is timed once only."""
    counts = {}
    for name, call in calls.items():
        call()  # traces
        counts[name] = math.ceil(LEAST_SECONDS / seconds(call, 1))
    taken = {name: [] for name in calls}
    for repeat in range(repeats):
        for name, call in calls.items():
            if name != once or repeat == 0:
                taken[name].append(seconds(call, counts[name]))
    return {name: 1000 * statistics.median(each) for name, each in taken.items()}


def others_busy() -> float:
    """The seconds for which cores have been busy with anything but this process."""
    fields = Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0].split()[1:9]
    user, nice, system, _, _, *interrupts_and_steal = map(int, fields)
    ticks = user + nice + system + sum(interrupts_and_steal)
    return ticks / os.sysconf("SC_CLK_TCK") - time.process_time()


def measure(
    point: Point, runs: Sequence[str], others: Sequence[str], repeats: int, device: str
) -> dict:
    """The times of our implementations `runs` and of all others, and what "auto" was."""
    import keras

    began, busy = time.monotonic(), others_busy()
    ours = {name: kernel_contestants.gated_layer(point, name) for name in runs}
    layers = {**ours, "Keras": kernel_contestants.keras_layer(point)}
    if "naive" in others:
        layers["naive"] = kernel_contestants.gated_layer(point, "reference")
    calls = {
        name: kernel_contestants.tensorflow_call(layer, point) for name, layer in layers.items()
    }
    if "PyTorch" in others:
        calls["PyTorch"] = kernel_contestants.torch_call(point, device)
    calls["product"], share = kernel_contestants.product_call(point, device)
    taken = medians(calls, repeats, once="naive")
    taken["limit"] = share * taken.pop("product")
    keras.backend.clear_session()
    gc.collect()
    ran = {name: layer.implementation_for() for name, layer in ours.items()}
    disturbance = (others_busy() - busy) / (time.monotonic() - began)
    return {"milliseconds": taken, "ran": ran, "cores_of_others": disturbance}


# --- Telling ------------------------------------------------------------------


def disturbed(result: dict | None) -> bool:
    """Whether other work spoilt a result."""
    return result is not None and result.get("cores_of_others", 0) > DISTURBED


def block(title: str, found: dict[Size, dict], peers: Sequence[str]) -> str:
    """The table of one cell, pass, dtype and direction."""
    lines = []
    for size, result in found.items():
        taken = result["milliseconds"]
        for name, ran in result["ran"].items():
            mine = taken[name]
            told = name if ran == name else f"{name} ({ran})"
            against = [f"{mine / taken[peer]:.2f}" for peer in peers]
            limit = f"{mine / taken['limit']:.1f}"
            mark = " (disturbed)" if disturbed(result) else ""
            lines.append([f"{size}{mark}", told, f"{mine:.3g}", *against, limit])
    columns = ["batch×time×inputs×units", "implementation", "ms"]
    columns += [*(f"/ {peer}" for peer in peers), "× limit"]
    return f"### {title}\n\n{results.markdown(columns, lines)}\n"


def means(title: str, found: dict[Size, dict], peers: Sequence[str]) -> list[list[str]]:
    """For each implementation of such a table, a row of its geometric means and worst point."""
    lines = []
    for name in next(iter(found.values()))["ran"]:
        line = [title if name == "auto" else f"{title}, {name}"]
        for peer, least in (("Keras", 1), ("PyTorch", FULL_BATCH), ("limit", 1)):
            ratios = {
                size: result["milliseconds"][name] / result["milliseconds"][peer]
                for size, result in found.items()
                if size.batch >= least and peer in ("limit", *peers)
            }
            line.append(f"{statistics.geometric_mean(ratios.values()):.2f}" if ratios else "")
            if peer == "Keras":
                worst = max(ratios, key=ratios.get)
                line.append(f"{ratios[worst]:.2f} at {worst}")
        lines.append(line)
    return lines


def versions(device: str) -> tuple[str, bool]:
    """The machine and the libraries in words, and whether PyTorch takes part."""
    import keras
    import tensorflow as tf

    told = f"{results.machine()}; TensorFlow {tf.__version__}, Keras {keras.__version__}"
    if device == "gpu":
        gpu = tf.config.list_physical_devices("GPU")[0]
        told = f"{tf.config.experimental.get_device_details(gpu)['device_name']}, {told}"
    if not importlib.util.find_spec("torch"):
        return f"{told}, PyTorch left out: not installed", False
    import torch

    if device == "gpu" and not torch.cuda.is_available():
        return f"{told}, PyTorch left out: it sees no GPU", False
    return f"{told}, PyTorch {torch.__version__}", True


def size(text: str) -> Size:
    """A size told as "batch,time,inputs,units"."""
    parts = text.split(",")
    if len(parts) != 4 or not all(part.isdecimal() and int(part) for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not four whole numbers B,T,D,H of 1 or more")
    return Size(*map(int, parts))


def count(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    first = __doc__.splitlines()[0]
    parser = cli.Parser(prog="python -m benchmarks.kernels", description=first)
    add = functools.partial(parser.add_argument, nargs="+", metavar="NAME")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="(default: cpu)")
    for flag, names in (("cells", PEERS), ("directions", DIRECTIONS), ("dtypes", POLICIES)):
        add(f"--{flag}", choices=names, default=list(names), help=f"of {', '.join(names)}")
    passes = list(PASSES)
    add("--pass", dest="passes", choices=passes, default=passes, help=f"of {', '.join(passes)}")
    add("--implementations", default=["auto"], help="of ours, or all (default: auto)")
    add("--sizes", type=size, default=SIZES, metavar="B,T,D,H", help="(default: a grid of nine)")
    parser.add_argument("--repeats", type=count, default=9, help="timings of each (default: 9)")
    parser.add_argument("--no-naive", action="store_true", help="leave the naive loop out")
    parser.add_argument(
        "--memory",
        action=argparse.BooleanOptionalAction,
        help="measure memory alone, or leave it out (default: speed, then memory)",
    )
    again = "measure anew what has been measured, as after a change of an implementation"
    parser.add_argument("--fresh", action="store_true", help=again)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures what has not been measured, and prints the tables."""
    args = parse(argv)
    kernel_contestants.choose(args.device)
    from models.cells.recurrent import IMPLEMENTATIONS

    if unknown := sorted(set(args.implementations) - {*IMPLEMENTATIONS, "all"}):
        raise UserError(f"--implementations: {unknown} are none of {[*IMPLEMENTATIONS, 'all']}.")
    about, torch_takes_part = versions(args.device)
    others = [*(["PyTorch"] if torch_takes_part else []), *([] if args.no_naive else ["naive"])]

    def kept(name, settings, measure):
        # What is measured otherwise or elsewhere is another result.
        text = json.dumps([args.device, about, settings])
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        row = ("kernels", f"{name}-{digest}")
        return results.result(*row, measure, args.fresh or disturbed(results.known(*row)))

    if args.memory is not True:
        print_speed(args, others, kept)
    if args.memory is not False:
        print_memory(args, kept)
    naive = ", the naive loop timed once" if "naive" in others else ""
    times = f"; medians of {args.repeats} interleaved timings{naive}"
    print(about + ("" if args.memory else times))


def print_speed(args: argparse.Namespace, others: Sequence[str], kept: Callable) -> None:
    """Prints a block for each cell, pass, dtype and direction."""
    from models.cells.recurrent import implementations_of

    axes = list(itertools.product(args.cells, args.passes, args.dtypes, args.directions))
    total, done, summary = len(axes) * len(args.sizes), 0, []
    for cell, pass_, dtype, direction in axes:
        can = ["auto", *implementations_of(specs.find(cell), args.device, dtype)]
        runs = [name for name in can if {name, "all"} & set(args.implementations)]
        if not runs:
            print(f"{cell}, {dtype}: none of --implementations", file=sys.stderr)
            continue
        found = {}
        for each in args.sizes:
            point = Point(cell, pass_, dtype, direction, each)
            told = (runs, others, args.repeats)
            timed = functools.partial(measure, point, *told, args.device)
            found[each] = kept(point.name, told, timed)
            done += 1
            times = ", ".join(f"{k} {v:.3g}" for k, v in found[each]["milliseconds"].items())
            spoilt = ", DISTURBED by other work" if disturbed(found[each]) else ""
            line = f"{done} of {total} {point.name}: {times} ms{spoilt}"
            print(line, file=sys.stderr, flush=True)
        directions = "one direction" if direction == "forward" else "two directions"
        title = f"{cell}, {pass_}, {dtype}, {directions}"
        print(block(title, found, ["Keras", *others]), flush=True)
        summary += means(title, found, ["Keras", *others])
    columns = ["geometric means", "/ Keras", "worst", f"/ PyTorch, batch ≥ {FULL_BATCH}", "× limit"]
    print(results.markdown(columns, summary) + "\n")


def print_memory(args: argparse.Namespace, kept: Callable) -> None:
    """Prints the block of peak memory."""
    layers = {f"ours {cell}": ("ours", cell) for cell in args.cells}
    layers |= {f"Keras {PEERS[cell]}": ("Keras", cell) for cell in reversed(args.cells)}
    found = {}
    for name, (who, cell) in layers.items():
        timed = functools.partial(memory.measure, who, cell, args.device)
        found[name] = kept(f"memory-{name.replace(' ', '-')}", [], timed)
    print(memory.block(found))


if __name__ == "__main__":
    cli.run(main, interrupted="interrupted; the same command goes on from here")
