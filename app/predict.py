"""Asks a published version: `python -m app.predict sentiment "a dull film"`.

With --server it is one that TensorFlow Serving serves; nothing of it need be on this machine.
"""

import argparse
import contextlib
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from app import flags

_AT_ONCE = 256


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the answer to each request, in their order."""
    args, task_class = flags.parse("predict", __doc__, argv, _add)
    exchange = flags.settings(task_class.Exchange, args)
    typed = not args.text and sys.stdin.isatty()
    with _model(args) as (ask_rows, at_once):
        requests = exchange.requests(map(os.fsencode, args.text) if args.text else _lines())
        requests = _counted(requests, hidden=bool(args.text) or typed)
        # Who types is answered after each request; a file is read in batches.
        while batch := list(itertools.islice(requests, 1 if typed else at_once)):
            answers = ask_rows([row for row, _ in batch], exchange.signature)
            for (row, asked), answer in zip(batch, answers, strict=True):
                _print(exchange, row, asked, answer, args.json)
            sys.stdout.flush()


def _print(exchange, row: dict, asked: object, answer: dict, machines: bool) -> None:
    """Prints the answer to a request, for machines or for a person, and saves its picture."""
    # A signature has no order of outputs; here they have one.
    answer = {name: _plain(answer[name]) for name in sorted(answer)}
    if machines:
        row = exchange.echo(row, asked)
        print(json.dumps({name: _plain(value) for name, value in row.items()} | answer))
    else:
        print(exchange.show(asked, answer))
    if drawing := exchange.drawing(asked, answer):
        from app.report import pictures

        path, shown = drawing
        pictures.save(pictures.attention(shown), Path(path))


def _add(parser: argparse.ArgumentParser, task_class: type) -> None:
    flags.add_saved_models(parser)
    parser.add_argument("text", nargs="*", help="lines to ask; none: those of standard input")
    parser.add_argument("--version", type=int, help="the version to ask; the newest if not given")
    parser.add_argument("--json", action="store_true", help="print an object a line, for machines")
    parser.add_argument(
        "--server",
        metavar="URL",
        help="ask TensorFlow Serving there: http://HOST:PORT (REST) or grpc://HOST:PORT",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="of a request to a server, with all its tries (default: %(default)g)",
    )
    parser.add_argument(
        "--tries",
        type=int,
        default=4,
        metavar="INT",
        help="of a request to a server that is busy or away (default: %(default)s)",
    )
    flags.add_settings(parser, task_class.Exchange)


@contextlib.contextmanager
def _model(args: argparse.Namespace) -> Iterator[tuple[Callable[..., list[dict]], int]]:
    """The `ask_rows` of the model that the flags name, and how many rows to ask at once."""
    if args.server:
        with flags.quiet():
            from app import client, rows
        found = client.connect(args.server, args.task, args.version, args.timeout, args.tries)
        with contextlib.closing(found):
            yield found.ask_rows, rows.AT_ONCE
        return
    with flags.quiet():
        from app import export
        from app.served import Served
    yield Served(export.find(args.saved_models, args.task, args.version)).ask_rows, _AT_ONCE


def _counted(requests: Iterator[tuple], hidden: bool) -> Iterator[tuple]:
    """The requests, with a bar that counts them where answers do not show how far it is."""
    shown = sys.stderr.isatty() and not sys.stdout.isatty()
    if hidden or not shown:
        return requests
    from tqdm import tqdm

    return iter(tqdm(requests, unit=" requests", delay=1, file=sys.stderr))


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
