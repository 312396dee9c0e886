"""Asks a published version: `python -m app.predict sentiment "a dull film"`."""

import argparse
import itertools
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from app import flags

_AT_ONCE = 256


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the answer to each request, in their order."""
    args, task_class = flags.parse("predict", __doc__, argv, _add)
    exchange = flags.settings(task_class.Exchange, args)
    with flags.quiet():
        from app import export
        from app.served import Served

    served = Served(export.find(args.saved_models, args.task, args.version))
    requests = exchange.requests(map(os.fsencode, args.text) if args.text else _lines())
    # Who types is answered after each request; a file is read in batches.
    at_once = 1 if not args.text and sys.stdin.isatty() else _AT_ONCE
    while batch := list(itertools.islice(requests, at_once)):
        rows = [row for row, _ in batch]
        answers = served.ask_rows(rows, exchange.signature)
        for (row, asked), answer in zip(batch, answers, strict=True):
            answer = {name: _plain(value) for name, value in answer.items()}
            if args.json:
                row = exchange.echo(row, asked)
                print(json.dumps({name: _plain(value) for name, value in row.items()} | answer))
            else:
                print(exchange.show(asked, answer))
            if drawing := exchange.drawing(asked, answer):
                from app.report import pictures

                path, shown = drawing
                pictures.save(pictures.attention(shown), Path(path))
        sys.stdout.flush()


def _add(parser: argparse.ArgumentParser, task_class: type) -> None:
    flags.add_saved_models(parser)
    parser.add_argument("text", nargs="*", help="lines to ask; none: those of standard input")
    parser.add_argument("--version", type=int, help="the version to ask; the newest if not given")
    parser.add_argument("--json", action="store_true", help="print an object a line, for machines")
    flags.add_settings(parser, task_class.Exchange)


def _lines() -> Iterator[bytes]:
    """The lines of standard input as they are; text of any encoding gets an answer."""
    for line in sys.stdin.buffer:
        yield line.rstrip(b"\r\n")


def _plain(value):
    """A value of an answer as JSON has it."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    value = value.tolist() if hasattr(value, "tolist") else value
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


if __name__ == "__main__":
    flags.run(main)
