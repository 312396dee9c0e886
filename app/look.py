"""Looks inside a published version: `python -m app.look sentiment "a dull film"`.

It draws what each gate and state of each cell did as the text (for captioning, the image of
that path) was read, how much each token says for the answer, and attention where there is
any: a page that opens without a network, and its pictures beside it. With the word
`gradients` in the place of a task it looks at how far gradients reach.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from app import cli

LOOKS = Path("looks")


def main(argv: Sequence[str] | None = None) -> Path | None:
    """Writes the page and its pictures, and returns their folder."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if argv[:1] == ["gradients"]:
        from app.studies import gradients

        return gradients.main(argv[1:])
    args, task_class = cli.parse("look", __doc__, argv, _add)
    cli.check_out(args.out)
    asked = os.fsencode(args.text)
    ((row, _),) = task_class.RequestFormat().requests([asked])
    with cli.quiet():
        import models
        from app import report
        from app.serving import export
        from app.serving.session import SavedModelSession
        from models.cells import specs
        from models.cells.printing import equations
    version = export.find(args.saved_models, args.task, args.version)
    task = task_class.restore(version / "assets")
    model = models.load(version)
    inside = task.inside(model, SavedModelSession(version).predict, row, args.at)
    files = report.look(
        inside,
        f"{args.task}, version {version.name}",
        asked.decode("utf-8", "replace"),
        equations(
            specs.find(task.config.cell), any("raw_projection" in w.path for w in model.weights)
        ),
    )
    folder = cli.new_folder(args.out, LOOKS / args.task)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    print(inside.answer, f"{folder / 'index.html'} and {len(files) - 1} pictures", sep="\n")
    return folder


def _add(parser: argparse.ArgumentParser, task_class: type) -> None:
    cli.add_saved_models(parser)
    parser.add_argument("text", help="what to ask; for captioning the path of an image")
    parser.add_argument(
        "--version", type=int, help="the version to look into; the newest if not given"
    )
    parser.add_argument(
        "--at",
        default="",
        metavar="WORD",
        help="the token whose changes are shown; dull:2 is the second dull (default: the one "
        "that says most for the answer)",
    )
    cli.add_out(parser, "looks/TASK")


if __name__ == "__main__":
    cli.run(main)
