"""The layers as an installable package, `gated_rnn`: what is in its wheel, and that it works."""

import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import models
from tests.support import pages

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built without a network from a copy of what it is made of."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "models", source / "models")
    script = "from setuptools import build_meta; print(build_meta.build_wheel('..'))"
    built = subprocess.run(
        [sys.executable, "-c", script], cwd=source, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The Python of an environment with the wheel and this one's packages, but no checkout."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    paths = {"base": str(folder), "platbase": str(folder)}
    site_packages = Path(sysconfig.get_path("purelib", vars=paths))
    with zipfile.ZipFile(wheel) as archive:  # a wheel of pure Python is installed by unpacking
        archive.extractall(site_packages)
    shared = sysconfig.get_paths()
    own = {shared["purelib"], shared["platlib"]}
    (site_packages / "shared.pth").write_text("\n".join(sorted(own)) + "\n", encoding="utf-8")
    return folder / Path(sysconfig.get_path("scripts", vars=paths)).name / "python"


def run(python, script, folder):
    done = subprocess.run(
        [str(python), "-c", script], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_every_module_of_the_package_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    modules = {name for name in names if ".dist-info/" not in name}
    own = {path.relative_to(ROOT / "models").as_posix() for path in (ROOT / "models").rglob("*.py")}
    assert modules == {f"gated_rnn/{name}" for name in own}
    assert f"gated_rnn-{models.__version__}-" in wheel.name


def test_every_export_exists_in_the_checkout_and_in_the_installed_package(installed, tmp_path):
    script = (
        "import {0}; print([getattr({0}, name).__name__ for name in {0}.__all__ if name[0] > 'Z'])"
    )
    assert all(getattr(models, name) is not None for name in models.__all__)
    assert set(models.__all__) <= set(dir(models))
    out = run(installed, script.format("gated_rnn"), tmp_path)
    assert "gated_rnn.cells.convert" in out and "load" in out
    with pytest.raises(AttributeError, match="module 'models' has no attribute 'GatedRNNN'"):
        models.GatedRNNN  # noqa: B018


def test_specs_need_neither_keras_nor_tensorflow(installed, tmp_path):
    script = (
        "import sys; from gated_rnn import CELLS, CellSpec\n"
        "CellSpec('lstm', peepholes=['output']); assert len(CELLS) > 40\n"
        "print(sorted({'keras', 'tensorflow', 'numpy'} & set(sys.modules)))"
    )
    assert run(installed, script, tmp_path).strip() == "[]"


def test_the_layers_train_outside_the_checkout(installed, tmp_path):
    script = (
        "import keras, numpy as np\n"
        "from gated_rnn import CRF, CRFLoss, GatedRNN\n"
        "words = keras.Input((None,), dtype='int32')\n"
        "mask = keras.ops.not_equal(words, 0)\n"
        "x = keras.layers.Embedding(9, 4)(words)\n"
        "x = GatedRNN(3, 'lstm_peephole', return_sequences=True)(x, mask=mask)\n"
        "crf = CRF(2)\n"
        "model = keras.Model(words, crf(keras.layers.Dense(2)(x), mask=mask))\n"
        "model.compile('adam', loss=CRFLoss(crf))\n"
        "model.fit(np.array([[1, 2, 0]]), np.array([[0, 1, 0]]), verbose=0)\n"
        "print(GatedRNN.__module__)"
    )
    assert run(installed, script, tmp_path).strip() == "gated_rnn.cells.recurrent"


def test_the_checkout_and_the_installed_package_work_in_one_process(installed, tmp_path):
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "import keras, numpy as np, gated_rnn, models\n"
        "x = np.ones((1, 2, 3), 'float32')\n"
        "layers = [package.GatedRNN(4, 'gru') for package in (gated_rnn, models)]\n"
        "shapes = {tuple(layer(x).shape) for layer in layers}\n"
        "layers[1].set_weights(layers[0].get_weights())\n"
        "np.testing.assert_array_equal(layers[0](x), layers[1](x))\n"
        "print(shapes, type(layers[0]) is type(layers[1]))"
    )
    assert run(installed, script, tmp_path).strip() == "{(1, 4)} False"


def test_a_version_published_from_the_checkout_loads(installed, untrained_copy, tmp_path):
    version = untrained_copy("sentiment", tmp_path)
    script = (
        f"import gated_rnn; model = gated_rnn.load({str(version)!r})\n"
        "print(model.name, sorted({type(each).__module__ for each in model.layers}))"
    )
    out = run(installed, script, tmp_path)
    assert out.startswith("classifier ") and "gated_rnn.cells.recurrent" in out
    assert "models." not in out.replace("keras.src.models.", "")


PAGES = """
import json, pathlib, sys, traceback
import keras

errors = {}
for page, script in json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8")).items():
    try:
        exec(compile(script, page, "exec"), {"__name__": "__main__"})
    except BaseException:
        errors[page] = traceback.format_exc()
    keras.backend.clear_session()
print("errors:", json.dumps(errors))
"""


@pytest.fixture(scope="module")
def errors_of_pages(installed, published, tmp_path_factory):
    """The tracebacks of the pages whose Python fails outside the checkout.

    One process runs them all, each in a namespace of its own: a process for each would spend
    most of its time on the import of TensorFlow.
    """
    scripts = {page: "\n".join(pages.snippets(page)) for page in pages.installed()}
    file = tmp_path_factory.mktemp("pages") / "scripts.json"
    file.write_text(json.dumps(scripts), encoding="utf-8")
    command = [str(installed), "-c", PAGES, str(file)]
    done = subprocess.run(command, cwd=published.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.rpartition("errors:")[2])


@pytest.mark.slow
@pytest.mark.parametrize("page", pages.installed())
def test_the_python_of_the_documentation_runs_outside_the_checkout(page, errors_of_pages):
    assert page not in errors_of_pages, errors_of_pages[page]


# --- Requirements ------------------------------------------------------------


def lines_of(name):
    """The requirements of a file, without their reasons."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return sorted(
        line.partition("#")[0].strip() for line in lines if line.partition("#")[0].strip()
    )


def test_the_citation_agrees_with_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation.keys() >= {"cff-version", "message", "title", "authors"}  # the required ones
    assert citation["license"] == PROJECT["project"]["license"]
    assert (ROOT / "README.md").read_text(encoding="utf-8").startswith(f"# {citation['title']}\n")


def test_requirements_files_and_the_package_agree():
    extras = PROJECT["project"]["optional-dependencies"]
    own = [*PROJECT["project"]["dependencies"], *extras["app"], *extras["test"]]
    assert lines_of("requirements.txt") == sorted(own)
    files = {path.name for path in ROOT.glob("requirements-*.txt")}
    assert files == {
        f"requirements-{name}.txt" for name in extras if name not in ("app", "test", "gpu")
    }
    for name in files:
        assert lines_of(name) == sorted(extras[name[len("requirements-") : -len(".txt")]])


def all_requirements():
    """The requirements of the package and its extras, of the files, and of the build."""
    extras = PROJECT["project"]["optional-dependencies"]
    lines = [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"]]
    lines += [line for extra in extras.values() for line in extra]
    lines += [line for path in ROOT.glob("requirements*.txt") for line in lines_of(path.name)]
    return sorted(set(lines))


@pytest.mark.parametrize("line", all_requirements())
def test_every_requirement_has_a_lower_and_an_upper_bound(line):
    operators = {specifier.operator for specifier in Requirement(line).specifier}
    assert operators in ({"=="}, {">=", "<"}), line


def test_the_lock_pins_and_hashes_every_requirement():
    """`make lock` renews it."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert "://" not in text and "--index" not in text and "--find-links" not in text
    pins = {}
    for entry in re.split(r"\n(?=[A-Za-z0-9])", text):
        if match := re.match(r"([A-Za-z0-9._-]+)==([^ ;]+)", entry):
            assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry
            pins.setdefault(canonicalize_name(match[1]), []).append(match[2])
    for line in lines_of("requirements.txt"):
        requirement = Requirement(line)
        versions = pins[canonicalize_name(requirement.name)]  # may differ by version of Python
        assert all(requirement.specifier.contains(version) for version in versions), line


def test_every_requirement_has_a_reason():
    for path in ROOT.glob("requirements*.txt"):
        for line in path.read_text(encoding="utf-8").splitlines():
            name, _, reason = line.partition("#")
            assert not name.strip() or reason.strip() or name.strip() == "numpy", line
