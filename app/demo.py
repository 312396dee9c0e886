"""Serves a page in the browser for the published models: `python -m app.demo`.

The page sends what is typed to the models, and shows their responses, the words that mattered, the
gates along the text, and the same request as a curl line. It needs no other network, and stores
and logs nothing. With --server the models run on TensorFlow Serving; gates are then not shown.
"""

import sys
from collections.abc import Sequence

from app import cli
from app.serving import server_url, versions
from tasks.core.errors import UserError

_LOOPBACK = "127.0.0.1"
_MAX_PORT = 2**16 - 1


def main(argv: Sequence[str] | None = None) -> None:
    """Serves the page until it is interrupted."""
    args = _parser().parse_args(sys.argv[1:] if argv is None else argv)
    if not 0 <= args.port <= _MAX_PORT:
        raise UserError(f"--port must be from 0 to {_MAX_PORT}, got {args.port}.")
    if args.server:
        server_url.check(args.server, None, args.timeout, retries=1, max_response=64)
    elif not versions.published(args.saved_models):
        raise UserError(f"{args.saved_models} holds no published model; run: python -m app.train")
    with cli.with_tensorflow():
        from app.serving.demo import catalogue, http_server
    if args.server:
        models = catalogue.served(args.server, args.models, args.timeout)
    else:
        models = catalogue.local(args.saved_models, args.models)
    try:
        server = http_server.DemoServer(models, args.host, args.port)
    except (OSError, TypeError, ValueError) as error:  # the last two: not the name of a host
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"--host and --port must be an address that is free, got {args.host}, port "
            f"{args.port}: {reason}."
        ) from error
    with server:
        if args.host not in http_server.LOOPBACK:
            print(
                f"warning: --host {args.host} lets everyone who reaches this machine use the "
                "models, without a password and without encryption.",
                file=sys.stderr,
            )
        print(f"models: {', '.join(model.name for model in models)}")
        print(f"page: {server.url} (Ctrl-C ends it)", flush=True)
        server.serve_forever()


def _parser() -> cli.Parser:
    parser = cli.Parser(
        "python -m app.demo",
        description=__doc__,
        examples=[
            "python -m app.demo",
            "python -m app.demo sentiment tagging --port 8000",
            "python -m app.demo --server http://localhost:8501",
        ],
    )
    parser.add_argument(
        "models",
        nargs="*",
        metavar="MODEL",
        help="models to show (default: all that are published)",
    )
    cli.add_saved_models(parser)
    parser.add_argument(
        "--port", type=int, default=0, help="port of the page (default: a free one)"
    )
    parser.add_argument(
        "--host",
        default=_LOOPBACK,
        help="address to listen on; any other than loopback opens the models to the network "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--server",
        metavar="URL",
        help="TensorFlow Serving to use instead of local versions: http://HOST:PORT (REST) or "
        "grpc://HOST:PORT",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="time limit of a request to the server (default: %(default)g)",
    )
    return parser


if __name__ == "__main__":
    cli.run(main, interrupted="stopped")
