"""Rows of a table that take long: each result is a file, so that a run goes on where it was."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from app.atomic import atomic_write

RESULTS = Path("runs/benchmarks")


def data_dir() -> Path:
    """The folder of real data, named by the environment variable DATA_DIR."""
    folder = os.environ.get("DATA_DIR")
    if not folder or not Path(folder).is_dir():
        sys.exit("error: set DATA_DIR to the folder of real data")
    return Path(folder)


def result(table: str, name: str, measure: Callable[[], dict], fresh: bool = False) -> dict:
    """The result of a row: of its file unless `fresh`, or measured now and kept in it."""
    path = RESULTS / table / f"{name}.json"
    if fresh or not path.exists():
        print(f"measuring {table}/{name}", file=sys.stderr, flush=True)
        measured = measure()
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, json.dumps(measured, indent=2))
    return json.loads(path.read_text(encoding="utf-8"))


def trained(task: str, folder: Path, *flags: str) -> dict:
    """Trains a task in a process of its own, and returns the record of what it published.

    Args:
        task: Its name.
        folder: Where its state and its one version go.
        flags: Of `app.train`.
    """
    argv = [sys.executable, "-m", "app.train", task, *flags]
    argv += ["--saved-models", str(folder), "--runs", str(folder / "runs")]
    subprocess.run(argv, check=True, stdout=sys.stderr)
    record = folder / task / "1/assets.extra/run.json"
    return json.loads(record.read_text(encoding="utf-8"))


def known(table: str, name: str) -> dict | None:
    """The result of a row if it has been measured."""
    path = RESULTS / table / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def markdown(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table as the README has it."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def machine() -> str:
    """The machine, in words."""
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
