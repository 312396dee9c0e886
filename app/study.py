"""Compares cells: on a task, on a probe, or as the literature did: `python -m app.study greff`.

    python -m app.study adding --cells lstm gru --length 100 200 --seeds 3
    python -m app.study sentiment --cells lstm mut1 --units 32 64
    python -m app.study greff --data jsb=JSB_Chorales.mat
    python -m app.study evolve --minutes 60

Every setting takes several values, and every combination of them is a point. What has been
measured is kept, so the same command goes on where it was, and studies share their points.
"""

import argparse
import dataclasses
import itertools
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import tasks
from app import cli
from app.studies import experiments
from app.studies.experiments import Experiment, Runner
from app.studies.presets import PRESETS, Preset
from models.cells import specs
from tasks import probes
from tasks.core.errors import UserError
from tasks.core.settings import find_cell, flag

EVOLVE = "evolve"
_OWN = ("cell", "seed")  # of a config; --cells and --seeds tell them


def main(argv: Sequence[str] | None = None) -> Path:
    """Measures the points of a study, and writes its table, pictures and page."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if argv[:1] == [EVOLVE]:
        from app.studies import evolution

        return evolution.main(argv[1:])
    args = _parse(argv)
    if args.study in PRESETS:
        study, data = PRESETS[args.study], _data(args.data)
        asked = study.points(args.seeds or study.seeds, data)
        for subject in study.left_out(data):
            print(f"{subject} is left out: it needs --data {subject}=PATH")
    else:
        study = Preset(f"Cells on {args.study}", {}, [], [])
        asked = _grid(args)
    experiments.check(asked)
    if not asked:
        raise UserError("there is nothing to measure.")
    with Runner(args.runs / "studies", args.jobs, lambda line: print(line, flush=True)) as bench:
        known = bench.measured(asked)

    from app.studies import report

    folder = args.out or Path("studies") / args.study
    table = report.write(folder, study, shlex.join(["python", "-m", "app.study", *argv]), known)
    print(table)
    print(f"written to {folder / 'index.html'}")
    return folder


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = cli.Parser(
        "python -m app.study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.epilog = "Flags of a study: python -m app.study STUDY --help"
    studies = parser.add_subparsers(dest="study", required=True, metavar="STUDY")
    for name, preset in PRESETS.items():
        sub = studies.add_parser(name, help=preset.title, description=preset.title)
        _add(sub)
        sub.add_argument("--seeds", type=int, default=0, help=f"runs of each ({preset.seeds})")
        sub.add_argument(
            "--data", nargs="*", default=[], metavar="NAME=PATH", help="where a probe has its data"
        )
    for name in (*probes.names(), *tasks.names()):
        about = f"cells on the {'probe' if name in probes.names() else 'task'} {name}"
        sub = studies.add_parser(name, help=about, description=about)
        if argv[:1] == [name]:
            _add(sub)
            _add_grid(sub, name)
    studies.add_parser(EVOLVE, help="a search for better cells by mutation")
    return parser.parse_args(argv)


def _add(parser: argparse.ArgumentParser) -> None:
    """The flags of every study."""
    parser.add_argument(
        "--jobs",
        type=int,
        default=os.cpu_count() or 1,
        help="points measured at once, each with its share of the cores (default: %(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder of the results (default: studies/STUDY)"
    )
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="folder of what was measured (default: %(default)s)",
    )


def _add_grid(parser: argparse.ArgumentParser, name: str) -> None:
    """The settings of a task or a probe, each of which may have several values."""
    parser.add_argument(
        "--cells", nargs="+", default=["lstm"], metavar="CELL", help="what --cell takes (lstm)"
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs of each (default: %(default)s)")
    with cli.quiet():
        fields = _fields(name)
    for field in fields:
        kind = type(field.default)
        parser.add_argument(
            flag(field.name),
            nargs="+",
            type=_switch if kind is bool else kind,
            metavar={int: "INT", float: "FLOAT", bool: "yes|no"}.get(kind, "TEXT"),
            help=f"{field.metadata['help']} (default: {field.default})".replace("%", "%%"),
        )


def _fields(name: str) -> list[dataclasses.Field]:
    """The settings of a task or a probe, but for the cell and the seed."""
    if name in tasks.names():
        found = tasks.find(name)
        classes = (found.Corpus, found.Config)
    else:
        from app.studies import probe_training

        classes = (probes.find(name), probe_training.Config)
    return [f for c in classes for f in dataclasses.fields(c) if f.name not in _OWN]


def _switch(told: str) -> bool:
    if told not in ("yes", "no"):
        raise argparse.ArgumentTypeError(f"must be yes or no, got {told!r}")
    return told == "yes"


def _grid(args: argparse.Namespace) -> list[Experiment]:
    """Every combination of what was told."""
    if args.seeds < 1 or args.jobs < 1:
        raise UserError(f"--seeds and --jobs must be at least 1, got {args.seeds}, {args.jobs}.")
    told = [(f.name, getattr(args, f.name)) for f in _fields(args.study)]
    axes = [[(name, value) for value in values] for name, values in told if values is not None]
    cells = {}
    for cell in args.cells:
        find_cell(cell, "--cells")
        cells[cell if cell in specs.CELLS else Path(cell).stem] = cell
    return [
        Experiment(args.study, label, cell, seed, tuple(sorted(settings)))
        for settings in itertools.product(*axes)
        for label, cell in cells.items()
        for seed in range(args.seeds)
    ]


def _data(told: Sequence[str]) -> dict[str, str]:
    """Where each named probe has its data."""
    found = {}
    for each in told:
        name, separator, path = each.partition("=")
        if not separator or name not in probes.names():
            raise UserError(
                f"--data must be NAME=PATH, NAME one of {probes.names()}, got {each!r}."
            )
        if not Path(path).exists():
            raise UserError(f"--data {each}: {path} is not there.")
        found[name] = path
    return found


if __name__ == "__main__":
    cli.run(main, interrupted="interrupted; the same command goes on from here")
