"""Asks a published version: `python -m app.predict sentiment "a dull film"`."""

import argparse
import itertools
import json
import os
import sys
from collections.abc import Iterator, Sequence

from app import flags

_AT_ONCE = 256


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the answer to each text, in their order, a line each."""
    args, task_class = flags.parse("predict", __doc__, argv, _add)
    with flags.quiet():
        from app import export
        from app.served import Served, by_row

    folder = export.find(args.saved_models, args.task, args.version)
    served, task = Served(folder), task_class.restore(folder / "assets")
    name = next(iter(task_class.request))
    texts = map(os.fsencode, args.text) if args.text else _lines()
    # Who types is answered after each line; a file is read in batches.
    at_once = 1 if not args.text and sys.stdin.isatty() else _AT_ONCE
    while batch := list(itertools.islice(texts, at_once)):
        for text, answer in zip(batch, by_row(served.ask({name: batch})), strict=True):
            if args.json:
                print(json.dumps({name: _plain(text)} | {k: _plain(v) for k, v in answer.items()}))
            else:
                shown = {k: _plain(v) for k, v in answer.items()}
                print(task.show(shown), _plain(text), sep="\t")
        sys.stdout.flush()


def _add(parser: argparse.ArgumentParser, task_class: type) -> None:
    flags.add_saved_models(parser)
    parser.add_argument("text", nargs="*", help="texts to ask; none: the lines of standard input")
    parser.add_argument("--version", type=int, help="the version to ask; the newest if not given")
    parser.add_argument("--json", action="store_true", help="print an object a line, for machines")


def _lines() -> Iterator[bytes]:
    """The lines of standard input as they are; text of any encoding gets an answer."""
    for line in sys.stdin.buffer:
        yield line.rstrip(b"\r\n")


def _plain(value):
    """A value of an answer as JSON has it."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value.tolist() if hasattr(value, "tolist") else value


if __name__ == "__main__":
    flags.run(main)
