"""A process that is killed while it publishes leaves no version that is not whole."""

import subprocess
import sys
from pathlib import Path

from app.serving import compatibility, versions
from models import manifest

# Imports once, then publishes in children. The first counts the steps that it takes with files
# of the version; each other one is killed, as by `kill -9`, at one of them: some of all, and
# each of the last, in which a version gets its number.
SCRIPT = """
import os, pathlib, signal, sys
import tasks
from tests.support import untrained

folder = pathlib.Path(sys.argv[1])

def publish(number, at):
    taken = 0

    def watch(event, arguments):
        nonlocal taken
        paths = [os.fspath(each) for each in arguments if isinstance(each, (str, os.PathLike))]
        if any(str(path).startswith(str(folder / "sentiment")) for path in paths):
            taken += 1
            if taken == at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    untrained.version("sentiment", folder, learnt=folder / f"learnt-{number}")
    (folder / "steps").write_text(str(taken))
    os._exit(0)

def child(number, at):
    process = os.fork()
    if not process:
        publish(number, at)
    return os.waitpid(process, 0)[1]

tasks.find("sentiment")
assert child(0, 0) == 0
steps = int((folder / "steps").read_text())
points = [*range(1, steps, max(steps // 6, 1)), *range(steps - 5, steps + 1)]
killed = [child(number, at) for number, at in enumerate(points, 1)]
print(steps, len(points), killed.count(signal.SIGKILL))
"""


def test_a_version_is_whole_or_not_there_whenever_the_process_is_killed(tmp_path):
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr
    steps, points, killed = map(int, ended.stdout.split())
    assert steps > 50 and killed == points > 10
    folder = tmp_path / "sentiment"
    found = versions.numbers(folder)
    assert found == list(range(1, len(found) + 1)) and 1 <= len(found) < points
    for version in found:
        manifest.verify(folder / str(version))
        compatibility.check(folder / str(version))
    left = {path.name for path in folder.iterdir() if not path.name.isdigit()}
    assert left <= {"draft-lstm"}  # what a killed process leaves, the next one clears away
