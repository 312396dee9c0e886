"""Asks a published version by Apache Beam: `python -m app.beam sentiment --from IN* --to OUT`.

Each line of the files is answered by an object in JSON that has the request too, in any order,
in files OUT-*.jsonl. What follows -- are options of Beam, such as the runner. Without one it
runs in this process.
"""

import argparse
import importlib.util
import sys
from collections.abc import Sequence

from app import cli
from tasks.core.errors import UserError

# Beam's own DirectRunner first tries to fetch another one from the network.
_LOCAL = "--runner=FnApiRunner"


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the answers to the lines of files."""
    argv = sys.argv[1:] if argv is None else list(argv)
    at = argv.index("--") if "--" in argv else len(argv)
    args, task_class = cli.parse("beam", __doc__, argv[:at], _add)
    exchange = cli.settings(task_class.RequestFormat, args)
    if not exchange.by_line:
        raise UserError("app.beam asks a line at a time, and --input conllu has more in a request.")
    if exchange.draws:
        raise UserError("--from asks many, and a picture can be of one; ask that one by itself.")
    if not importlib.util.find_spec("apache_beam"):
        raise UserError("apache-beam is not installed; run: pip install -r requirements-beam.txt")
    with cli.quiet():
        from apache_beam.io.filesystems import FileSystems
        from apache_beam.options.pipeline_options import PipelineOptions

        from app.serving import beam_handler, export
    folder = export.find(args.saved_models, args.task, args.version)
    known, old = FileSystems.match([args.source, f"{args.to}*.jsonl"])
    if not known.metadata_list:
        raise UserError(f"--from: there is no file {args.source!r}.")
    if old.metadata_list:
        raise UserError(f"--to: {old.metadata_list[0].path} is there already.")
    options = PipelineOptions([_LOCAL, *argv[at + 1 :]])
    beam_handler.answer_files(args.source, args.to, exchange, folder, options)


def _add(parser: argparse.ArgumentParser, task_class: type) -> None:
    cli.add_saved_models(parser)
    parser.add_argument(
        "--from",
        dest="source",
        required=True,
        metavar="PATTERN",
        help="files with the lines to ask, such as 'lines-*.txt' or the same as .gz",
    )
    parser.add_argument(
        "--to",
        required=True,
        metavar="PREFIX",
        help="what names of files of answers begin with",
    )
    parser.add_argument("--version", type=int, help="the version to ask; the newest if not given")
    cli.add_settings(parser, task_class.RequestFormat)


if __name__ == "__main__":
    cli.run(main)
