"""Directions of imports: app -> tasks -> models, and inside each of them; types of functions."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tasks

ROOT = Path(__file__).parent.parent
MAY_KNOW = {"models": {"models"}, "tasks": {"models", "tasks"}, "app": {"models", "tasks", "app"}}
# Where Keras has no word for it, beside the implementations.
TENSORFLOW = {
    "beam_search.py",
    "images.py",
    "cells/jacobians.py",
    "cells/recurrent.py",
    "cells/tree.py",
    "cells/tuning.py",
    "layers/characters.py",
    "networks/stream_reader.py",
    "streaming.py",
    "text/case.py",
    "text/edit_scripts.py",
    "text/entity_tags.py",
    "text/offsets.py",
    "text/pieces.py",
    "text/subwords.py",
    "text/tokens.py",
    "text/trees.py",
    "text/ud_tokenizer.py",
    "text/windows.py",
    "text/words.py",
}


def imported(path):
    """The modules that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(ROOT).parts[: -node.level] if node.level else ()
            module = ".".join([*package, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", MAY_KNOW)
def test_a_tree_imports_only_those_below_it(package):
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        for name in imported(path):
            top = name.split(".")[0]
            assert top not in MAY_KNOW or top in MAY_KNOW[package], f"{path}: {name}"
            assert top not in ("tests", "benchmarks"), f"{path}: {name}"


def test_a_task_never_imports_another():
    for name in tasks.names():
        others = {f"tasks.{other}" for other in tasks.names()} - {f"tasks.{name}"}
        assert not others & set(imported(ROOT / "tasks" / f"{name}.py"))


# The packages, and the modules that are none, by what they may import of their own tree. A package
# may import itself.
SHARED = {"app.cli", "app.core"}
ENGINES = {"app.training", "app.serving", "app.studies", "app.report"}
INSIDE = {
    "app.core": set(),
    "app.report": SHARED,
    "app.serving": SHARED | {"app.report"},
    "app.training": SHARED | {"app.report", "app.serving"},
    "app.exporting": SHARED | {"app.serving"},
    "app.studies": SHARED | ENGINES,
    "tasks.core": set(),
    "tasks.corpora": {"tasks.core"},
    "tasks.shapes": {"tasks.core", "tasks.corpora"},
    "tasks.probes": {"tasks.core", "tasks.corpora"},
}


@pytest.mark.parametrize("package", INSIDE)
def test_a_package_imports_only_those_below_it(package):
    tree = package.split(".")[0]
    files = list(ROOT.joinpath(*package.split(".")).rglob("*.py"))
    assert files
    for path in files:
        for name in imported(path):
            if name == tree or name.split(".")[0] != tree:
                continue
            child = ".".join(name.split(".")[:2])
            assert child in INSIDE[package] | {package}, f"{path}: {name}"


def test_every_package_has_its_place_among_the_directions():
    for tree in ("app", "tasks"):
        packages = {f"{tree}.{path.parent.name}" for path in (ROOT / tree).glob("*/__init__.py")}
        assert packages == {name for name in INSIDE if name.startswith(f"{tree}.")}


def test_specs_and_equations_need_no_keras_or_tensorflow():
    for name in ("specs.py", "equations.py"):
        tops = {module.split(".")[0] for module in imported(ROOT / "models/cells" / name)}
        assert not tops & {"keras", "tensorflow", "numpy"}


def test_plain_tensorflow_is_imported_only_where_keras_has_no_equivalent():
    models = ROOT / "models"
    for path in models.rglob("*.py"):
        if "tensorflow" in {module.split(".")[0] for module in imported(path)}:
            name = path.relative_to(models).as_posix()
            assert name in TENSORFLOW or path.parent.name == "implementations", path


def test_oracles_share_no_code_with_the_models():
    assert "models" not in {m.split(".")[0] for m in imported(ROOT / "tests/support/textbook.py")}


def test_commands_are_imported_without_tensorflow():
    """So that --help is fast, and `cli.run` can tell TensorFlow what to log."""
    commands = [path.stem for path in (ROOT / "app").glob("*.py") if path.stem != "__init__"]
    script = (
        "import importlib, sys\n"
        f"for name in {commands}:\n    importlib.import_module('app.' + name)\n"
        "assert not {'tensorflow', 'keras'} & sys.modules.keys(), name\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def _public_functions(node: ast.AST) -> Iterator[ast.FunctionDef]:
    """The functions and methods of a module without a leading underscore, and `__init__`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            yield from _public_functions(child)
        elif isinstance(child, ast.FunctionDef) and re.match("[a-z]|__init__$", child.name):
            yield child


@pytest.mark.parametrize("package", ["app", "tasks", "models"])
def test_public_functions_have_types(package):
    missing = []
    for path in sorted((ROOT / package).rglob("*.py")):
        for function in _public_functions(ast.parse(path.read_text(encoding="utf-8"))):
            arguments = function.args
            named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
            named += [each for each in (arguments.vararg, arguments.kwarg) if each]
            complete = all(a.annotation or a.arg in ("self", "cls") for a in named)
            if not complete or not (function.returns or function.name == "__init__"):
                missing.append(f"{path.relative_to(ROOT)}:{function.lineno} {function.name}")
    assert not missing
