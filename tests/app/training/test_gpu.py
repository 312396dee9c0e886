"""Every task, trained on a GPU and served on a CPU; skipped where there is no GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tasks
from app import train
from tests.conftest import SMALL, where

ROOT = Path(__file__).parents[3]


@pytest.mark.gpu
@pytest.mark.parametrize("task", tasks.names())
def test_what_a_gpu_trains_a_cpu_serves_as_well(task, tmp_path):
    version = train.main([task, *SMALL, *where(tmp_path)])
    record = json.loads((version / "assets.extra/run.json").read_text())
    assert record["device"] == "gpu"
    asked = [sys.executable, "-m", "app.evaluate", task, "--json", *where(tmp_path)[:2]]
    answer = subprocess.run(
        asked,
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
    )
    assert answer.returncode == 0, answer.stderr
    # Numbers of two devices differ in their last digits, and with them a close call.
    assert json.loads(answer.stdout)["scores"] == pytest.approx(
        record["scores"], abs=0.01, rel=0.01
    )
