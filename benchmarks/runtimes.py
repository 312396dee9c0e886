"""Compares the responses of two versions of TensorFlow's C++ runtime to the same requests.

    pip download "tensorflow==2.20.*" --no-deps -d DIR && unzip -q DIR/*.whl -d DIR/unpacked
    python -m benchmarks.runtimes --wheel DIR/unpacked

TensorFlow promises that new runtimes run old models, not that old runtimes run new models, and
servers are often older. Untrained versions are loaded by the C++ libraries of the wheel and of
the installed TensorFlow (tests/support/cc_runtime.c). Both receive the same requests: rows of
the samples one by one and eight at a time, and every odd row of the tests. Differences are of
numbers, relative to 1 or the larger number; strings and integers must be equal. The exit code is
1 if they are not, or if only one runtime returns an error.
"""

import argparse
import math
import sys
import tempfile
from pathlib import Path

import tensorflow as tf

import tasks
from app.serving.payloads import columns
from benchmarks import records
from tests.support import cc_runtime, untrained
from tests.support.odd_requests import good_rows, odd_rows
from tests.support.predictions import distances

CELLS = ("lstm", "gru", "mut1")  # a fused op, a loop, and an equation that only has a loop
BATCHES = (1, 8)
COLUMNS = ["runtime", "task", "cell", "signature", "requests", "largest difference"]


def compare(version: Path, program: Path, other: Path) -> list[tuple[str, str, int, float]]:
    """Sends the same requests for a version to two runtimes.

    Args:
        version: Folder of a version.
        program: Program with the installed runtime.
        other: Program with the other runtime.

    Returns:
        For each signature: version of the other runtime, name of the signature, number of
        requests, and largest difference.

    Raises:
        ProcessDied: A runtime cannot load the version, or crashes.
    """
    good, results = good_rows(version, sum(BATCHES)), []
    with (
        cc_runtime.Runtime(program, version) as first,
        cc_runtime.Runtime(other, version) as second,
    ):
        for name, signature in first.signatures.items():
            requests = [good[:size] for size in BATCHES]
            requests += [[odd.row, good[0]] for odd in odd_rows(signature).values()]
            largest = 0.0
            for rows in requests:
                request = columns(signature, rows)
                one, two = first.run(name, request), second.run(name, request)
                if one.code or two.code:
                    largest = largest if one.code == two.code else math.inf
                else:
                    largest = max(largest, *distances(one.outputs, two.outputs).values())
            results.append((second.runtime, name, len(requests), largest))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument(
        "--wheel", type=Path, required=True, help="folder of an unpacked wheel of TensorFlow"
    )
    args = parser.parse_args()
    libraries = args.wheel / "tensorflow"
    if not (libraries / "include").is_dir():
        sys.exit(f"error: --wheel: {libraries} must be the package of an unpacked wheel")
    if cc_runtime.compiler() is None:
        sys.exit("error: a C compiler is needed, and none was found")
    rows, worst = [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        program = cc_runtime.build(Path(folder) / "installed")
        other = cc_runtime.build(Path(folder) / "other", libraries)
        for task in tasks.names():
            for cell in CELLS:
                version = untrained.version(task, Path(folder), cell)
                for runtime, name, count, largest in compare(version, program, other):
                    rows.append([runtime, task, cell, name, count, f"{largest:.1e}"])
                    worst = max(worst, largest)
                    print("\t".join(map(str, rows[-1])), file=sys.stderr, flush=True)
    print(records.markdown_table(COLUMNS, rows))
    print(f"\n{records.machine()}; compared with TensorFlow {tf.__version__}")
    sys.exit(math.isinf(worst))


if __name__ == "__main__":
    main()
