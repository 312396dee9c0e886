"""The notebooks of examples/ are short, and run from the first cell to the last.

Running them is slow, because each trains a model of a task on its sample.
"""

import importlib.util
import json
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "examples/notebooks").glob("*.ipynb"))
LIMIT = 1800  # seconds that a cell may take, on a machine that is busy with other work

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_there_is_one_for_each_task_and_one_for_cells():
    import tasks

    assert {path.stem for path in NOTEBOOKS} == {*tasks.names(), "own_cell"}


@every_notebook
def test_a_notebook_is_short_and_has_no_outputs(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert len(cells) < 10 and cells[0]["source"][0].startswith("# ")
    assert len({cell["id"] for cell in cells}) == len(cells)
    for cell in cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            compile("".join(cell["source"]), path.name, "exec")


@pytest.mark.slow
@every_notebook
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    for package in ("nbclient", "ipykernel"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed (requirements-notebooks.txt)")
    import nbclient
    import nbformat

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    client = nbclient.NotebookClient(
        notebook, timeout=LIMIT, kernel_name="python3", resources=resources
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ()) if output]
    assert outputs
    pictures = [o for o in outputs if "image/png" in o.get("data", {})]
    assert pictures or path.stem == "own_cell"
