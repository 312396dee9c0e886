"""Lists the encoded examples that training keeps, or removes stale ones: `python -m app.cache`.

Training encodes the examples of a corpus once, and keeps them in runs/encoded for every run
that encodes the same data in the same way. With --remove, corpora are removed that have not been
used for some days, or are incomplete because training was interrupted; those that a process is
encoding or training from are kept. What has been removed is encoded again when it is needed.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from app import cli
from app.training import cached_corpora
from app.training.cached_corpora import EncodedCorpus
from tasks.core.errors import UserError


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the encoded corpora, or removes the stale ones."""
    args = _parser().parse_args(sys.argv[1:] if argv is None else argv)
    if args.unused_days < 0:
        raise UserError(f"--unused-days must be at least 0, got {args.unused_days}.")
    corpora = cached_corpora.find(args.runs)
    if not corpora:
        print(f"no encoded examples in {args.runs / 'encoded'}")
    elif args.remove:
        _remove(args, len(corpora))
    else:
        print(_table(corpora, args.unused_days))


def _remove(args: argparse.Namespace, count: int) -> None:
    sizes = []
    for corpus, reason in cached_corpora.remove_stale(args.runs, args.unused_days):
        print(f"removed {corpus.folder}: {cli.mebibytes(corpus.size)}, {reason}", flush=True)
        sizes.append(corpus.size)
    print(f"{len(sizes)} of {count} removed, {cli.mebibytes(sum(sizes))} freed")


def _table(corpora: Sequence[EncodedCorpus], unused_days: int) -> str:
    now = time.time()
    rows = [["task", "folder", "size", "last used", "run", "state"]]
    for corpus in corpora:
        rows.append(
            [
                corpus.task,
                str(corpus.folder),
                cli.mebibytes(corpus.size),
                time.strftime("%Y-%m-%d %H:%M", time.localtime(corpus.last_used)),
                "yes" if corpus.runs else "no",
                corpus.stale_reason(unused_days, now) or "complete",
            ]
        )
    total = cli.mebibytes(sum(corpus.size for corpus in corpora))
    return f"{cli.columns(rows)}\n{len(corpora)} in all, {total}"


def _parser() -> cli.Parser:
    parser = cli.Parser(
        "python -m app.cache",
        description=__doc__,
        examples=["python -m app.cache --remove --unused-days 7"],
    )
    parser.add_argument(
        "--runs",
        type=cli.utf8_path,
        default=Path("runs"),
        metavar="DIR",
        help="folder of training state (default: %(default)s)",
    )
    parser.add_argument(
        "--remove",
        action="store_true",
        help="remove encoded examples that are stale; otherwise they are only listed",
    )
    parser.add_argument(
        "--unused-days",
        type=int,
        default=30,
        metavar="INT",
        help="days without use after which encoded examples are stale (default: %(default)s)",
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
