"""Trains, exports, evaluates and serves every cell, on sentiment.

The command for users publishes a version, and TensorFlow's C++ runtime alone, without Python,
responds to a request (tests/support/cc_runtime.c).

    python -m benchmarks.cells                  # every name in models.cells.specs.CELLS
    python -m benchmarks.cells --cells rnn gru

The defaults, few epochs and units on the embedded sample, are too few to compare cells.
Accuracy is that of the served model on the test part. The difference is the largest one of
probabilities between the C++ runtime and TensorFlow in Python. The exit code is 1 if a cell fails
or the difference exceeds 1e-5.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from app import cli
from benchmarks import records
from models.cells import specs
from tests.support import cc_runtime

COLUMNS = ["cell", "accuracy %", "seconds", "parameters", "difference"]
TEXTS = ["a superb , moving film", "the plot is dull", ""]
MAX_DIFFERENCE = 1e-5


def train(cell: str, epochs: int, units: int, program: Path) -> tuple[float, int, float]:
    """Returns the accuracy on the test part, the parameters, and the difference of a version.

    Raises:
        subprocess.CalledProcessError: The command failed.
    """
    with tempfile.TemporaryDirectory() as name:
        argv = [sys.executable, "-m", "app.train", "sentiment", "--cell", cell]
        argv += ["--epochs", str(epochs), "--units", str(units)]
        argv += ["--saved-models", f"{name}/saved_models", "--runs", f"{name}/runs"]
        subprocess.run(argv, check=True, capture_output=True, text=True)
        version = Path(name) / "saved_models/sentiment/1"
        record = json.loads((version / "assets.extra/run.json").read_text(encoding="utf-8"))
        return record["scores"]["accuracy"], record["parameters"], difference(program, version)


def difference(program: Path, version: Path) -> float:
    """Returns the largest difference of probabilities between C++ and Python."""
    expected = tf.saved_model.load(version).signatures["serving_default"](text=tf.constant(TEXTS))
    with cc_runtime.Runtime(program, version) as runtime:
        response = runtime.run("serving_default", {"text": np.array(TEXTS, object)})
    if response.code:
        return float("nan")
    actual = response.outputs["probabilities"]
    return float(np.abs(actual - expected["probabilities"].numpy()).max())


def main(argv: Sequence[str] | None = None) -> None:
    first = __doc__.splitlines()[0]
    parser = cli.Parser(prog="python -m benchmarks.cells", description=first)
    parser.add_argument(
        "--cells",
        nargs="+",
        choices=specs.CELLS,
        default=list(specs.CELLS),
        metavar="CELL",
        help="names in models.cells.specs.CELLS (default: all)",
    )
    parser.add_argument("--epochs", type=int, default=3, help="(default: 3)")
    parser.add_argument("--units", type=int, default=16, help="(default: 16)")
    args = parser.parse_args(argv)
    if cc_runtime.compiler() is None:
        sys.exit("error: a C compiler is needed, and none was found")
    with tempfile.TemporaryDirectory() as folder:
        program = cc_runtime.build(Path(folder) / "runtime")
        _report(args.cells, args.epochs, args.units, program)


def _report(cells: Sequence[str], epochs: int, units: int, program: Path) -> None:
    """Prints the table of cells; exits with 1 if one fails."""
    rows, failed = [], []
    for cell in cells:
        print(f"training {cell}", file=sys.stderr, flush=True)
        began = time.monotonic()
        try:
            accuracy, parameters, error = train(cell, epochs, units, program)
        except subprocess.CalledProcessError as failure:
            print(failure.stderr, file=sys.stderr, flush=True)
            failed.append(cell)
            continue
        seconds = time.monotonic() - began
        if not error <= MAX_DIFFERENCE:
            failed.append(cell)
        values = [f"{100 * accuracy:.1f}", f"{seconds:.0f}", f"{parameters:,}", f"{error:.0e}"]
        rows.append([cell, *values])
    print(records.markdown_table(COLUMNS, rows))
    print(
        f"\n{records.machine()}; sentiment, {epochs} epochs, {units} units; seconds of the process"
    )
    if failed:
        sys.exit(f"error: failed: {', '.join(failed)}")


if __name__ == "__main__":
    cli.run(main)
