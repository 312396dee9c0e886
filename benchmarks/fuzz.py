"""Random requests to every signature: none may kill the model or change another's response.

    python -m benchmarks.fuzz                     # 10,000 over all signatures of all tasks
    python -m benchmarks.fuzz --tasks captioning --seed 1

Each request goes to an untrained version, which is loaded by TensorFlow's C++ runtime alone
(tests/support/cc_runtime.c). Either it contains a reference row among rows of random bytes,
random lengths and broken images: then all rows must get a response, and the reference row the
same one as alone. Or it violates its signature in type, rank or number of rows: then the
response must be an INVALID_ARGUMENT error. Violations of this are printed, and the exit code
is then 1.
"""

import argparse
import collections
import sys
import tempfile
from pathlib import Path

import hypothesis
import tensorflow as tf

import tasks
from app.serving.payloads import columns
from benchmarks import records
from tests.support import cc_runtime, drawn_requests, untrained
from tests.support.odd_requests import good_rows
from tests.support.predictions import distances, row
from tests.support.untrained import STREAMS

TOLERANCE = 1e-5  # of numbers, as the size of a batch changes the order of summation
COLUMNS = ["task", "signature", "requests", "statuses", "crashes", "changed neighbours"]
_NAMES = {0: "OK", tf.errors.INVALID_ARGUMENT: "INVALID_ARGUMENT"}
_MAX_SHOWN = 300  # characters of a request that is printed


def fuzz(program: Path, version: Path, name: str, count: int, seed: int) -> tuple[list, bool]:
    """Sends drawn requests to one signature.

    Args:
        program: Path of the compiled runtime.
        version: Folder of a version.
        name: Name of the signature.
        count: Number of requests.
        seed: Random seed of the requests.

    Returns:
        A row of the table, and whether all responses were correct.
    """
    reference, *others = good_rows(version, 4)
    process = cc_runtime.Runtime(program, version)
    signature = process.signatures[name]
    alone = process.run(name, columns(signature, [reference])).outputs
    statuses, failures = collections.Counter(), collections.Counter()

    def send(request: drawn_requests.DrawnRequest) -> None:
        nonlocal process
        try:
            response = process.run(name, request.arrays)
        except cc_runtime.ProcessDied as death:
            report("crashes", request, str(death))
            process.close()
            process = cc_runtime.Runtime(program, version)
            return
        statuses[response.code] += 1
        expected = 0 if request.neighbour is not None else tf.errors.INVALID_ARGUMENT
        if response.code != expected:
            report("statuses", request, response.message)
        elif response.code == 0:
            differences = distances(alone, row(response.outputs, request.neighbour))
            if max(differences.values()) > TOLERANCE:
                report("neighbours", request, str(differences))
        sent = statuses.total() + failures["crashes"]
        if sent % 50 == 0:
            progress = f"\r{version.parent.name} {name}: {sent} of {count} "
            print(progress, end="", file=sys.stderr, flush=True)

    def report(kind: str, request: drawn_requests.DrawnRequest, message: str) -> None:
        failures[kind] += 1
        print(f"\n{kind}: {message}\n  {str(request)[:_MAX_SHOWN]}", file=sys.stderr, flush=True)

    settings = hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    strategy = drawn_requests.requests(signature, reference, others)
    try:
        hypothesis.seed(seed)(settings(hypothesis.given(strategy)(send)))()
    finally:
        process.close()
    print(file=sys.stderr)
    counts = ", ".join(f"{_NAMES.get(code, code)} {n}" for code, n in sorted(statuses.items()))
    sent = statuses.total() + failures["crashes"]
    result = [version.parent.name, name, sent, counts]
    return [*result, failures["crashes"], failures["neighbours"]], not failures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument(
        "--requests", type=int, default=10_000, help="requests over all signatures (default: 10000)"
    )
    parser.add_argument("--tasks", nargs="+", choices=tasks.names(), default=tasks.names())
    parser.add_argument("--seed", type=int, default=0, help="random seed of the requests")
    args = parser.parse_args()
    if cc_runtime.compiler() is None:
        sys.exit("error: a C compiler is needed, and none was found")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = cc_runtime.build(folder / "runtime")
        targets = []
        kinds = [(task, {}) for task in args.tasks]
        kinds += [(task, STREAMS[task]) for task in args.tasks if task in STREAMS]
        for number, (task, settings) in enumerate(kinds):
            own = folder / str(number)
            version = untrained.version(task, own, **settings)
            with cc_runtime.Runtime(program, version) as loaded:
                targets += [(version, signature) for signature in sorted(loaded.signatures)]
        share = -(-args.requests // len(targets))
        results = [fuzz(program, *target, share, args.seed) for target in targets]
    rows, correct = zip(*results, strict=True)
    print(records.markdown_table(COLUMNS, rows))
    total = sum(row[COLUMNS.index("requests")] for row in rows)
    print(
        f"\n{records.machine()}; TensorFlow {tf.__version__}; {total:,} requests, seed {args.seed}"
    )
    sys.exit(0 if all(correct) else 1)


if __name__ == "__main__":
    main()
