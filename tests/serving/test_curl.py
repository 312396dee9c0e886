"""The curl lines of the documentation, run unchanged against a fake server."""

import json
import os
import re
import shutil
import subprocess

import pytest

import tasks
from app import deploy
from app.serving import server_config, session
from tests.support import pages, untrained
from tests.support.fake_server import FakeServer

TASKS = tasks.names()
LINES = sorted(
    {line for page in pages.names() for line in pages.commands(page) if line.startswith("curl ")}
)
STREAM = [line for line in pages.commands("docs/streaming.md") if line.startswith("curl ")]
LINES = [line for line in LINES if line not in STREAM]


@pytest.fixture(scope="module")
def server(untrained_versions, tmp_path_factory):
    """A server with the labels that `app.deploy` writes."""
    folder = tmp_path_factory.mktemp("deploy")
    deploy.main(["--saved-models", str(untrained_versions), "--to", str(folder)])
    written = (folder / server_config.MODELS).read_text(encoding="utf-8")
    labels = server_config.labels(server_config.parse(server_config.MODELS, written))
    with FakeServer(untrained_versions, TASKS, labels=labels) as server:
        yield server


def run_line(line, port, folder):
    """Runs a line; returns the status and the parsed response."""
    # curl reads this file, so that the line itself stays unchanged.
    (folder / ".curlrc").write_text('silent\nshow-error\nnoproxy = "*"\nwrite-out = "%{http_code}"')
    process = subprocess.run(
        ["bash", "-c", line.replace(":8501", f":{port}")],
        cwd=folder,
        env={**os.environ, "CURL_HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode == 0, process.stderr
    return int(process.stdout[-3:]), json.loads(process.stdout[:-3])


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_a_line_for_its_default_signature(task):
    path = re.compile(rf"http://localhost:8501/v1/models/{task}(/labels/stable)?:predict\b")
    lines = [line for line in LINES if path.search(line) and "signature_name" not in line]
    assert lines, f"add a curl line for {task} to docs/serving.md"


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
@pytest.mark.parametrize("line", LINES)
def test_a_line_gets_the_outputs_of_the_signature(line, server, untrained_versions, tmp_path):
    image = next(iter(untrained.examples("captioning"))).values["image_bytes"]
    # Larger than one argument of a shell can be, like photographs.
    (tmp_path / "photo.jpg").write_bytes(image + bytes(2**18))
    status, content = run_line(line, server.rest_port, tmp_path)
    assert status == 200, content
    task = re.search(r"/v1/models/(\w+)", line)[1]
    if ":predict" not in line:
        assert "metadata" in content or content["model_version_status"][0]["state"] == "AVAILABLE"
        return
    name = re.search(r'"signature_name": *"(\w+)"', line)
    signatures = session.signatures(untrained_versions / task / "1")
    outputs = set(signatures[name[1] if name else "serving_default"].outputs)
    if "instances" in line:
        assert content["predictions"]
        assert all(row.keys() == outputs for row in content["predictions"])
        assert all(row.get("valid", True) for row in content["predictions"])
    else:
        assert content["outputs"].keys() == outputs


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_three_lines_carry_the_state_of_a_stream(untrained_copy, tmp_path):
    untrained_copy("tagging", tmp_path / "models", streams=True)
    with FakeServer(tmp_path / "models", ["tagging"]) as server:
        start, feed, finish = STREAM
        status, content = run_line(start, server.rest_port, tmp_path)
        [state] = content["outputs"]
        status, fed = run_line(feed.replace("STATE", state), server.rest_port, tmp_path)
        assert status == 200 and fed["outputs"]["valid"] == [True]
        [state] = fed["outputs"]["state"]
        status, rest = run_line(finish.replace("STATE", state), server.rest_port, tmp_path)
        assert status == 200 and rest["outputs"]["valid"] == [True]
    tokens = [*fed["outputs"]["tokens"][0], *rest["outputs"]["tokens"][0]]
    assert tokens == ["the", "old", "man", "the", "bo"]
