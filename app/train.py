"""Trains a task and publishes an evaluated SavedModel: `python -m app.train sentiment`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from app import cli

STRATEGIES = ("none", "mirrored", "multiworker")  # of `training.distribution`, without TensorFlow


def main(argv: Sequence[str] | None = None) -> Path | None:
    """Trains, evaluates and publishes; returns the folder of the version.

    In a cluster only the chief publishes; the other processes return None.
    """
    args, task_class = cli.parse(
        "train", __doc__, argv, _add_flags, "--data PATH --cell gru --units 64"
    )
    config = cli.settings(task_class.Config, args)
    corpus = cli.settings(task_class.Corpus, args)
    corpus.check_paths()
    config.check_files()
    with cli.quiet():
        from app.training import pipeline

    options = pipeline.TrainOptions(
        saved_models=args.saved_models,
        runs=args.runs,
        deterministic=args.deterministic,
        strategy=args.strategy,
    )
    return pipeline.train(args.task, config, corpus, options)


def _add_flags(parser: argparse.ArgumentParser, task_class: type) -> None:
    cli.add_settings(parser, task_class.Corpus)
    cli.add_settings(parser, task_class.Config)
    cli.add_saved_models(parser)
    parser.add_argument(
        "--runs",
        type=cli.utf8_path,
        default=Path("runs"),
        metavar="DIR",
        help="folder of training state (default: %(default)s)",
    )
    parser.add_argument(
        "--deterministic",
        action="store_true",
        help="compute the same bits in every run, more slowly; otherwise sums are taken in the "
        "order in which threads finish, and figures differ in their last digits",
    )
    parser.add_argument(
        "--strategy",
        choices=STRATEGIES,
        default="none",
        help="none: one device; mirrored: all devices of this machine; multiworker: the machines "
        "of the cluster in TF_CONFIG (default: %(default)s)",
    )


if __name__ == "__main__":
    cli.run(main, interrupted="interrupted; repeat the command to continue")
