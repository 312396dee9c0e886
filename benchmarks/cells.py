"""Trains, exports, evaluates and serves every cell, on sentiment.

The command for users publishes a version, and TensorFlow's C++ runtime alone, without Python,
responds to a request (tests/support/cc_runtime.c).

    python -m benchmarks.cells                  # every name in models.cells.specs.CELLS
    python -m benchmarks.cells --cells rnn gru

The network is the cell alone, without evidence and linear path. An epoch of the first 400 texts of
the embedded sample is too little to compare cells: it shows that each one does all this. Accuracy
is that of the served model on the test part. The difference is the largest one of probabilities
between the C++ runtime and TensorFlow in Python. The exit code is 1 if a cell fails or the
difference exceeds 1e-5. Results are stored in runs/benchmarks/, so an interrupted command resumes.
"""

import argparse
import contextlib
import functools
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from app import cli, train
from benchmarks import records
from models.cells import specs
from tasks.core.errors import UserError
from tasks.corpora.samples import reviews
from tests.support import cc_runtime

COLUMNS = ["cell", "accuracy %", "seconds", "parameters", "difference"]
TEXTS = ["a superb , moving film", "the plot is dull", ""]
MAX_DIFFERENCE = 1e-5
COUNTS = {"train": 400, "valid": 100, "test": 100}
CELL_ALONE = ["--evidence", "0", "--linear-path", "0", "--report-examples", "0"]


def write_corpus(folder: Path) -> None:
    """Writes the first texts of each part of the embedded sample."""
    for part, examples in reviews.parts().items():
        lines = (
            json.dumps(dict(e.values)) + "\n" for e in itertools.islice(examples, COUNTS[part])
        )
        (folder / f"{part}.jsonl").write_text("".join(lines), encoding="utf-8")


def measure(cell: str, epochs: int, units: int, corpus: Path, program: Path) -> dict:
    """Trains a version and runs it; returns the values of the row of a cell.

    Args:
        cell: Name of the cell.
        epochs: Epochs of training.
        units: Units of the cell.
        corpus: Folder of the corpus.
        program: Result of `cc_runtime.build`.

    Raises:
        UserError, ValueError, tf.errors.OpError: The command failed.
    """
    began = time.monotonic()
    keras.backend.clear_session()  # the graphs of the cells before would fill the memory
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(sys.stderr):
        argv = ["sentiment", "--data", str(corpus), "--cell", cell, *CELL_ALONE]
        argv += ["--epochs", str(epochs), "--units", str(units)]
        argv += ["--saved-models", f"{name}/saved_models", "--runs", f"{name}/runs"]
        version = train.main(argv)
        record = json.loads((version / "assets.extra/run.json").read_text(encoding="utf-8"))
        return {
            "accuracy": record["scores"]["accuracy"],
            "parameters": record["parameters"],
            "difference": difference(program, version),
            "seconds": time.monotonic() - began,
        }


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
    parser.add_argument("--epochs", type=int, default=1, help="(default: 1)")
    parser.add_argument("--units", type=int, default=16, help="(default: 16)")
    parser.add_argument("--fresh", action="store_true", help="measure again what is stored")
    args = parser.parse_args(argv)
    if cc_runtime.compiler() is None:
        sys.exit("error: a C compiler is needed, and none was found")
    with tempfile.TemporaryDirectory() as folder:
        write_corpus(Path(folder))
        _report(args, Path(folder), cc_runtime.build(Path(folder) / "runtime"))


def _report(args: argparse.Namespace, corpus: Path, program: Path) -> None:
    """Prints the table of cells; exits with 1 if one fails."""
    rows, failed = [], []
    for cell in args.cells:
        run = functools.partial(measure, cell, args.epochs, args.units, corpus, program)
        name = f"{cell}-{args.epochs}-{args.units}"
        try:
            record = records.load_or_measure("cells", name, run, args.fresh)
        except (UserError, ValueError, tf.errors.OpError) as failure:
            print(f"{cell}: {failure}", file=sys.stderr, flush=True)
            failed.append(cell)
            continue
        if not record["difference"] <= MAX_DIFFERENCE:
            failed.append(cell)
        values = [f"{100 * record['accuracy']:.1f}", f"{record['seconds']:.0f}"]
        values += [f"{record['parameters']:,}", f"{record['difference']:.0e}"]
        rows.append([cell, *values])
    print(records.markdown_table(COLUMNS, rows))
    sizes = f"{COUNTS['train']} texts, --epochs {args.epochs}, --units {args.units}"
    print(f"\n{records.machine()}; sentiment, {sizes}; seconds of training, export and tests")
    if failed:
        sys.exit(f"error: failed: {', '.join(failed)}")


if __name__ == "__main__":
    cli.run(main, interrupted="interrupted; the same command resumes")
