"""Judges a published version on any part of any corpus: `python -m app.evaluate sentiment`."""

import argparse
import json
from collections.abc import Sequence

from app import cli
from tasks.core.errors import UserError
from tasks.core.examples import PARTS

_MOST_CLASSES = 20  # of a confusion matrix that fits a screen


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Prints the judgement, and returns the scores."""
    args, task_class = cli.parse("evaluate", __doc__, argv, _add)
    corpus = cli.settings(task_class.Corpus, args)
    with cli.quiet():
        from app.serving import export
        from app.serving.session import SavedModelSession

    folder = export.find(args.saved_models, args.task, args.version)
    task = task_class.restore(folder / "assets")
    part, notes = corpus.part(args.part)
    left_out = sum(1 for example in part if task.rejection_reason(example))
    judgement = task.judge(
        SavedModelSession(folder).answers(
            task, part.where(lambda example: not task.rejection_reason(example))
        )
    )
    if not judgement.count:
        raise UserError(f"the {args.part} part holds no examples that could be judged.")
    if args.json:
        print(json.dumps({"version": int(folder.name), "scores": judgement.scores}))
        return judgement.scores
    for note in notes:
        print(note)
    told = getattr(args, args.part) or f"{args.part} part of {args.train or args.data}"
    print(f"{folder} on {told}: {judgement.count} examples")
    if left_out:
        print(f"{left_out} more left out, for the model was not trained for their answer")
    print(cli.columns([[name, f"{score:.4f}"] for name, score in judgement.scores.items()]))
    for table in judgement.tables:
        print(f"\n{table.title}\n" + cli.columns([table.columns, *table.rows]))
    for confusion in judgement.confusions:
        if len(confusion.classes) <= _MOST_CLASSES:
            counts = zip(confusion.classes, confusion.counts, strict=True)
            rows = [["", *confusion.classes], *([name, *row] for name, row in counts)]
            print(f"\n{confusion.title} (wanted down, given across)\n" + cli.columns(rows))
    return judgement.scores


def _add(parser: argparse.ArgumentParser, task_class: type) -> None:
    cli.add_saved_models(parser)
    parser.add_argument("--version", type=int, help="the version to judge; the newest if not given")
    parser.add_argument("--part", choices=PARTS, default="test", help="(default: test)")
    parser.add_argument("--json", action="store_true", help="print one object, for machines")
    cli.add_settings(parser, task_class.Corpus)


if __name__ == "__main__":
    cli.run(main)
