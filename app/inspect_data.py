"""Inspects a corpus before training: `python -m app.inspect_data sentiment --data PATH`.

Prints the sizes of the parts and what a user should know of the examples: overlap of the parts,
duplicates, empty texts, labels that differ only in case, missing classes. Writes a page with class
counts, lengths, frequent words and suspicious examples. Nothing is trained, and nothing is changed.
"""

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from app import cli
from tasks.core.examples import PARTS


def main(argv: Sequence[str] | None = None) -> Path:
    """Prints the remarks on a corpus, and returns the folder of the page."""
    words = sys.argv[1:] if argv is None else list(argv)
    args, task_class = cli.parse("inspect_data", __doc__, words, _add_flags, "--data PATH")
    cli.check_out(args.out)
    corpus = cli.settings(task_class.Corpus, args)
    corpus.check_paths()
    from tasks.core import summary
    from tasks.core.survey import survey

    corpus, decisions = corpus.resolved()
    splits = corpus.open()
    splits = dataclasses.replace(splits, notes=(*splits.notes, *decisions))
    for note in splits.notes:
        print(note, flush=True)
    surveyed = survey(corpus.readable(splits), corpus.identity)
    sizes = ", ".join(f"{part} {len(surveyed.summaries[part]):,}" for part in PARTS)
    remarks = list(summary.remarks(surveyed.summaries))
    print(f"examples: {sizes}", *(remarks or ["no remarks"]), sep="\n", flush=True)
    with cli.quiet():
        from app.report import data
        from app.training.privacy import Folders

    command = shlex.join(["python", "-m", "app.inspect_data", *words])
    page = data.page(
        f"{args.task}: {corpus.location}", [*splits.notes, *remarks], surveyed, command
    )
    folder = cli.new_folder(args.out, Path("runs/inspect_data"))
    page = Folders([corpus]).left_out(page)
    (folder / "index.html").write_text(page, encoding="utf-8")
    print(f"page {folder / 'index.html'}")
    return folder


def _add_flags(parser: argparse.ArgumentParser, task_class: type) -> None:
    cli.add_settings(parser, task_class.Corpus)
    cli.add_out(parser, "runs/inspect_data")


if __name__ == "__main__":
    cli.run(main)
