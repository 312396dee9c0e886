"""CPU time and memory of a request of one row, against its size, for every signature.

    python -m benchmarks.request_cost
    python -m benchmarks.request_cost --tasks tagging --units 64

Each request goes to an untrained version, which is loaded by TensorFlow's C++ runtime alone
(tests/support/cc_runtime.c). For each size the most expensive content is reported, of those that
are known to be expensive: the CPU time of the process, and by how much its peak of memory
exceeds what it needs between requests.
"""

import argparse
import io
import os
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

import tasks
from app.serving.payloads import columns
from benchmarks import records
from models.images import MAX_SCANS
from tests.support import cc_runtime, untrained
from tests.support.odd_requests import good_rows

SIZES = (1_000, 10_000, 100_000, 1_000_000)  # bytes
COLUMNS = [
    "task",
    "signature",
    *(f"{size // 1000} kB: CPU s, MiB" for size in SIZES),
    "most expensive content",
]
_SIDE = 5_000  # pixels of the largest image


def _words(size: int) -> bytes:
    text, number = bytearray(), 0
    while len(text) < size:
        text += b"w%d " % number
        number += 1
    return bytes(text[:size])


TEXTS: dict[str, Callable[[int], bytes]] = {
    "words of one letter": lambda size: b"a " * (size // 2),
    "distinct words": _words,
    "one word": lambda size: b"a" * size,
    "apostrophes": lambda size: b"'" * size,
    "hyphenated words": lambda size: b"a-" * (size // 2),
    "Chinese characters": lambda size: "好".encode() * (size // 3),
    "bytes that are not UTF-8": lambda size: b"\xff" * size,
}


def _png(size: int) -> bytes:
    """Returns a PNG of the largest number of pixels, with a comment that fills the size."""
    file = io.BytesIO()
    Image.new("1", (_SIDE, _SIDE)).save(file, "png")
    png = file.getvalue()
    comment = b"tEXt" + b"a" * max(size - len(png) - 12, 0)
    chunk = struct.pack(">I", len(comment) - 4) + comment + struct.pack(">I", zlib.crc32(comment))
    return png[:33] + chunk + png[33:]


def _jpeg(size: int) -> bytes:
    """Returns a progressive JPEG with the largest number of pixels and of scans that fit."""
    file = io.BytesIO()
    Image.new("L", (_SIDE, _SIDE)).save(file, "jpeg", progressive=True)
    jpeg = file.getvalue()
    start = jpeg.rindex(b"\xff\xda")
    scan, count = jpeg[start:-2], jpeg.count(b"\xff\xda")
    more = min(max(size - len(jpeg), 0) // len(scan), MAX_SCANS - count)
    return jpeg[:-2] + scan * more + jpeg[-2:]


def _noise(size: int) -> bytes:
    """Returns a PNG of noise of about a size."""
    side = max(int((size / 3) ** 0.5), 1)
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


IMAGES: dict[str, Callable[[int], bytes]] = {
    "PNG of 25 megapixels": _png,
    "JPEG of 25 megapixels in many scans": _jpeg,
    "PNG of noise": _noise,
}


def requests(inputs: frozenset[str], size: int) -> dict[str, dict]:
    """Returns rows of about a size for a signature, by a description of their content.

    Args:
        inputs: Names of the inputs of the signature.
        size: Size in bytes.
    """
    if inputs == {"text"}:
        return {name: {"text": make(size)} for name, make in TEXTS.items()}
    if inputs == {"image_bytes"}:
        return {name: {"image_bytes": make(size)} for name, make in IMAGES.items()}
    rows = {"tokens of one letter": [b"a"] * (size // 2), "one token": [b"a" * size]}
    return {name: {"tokens": row, "lengths": len(row)} for name, row in rows.items()}


def measure(process: cc_runtime.Runtime, signature: str, row: dict) -> tuple[float, float]:
    """Returns the CPU seconds and the additional MiB of memory of a request of one row."""
    request = columns(process.signatures[signature], [row])
    folder = Path("/proc") / str(process.pid)
    (folder / "clear_refs").write_text("5")  # resets the peak of memory
    memory, cpu = _memory(folder, "VmRSS"), _cpu(folder)
    response = process.run(signature, request)
    if response.code:
        sys.exit(f"error: {signature}: {response.message}")
    return _cpu(folder) - cpu, (_memory(folder, "VmHWM") - memory) / 2**10


def _cpu(folder: Path) -> float:
    fields = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory(folder: Path, name: str) -> int:
    lines = (folder / "status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def row_of(program: Path, version: Path, name: str) -> list[str]:
    """Returns the row of the table for a signature."""
    results, worst = [], ""
    with cc_runtime.Runtime(program, version) as process:
        signature = process.signatures[name]
        for _ in range(2):  # memory that is never given back
            process.run(name, columns(signature, good_rows(version, 4)))
        for size in SIZES:
            costs = {}
            for content, row in requests(frozenset(signature.inputs), size).items():
                costs[content] = measure(process, name, row)
                print(version.parent.name, name, size, content, costs[content], file=sys.stderr)
            worst = max(costs, key=costs.get)
            seconds, mebibytes = (max(values) for values in zip(*costs.values(), strict=True))
            results.append(f"{seconds:.2f}, {mebibytes:.0f}")
    return [version.parent.name, name, *results, worst]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--tasks", nargs="+", choices=tasks.names(), default=tasks.names())
    parser.add_argument("--units", type=int, default=64, help="units of the networks (default: 64)")
    args = parser.parse_args()
    if cc_runtime.compiler() is None:
        sys.exit("error: a C compiler is needed, and none was found")
    if not Path("/proc/self/clear_refs").exists():
        sys.exit("error: this system does not report the peak of memory in /proc")
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = cc_runtime.build(folder / "runtime")
        for task in args.tasks:
            version = untrained.version(task, folder, units=args.units, embedding=args.units)
            with cc_runtime.Runtime(program, version) as process:
                signatures = sorted(process.signatures)
            rows += [row_of(program, version, signature) for signature in signatures]
    print(records.markdown_table(COLUMNS, rows))
    print(f"\n{records.machine()}; TensorFlow {tf.__version__}; {args.units} units")


if __name__ == "__main__":
    main()
