"""The documentation is true: snippets run; flags, files, links, messages and tables exist."""

import ast
import functools
import importlib
import re
import shlex
from unittest import mock

import pytest
import yaml

import tasks
from app import cells, cli
from models.cells.equations import EQUATIONS
from tests.support import pages

ROOT = pages.ROOT
PAGES = pages.names()
# Commands of other programs, whose flags are not checked.
FOREIGN = {
    "docker",
    "kubectl",
    "sbatch",
    "pip",
    "curl",
    "git",
    "make",
    "tensorboard",
    "split",
    "unzip",
    "cp",
}
FOREIGN |= {"source", "ruff", "for", "do", "done", ".venv/bin/python", "python3"}
_FLAG = re.compile(r"--[a-z][a-z0-9-]*")


def by_page(values):
    return pytest.mark.parametrize("page", values)


@by_page([page for page in PAGES if pages.snippets(page)])
def test_snippets_of_a_page_run_in_order(page, published, monkeypatch, capsys):
    monkeypatch.chdir(published.parent)
    namespace = {}
    with mock.patch.dict(EQUATIONS):  # a page adds one
        for snippet in pages.snippets(page):
            # Installed, the package has this name; here it is the folder.
            source = re.sub(r"\bgated_rnn\b", "models", snippet)
            exec(compile(source, page, "exec"), namespace)
    if page == "docs/python-api.md":
        assert namespace["stars"].output_shape == (None, 5)
        assert "classifier" in capsys.readouterr().out


def test_examples_run(capsys):
    with mock.patch.dict(EQUATIONS):
        for name in ("custom_cell.py", "custom_equation.py"):
            source = (ROOT / "examples" / name).read_text(encoding="utf-8")
            source = re.sub(r"\bgated_rnn\b", "models", source)
            exec(compile(source, name, "exec"), {})
    assert "h' = (1 - update) * h + update * candidate" in capsys.readouterr().out


def test_the_example_task_is_a_complete_task(tmp_path):
    from examples import language

    sample = language.Task.Corpus().open().train
    labels = [example.values["label"] for example, _ in zip(sample, range(4), strict=False)]
    assert labels == ["en", "de", "en", "de"]
    folder = tmp_path / "assets"
    folder.mkdir()
    config = language.Task.Config(units=4, embedding=4)
    task = tasks.complete(language.Task).learn(config, sample, folder)
    assert (folder / "labels.txt").read_text(encoding="utf-8").split() == ["de", "en"]
    assert "serving_default" in task.signatures(task.build("serving"))


@functools.cache
def _flags_of(module: str, subject: str = "") -> frozenset[str]:
    """Returns the flags that `python -m module subject` accepts."""
    if module.startswith("benchmarks."):
        path = ROOT / (module.replace(".", "/") + ".py")
        strings = [n.value for n in ast.walk(ast.parse(path.read_text("utf-8"))) if _is_text(n)]
        return frozenset(text for text in strings if _FLAG.fullmatch(text))
    import contextlib
    import io

    out = io.StringIO()
    words = [subject] if subject else []
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit):
        main = importlib.import_module(module).main
        cli.run(lambda: main([*words, "--help"]))
    return frozenset(_FLAG.findall(out.getvalue()))


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


@functools.cache
def _all_flags() -> frozenset[str]:
    from app.studies.presets import PRESETS
    from tasks import probes

    per_task = ("train", "predict", "evaluate", "beam", "export", "inspect_data")
    subjects = {f"app.{name}": tasks.names() for name in per_task}
    subjects["app.look"] = [*tasks.names(), "gradients"]
    subjects["app.study"] = [*PRESETS, *probes.names(), *tasks.names(), "evolve"]
    subjects |= {"app.deploy": [""], "app.cells": [""], "app.cache": [""], "app.models": [""]}
    subjects["app.demo"] = [""]
    return frozenset().union(*(_flags_of(m, s) for m, names in subjects.items() for s in names))


def _commands(text: str):
    """Yields the words of each command of a line of shell, without variables and redirections."""
    for part in re.split(r" && | \|\| | \| |; ", text.split(" # ")[0].split("   #")[0]):
        try:
            words = shlex.split(part)
        except ValueError:
            words = part.split()
        while words and re.match(r"[A-Z_]+=", words[0]):
            words = words[1:]
        if words:
            yield words


@by_page(PAGES)
def test_every_flag_named_exists(page):
    for code in pages.code(page):
        for words in _commands(code):
            if words[0] in FOREIGN or not any(_FLAG.match(word) for word in words):
                continue
            if "--" in words:  # what follows is for another program
                words = words[: words.index("--")] or ["--"]
            named = {_FLAG.match(word)[0] for word in words if _FLAG.match(word)}
            accepted = _all_flags()
            if words[:2] == ["python", "-m"]:
                module = words[2]
                assert (ROOT / (module.replace(".", "/") + ".py")).is_file(), f"{page}: {code}"
                subject = words[3] if len(words) > 3 and not words[3].startswith("-") else ""
                if re.fullmatch(r"[a-z_-]*", subject) and subject != "language":  # of examples/
                    accepted = _flags_of(module, "" if "benchmarks" in module else subject)
            elif words[0] == "python":
                continue
            assert named <= accepted, f"{page}: {code}: {sorted(named - accepted)}"


@by_page(PAGES)
def test_every_file_named_exists(page):
    folders = "app|tasks|models|tests|benchmarks|docs|examples|cluster"
    for name in re.findall(rf"`((?:{folders})/[\w/.-]*)`", pages.read(page)):
        assert (ROOT / name).exists(), f"{page}: {name}"


@by_page(PAGES)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", pages.prose(page)):
        if re.match(r"https?://", target):
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.is_file(), f"{page}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.MULTILINE)
            assert anchor in map(pages.anchor, headings), f"{page}: {target}"


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_the_readme_is_short(page):
    assert len(pages.read(page).splitlines()) <= 150


def test_both_readmes_have_the_same_code_links_and_numbers():
    english, chinese = (pages.read(name) for name in ("README.md", "README.zh-CN.md"))
    for pattern in (r"https://\S+?(?=\))", r"\(docs/[^)]+\)", r"(?<!\d)\d+\.\d+(?!\d)"):
        assert sorted(re.findall(pattern, english)) == sorted(re.findall(pattern, chinese)), pattern
    assert pages.snippets("README.md") == pages.snippets("README.zh-CN.md")


def test_the_navigation_lists_every_page():
    def leaves(entry):
        if isinstance(entry, str):
            yield entry
        else:
            for value in entry.values() if isinstance(entry, dict) else entry:
                yield from leaves(value)

    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    listed = {f"docs/{name}" for name in leaves(site["nav"])}
    assert listed == {page for page in PAGES if page.startswith("docs/")}


@pytest.mark.parametrize("task", tasks.names())
def test_every_task_has_a_page(task):
    path = ROOT / f"docs/tasks/{task}.md"
    assert path.is_file(), f"add docs/tasks/{task}.md, and list it in mkdocs.yml"


def test_the_page_of_cells_shows_what_the_command_prints(capsys):
    text = pages.read("docs/cells.md")
    blocks = re.findall(
        r"^ {4}python -m app\.cells (\w+)\n\n```text\n(.*?)\n```", text, re.M | re.S
    )
    assert {name for name, _ in blocks} > {"gru", "mut1"}
    for name, block in blocks:
        cells.main([name])
        printed = [line.split() for line in capsys.readouterr().out.splitlines()]
        assert all(line.split() in printed for line in block.splitlines()), f"docs/cells.md: {name}"


def test_quoted_examples_are_the_files():
    for page in ("new-task", "new-cell", "new-equation"):
        text = pages.read(f"docs/contributing/{page}.md")
        name = re.search(r"`(examples/\w+\.py)`", text)
        source = (ROOT / (name[1] if name else "examples/custom_equation.py")).read_text("utf-8")
        assert source.rstrip() in text, page


def test_tables_of_benchmarks_are_those_of_the_results():
    results = "\n".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "benchmarks/results").glob("*.md")
    )
    for page in ("docs/benchmarks.md", "docs/scaling.md"):
        tables = re.findall(r"(?:^\|.*\n)+", pages.read(page), re.MULTILINE)
        assert tables
        for table in tables:
            assert table in results, f"{page}: {table.splitlines()[0]}"


def test_messages_that_are_explained_exist():
    texts = []
    for path in pages.sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if _is_text(node):
                texts.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = [part.value if _is_text(part) else "\0" for part in node.values]
                texts.append("".join(parts))
    texts = "\n".join(texts)
    explained = re.findall(r"^\| `([^`]+)` \|", pages.read("docs/troubleshooting.md"), re.MULTILINE)
    assert len(explained) > 40
    for message in explained:
        for fragment in message.split("…"):
            fragment = fragment.strip(" .:,;")
            assert fragment in texts, f"docs/troubleshooting.md: {message}: {fragment!r}"


GLOSSARY = pages.read("docs/contributing/glossary.md")
AVOIDED = set(re.search(r"```text\n(.*?)```", GLOSSARY, re.S)[1].split())
PACKAGES = sorted({path.parent.relative_to(ROOT).as_posix() for path in pages.sources()})


def test_the_glossary_is_sorted_and_unambiguous():
    terms = re.findall(r"^\| ([^|]+?) \| [^|]+ \|", GLOSSARY, re.MULTILINE)[1:]
    terms = [term for term in terms if not set(term) <= set("-")]
    assert len(terms) >= 60
    assert len(terms) == len(set(terms))
    assert terms == sorted(terms, key=str.lower)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_name_is_one_that_the_glossary_avoids(package):
    avoided = []
    for path in sorted((ROOT / package).glob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        items = {id(node.target) for node in nodes if isinstance(node, ast.comprehension)}
        for node in nodes:
            name = _defined(node)
            if name == "each" and id(node) in items:
                continue
            if name and name.strip("_").lower() in AVOIDED:
                avoided.append(f"{path.relative_to(ROOT)}:{node.lineno}: {name}")
    assert not avoided, "docs/contributing/glossary.md avoids\n" + "\n".join(avoided)


def _defined(node: ast.AST) -> str:
    """Returns the name that a node defines, or "" if it defines none."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return node.name
    if isinstance(node, ast.arg):
        return node.arg
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        return node.attr
    return ""
