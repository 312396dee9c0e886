"""Trains a task and publishes an evaluated SavedModel: `python -m app.train sentiment`."""

import argparse
import dataclasses
import functools
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import tasks
from app import cli
from app.core import config_file
from app.serving import base_version, model_name, versions
from app.serving.base_version import BaseVersion
from tasks.core import unlabelled
from tasks.core.config import Config
from tasks.core.errors import UserError
from tasks.core.settings import flag, with_defaults

_REPORT_EXAMPLES = 20
STRATEGIES = ("none", "mirrored", "multiworker")  # of `training.distribution`, without TensorFlow


def main(argv: Sequence[str] | None = None) -> Path | None:
    """Trains, evaluates and publishes; returns the folder of the version.

    In a cluster only the chief publishes; the other processes return None.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    base = _base_version(argv)
    add_flags = functools.partial(_add_flags, base=base)
    args, task_class = cli.parse(
        "train", __doc__, argv, add_flags, "--data PATH --cell gru --units 64"
    )
    if args.base and not base:
        raise UserError(f"{base_version.FLAG} must be on the command line, not in a file.")
    if base:
        _check_common_settings(base, args, task_class)
    config = cli.settings(_config_class(task_class, base), args)
    if (args.freeze or args.drop_labels) and not base:
        raise UserError(
            f"--freeze and --drop-labels need {base_version.FLAG} with a version to continue from."
        )
    if base:
        _check_start(base, args, config)
    if args.checkpoint_every is not None and args.checkpoint_every < 1:
        raise UserError(f"--checkpoint-every must be at least 1, got {args.checkpoint_every}.")
    if args.report_examples < 0:
        raise UserError(f"--report-examples must be at least 0, got {args.report_examples}.")
    corpus = cli.settings(task_class.Corpus, args)
    model_name.check_new(args.name, args.task, args.saved_models)
    corpus.check_paths()
    config.check_files()
    corpus.check_first_examples()  # before TensorFlow is imported, which takes seconds
    with cli.with_tensorflow():
        from app.training import pipeline

    options = pipeline.TrainOptions(
        saved_models=args.saved_models,
        runs=args.runs,
        deterministic=args.deterministic,
        tune=args.tuning,
        checkpoint_every=args.checkpoint_every,
        strategy=args.strategy,
        base=base,
        freeze=args.freeze,
        drop_labels=args.drop_labels,
        report_examples=args.report_examples,
        model=model_name.of(args),
        command=_command(args, _settings_classes(task_class, base)),
        notes=_notes(args),
    )
    return pipeline.train(args.task, config, corpus, options)


def _check_common_settings(base: BaseVersion, args: argparse.Namespace, task_class: type) -> None:
    """Checks that data are read as the version that is continued reads its own."""
    if base.is_language_model:
        return
    defaults = {field.name: field.default for field in dataclasses.fields(task_class.Corpus)}
    for field in dataclasses.fields(_config_class(task_class, base)):
        own = getattr(args, field.name)
        if field.name in defaults and own != field.default != defaults[field.name]:
            raise UserError(
                f"{flag(field.name)} must be {field.default}, as in the version "
                f"{versions.title(base.folder)}, got {own}."
            )


def _check_start(base: BaseVersion, args: argparse.Namespace, config: Config) -> None:
    """Checks that flags and settings agree with the version that a training starts from."""
    base.check(config)
    if getattr(config, "has_language_model", False):
        raise UserError(
            f"{base_version.FLAG} and {unlabelled.FLAG} exclude each other: each gives the first "
            "weights; train a language model with app.train language_model, or omit one of them."
        )
    if base.is_language_model and (args.freeze or args.drop_labels):
        raise UserError(
            f"--freeze and --drop-labels need a version of {args.task} that is continued; "
            f"{base.folder} is a language model."
        )


def _base_version(argv: Sequence[str]) -> BaseVersion | None:
    """Returns the version that the command line continues, whose settings are its defaults."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(base_version.FLAG, dest="base", nargs="?")
    parser.add_argument("--saved-models", type=Path)
    parser.add_argument(model_name.FLAG, nargs="?")
    args, _ = parser.parse_known_args(argv[1:])
    if not args.base or argv[0] not in tasks.names():
        return None
    folder, name = args.saved_models, args.name
    if path := config_file.path_in(argv[1:]):
        settings = config_file.read(path, argv[0])
        folder = folder or settings.get("saved_models")
        name = name or settings.get("name")
    return base_version.find(
        args.base, argv[0], Path(folder or "saved_models"), str(name or argv[0])
    )


def _notes(args: argparse.Namespace) -> list[str]:
    """Returns what a file of settings does not repeat."""
    version = config_file.base_of(args.config) if args.config and not args.base else ""
    if not version:
        return []
    return [
        f"{args.config.name} is the record of a version that continued {version}; this run starts "
        f"from new weights. {base_version.FLAG} {version} continues it, too"
    ]


def _command(args: argparse.Namespace, settings: Sequence[type]) -> str:
    """Returns the command that repeats a run, with the flags that are not the defaults."""
    words = ["python", "-m", "app.train", args.task, *config_file.changed_flags(args, settings)]
    if model_name.of(args) != args.task:
        words.append(f"{model_name.FLAG}={args.name}")
    if args.base:
        words.append(f"{base_version.FLAG}={args.base}")
    if args.freeze:
        words.append(f"--freeze={','.join(args.freeze)}")
    words += ["--drop-labels"] if args.drop_labels else []
    words += ["--deterministic"] if args.deterministic else []
    words += [] if args.tuning else ["--no-tuning"]
    if args.checkpoint_every is not None:
        words.append(f"--checkpoint-every={args.checkpoint_every}")
    if args.report_examples != _REPORT_EXAMPLES:
        words.append(f"--report-examples={args.report_examples}")
    if args.saved_models != Path("saved_models"):
        words.append(f"--saved-models={args.saved_models}")
    words += [f"--runs={args.runs}"] if args.runs != Path("runs") else []
    words += [f"--strategy={args.strategy}"] if args.strategy != STRATEGIES[0] else []
    return shlex.join(words)


def _config_class(task_class: type, base: BaseVersion | None) -> type:
    return base.config_class(task_class.Config) if base else task_class.Config


def _settings_classes(task_class: type, base: BaseVersion | None) -> list[type]:
    """Returns the dataclasses of the corpus and of the settings, whose common fields are one flag.

    Those of a version that is continued, such as its target, are the defaults of both.
    """
    corpus, config = task_class.Corpus, _config_class(task_class, base)
    names = {field.name for field in dataclasses.fields(corpus)}
    if base and not base.is_language_model:
        common = [field for field in dataclasses.fields(config) if field.name in names]
        corpus = with_defaults(corpus, **{field.name: field.default for field in common})
    return [corpus, config]


def _group_names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def _add_flags(parser: argparse.ArgumentParser, task_class: type, base: BaseVersion | None) -> None:
    for settings in _settings_classes(task_class, base):
        cli.add_settings(parser, settings)
    cli.add_saved_models(parser)
    model_name.add_flag(parser, "name under which the version is published and served")
    parser.add_argument(
        "--report-examples",
        type=int,
        default=_REPORT_EXAMPLES,
        metavar="INT",
        help="maximum number of test examples in each section of the report; 0 for none "
        "(default: %(default)s)",
    )
    parser.add_argument(
        base_version.FLAG,
        dest="base",
        metavar="VERSION",
        help="continue from a published version, given by its number, by its model and number "
        "such as films/2, or by its folder: training starts from its weights, vocabularies, "
        "classes and settings, with a tenth of its learning rate. Tasks that read words also "
        "start from a language model of words, which initialises their cells and embedding",
    )
    parser.add_argument(
        "--freeze",
        type=_group_names,
        default=(),
        metavar="GROUPS",
        help=f"with {base_version.FLAG}: layers that are not trained, such as embeddings,encoder",
    )
    parser.add_argument(
        "--drop-labels",
        action="store_true",
        help=f"with {base_version.FLAG}: drop classes and tags that the training part lacks",
    )
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
        "order in which threads finish, and numbers differ in their last digits",
    )
    parser.add_argument(
        "--no-tuning",
        dest="tuning",
        action="store_false",
        help="select the implementations of recurrent layers by a rule; otherwise long "
        "training runs time them once per machine, and keep the times in the user's cache folder",
    )
    parser.add_argument(
        "--checkpoint-every",
        type=int,
        metavar="K",
        help="in training, keep the states of recurrent layers only before every K-th step, and "
        "recompute K steps at a time for the gradients: less memory for long sequences, more "
        "time (default: keep the values of all steps)",
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
