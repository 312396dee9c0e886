"""Trains, exports and evaluates every cell with the command for users, on sentiment.

    python -m benchmarks.cells                  # every name in models.cells.specs.CELLS
    python -m benchmarks.cells --cells rnn gru

The defaults, few epochs and units on the embedded sample, are too few to compare cells.
Accuracy is that of the served model on the test part. The exit code is 1 if a cell fails.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from app import cli
from benchmarks import records
from models.cells import specs

COLUMNS = ["cell", "accuracy %", "seconds", "parameters"]


def train(cell: str, epochs: int, units: int) -> tuple[float, int]:
    """Returns the accuracy on the test part and the parameters of the published version.

    Raises:
        subprocess.CalledProcessError: The command failed.
    """
    with tempfile.TemporaryDirectory() as name:
        argv = [sys.executable, "-m", "app.train", "sentiment", "--cell", cell]
        argv += ["--epochs", str(epochs), "--units", str(units)]
        argv += ["--saved-models", f"{name}/saved_models", "--runs", f"{name}/runs"]
        subprocess.run(argv, check=True, capture_output=True, text=True)
        path = Path(name) / "saved_models/sentiment/1/assets.extra/run.json"
        record = json.loads(path.read_text(encoding="utf-8"))
        return record["scores"]["accuracy"], record["parameters"]


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
    rows, failed = [], []
    for cell in args.cells:
        print(f"training {cell}", file=sys.stderr, flush=True)
        began = time.monotonic()
        try:
            accuracy, parameters = train(cell, args.epochs, args.units)
        except subprocess.CalledProcessError as error:
            print(error.stderr, file=sys.stderr, flush=True)
            failed.append(cell)
            continue
        seconds = time.monotonic() - began
        rows.append([cell, f"{100 * accuracy:.1f}", f"{seconds:.0f}", f"{parameters:,}"])
    print(records.markdown_table(COLUMNS, rows))
    print(
        f"\n{records.machine()}; sentiment, {args.epochs} epochs, {args.units} units; seconds of "
        "the process"
    )
    if failed:
        sys.exit(f"error: failed: {', '.join(failed)}")


if __name__ == "__main__":
    cli.run(main)
