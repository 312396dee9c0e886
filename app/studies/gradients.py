"""Looks at how far gradients reach back: `python -m app.look gradients`.

    python -m app.look gradients --cells rnn lstm gru --length 50
    python -m app.look gradients --probe adding --cells '{"equation": "rnn"}' rnn_identity

It trains cells on a probe and draws, before and after, the norm of the gradient of the last
state by each earlier one; the eigenvalues and singular values of their recurrent matrices;
what clipping by norm and by value does to descent; and powers of one matrix beside a real
unit that has it. A page that opens without a network, with its pictures beside it.
"""

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from app import cli
from models.cells import specs
from tasks.core.errors import UserError
from tasks.core.settings import check, find_cell, setting

PROBES = ("adding", "copy", "temporal_order")  # those of numbers, of any one length
MOST_CELLS = 7  # colours that all readers tell apart
LOOKS = Path("looks") / "gradients"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured."""

    probe: str = setting("temporal_order", f"one of {', '.join(PROBES)}", choices=PROBES)
    length: int = setting(100, "the probe's length", at_least=2)
    units: int = setting(32, "units of each cell", at_least=1)
    steps: int = setting(800, "batches to learn from", at_least=1)
    learning_rate: float = setting(0.0, "learning rate of Adam; 0: as the probe has it", at_least=0, old_name="rate")
    sequences: int = setting(8, "sequences of the test part to differentiate", at_least=1)
    clip_norm: float = setting(1.0, "norm to clip to, where clipping is shown", above=0)
    clip_value: float = setting(0.1, "value to clip to, likewise", above=0)
    seed: int = setting(0, "of weights and examples", at_least=0)

    def __post_init__(self):
        check(self)


def main(argv: Sequence[str] | None = None) -> Path:
    """Measures, draws, writes the page, and returns its folder."""
    argv = sys.argv[1:] if argv is None else list(argv)
    args = _parser().parse_args(argv)
    settings = cli.settings(Settings, args)
    cells = _cells(args.cells)
    cli.check_out(args.out)
    with cli.quiet():
        from app.studies import probe_training, gradient_flow
        from app.studies import gradient_report
    names = ("length", "units", "steps", "learning_rate", "seed")
    shared = {name: getattr(settings, name) for name in names}
    runs = {
        label: probe_training.of_settings(settings.probe, {**shared, "cell": cell})
        for label, cell in cells.items()
    }
    folder = cli.new_folder(args.out, LOOKS)
    trained = []
    for label, (probe, config) in runs.items():
        _say(f"{label} learns {settings.probe}, {config.steps} batches")
        trained.append(gradient_flow.train(label, probe, config, settings.sequences))
    _say("powers of a matrix")
    inputs = probe.test().inputs[: settings.sequences]
    powers = gradient_flow.powers(inputs, settings.units, settings.seed)
    _say("descent, clipped and not")
    start = {"units": settings.units, "seed": settings.seed}
    descents = {
        "not clipped": gradient_flow.descend(**start),
        f"by norm, {settings.clip_norm:g}": gradient_flow.descend(norm=settings.clip_norm, **start),
        f"by value, {settings.clip_value:g}": gradient_flow.descend(value=settings.clip_value, **start),
    }
    command = shlex.join(["python", "-m", "app.look", "gradients", *argv])
    told = dataclasses.asdict(dataclasses.replace(settings, learning_rate=config.learning_rate))
    look = gradient_report.Look(command, told, probe, trained, powers, descents)
    for name, content in gradient_report.files(look).items():
        (folder / name).write_bytes(content)
    print(cli.columns(gradient_report.rows(look)))
    print(f"written to {folder / 'index.html'}")
    return folder


def _parser() -> argparse.ArgumentParser:
    parser = cli.Parser(
        "python -m app.look gradients",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--cells",
        nargs="+",
        default=["rnn", "lstm", "gru", "lstm_chrono"],
        metavar="CELL",
        help="names that app.cells lists, specs as JSON, or .json files (default: %(default)s)",
    )
    cli.add_settings(parser, Settings)
    cli.add_out(parser, str(LOOKS))
    return parser


def _cells(told: Sequence[str]) -> dict[str, str]:
    """The cells by what to call them."""
    cells = {}
    for cell in told:
        find_cell(cell, "--cells")
        cells[Path(cell).stem if cell.endswith(".json") else cell] = cell
    if len(cells) < len(told) or len(cells) > MOST_CELLS:
        raise UserError(f"--cells must be 1 to {MOST_CELLS} that differ, got {list(told)}.")
    return cells


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    cli.run(main)
