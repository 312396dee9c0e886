"""Lists the commands: `python -m app`."""

import ast
from pathlib import Path

from app import cli


def commands() -> dict[str, str]:
    """Returns what each command does, by its name.

    A command is a module that runs `main`; it is not imported, so that the list is fast.
    """
    summaries = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if path.stem != "__main__" and 'if __name__ == "__main__":' in text:
            first_line = ast.get_docstring(ast.parse(text)).splitlines()[0]
            summaries[path.stem] = first_line.partition(": `")[0].rstrip(".")
    return summaries


def main() -> None:
    """Prints the commands."""
    print("usage: python -m app.COMMAND [arguments]; each has --help\n")
    summaries = commands()
    width = max(map(len, summaries))
    for name, summary in summaries.items():
        print(f"  {name:{width}}  {summary}")


if __name__ == "__main__":
    cli.run(main)
