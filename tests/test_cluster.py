"""What is to be handed to a cluster begins processes that know one another."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
# Stands in for Python: tells which cluster it was begun in, and with which words.
PYTHON = """#!/bin/bash
index=$(echo "$TF_CONFIG" | grep -o 'index": [0-9]*' | grep -o '[0-9]*')
printf '%s\\n' "$TF_CONFIG" "$*" > "$OUT/$index"
"""
SCONTROL = """#!/bin/bash
[ "$1 $2 $3" = "show hostnames n[7-9]" ] && printf '%s\\n' n7 n8 n9
"""
# Runs what it is given three times, as Slurm does on three machines.
SRUN = """#!/bin/bash
while [[ "$1" == --* ]]; do shift; done
for index in 0 1 2; do SLURM_PROCID=$index "$@" || exit 1; done
"""


@pytest.fixture
def begun(tmp_path):
    """Runs a command where programs of the cluster are stood in for; returns what it began."""
    out, programs = tmp_path / "out", tmp_path / "programs"
    out.mkdir()
    programs.mkdir()
    for name, script in (("python", PYTHON), ("scontrol", SCONTROL), ("srun", SRUN)):
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)

    def run(command, **environment):
        path = f"{programs}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "OUT": str(out), **environment}
        subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
        found = {}
        for file in out.iterdir():
            config, words = file.read_text().splitlines()
            found[int(file.name)] = json.loads(config), words
        return found

    return run


def test_a_job_of_kubernetes_begins_every_process_of_one_cluster(begun):
    service, job = yaml.safe_load_all((ROOT / "cluster/kubernetes.yaml").read_text())
    spec = job["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    for index in range(spec["completions"]):
        found = begun(container["command"], JOB_COMPLETION_INDEX=str(index))
    # A pod of an indexed job is NAME-INDEX, and in the domain of the service of its subdomain.
    name, domain = job["metadata"]["name"], spec["template"]["spec"]["subdomain"]
    assert domain == service["metadata"]["name"] and service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": name}
    workers = [f"{name}-{index}.{domain}:2222" for index in range(spec["completions"])]
    assert spec["parallelism"] == spec["completions"] == len(found) == 2
    for index, (config, words) in found.items():
        assert config == {
            "cluster": {"worker": workers},
            "task": {"type": "worker", "index": index},
        }
        assert words.startswith("-m app.train sentiment --data /corpus --strategy multiworker ")
    mounted = {volume["name"]: volume["mountPath"] for volume in container["volumeMounts"]}
    claimed = {volume["name"] for volume in spec["template"]["spec"]["volumes"]}
    assert mounted.keys() == claimed
    assert {"/corpus", "/models"} == set(mounted.values())


@pytest.mark.parametrize("task", ["sentiment", "tagging"])
def test_a_job_of_slurm_begins_a_process_on_every_machine(begun, task):
    script = [str(Path("cluster/slurm.sh")), task, "--data", "a corpus", "--epochs", "3"]
    found = begun(["bash", *script], SLURM_JOB_ID="123456", SLURM_JOB_NODELIST="n[7-9]")
    assert sorted(found) == [0, 1, 2]
    for index, (config, words) in found.items():
        assert config["task"] == {"type": "worker", "index": index}
        assert config["cluster"] == {"worker": [f"n{n}:23456" for n in (7, 8, 9)]}
        assert words == f"-m app.train {task} --strategy multiworker --data a corpus --epochs 3"


@pytest.mark.parametrize("arguments", [[], ["--data", "a corpus"]])
def test_a_job_of_slurm_needs_a_task(arguments):
    command = ["bash", "cluster/slurm.sh", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "usage: sbatch cluster/slurm.sh TASK" in done.stderr
