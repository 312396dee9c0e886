"""Whether a request can kill a served model or change another's answer: thousands are drawn.

    python -m benchmarks.fuzz                     # 10,000 over all signatures of all tasks
    python -m benchmarks.fuzz --tasks captioning --seed 1

Each goes to a version nothing was learnt in, loaded by TensorFlow's C++ runtime alone
(tests/support/cc_runtime.c). It has a well-known row among rows of any bytes, any lengths and
broken images: all must be answered, and the well-known row as it is alone. Or it is none of
its signature, in type, rank or number of rows: that is an invalid argument. What is neither
is printed, and the exit code is 1.
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
from benchmarks import results
from tests.support import cc_runtime, drawn_requests, untrained
from tests.support.odd_requests import good_rows
from tests.support.predictions import distances, row

NUMBERS = 1e-5  # by how much those of an answer may depend on who shares its batch
COLUMNS = ["task", "signature", "requests", "statuses", "deaths", "changed neighbours"]
_NAMES = {0: "OK", tf.errors.INVALID_ARGUMENT: "INVALID_ARGUMENT"}
_SHOWN = 300  # characters of a request that broke something


def fuzz(program: Path, version: Path, name: str, count: int, seed: int) -> tuple[list, bool]:
    """Sends drawn requests to one signature.

    Args:
        program: The compiled probe.
        version: The folder of a version.
        name: The signature.
        count: How many.
        seed: What they are drawn by.

    Returns:
        A line of the table, and whether all went as it should.
    """
    known, *others = good_rows(version, 4)
    process = cc_runtime.Runtime(program, version)
    signature = process.signatures[name]
    alone = process.run(name, columns(signature, [known])).outputs
    statuses, broken = collections.Counter(), collections.Counter()

    def send(request: drawn_requests.DrawnRequest) -> None:
        nonlocal process
        try:
            answer = process.run(name, request.arrays)
        except cc_runtime.ProcessDied as death:
            tell("deaths", request, str(death))
            process.close()
            process = cc_runtime.Runtime(program, version)
            return
        statuses[answer.code] += 1
        wanted = 0 if request.neighbour is not None else tf.errors.INVALID_ARGUMENT
        if answer.code != wanted:
            tell("statuses", request, answer.message)
        elif answer.code == 0:
            apart = distances(alone, row(answer.outputs, request.neighbour))
            if max(apart.values()) > NUMBERS:
                tell("neighbours", request, str(apart))
        sent = statuses.total() + broken["deaths"]
        if sent % 50 == 0:
            progress = f"\r{version.parent.name} {name}: {sent} of {count} "
            print(progress, end="", file=sys.stderr, flush=True)

    def tell(what: str, request: drawn_requests.DrawnRequest, message: str) -> None:
        broken[what] += 1
        print(f"\n{what}: {message}\n  {str(request)[:_SHOWN]}", file=sys.stderr, flush=True)

    settings = hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    strategy = drawn_requests.requests(signature, known, others)
    try:
        hypothesis.seed(seed)(settings(hypothesis.given(strategy)(send)))()
    finally:
        process.close()
    print(file=sys.stderr)
    told = ", ".join(f"{_NAMES.get(code, code)} {n}" for code, n in sorted(statuses.items()))
    sent = statuses.total() + broken["deaths"]
    line = [version.parent.name, name, sent, told, broken["deaths"], broken["neighbours"]]
    return line, not broken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--requests", type=int, default=10_000, help="in total")
    parser.add_argument("--tasks", nargs="+", choices=tasks.names(), default=tasks.names())
    parser.add_argument("--seed", type=int, default=0, help="what the requests are drawn by")
    args = parser.parse_args()
    if cc_runtime.compiler() is None:
        sys.exit("error: a C compiler is needed, and none is here")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = cc_runtime.build(folder / "probe")
        asked = []
        for task in args.tasks:
            version = untrained.version(task, folder)
            with cc_runtime.Runtime(program, version) as loaded:
                asked += [(version, signature) for signature in sorted(loaded.signatures)]
        share = -(-args.requests // len(asked))
        found = [fuzz(program, *each, share, args.seed) for each in asked]
    lines, fine = zip(*found, strict=True)
    print(results.markdown(COLUMNS, lines))
    total = sum(line[COLUMNS.index("requests")] for line in lines)
    print(
        f"\n{results.machine()}; TensorFlow {tf.__version__}; {total:,} requests, seed {args.seed}"
    )
    sys.exit(0 if all(fine) else 1)


if __name__ == "__main__":
    main()
