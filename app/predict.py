"""Predicts with a published version: `python -m app.predict sentiment "a dull film"`.

With --server the model runs on TensorFlow Serving, and no file of it is needed on this machine.
With --from and --to the requests of a file are predicted and the responses written to another
file, in bounded memory; to resume an interrupted run, repeat the command. With --stream the lines
of standard input are predicted while they arrive.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from app import cli
from app.serving import model_name, server_url
from tasks.core.errors import UserError
from tasks.core.lines import read_lines, strip_line
from tasks.core.settings import flag

_MAX_SHOWN = 2**20  # bytes of the beginning of a streamed line that --json repeats

if TYPE_CHECKING:  # TensorFlow is not imported for a bare --help
    from tasks.core.predictor import Predictor
    from tasks.core.task import RequestFormat

_PRINT_BATCH = 256  # rows that are predicted and printed together from a local version


class _Model(NamedTuple):
    """The model to predict with.

    Attributes:
        predictor: A session with a local version, or a client of a server.
        print_batch: Rows that are predicted and printed together.
        predict_batch: Rows per request where rows of similar size share a batch.
        folder: Folder of the version; None if it is on a server.
    """

    predictor: Predictor
    print_batch: int
    predict_batch: int
    folder: Path | None


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the response to each request, in order, or writes all responses to a file."""
    argv = model_name.with_task(sys.argv[1:] if argv is None else argv)
    args, task_class = cli.parse(
        "predict", __doc__, argv, _add_flags, "--from requests.txt --to responses.txt"
    )
    request_format = cli.settings(task_class.RequestFormat, args)
    if args.stream:
        _check_stream(args, request_format)
    if args.source or args.to:
        _check_files(args, request_format)
    with _open_model(args) as model:
        if args.stream:
            _print_stream(args, request_format, model)
        elif args.to:
            _write(args, request_format, model)
        else:
            _print(args, request_format, model)


def _print(args: argparse.Namespace, request_format: RequestFormat, model: _Model) -> None:
    """Prints the response to each request.

    Raises:
        UserError: Requests failed.
    """
    from app.serving import responses

    interactive = not args.text and sys.stdin.isatty()
    lines = map(os.fsencode, args.text) if args.text else _stdin_lines()
    requests = request_format.requests(lines)
    if interactive:
        _print_prompt(request_format)
    elif not args.text:
        requests = _with_progress(requests)
    count = failures = 0
    # A person at a terminal gets each response at once; a file is read in batches.
    batch_size = 1 if interactive else model.print_batch
    while batch := list(itertools.islice(requests, batch_size)):
        predicted = model.predictor.predict([row for row, _ in batch], request_format.signature)
        for (row, context), response in zip(batch, predicted, strict=True):
            print(_format(args, request_format, row, context, response))
            with _expect_outputs(args):
                failures += bool(request_format.failure(context, response))
                drawing = request_format.drawing(context, responses.decoded(response))
            if drawing:
                from app.report import plots

                path, content = drawing
                for number, text in plots.save(plots.attention(content), Path(path)):
                    print(f"{number} in the figure: {text}", file=sys.stderr)
        sys.stdout.flush()
        count += len(batch)
    _check_failures(failures, count, "their lines")


def _print_prompt(request_format: RequestFormat) -> None:
    """Prints what a person at a terminal may type."""
    end = "Ctrl-Z and Enter" if os.name == "nt" else "Ctrl-D"
    print(f"{type(request_format).__doc__.splitlines()[0]} {end} ends.", file=sys.stderr)


def _check_failures(failures: int, count: int, place: str) -> None:
    """Checks that no request failed, after the responses were written.

    Raises:
        UserError: Requests failed.
    """
    if failures:
        raise UserError(f"{failures} of {count} requests failed; {place} state the reason.")


def _print_stream(args: argparse.Namespace, request_format: RequestFormat, model: _Model) -> None:
    """Prints the responses to the lines of standard input while they arrive.

    What is final of a line follows what was printed of it; a response for the whole text so far is
    printed in a line of its own.
    """
    from app.serving.streaming import PredictionStream, pieces_of_lines

    stream = PredictionStream(model.predictor)
    initial, separator, line = stream.state, "", b""
    for piece, is_last in pieces_of_lines(sys.stdin.buffer):
        line = (line + piece)[:_MAX_SHOWN]
        responses = [stream.feed(piece)]
        is_joined = "lengths" in responses[0] and not args.json
        if is_last:
            final = stream.finish()
            responses = [*responses, final] if "lengths" in final else [final]
            stream = PredictionStream(model.predictor, initial)
        # In JSON, a response without lengths has the whole line so far as its request.
        is_whole = args.json and "lengths" not in responses[0]
        row, context = next(request_format.requests([line if is_whole else piece]))
        if is_last:
            line = b""
        for response in responses:
            if not response.get("lengths", len(response)):  # nothing is final yet
                continue
            text = _format(args, request_format, row, context, response)
            print(separator + text if is_joined else text, end="" if is_joined else "\n")
            separator = " " if is_joined else ""
        if is_joined and is_last:
            print()
            separator = ""
        sys.stdout.flush()


def _check_stream(args: argparse.Namespace, request_format: RequestFormat) -> None:
    """Checks the flags that --stream excludes.

    Raises:
        UserError: One of them is given.
    """
    if args.text or args.source or args.to:
        raise UserError(
            "--stream reads standard input and prints; it cannot be combined with requests on the "
            "command line, --from or --to."
        )
    has_words = getattr(request_format, "format", "words") == "words"
    if request_format.signature != "serving_default" or request_format.draws or not has_words:
        raise UserError(
            "--stream reads text and prints lines; it cannot be combined with flags for other "
            "formats or figures."
        )


def _write(args: argparse.Namespace, request_format: RequestFormat, model: _Model) -> None:
    """Writes the responses to the requests of a file to another file."""
    from app.serving import bulk, payloads

    def predict(block: Sequence[tuple[dict, object]]) -> Iterator[tuple[str, bool]]:
        predicted = payloads.predict_in_batches(
            model.predictor,
            [row for row, _ in block],
            request_format.signature,
            model.predict_batch,
        )
        for (row, context), response in zip(block, predicted, strict=True):
            with _expect_outputs(args):
                failure = request_format.failure(context, response)
            yield _format(args, request_format, row, context, response), bool(failure)

    lines = bulk.Lines(args.source)
    output = bulk.PartialOutput(args.to, _fingerprint(args, request_format, model))
    if output.checkpoint.responses:
        print(f"resuming after {output.checkpoint.responses} responses", file=sys.stderr)
    bulk.run(lines, output, request_format.requests, predict)
    print(f"{output.checkpoint.responses} responses in {args.to}")
    _check_failures(
        output.checkpoint.failures, output.checkpoint.responses, f"their lines in {args.to}"
    )


def _format(
    args: argparse.Namespace,
    request_format: RequestFormat,
    row: dict,
    context: object,
    response: dict,
) -> str:
    from app.serving import responses

    with _expect_outputs(args):
        if args.json:
            return responses.as_json(request_format, row, context, response)
        return responses.as_text(request_format, context, response)


@contextlib.contextmanager
def _expect_outputs(args: argparse.Namespace) -> Iterator[None]:
    """Reports that a server's model has other outputs than the task.

    A response is validated against the signature, but the signature is the server's too.

    Raises:
        UserError: The response of a server lacks an output, or has another dtype or shape.
    """
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        if not args.server:
            raise
        raise UserError(
            f"{model_name.of(args)} at {args.server} has other outputs than this task; is it "
            f"another model of the same name? ({type(error).__name__})"
        ) from error


def _fingerprint(
    args: argparse.Namespace, request_format: RequestFormat, model: _Model
) -> dict[str, object]:
    """Returns everything that the responses depend on, by flag or file."""
    from models import manifest

    fingerprint = {"task": args.task, "--version": args.version, "--server": args.server}
    if model.folder:
        fingerprint["--version"] = int(model.folder.name)
        manifest_file = (model.folder / manifest.PLACE).read_bytes()
        fingerprint["manifest"] = hashlib.sha256(manifest_file).hexdigest()
    if model_name.of(args) != args.task:
        fingerprint[model_name.FLAG] = args.name
    fingerprint["--json"] = args.json
    for name, value in dataclasses.asdict(request_format).items():
        fingerprint[flag(name)] = value
    return fingerprint


def _check_files(args: argparse.Namespace, request_format: RequestFormat) -> None:
    """Checks the flags that --from and --to need or exclude.

    Raises:
        UserError: A flag is missing or cannot be combined with them.
    """
    if not args.source or not args.to:
        raise UserError("--from and --to must be given together.")
    if args.text:
        raise UserError(
            f"--from reads the requests from a file and cannot be combined with requests on the "
            f"command line, got {args.text[0]!r}."
        )
    if request_format.draws:
        raise UserError(
            "--from cannot be combined with a flag that draws a figure, which is for a single "
            "request."
        )
    if args.server and args.version is None:
        raise UserError(
            "--from with --server requires --version: the latest version may change during the run."
        )


@contextlib.contextmanager
def _open_model(args: argparse.Namespace) -> Iterator[_Model]:
    """Opens the model that the flags name."""
    if args.server:
        options = (args.version, args.timeout, args.retries, args.max_response)
        server_url.check(args.server, *options)
        with cli.with_tensorflow():
            from app.serving import client, server_config
        connection = client.connect(args.server, model_name.of(args), *options)
        with contextlib.closing(connection):
            yield _Model(connection, server_config.SERVER_BATCH, server_config.SERVER_BATCH, None)
        return
    folder = model_name.version(args)
    with cli.with_tensorflow():
        from app.serving.session import PREDICT_BATCH, SavedModelSession
    yield _Model(SavedModelSession(folder), _PRINT_BATCH, PREDICT_BATCH, folder)


def _with_progress(requests: Iterator[tuple]) -> Iterator[tuple]:
    """Counts requests in a progress bar if the responses do not show the progress."""
    if sys.stdout.isatty() or not sys.stderr.isatty():
        return requests
    from tqdm import tqdm

    return iter(tqdm(requests, unit=" requests", delay=1, file=sys.stderr))


def _stdin_lines() -> Iterable[bytes]:
    """Yields the lines of standard input as bytes, because their encoding may be invalid."""
    lines = read_lines(sys.stdin.buffer, "standard input")
    for number, line in enumerate(lines, start=1):
        yield strip_line(line, number)


class _Tries(argparse.Action):
    """Accepts `--tries N`, the former name of `--retries N-1`."""

    def __call__(self, parser, namespace, values, option_string=None):
        namespace.retries = values - 1
        print(
            f"--tries is now --retries, which does not count the first attempt: "
            f"use --retries {namespace.retries}",
            file=sys.stderr,
        )


def _add_flags(parser: argparse.ArgumentParser, task_class: type) -> None:
    cli.add_saved_models(parser)
    model_name.add_flag(parser, "name of the model")
    parser.add_argument(
        "text", nargs="*", help="requests, one per argument (default: lines of standard input)"
    )
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FILE",
        help="file of requests, one per line; may end in .gz; requires --to",
    )
    parser.add_argument(
        "--to",
        type=Path,
        metavar="FILE",
        help="new file for the responses, in the order of the requests; compressed if it ends in "
        ".gz. To resume an interrupted run, repeat the command",
    )
    parser.add_argument(
        "--stream",
        action="store_true",
        help="read lines of standard input while they arrive, and print what is final at once; "
        "needs a version that was trained with --direction forward, or with --stream",
    )
    parser.add_argument("--version", type=int, help="version of the model (default: the latest)")
    parser.add_argument(
        "--json", action="store_true", help="print each request and response as a JSON object"
    )
    parser.add_argument(
        "--server",
        metavar="URL",
        help="TensorFlow Serving to use instead of a local version: http://HOST:PORT (REST) or "
        "grpc://HOST:PORT",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="time limit of a request to the server, retries included (default: %(default)g)",
    )
    parser.add_argument(
        "--retries",
        type=int,
        default=3,
        metavar="INT",
        help="additional attempts of a request if the server is unavailable or busy "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--max-response",
        type=int,
        default=64,
        metavar="MIB",
        help="size limit of a response of the server in MiB (default: %(default)s)",
    )
    parser.add_argument("--tries", type=int, action=_Tries, help=argparse.SUPPRESS)
    cli.add_settings(parser, task_class.RequestFormat)


if __name__ == "__main__":
    cli.run(main)
