"""Random requests to every signature: none may kill the model or change another's response.

    python -m benchmarks.fuzz                     # 10,000 over all signatures of all tasks
    python -m benchmarks.fuzz --tasks captioning --seed 1
    python -m benchmarks.fuzz --states 10000      # corrupted states of streams instead

Each request goes to an untrained version, which is loaded by TensorFlow's C++ runtime alone
(tests/support/cc_runtime.c). Either it contains a reference row among rows of random bytes,
random lengths and broken images: then all rows must get a response, and the reference row the
same one as alone. Or it violates its signature in type, rank or number of rows: then the
response must be an INVALID_ARGUMENT error. Violations of this are printed, and the exit code
is then 1.

With --states, corrupted states of streams (tests/support/corrupted_states.py) are sent to `feed`
and `finish`, seven in a request with one that is valid: they must be reported as not valid, or
decode to what a state was before, and the valid one must have the response that it has alone.
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
from tests.support import cc_runtime, corrupted_states, drawn_requests, untrained
from tests.support.odd_requests import good_rows
from tests.support.predictions import distances, row
from tests.support.untrained import STREAMS

TOLERANCE = 1e-5  # of numbers, as the size of a batch changes the order of summation
COLUMNS = ["task", "signature", "requests", "statuses", "crashes", "changed neighbours"]
STATE_COLUMNS = ["task", "signature", "states", "not valid", "as before", "wrong responses"]
STATE_COLUMNS += ["crashes", "changed neighbours"]
_PIECES = [b"the old man the", b" boats. Mr. X ", b"can't pay $50 \xe5\xa5"]  # of a text
_DIED = -1  # code of a response that a process owes
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


def corrupt(program: Path, task: str, folder: Path, count: int, seed: int) -> list[list]:
    """Sends corrupted states to the streams of a task.

    Args:
        program: Path of the compiled runtime.
        task: Name of the task.
        folder: Folder for its versions.
        count: Number of states for each signature.
        seed: Random seed of the states.

    Returns:
        A row of the table for each signature.
    """
    foreign = []  # of versions with other weights, of the same layout and of another
    for number, more in enumerate([{"seed": 7}, {"cell": "gru"}]):
        other = untrained.version(task, folder / str(number), **STREAMS[task], **more)
        with cc_runtime.Runtime(program, other) as process:
            foreign += corrupted_states.states(process.run, _PIECES)
    version = untrained.version(task, folder / "own", **STREAMS[task])
    process, rows = cc_runtime.Runtime(program, version), []

    def run(signature, request):
        nonlocal process
        try:
            return process.run(signature, request)
        except cc_runtime.ProcessDied as death:
            process.close()
            process = cc_runtime.Runtime(program, version)
            return cc_runtime.Response(_DIED, str(death), {})

    good = corrupted_states.states(run, _PIECES)
    for signature in ("feed", "finish"):
        outcomes = collections.Counter()
        for each, outcome in corrupted_states.check(run, signature, good, foreign, count, seed):
            kind = f"error {_DIED}" if outcome.startswith(f"error {_DIED}:") else outcome
            outcomes[kind] += 1
            if outcome not in ("not valid", "as before"):
                print(f"{task} {signature}: {each.kind}: {outcome}", file=sys.stderr)
        crashes, changed = outcomes.pop(f"error {_DIED}", 0), outcomes.pop("changed neighbour", 0)
        valid = [outcomes.pop(kind, 0) for kind in ("not valid", "as before")]
        rows.append([task, signature, count, *valid, outcomes.total(), crashes, changed])
    process.close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument(
        "--requests", type=int, default=10_000, help="requests over all signatures (default: 10000)"
    )
    parser.add_argument(
        "--states", type=int, default=0, help="corrupted states to send instead of requests"
    )
    parser.add_argument("--tasks", nargs="+", choices=tasks.names(), default=tasks.names())
    parser.add_argument("--seed", type=int, default=0, help="random seed of the requests")
    args = parser.parse_args()
    if cc_runtime.compiler() is None:
        sys.exit("error: a C compiler is needed, and none was found")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = cc_runtime.build(folder / "runtime")
        if args.states:
            streaming = [task for task in args.tasks if task in STREAMS]
            share = -(-args.states // (2 * len(streaming)))
            rows = []
            for task in streaming:
                rows += corrupt(program, task, folder / task, share, args.seed)
            print(records.markdown_table(STATE_COLUMNS, rows))
            total = f"{sum(row[2] for row in rows):,} states"
            print(f"\n{records.machine()}; TensorFlow {tf.__version__}; {total}, seed {args.seed}")
            sys.exit(1 if any(sum(row[5:]) for row in rows) else 0)
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
