"""The documentation as tests read it: README.md and docs/**/*.md."""

import functools
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def names() -> list[str]:
    """Returns the pages, relative to the root."""
    top = ["README.md", "README.zh-CN.md", "CONTRIBUTING.md", "benchmarks/README.md"]
    docs = sorted((ROOT / "docs").rglob("*.md"))
    return top + [path.relative_to(ROOT).as_posix() for path in docs]


@functools.cache
def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def snippets(page: str) -> list[str]:
    """Returns the blocks of Python of a page."""
    return re.findall(r"```python\n(.*?)```", read(page), re.DOTALL)


def installed() -> list[str]:
    """Returns the pages whose Python needs the installed layers alone."""
    pages = [page for page in names() if any("from gated_rnn" in s for s in snippets(page))]
    return [page for page in pages if page != "README.zh-CN.md"]  # the same code as README.md


def prose(page: str) -> str:
    """Returns a page without its blocks of code."""
    text = re.sub(r"^```.*?^```$", "", read(page), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"^ {4}.*$", "", text, flags=re.MULTILINE)


def commands(page: str) -> list[str]:
    """Returns the indented lines of a page, those continued by a backslash joined."""
    text = re.sub(r"^```.*?^```$", "", read(page), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"^ {4}(\S.*)$", text.replace("\\\n", " "), re.MULTILINE)


def code(page: str) -> list[str]:
    """Returns the commands of a page, and what its prose quotes as code."""
    return commands(page) + re.findall(r"`([^`\n]+)`", prose(page))


def anchor(heading: str) -> str:
    """Returns the anchor that a heading gets."""
    words = re.sub(r"[^\w\s-]", "", heading.replace("`", "")).strip().lower()
    return re.sub(r"[\s]+", "-", words)


def sources() -> list[Path]:
    """Returns the modules of the packages."""
    return [
        path for top in ("app", "tasks", "models") for path in sorted((ROOT / top).rglob("*.py"))
    ]
