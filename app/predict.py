"""Asks a published version: `python -m app.predict sentiment "a dull film"`.

With --server it is one that TensorFlow Serving serves; nothing of it need be on this machine.
With --from and --to the requests of a file are answered in another, however many they are; what
is interrupted goes on when the command is repeated.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from app import cli
from tasks.core.errors import UserError
from tasks.core.settings import flag

_AT_ONCE = 256


class _Model(NamedTuple):
    """What is asked.

    Attributes:
        predict: That of `app.serving.session.SavedModelSession` or of a client.
        at_once: Rows that are printed together.
        batch: Rows to ask at once, where those of like size can share a batch.
        folder: Where it is, if it is here.
    """

    predict: Callable[..., list[dict]]
    at_once: int
    batch: int
    folder: Path | None


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the answer to each request, in their order, or writes them into a file."""
    args, task_class = cli.parse("predict", __doc__, argv, _add)
    exchange = cli.settings(task_class.RequestFormat, args)
    if args.source or args.to:
        _check_files(args, exchange)
    with _model(args) as model:
        (_write if args.to else _print)(args, exchange, model)


def _print(args: argparse.Namespace, exchange, model: _Model) -> None:
    """Prints the answer to each request."""
    typed = not args.text and sys.stdin.isatty()
    requests = exchange.requests(map(os.fsencode, args.text) if args.text else _lines())
    requests = _counted(requests, hidden=bool(args.text) or typed)
    # Who types is answered after each request; a file is read in batches.
    while batch := list(itertools.islice(requests, 1 if typed else model.at_once)):
        answers = model.predict([row for row, _ in batch], exchange.signature)
        for (row, asked), answer in zip(batch, answers, strict=True):
            print(told(exchange, row, asked, answer, args.json))
            if drawing := exchange.drawing(asked, _ordered(answer)):
                from app.report import plots

                path, shown = drawing
                plots.save(plots.attention(shown), Path(path))
        sys.stdout.flush()


def _write(args: argparse.Namespace, exchange, model: _Model) -> None:
    """Writes the answers to the requests of a file into another."""
    from app.serving import bulk, payloads

    def answers(block):
        asked = [row for row, _ in block]
        found = payloads.answered(model.predict, asked, exchange.signature, model.batch)
        for (row, about), answer in zip(block, found, strict=True):
            yield told(exchange, row, about, answer, args.json)

    lines, part = bulk.Lines(args.source), bulk.Part(args.to, _made(args, exchange, model))
    if part.done.answers:
        print(f"going on after {part.done.answers} answers", file=sys.stderr)
    bulk.run(lines, part, exchange.requests, answers)
    print(f"{part.done.answers} answers in {args.to}")


def _made(args: argparse.Namespace, exchange, model: _Model) -> dict[str, object]:
    """What makes answers what they are, by the names that a user knows."""
    from models import manifest

    made = {"task": args.task, "--version": args.version, "--server": args.server}
    if model.folder:
        made["--version"] = int(model.folder.name)
        listed = (model.folder / manifest.PLACE).read_bytes()
        made["manifest"] = hashlib.sha256(listed).hexdigest()
    settings = {flag(name): value for name, value in dataclasses.asdict(exchange).items()}
    return {**made, "--json": args.json, **settings}


def _check_files(args: argparse.Namespace, exchange) -> None:
    """Holds what was said of files against the rules.

    Raises:
        UserError: One is broken.
    """
    if not args.source or not args.to:
        raise UserError("--from and --to go together: give both files or none.")
    if args.text:
        raise UserError(f"--from has the lines to ask; there are others, the first {args.text[0]}.")
    if exchange.draws:
        raise UserError("--from asks many, and a picture can be of one; ask that one by itself.")
    if args.server and args.version is None:
        raise UserError(
            "--from with --server needs --version, for the newest may change while answers are "
            "written."
        )


def told(exchange, row: dict, asked: object, answer: dict, machines: bool) -> str:
    """The answer to a request, as it is printed.

    Args:
        exchange: How the task is asked.
        row, asked: The request, as `RequestFormat.requests` gave it.
        answer: A row of each output, by name.
        machines: Whether to give it as JSON, with the request.
    """
    answer = _ordered(answer)
    if not machines:
        return exchange.show(asked, answer)
    row = exchange.echo(row, asked)
    return json.dumps({name: _plain(value) for name, value in row.items()} | answer)


def _add(parser: argparse.ArgumentParser, task_class: type) -> None:
    cli.add_saved_models(parser)
    parser.add_argument("text", nargs="*", help="lines to ask; none: those of standard input")
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FILE",
        help="file with the lines to ask, or the same as .gz; needs --to",
    )
    parser.add_argument(
        "--to",
        type=Path,
        metavar="FILE",
        help="file to be made, of answers in the order of the lines; .gz is packed. What is "
        "interrupted goes on when the command is repeated",
    )
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
    cli.add_settings(parser, task_class.RequestFormat)


@contextlib.contextmanager
def _model(args: argparse.Namespace) -> Iterator[_Model]:
    """The model that the flags name."""
    if args.server:
        with cli.quiet():
            from app.serving import client, payloads
        found = client.connect(args.server, args.task, args.version, args.timeout, args.tries)
        with contextlib.closing(found):
            yield _Model(found.predict, payloads.AT_ONCE, payloads.AT_ONCE, None)
        return
    with cli.quiet():
        from app.serving import export
        from app.serving.session import BATCH, SavedModelSession
    folder = export.find(args.saved_models, args.task, args.version)
    yield _Model(SavedModelSession(folder).predict, _AT_ONCE, BATCH, folder)


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


def _ordered(answer: dict) -> dict:
    """An answer as JSON has it; a signature has no order of outputs, and here they have one."""
    return {name: _plain(answer[name]) for name in sorted(answer)}


def _plain(value):
    """A value of an answer as JSON has it."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    value = value.tolist() if hasattr(value, "tolist") else value
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


if __name__ == "__main__":
    cli.run(main)
