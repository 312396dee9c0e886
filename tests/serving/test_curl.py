"""The curl lines of the README's deployment page, as they stand there, against the double."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import tasks
from app import deploy
from app.serving import server_config, session
from tests.support import untrained
from tests.support.fake_server import Double

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
TASKS = tasks.names()


def curl_lines(text: str) -> list[str]:
    """The commands of the section "Deploy" that begin with curl, those cut by \\ made whole."""
    section = re.search(r"^## Deploy$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    whole = section[1].replace("\\\n", " ") if section else ""
    return re.findall(r"^ {4}(curl .*)$", whole, re.MULTILINE)


LINES = curl_lines(README)


@pytest.fixture(scope="module")
def double(untrained_versions, tmp_path_factory):
    """What is served as `app.deploy` has it served."""
    folder = tmp_path_factory.mktemp("deploy")
    deploy.main(["--saved-models", str(untrained_versions), "--to", str(folder)])
    written = (folder / server_config.MODELS).read_text(encoding="utf-8")
    labels = server_config.labels(server_config.parse(server_config.MODELS, written))
    with Double(untrained_versions, TASKS, labels=labels) as double:
        yield double


def asked(line, port, folder):
    """The status and the object that a line gets."""
    # Read by curl by itself, so that the line may stay as it is.
    (folder / ".curlrc").write_text('silent\nshow-error\nnoproxy = "*"\nwrite-out = "%{http_code}"')
    done = subprocess.run(
        ["bash", "-c", line.replace(":8501", f":{port}")],
        cwd=folder,
        env={**os.environ, "CURL_HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout[-3:]), json.loads(done.stdout[:-3])


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_a_line_that_asks_its_default_signature(task):
    path = re.compile(rf"http://localhost:8501/v1/models/{task}(/labels/stable)?:predict\b")
    lines = [line for line in LINES if path.search(line) and "signature_name" not in line]
    assert lines, f'README.md: no "    curl ..." of the section "## Deploy" asks {task}'


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
@pytest.mark.parametrize("line", LINES)
def test_a_line_gets_what_the_signature_promises(line, double, untrained_versions, tmp_path):
    image = next(iter(untrained.examples("captioning"))).values["image_bytes"]
    # Larger than what a shell hands over in one argument, as photographs are.
    (tmp_path / "photo.jpg").write_bytes(image + bytes(2**18))
    status, told = asked(line, double.rest_port, tmp_path)
    assert status == 200, told
    task = re.search(r"/v1/models/(\w+)", line)[1]
    if ":predict" not in line:
        assert "metadata" in told or told["model_version_status"][0]["state"] == "AVAILABLE"
        return
    name = re.search(r'"signature_name": *"(\w+)"', line)
    known = session.signatures(untrained_versions / task / "1")
    outputs = set(known[name[1] if name else "serving_default"].outputs)
    if "instances" in line:
        assert told["predictions"]
        assert all(row.keys() == outputs for row in told["predictions"])
        assert all(row.get("valid", True) for row in told["predictions"])
    else:
        assert told["outputs"].keys() == outputs


def test_lines_are_found_in_their_section_alone():
    text = "    curl a\n## Deploy\ntext\n    curl b \\\n      c\n    other\n\n    curl d\n"
    text += "## Next\n    curl e\n"
    assert [line.split() for line in curl_lines(text)] == [["curl", "b", "c"], ["curl", "d"]]
    assert curl_lines("## Other\n    curl a\n") == []
