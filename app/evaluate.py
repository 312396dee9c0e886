"""Evaluates a published version on any part of any corpus: `python -m app.evaluate sentiment`."""

import argparse
import collections
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import tasks
from app import cli
from app.core.console import counted
from app.serving import model_name, versions
from tasks.core.corpus import Corpus
from tasks.core.errors import UserError
from tasks.core.examples import PARTS

if TYPE_CHECKING:  # TensorFlow is not imported for a bare --help
    from tasks.core.evaluation import Evaluation

_MAX_CLASSES = 20  # largest confusion matrix that fits on a screen


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Prints the evaluation, and returns the scores."""
    argv = model_name.with_task(sys.argv[1:] if argv is None else argv)
    args, task_class = cli.parse("evaluate", __doc__, argv, _add_flags, "--data PATH --part valid")
    corpus = cli.settings(task_class.Corpus, args)
    corpus.check_paths(args.part)
    if args.compare and args.version is not None:
        raise UserError("--compare names its versions; omit --version.")
    if args.compare:
        return _compare(args, corpus)
    folder = model_name.version(args)
    with cli.with_tensorflow():
        from app.serving.session import SavedModelSession

        task_class = tasks.find(args.task)
    task = task_class.restore(folder / "assets")
    _, corpus, _ = task.settle(task.config, corpus)
    part, notes = corpus.part(args.part)
    reasons = collections.Counter(map(task.rejection_reason, part))
    reasons.pop(None, None)
    examples = part.filter(lambda example: not task.rejection_reason(example))
    session = SavedModelSession(folder)
    evaluation = task.Evaluator(task, *_recorded(folder)).evaluate(
        session.predict_examples(task, examples)
    )
    if not evaluation.count:
        reason = next(iter(reasons), "it is empty")
        source = getattr(args, args.part) or args.train or args.data
        raise UserError(
            f"the {args.part} part of {source} has no examples that can be "
            f"evaluated: {reason}. Give other data with --data or --{args.part}."
        )
    calibration = evaluation.calibration
    if args.json:
        record = {
            "version": int(folder.name),
            "scores": evaluation.scores,
            "intervals": evaluation.intervals,
            "baselines": evaluation.baselines,
            "calibration": calibration.errors() if calibration else None,
        }
        print(json.dumps(record))
        return evaluation.scores
    for note in notes:
        print(note)
    source = getattr(args, args.part) or f"{args.part} part of {args.train or args.data}"
    print(f"{folder} on {source}: {counted(evaluation.count, 'example')}")
    for reason, count in reasons.items():
        print(f"{counted(count, 'more example')} skipped: {reason}")
    _print_evaluation(evaluation)
    return evaluation.scores


def _compare(args: argparse.Namespace, corpus: Corpus) -> dict[str, float]:
    """Prints the comparison of two versions, and returns the scores of the second."""
    first, second = (
        versions.find(args.saved_models, *version, "--compare", args.task)
        for version in (versions.parse(text, model_name.of(args)) for text in args.compare)
    )
    with cli.with_tensorflow():
        from app.serving import comparison

        task_class = tasks.find(args.task)
    task = task_class.restore(second / "assets")
    _, corpus, _ = task.settle(task.config, corpus)
    part, notes = corpus.part(args.part)
    result = comparison.compare(args.task, first, second, part)
    if result is None:
        raise UserError("the part has no examples that both versions can be evaluated on.")
    if args.json:
        print(json.dumps(dataclasses.asdict(result)))
    else:
        table = result.table()
        formatted = [
            [f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in row]
            for row in table.rows
        ]
        print(*notes, *result.sentences(), "", sep="\n")
        print(cli.columns([table.columns, *formatted]))
    return {name: scores[1] for name, scores in result.scores.items()}


def _recorded(folder: Path) -> tuple[str | None, dict[str, float]]:
    """Returns the arguments of an evaluator that the record of a version has.

    They are the most frequent class of the train part, and what was fitted on the validation
    part; None and nothing if they are not recorded.
    """
    record = versions.record(folder)
    try:
        return record["data"].get("majority"), dict(record.get("fitted_on_valid", {}))
    except (ValueError, KeyError, AttributeError, TypeError):
        return None, {}  # a model without its record can be evaluated


def _print_evaluation(evaluation: "Evaluation") -> None:
    """Prints scores, tables and confusion matrices."""
    scores = [
        [name, f"{score:.4f}", evaluation.context(name)]
        for name, score in evaluation.scores.items()
    ]
    print(cli.columns(scores))
    for sentence in evaluation.below_baselines():
        print(sentence)
    if evaluation.calibration:
        print(evaluation.calibration.sentence())
    for warning in evaluation.warnings:
        print(f"warning: {warning}")
    for table in evaluation.tables:
        print(f"\n{table.title}")
        print(cli.columns([table.columns, *table.rows]))
    for confusion in evaluation.confusions:
        if len(confusion.classes) <= _MAX_CLASSES:
            rows = [["", *confusion.classes]]
            for name, counts in zip(confusion.classes, confusion.counts, strict=True):
                rows.append([name, *counts])
            print(f"\n{confusion.title} (rows: reference, columns: prediction)")
            print(cli.columns(rows))


def _add_flags(parser: argparse.ArgumentParser, task_class: type) -> None:
    cli.add_saved_models(parser)
    model_name.add_flag(parser, "name of the model")
    parser.add_argument("--version", type=int, help="version of the model (default: the latest)")
    parser.add_argument(
        "--part", choices=PARTS, default="test", help="part of the corpus (default: test)"
    )
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar=("A", "B"),
        help="compare two versions, such as 1 2 or films/3 sentiment/2, on the same examples, "
        "with a significance test",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    cli.add_settings(parser, task_class.Corpus)


if __name__ == "__main__":
    cli.run(main)
