"""Stored measurements, so that an interrupted benchmark resumes, and Markdown tables of them."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from app.core.atomic import atomic_write

RECORDS = Path("runs/benchmarks")


def data_dir() -> Path:
    """Returns the folder of public data that the environment variable DATA_DIR names."""
    folder = os.environ.get("DATA_DIR")
    if not folder or not Path(folder).is_dir():
        sys.exit("error: set DATA_DIR to the folder of public data (benchmarks/README.md)")
    return Path(folder)


def load(table: str, name: str) -> dict | None:
    """Returns the record of a row of a table, or None if it has not been measured."""
    path = RECORDS / table / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def load_or_measure(
    table: str, name: str, measure: Callable[[], dict], fresh: bool = False
) -> dict:
    """Returns the record of a row of a table; measures and stores it if there is none.

    Args:
        table: Name of the table.
        name: Name of the row.
        measure: Returns the record.
        fresh: Whether to measure again even if there is a record.
    """
    path = RECORDS / table / f"{name}.json"
    if fresh or not path.exists():
        print(f"measuring {table}/{name}", file=sys.stderr, flush=True)
        record = measure()
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, json.dumps(record, indent=2))
    return json.loads(path.read_text(encoding="utf-8"))


def train(task: str, folder: Path, *flags: str) -> dict:
    """Trains a task in a process of its own, and returns the `run.json` of the version.

    Args:
        task: Name of the task.
        folder: Folder of the run and of the version; must not contain a version.
        flags: Flags of `app.train`.
    """
    argv = [sys.executable, "-m", "app.train", task, *flags]
    argv += ["--saved-models", str(folder), "--runs", str(folder / "runs")]
    subprocess.run(argv, check=True, stdout=sys.stderr)
    record = folder / task / "1/assets.extra/run.json"
    return json.loads(record.read_text(encoding="utf-8"))


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Returns a table as Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def machine() -> str:
    """Returns the number of cores, the architecture and the version of Python."""
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
