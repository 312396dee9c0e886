"""Compares cells on a task or a probe, or repeats a study of the literature.

    python -m app.study adding --cells lstm gru --length 100 200 --seeds 3
    python -m app.study sentiment --cells lstm mut1 --units 32 64
    python -m app.study greff --data jsb=JSB_Chorales.mat
    python -m app.study evolve --minutes 60

Every setting takes several values. Every combination of them, with every cell and seed, is an
experiment. Records are stored, so an interrupted study resumes, and studies share experiments.
"""

import argparse
import dataclasses
import itertools
import math
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import tasks
from app import cli
from app.core import config_file
from app.studies import experiments
from app.studies.experiments import Experiment, Runner
from app.studies.presets import PRESETS, Preset
from tasks import probes
from tasks.core.errors import UserError
from tasks.core.settings import find_cell, flag

EVOLVE = "evolve"
STUDIES = Path("studies")
_MAX_COUNT = 10_000  # seeds, jobs or units
_SEPARATE_FLAGS = ("cell", "seed")  # settings with flags of their own: --cells and --seeds
_EVOLVE_ABOUT = """Searches for better cells by mutation, as by Jozefowicz et al. (2015).

    python -m app.study evolve --minutes 60

A mutation changes a spec: pinned, blind and biased gates, peepholes, activations, layer
normalisation, or which equation of the family the spec changes. No new equation is made. A
child of a good parent must first pass a short memory probe, and is then tried on other probes.
Its fitness is its smallest gain over chance on any probe, relative to the gain of the better
of LSTM and GRU. At the end the best cells are trained again with new seeds and twice the steps,
next to LSTM and GRU, and printed as lines for CELLS in models/cells/specs.py. The same command
resumes an interrupted search.
"""


def main(argv: Sequence[str] | None = None) -> Path:
    """Runs a study, writes its table, figures and page, and returns their folder."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if argv[:1] == [EVOLVE]:
        return _evolve(argv[1:])
    args = _parse(argv)
    _check_range(args, "jobs", 1)
    _check_range(args, "seeds", 0 if args.study in PRESETS else 1)
    if args.study in PRESETS:
        study, data = PRESETS[args.study], _data_paths(args.data)
        planned = study.experiments(args.seeds or study.seeds, data, args.subjects)
        for subject in study.without_data(data):
            if args.subjects and subject not in args.subjects:
                continue
            print(f"{subject} is skipped: it needs --data {subject}=PATH")
    else:
        study = Preset(f"Cells on {args.study}", {}, [], [])
        planned = _grid(args)
    experiments.check(planned)
    if not planned:
        raise UserError("the study has no experiments to run.")
    with Runner(args.runs / "studies", args.jobs, _log) as runner:
        records = runner.run(planned)

    from app.studies import report

    folder = args.out or STUDIES / args.study
    table = report.write(folder, study, shlex.join(["python", "-m", "app.study", *argv]), records)
    print(table)
    print(f"written to {folder / 'index.html'}")
    return folder


def _evolve(argv: Sequence[str]) -> Path:
    """Searches for better cells, writes the study of the best, and returns its folder."""
    args = _parse_evolve(argv)
    from app.studies import evolution, report

    with Runner(args.runs / "studies", args.jobs, _log) as runner:
        result = evolution.evolve(runner, args.seed, args.units, args.minutes, _log)
    folder = args.out or STUDIES / EVOLVE
    command = shlex.join(["python", "-m", "app.study", EVOLVE, *argv])
    print(report.write(folder, result.study, command, result.records), "", sep="\n")
    for label, source in result.best.items():
        print(f'    "{label}": {source},')
    print(f"\nwritten to {folder / 'index.html'}")
    return folder


def _log(line: str) -> None:
    print(line, flush=True)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = cli.Parser(
        "python -m app.study",
        description=__doc__,
        reads_config=False,
    )
    parser.epilog = "flags of a study: python -m app.study STUDY --help"
    studies = parser.add_subparsers(
        dest="study", required=True, metavar="STUDY", parser_class=_study_parser
    )
    for name, preset in PRESETS.items():
        sub = studies.add_parser(name, help=preset.title, description=preset.title)
        _add_shared(sub, name)
        sub.add_argument(
            "--seeds",
            type=int,
            metavar="INT",
            default=0,
            help=f"seeds per cell (default: {preset.seeds})",
        )
        sub.add_argument(
            "--data", nargs="*", default=[], metavar="NAME=PATH", help="data by probe or task"
        )
        sub.add_argument(
            "--subjects",
            nargs="+",
            default=[],
            choices=preset.subjects,
            metavar="NAME",
            help=f"of {', '.join(preset.subjects)} (default: all)",
        )
    for name in (*probes.names(), *tasks.names()):
        about = f"cells on the {'probe' if name in probes.names() else 'task'} {name}"
        sub = studies.add_parser(name, help=about, description=about)
        if argv[:1] == [name]:
            _add_shared(sub, name)
            _add_grid(sub, name)
    studies.add_parser(EVOLVE, help="a search for better cells by mutation")
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        studies.choices[args.study].error(f"unrecognized arguments: {' '.join(unknown)}")
    return args


def _study_parser(prog: str, **kwargs) -> cli.Parser:
    """The parser of a study; its example is the study with the flags that every study has."""
    return cli.Parser(prog, examples=[f"{prog} --seeds 2 --jobs 2"], **kwargs)


def _parse_evolve(argv: Sequence[str]) -> argparse.Namespace:
    parser = cli.Parser(
        f"python -m app.study {EVOLVE}",
        description=_EVOLVE_ABOUT,
        examples=[f"python -m app.study {EVOLVE} --minutes 10"],
    )
    parser.add_argument(
        "--minutes",
        type=float,
        metavar="FLOAT",
        default=60.0,
        help="minutes of training in total (default: %(default)g)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        metavar="INT",
        default=0,
        help="random seed of the search (default: %(default)s)",
    )
    parser.add_argument(
        "--units",
        type=int,
        metavar="INT",
        default=32,
        help="units of each cell (default: %(default)s)",
    )
    _add_shared(parser, EVOLVE)
    args = parser.parse_args(argv)
    _check_range(args, "jobs", 1)
    _check_range(args, "units", 1)
    _check_range(args, "seed", 0, 2**31 - 1)
    if not 0 < args.minutes < math.inf:
        raise UserError(f"--minutes must be above 0, got {args.minutes}.")
    return args


def _check_range(args: argparse.Namespace, name: str, low: int, high: int = _MAX_COUNT) -> None:
    value = getattr(args, name)
    if not low <= value <= high:
        raise UserError(f"--{name} must be at least {low} and at most {high}, got {value}.")


def _add_shared(parser: argparse.ArgumentParser, study: str) -> None:
    """Adds the flags that all studies share."""
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="INT",
        default=os.cpu_count() or 1,
        help="experiments in parallel, each with its share of the cores (default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help=f"folder of the results (default: {STUDIES}/{study})",
    )
    parser.add_argument(
        "--runs",
        type=cli.utf8_path,
        default=Path("runs"),
        metavar="DIR",
        help="folder of the records of experiments (default: %(default)s)",
    )


def _add_grid(parser: argparse.ArgumentParser, name: str) -> None:
    """Adds the settings of a task or a probe as flags that take several values."""
    parser.add_argument(
        "--cells",
        nargs="+",
        default=["lstm"],
        metavar="CELL",
        help="names listed by app.cells, specs as JSON, or .json files (default: lstm)",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        metavar="INT",
        default=3,
        help="seeds per cell (default: %(default)s)",
    )
    for field in _fields(name):
        kind = _kind(field)
        default = "auto" if field.default is None else field.default
        if isinstance(default, bool):
            default = ("no", "yes")[default]
        parser.add_argument(
            flag(field.name),
            *map(flag, field.metadata["aliases"]),
            dest=field.name,
            nargs="+",
            type=_converter(field),
            metavar={int: "INT", float: "FLOAT", bool: config_file.YES_NO}.get(kind, "TEXT"),
            help=f"{field.metadata['help']} (default: {default})".replace("%", "%%"),
        )


def _fields(name: str) -> list[dataclasses.Field]:
    """Returns the settings of a task or a probe, without the cell and the seed."""
    if name in tasks.names():
        task_class = tasks.declaration(name)
        classes = (task_class.Corpus, task_class.Config)
    else:
        from app.studies import probe_settings

        classes = (probes.find(name), probe_settings.Config)
    fields = {f.name: f for c in classes for f in dataclasses.fields(c)}  # both may have a field
    return [field for name, field in fields.items() if name not in _SEPARATE_FLAGS]


def _kind(field: dataclasses.Field) -> type:
    """Returns the type of a setting, of which None stands for auto."""
    if field.default is not None:
        return type(field.default)
    return field.metadata["auto"] or bool


def _converter(field: dataclasses.Field) -> Callable[[str], object]:
    """Returns what converts a word of the command line to a value of a setting."""
    kind = _kind(field)
    convert = _switch if kind is bool else kind
    if field.default is not None:
        return convert

    def convert_or_none(text: str) -> object:
        return None if text == "auto" else convert(text)

    convert_or_none.__name__ = kind.__name__  # argparse names it in errors
    return convert_or_none


def _switch(text: str) -> bool:
    if text not in config_file.YES_NO.split("|"):
        raise argparse.ArgumentTypeError(f"must be yes or no, got {text!r}")
    return text == "yes"


def _grid(args: argparse.Namespace) -> list[Experiment]:
    """Returns an experiment for every combination of the values of flags."""
    flags = [(field.name, getattr(args, field.name)) for field in _fields(args.study)]
    axes = [[(name, value) for value in values] for name, values in flags if values is not None]
    cells = {}
    for cell in args.cells:
        find_cell(cell, "--cells")
        label = Path(cell).stem if cell.endswith(".json") else cell
        if label in cells:
            raise UserError(f"--cells must be different cells, got {label} twice.")
        cells[label] = cell
    return [
        Experiment(args.study, label, cell, seed, tuple(sorted(settings)))
        for settings in itertools.product(*axes)
        for label, cell in cells.items()
        for seed in range(args.seeds)
    ]


def _data_paths(values: Sequence[str]) -> dict[str, str]:
    """Returns the paths of data by probe or task, of values of --data."""
    paths = {}
    for value in values:
        name, separator, path = value.partition("=")
        names = [*probes.names(), *tasks.names()]
        if not separator or name not in names:
            raise UserError(f"--data must be NAME=PATH, NAME one of {names}, got {value!r}.")
        if not Path(path).exists():
            raise UserError(f"--data {value}: {path} does not exist.")
        paths[name] = path
    return paths


if __name__ == "__main__":
    cli.run(main, interrupted="interrupted; the same command resumes")
