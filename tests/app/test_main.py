"""`python -m app` lists the commands."""

import re
import subprocess
import sys
from pathlib import Path

from app import __main__ as listing

ROOT = Path(__file__).parents[2]


def test_every_command_is_listed_with_what_it_does():
    command = [sys.executable, "-m", "app"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines()[2:])
    assert lines == listing.commands()
    assert lines["train"] == "Trains a task and publishes an evaluated SavedModel"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"python -m app\.(\w+)", readme))
    assert named - {"train"} and named <= lines.keys()
