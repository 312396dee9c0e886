"""Writes the configuration of a TensorFlow Serving server: `python -m app.deploy`.

The server serves the published models, each under two labels: `canary` is the latest version,
and `stable` the version that was the latest when the files were first written, until --stable
changes it. --check validates the files, and runs every published version as a server would.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from app import cli
from app.serving import versions
from tasks.core.errors import UserError


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the files, or checks them."""
    parser = _parser()
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    published = versions.published(args.saved_models)
    if not published:
        raise UserError(
            f"{args.saved_models} holds no published model; run: python -m app.train sentiment"
        )
    with cli.quiet():
        from app.serving import deployment, server_config
    if args.check:
        with cli.with_tensorflow():
            from app.serving import deployment_checks
        for results in (
            deployment_checks.files(args.to, published),
            deployment_checks.versions(args.saved_models, published),
        ):
            _report(results)
        return
    published, left_out = deployment.servable(args.saved_models, published)
    for folder in left_out:
        print(f"left out: {folder}, which has no saved_model.pb")
    for model in deployment.unpublished(args.to, published):
        print(f"left out: {model}, which was served and has no version any more")
    overrides = {label: getattr(args, label) for label in server_config.LABELS}
    labels = deployment.labels(args.to, published, overrides)
    limits = deployment.limits(args.to, args.memory, args.cpus)
    for line in deployment.write(args.to, args.saved_models, labels, limits, args.kubernetes):
        print(line)
    print(
        f"the server may use {limits.memory} of memory, {limits.cpus:g} processors and "
        f"{limits.threads} threads (--memory, --cpus)"
    )
    rows = [[name, *map(str, by_label.values())] for name, by_label in labels.items()]
    print(cli.columns([["model", *server_config.LABELS], *rows]))


def _report(results) -> None:
    """Prints the files or versions that passed.

    Raises:
        UserError: Some did not; the message has all errors, one per line.
    """
    errors = []
    for path, path_errors in results:
        errors += path_errors
        if not path_errors:
            print(f"ok  {path}", flush=True)
    if errors:
        raise UserError("\n".join(errors))


def _parser() -> cli.Parser:
    parser = cli.Parser(
        "python -m app.deploy",
        description=__doc__,
        examples=["python -m app.deploy --to deploy", "python -m app.deploy --to deploy --check"],
    )
    cli.add_saved_models(parser)
    parser.add_argument(
        "--to",
        type=Path,
        default=Path("deploy"),
        metavar="DIR",
        help="folder of the configuration files (default: %(default)s)",
    )
    for label, default in (("stable", "the current stable version"), ("canary", "the latest")):
        parser.add_argument(
            f"--{label}",
            action="append",
            default=[],
            metavar="MODEL=VERSION",
            help=f"version of a model with the label {label}; may be repeated (default: {default})",
        )
    parser.add_argument(
        "--memory",
        metavar="SIZE",
        help="memory limit of the container, such as 512m or 4g (default: the current one, "
        "initially 4g)",
    )
    parser.add_argument(
        "--cpus",
        type=float,
        metavar="FLOAT",
        help="processor limit of the container, and the number of its threads (default: the "
        "current one, initially 2, whatever this machine has)",
    )
    parser.add_argument(
        "--kubernetes",
        action="store_true",
        help="also write kubernetes.yaml: a Deployment with the same files and limits, and its "
        "ConfigMap, Service and HorizontalPodAutoscaler",
    )
    parser.add_argument(
        "--check", action="store_true", help="check files and versions without writing anything"
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
