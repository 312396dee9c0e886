"""The notebooks of examples/ are short, and run from the first cell to the last.

The quick tests run their code with commands that check their flags and go no further. One of the
slow tests runs the commands, too, on untrained versions. The other runs the notebooks as they are,
which trains models of all tasks, where nbclient is installed (requirements-notebooks.txt).
"""

import importlib.util
import json
import os
import sys
import tempfile
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "examples/notebooks").glob("*.ipynb"))
LIMIT = 1800  # seconds that a cell may take, on a machine that is busy with other work
OWN_CELL = "own_cell"  # the notebook without a task

PNG = b"\x89PNG"  # how such files begin
# tests/app/test_train.py has the scores of a version.
RECORD = json.dumps({"scores": {}, "intervals": {}, "baselines": {}})


def stem(path):
    return path.stem


every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=stem)


def code(path):
    """The sources of the code cells of a notebook."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_there_is_one_for_each_task_and_one_for_cells():
    import tasks

    assert {path.stem for path in NOTEBOOKS} == {*tasks.names(), OWN_CELL}


@every_notebook
def test_a_notebook_is_short_and_has_no_outputs(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert len(cells) < 10 and cells[0]["source"][0].startswith("# ")
    assert len({cell["id"] for cell in cells}) == len(cells)
    for cell in cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None


@pytest.fixture
def pictures(monkeypatch):
    """Stands in for IPython's display; returns the paths of the pictures that are shown."""
    paths = []
    display = types.SimpleNamespace(Image=lambda path: paths.append(Path(path)), display=id)
    ipython = types.SimpleNamespace(display=display, version_info=(9, 0))  # matplotlib reads it
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return paths


@pytest.fixture
def untrained(monkeypatch, untrained_copy):
    """`app.train` checks flags, settings and corpus, and publishes a version without training."""
    from app.training import pipeline
    from models import manifest

    def train(task, config, corpus, options):
        assert next(iter(corpus.resolved()[0].open().train)).values
        version = untrained_copy(task, options.saved_models)
        (version / "assets.extra/run.json").write_text(RECORD, encoding="utf-8")
        manifest.write(version)
        return version

    monkeypatch.setattr(pipeline, "train", train)


@pytest.fixture
def short_fits(monkeypatch):
    """Networks are fitted for an epoch of one batch."""
    import keras

    fit = keras.Model.fit

    def shorter(self, x, y, epochs, **kwargs):
        return fit(self, x[:32], y[:32], epochs=1, **kwargs)

    monkeypatch.setattr(keras.Model, "fit", shorter)


class Parsed(Exception):
    """The flags of a command are valid."""


@pytest.fixture
def parsed(monkeypatch, tmp_path):
    """Commands check their flags, and return and write what a notebook reads, without a model."""
    from app import cli, look, predict, train

    version, page = tmp_path / "version", tmp_path / "page"
    (version / "assets.extra").mkdir(parents=True)
    (version / "assets.extra/run.json").write_text(RECORD, encoding="utf-8")
    page.mkdir()
    (page / "figure.png").write_bytes(PNG)
    parse = cli.parse

    def stop(*args, **kwargs):
        raise Parsed(parse(*args, **kwargs)[0])

    def command(main, result):
        def stand_in(argv):
            with pytest.raises(Parsed) as stopped:
                main(argv)
            (args,) = stopped.value.args
            for figure in (getattr(args, "align", None), getattr(args, "attend", None)):
                if figure:
                    Path(figure).write_bytes(PNG)
            return result

        return stand_in

    monkeypatch.setattr(cli, "parse", stop)
    for module, result in ((train, version), (predict, None), (look, page)):
        monkeypatch.setattr(module, "main", command(module.main, result))


def run(path, folder, monkeypatch):
    """Runs the code cells of a notebook in this process; its temporary files lie in a folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(path.parent)
    names = {"__name__": "__main__"}
    for number, source in enumerate(code(path), start=1):
        exec(compile(source, f"{path.name}, code cell {number}", "exec"), names)


@every_notebook
def test_names_and_flags_of_a_notebook_exist(
    path, tmp_path, monkeypatch, pictures, parsed, short_fits
):
    run(path, tmp_path, monkeypatch)
    assert bool(pictures) == (path.stem != OWN_CELL)


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if path.stem != OWN_CELL], ids=stem)
def test_the_code_of_a_notebook_runs(path, tmp_path, monkeypatch, pictures, untrained):
    run(path, tmp_path, monkeypatch)
    assert pictures
    assert all(picture.read_bytes().startswith(PNG) for picture in pictures)


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
    shown = [output for output in outputs if "image/png" in output.get("data", {})]
    assert shown or path.stem == OWN_CELL
