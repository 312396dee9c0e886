"""Whether a model of today runs on the TensorFlow of another day, and answers the same.

    pip download "tensorflow==2.20.*" --no-deps -d DIR && unzip -q DIR/*.whl -d DIR/unpacked
    python -m benchmarks.runtimes --wheel DIR/unpacked

TensorFlow promises that new runtimes run old models, not that old ones run new models;
servers lag behind. Versions nothing was learnt in are loaded by the C++ libraries of the
wheel, and of the TensorFlow that is installed (tests/support/cc_runtime.c), and asked the same:
rows of the samples by one and by eight, and every odd row of the tests. The difference is of
numbers, relative to 1 or the larger; strings and whole numbers must be equal. The exit code
is 1 where they are not, or where a request is answered by one alone.
"""

import argparse
import math
import sys
import tempfile
from pathlib import Path

import tensorflow as tf

import tasks
from app.serving.payloads import columns
from benchmarks import results
from tests.support import cc_runtime, untrained
from tests.support.odd_requests import good_rows, odd_rows
from tests.support.predictions import distances

CELLS = ("lstm", "gru", "mut1")  # a fused op, a loop, and an equation that only the loop runs
BATCHES = (1, 8)
COLUMNS = ["runtime", "task", "cell", "signature", "requests", "largest difference"]


def compare(version: Path, program: Path, other: Path) -> list[tuple[str, str, int, float]]:
    """Asks a version the same by two runtimes.

    Args:
        version: The folder of a version.
        program: The probe of the installed runtime.
        other: That of the other one.

    Returns:
        Of each signature: the other runtime's version, its name, how many requests there
        were, and the largest difference.

    Raises:
        ProcessDied: A runtime does not load it, or does not live to answer.
    """
    good, found = good_rows(version, sum(BATCHES)), []
    with cc_runtime.Runtime(program, version) as here, cc_runtime.Runtime(other, version) as there:
        for name, signature in here.signatures.items():
            some = [good[:size] for size in BATCHES]
            some += [[odd.row, good[0]] for odd in odd_rows(signature).values()]
            largest = 0.0
            for each in some:
                request = columns(signature, each)
                one, two = here.run(name, request), there.run(name, request)
                if one.code or two.code:
                    largest = largest if one.code == two.code else math.inf
                else:
                    largest = max(largest, *distances(one.outputs, two.outputs).values())
            found.append((there.runtime, name, len(some), largest))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument(
        "--wheel", type=Path, required=True, help="folder that a wheel of TensorFlow is unpacked in"
    )
    args = parser.parse_args()
    libraries = args.wheel / "tensorflow"
    if not (libraries / "include").is_dir():
        sys.exit(f"error: --wheel: {libraries} must be the package of an unpacked wheel")
    if cc_runtime.compiler() is None:
        sys.exit("error: a C compiler is needed, and none is here")
    lines, worst = [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        program = cc_runtime.build(Path(folder) / "probe")
        other = cc_runtime.build(Path(folder) / "other", libraries)
        for task in tasks.names():
            for cell in CELLS:
                version = untrained.version(task, Path(folder), cell)
                for runtime, name, count, largest in compare(version, program, other):
                    lines.append([runtime, task, cell, name, count, f"{largest:.1e}"])
                    worst = max(worst, largest)
                    print("\t".join(map(str, lines[-1])), file=sys.stderr, flush=True)
    print(results.markdown(COLUMNS, lines))
    print(f"\n{results.machine()}; beside TensorFlow {tf.__version__}")
    sys.exit(math.isinf(worst))


if __name__ == "__main__":
    main()
