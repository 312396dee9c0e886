"""Inspects how a published version computes a response: `python -m app.look sentiment "dull"`.

Draws the gates and states of each cell at each step of the text (for captioning, of the image
at that path), the saliency of each token, and the attention weights of models that have them.
The result is a self-contained page with its figures next to it. With `gradients` in place of
a task, it measures how far gradients reach back through the steps.
"""

import argparse
import dataclasses
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import tasks
from app import cli
from app.core.console import counted
from app.serving import model_name
from app.studies import gradient_settings
from tasks.core.errors import UserError

LOOKS = Path("looks")
GRADIENTS = "gradients"
_GRADIENTS_ABOUT = """Measures how far gradients reach back: `python -m app.look gradients`.

    python -m app.look gradients --cells rnn lstm gru --length 50
    python -m app.look gradients --probe adding --cells '{"equation": "rnn"}' rnn_identity

Trains cells on a probe, and draws before and after training: the norm of the gradient of the
last state with respect to each earlier one; the eigenvalues and singular values of the
recurrent matrices; the effect of clipping by norm and by value on gradient descent; and powers
of a matrix next to a tanh unit that uses it. The result is a self-contained page with its
figures next to it.
"""


def main(argv: Sequence[str] | None = None) -> Path:
    """Writes the page and its figures, and returns their folder."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if argv[:1] == [GRADIENTS]:
        return _gradients(argv[1:])
    argv = model_name.with_task(argv)
    others = {GRADIENTS: "how far gradients reach back, of cells on a probe"}
    args, task_class = cli.parse("look", __doc__, argv, _add_flags, "TEXT --token WORD", others)
    cli.check_out(args.out)
    request, request_format = os.fsencode(args.text), task_class.RequestFormat()
    ((row, context),) = request_format.requests([request])
    if failure := request_format.failure(context):
        raise UserError(f"{args.text}: {failure}.")
    version = model_name.version(args)
    with cli.with_tensorflow():
        import models
        from app import report
        from app.serving.session import SavedModelSession
        from app.training.privacy import Folders
        from models.cells import specs
        from models.cells.printing import equations
        from models.networks import ensemble

        task_class = tasks.find(args.task)
    task = task_class.restore(version / "assets")
    model, *others = ensemble.members(models.load(version))
    inspector = task.Inspector(task, model, SavedModelSession(version))
    inspection = inspector.inspect(row, args.token)
    if others:
        note = f"The model averages {1 + len(others)} networks; the first is shown."
        inspection = dataclasses.replace(inspection, notes=(note, *inspection.notes))
    folders = Folders((), [args.saved_models, *([args.out] if args.out else [])])
    files = report.inspection_files(
        inspection,
        f"{model_name.of(args)}, version {version.name}",
        request.decode("utf-8", "replace"),
        equations(
            specs.find(task.config.cell), any("raw_projection" in w.path for w in model.weights)
        ),
        folders.left_out(shlex.join(["python", "-m", "app.look", *argv])),
    )
    folder = cli.new_folder(args.out, LOOKS / model_name.of(args))
    _write(folder, files)
    figures = counted(len(files) - 1, "figure")
    print(inspection.response, f"{folder / 'index.html'} and {figures}", sep="\n")
    return folder


def _gradients(argv: Sequence[str]) -> Path:
    """Measures how far gradients reach, writes the page, and returns its folder."""
    parser = cli.Parser(
        f"python -m app.look {GRADIENTS}",
        description=_GRADIENTS_ABOUT,
        examples=[f"python -m app.look {GRADIENTS} --cells lstm gru"],
    )
    parser.add_argument(
        "--cells",
        nargs="+",
        default=list(gradient_settings.DEFAULT_CELLS),
        metavar="CELL",
        help="names listed by app.cells, specs as JSON, or .json files (default: "
        f"{' '.join(gradient_settings.DEFAULT_CELLS)})",
    )
    cli.add_settings(parser, gradient_settings.Settings)
    cli.add_out(parser, str(LOOKS / GRADIENTS))
    args = parser.parse_args(argv)
    settings = cli.settings(gradient_settings.Settings, args)
    cells = gradient_settings.labelled_cells(args.cells)
    cli.check_out(args.out)
    with cli.with_tensorflow():
        from app.studies import gradient_report, gradients
    runs = gradients.prepare(cells, settings)
    folder = cli.new_folder(args.out, LOOKS / GRADIENTS)
    command = shlex.join(["python", "-m", "app.look", GRADIENTS, *argv])
    results = gradients.measure(runs, settings, command, lambda line: print(line, flush=True))
    _write(folder, gradient_report.files(results))
    print(cli.columns(gradient_report.rows(results)))
    print(f"written to {folder / 'index.html'}")
    return folder


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes files into a new folder."""
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _add_flags(parser: argparse.ArgumentParser, task_class: type) -> None:
    cli.add_saved_models(parser)
    model_name.add_flag(parser, "name of the model")
    parser.add_argument("text", help="input text; for captioning, the path of an image")
    parser.add_argument("--version", type=int, help="version to inspect (default: the latest)")
    parser.add_argument(
        "--token",
        default="",
        metavar="WORD",
        help="token whose state changes are shown; dull:2 is the second dull (default: the token "
        "with the greatest saliency)",
    )
    cli.add_former_flag(parser, "--at", "token")
    cli.add_out(parser, f"{LOOKS}/MODEL")


if __name__ == "__main__":
    cli.run(main)
