"""Predicts with Apache Beam: `python -m app.beam sentiment --from 'lines-*.txt' --to out`.

Each line of the input files is a request. Requests and responses are written as JSON objects,
one per line and in any order, to files out-*.jsonl. Options of Beam, such as the runner, follow
after --; without one the pipeline runs in this process.
"""

import argparse
import importlib.util
import sys
from collections.abc import Sequence

from app import cli
from app.serving import model_name
from tasks.core.errors import UserError

# Beam's own DirectRunner first tries to fetch another runner from the network.
_LOCAL_RUNNER = "--runner=FnApiRunner"


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the responses to the lines of some files."""
    argv = model_name.with_task(sys.argv[1:] if argv is None else argv)
    end = argv.index("--") if "--" in argv else len(argv)
    args, task_class = cli.parse(
        "beam", __doc__, argv[:end], _add_flags, "--from 'lines-*.txt' --to out"
    )
    request_format = cli.settings(task_class.RequestFormat, args)
    if not request_format.by_line:
        raise UserError(
            "app.beam reads one request per line; --input conllu has requests of several lines."
        )
    if request_format.draws:
        raise UserError(
            "app.beam cannot be combined with a flag that draws a figure, which is for a single "
            "request; use app.predict."
        )
    if set(args.to) & set("*?[]"):  # Beam would take the names of its files for patterns
        raise UserError(f"--to must not contain *, ?, [ or ], got {args.to!r}.")
    if not importlib.util.find_spec("apache_beam"):
        raise UserError("apache-beam is not installed; run: pip install -r requirements-beam.txt")
    folder = model_name.version(args)
    with cli.quiet():
        from apache_beam.io.filesystems import FileSystems
        from apache_beam.options.pipeline_options import PipelineOptions

        from app.serving import beam_handler
    inputs, outputs = FileSystems.match([args.source, f"{args.to}*.jsonl"])
    if not inputs.metadata_list:
        raise UserError(f"--from: no file matches {args.source!r}.")
    if outputs.metadata_list:
        raise UserError(f"--to: {outputs.metadata_list[0].path} already exists.")
    options = PipelineOptions([_LOCAL_RUNNER, *argv[end + 1 :]])
    beam_handler.predict_files(args.source, args.to, request_format, folder, options)


def _add_flags(parser: argparse.ArgumentParser, task_class: type) -> None:
    cli.add_saved_models(parser)
    model_name.add_flag(parser, "name of the model")
    parser.add_argument(
        "--from",
        dest="source",
        required=True,
        metavar="PATTERN",
        help="files of requests, one per line, such as 'lines-*.txt'; may end in .gz",
    )
    parser.add_argument(
        "--to", required=True, metavar="PREFIX", help="prefix of the names of the output files"
    )
    parser.add_argument("--version", type=int, help="version of the model (default: the latest)")
    cli.add_settings(parser, task_class.RequestFormat)


if __name__ == "__main__":
    cli.run(main)
