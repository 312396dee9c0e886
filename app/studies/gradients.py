"""Experiment on how far gradients reach back through the steps of a sequence.

Cells are trained on a probe. Measured before and after training are the norm of the gradient
of the last state with respect to each earlier one, and the eigenvalues and singular values of
the recurrent matrices; further, the effect of clipping by norm and by value on gradient
descent, and the powers of a matrix next to a tanh unit that uses it.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from app.studies import gradient_flow, gradient_report, probe_training
from tasks.core.errors import UserError
from tasks.core.settings import check, find_cell, setting

PROBES = ("adding", "copy", "temporal_order")  # numeric inputs, one length for all sequences
DEFAULT_CELLS = ("rnn", "lstm", "gru", "lstm_chrono")
MAX_CELLS = 7  # colours that colour-blind readers can tell apart


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of the measurement."""

    probe: str = setting("temporal_order", f"one of {', '.join(PROBES)}", choices=PROBES)
    length: int = setting(100, "length of the probe's sequences", at_least=2)
    units: int = setting(32, "units of each cell", at_least=1)
    steps: int = setting(800, "training batches", at_least=1)
    learning_rate: float = setting(
        0.0, "learning rate of Adam; 0: the probe's own", at_least=0, old_name="rate"
    )
    sequences: int = setting(8, "test sequences to differentiate", at_least=1)
    clip_norm: float = setting(1.0, "norm to clip to in the clipping experiment", above=0)
    clip_value: float = setting(0.1, "value to clip to in the clipping experiment", above=0)
    seed: int = setting(0, "random seed of weights and examples", at_least=0)

    def __post_init__(self):
        check(self)


def labelled_cells(cells: Sequence[str]) -> dict[str, str]:
    """Returns the cells by their labels: a name, a spec, or the stem of a .json file.

    Args:
        cells: Values of `--cells`, as `models.cells.specs.find` accepts them.

    Raises:
        UserError: A cell is invalid, two have the same label, or there are more than `MAX_CELLS`.
    """
    labelled = {}
    for cell in cells:
        find_cell(cell, "--cells")
        label = Path(cell).stem if cell.endswith(".json") else cell
        labelled[label] = cell
    if len(labelled) < len(cells) or not 1 <= len(labelled) <= MAX_CELLS:
        raise UserError(f"--cells must be 1 to {MAX_CELLS} different cells, got {list(cells)}.")
    return labelled


def prepare(
    cells: Mapping[str, str], settings: Settings
) -> dict[str, tuple[probe_training.probes.Probe, probe_training.Config]]:
    """Returns the probe and the training config of each cell, by label.

    Raises:
        UserError: A setting is out of the probe's range.
    """
    names = ("length", "units", "steps", "learning_rate", "seed")
    shared = {name: getattr(settings, name) for name in names}
    return {
        label: probe_training.of_settings(settings.probe, {**shared, "cell": cell})
        for label, cell in cells.items()
    }


def measure(
    runs: Mapping[str, tuple[probe_training.probes.Probe, probe_training.Config]],
    settings: Settings,
    command: str,
    log: Callable[[str], None],
) -> gradient_report.Results:
    """Trains each cell, runs the clipping and matrix experiments, and returns all results.

    Args:
        runs: Output of `prepare`; at least one cell.
        settings: Settings that `runs` were prepared with.
        command: Command line that the page shows.
        log: Called with a line before each part.

    Raises:
        UserError: The weights of a cell became non-finite.
    """
    trained = []
    for label, (probe, config) in runs.items():
        log(f"training {label} on {settings.probe}, {config.steps} batches")
        trained.append(gradient_flow.train(label, probe, config, settings.sequences))
    log("powers of a matrix")
    inputs = probe.test().inputs[: settings.sequences]
    powers = gradient_flow.powers(inputs, settings.units, settings.seed)
    log("gradient descent, with and without clipping")
    start = {"units": settings.units, "seed": settings.seed}
    norm, value = settings.clip_norm, settings.clip_value
    descents = {
        "not clipped": gradient_flow.descend(**start),
        f"by norm, {norm:g}": gradient_flow.descend(norm=norm, **start),
        f"by value, {value:g}": gradient_flow.descend(value=value, **start),
    }
    used = dataclasses.asdict(dataclasses.replace(settings, learning_rate=config.learning_rate))
    return gradient_report.Results(command, used, probe, trained, powers, descents)
