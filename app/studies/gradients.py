"""Experiment on how far gradients reach back through the steps of a sequence.

Cells are trained on a probe. Measured before and after training are the norm of the gradient
of the last state with respect to each earlier one, and the eigenvalues and singular values of
the recurrent matrices; further, the effect of clipping by norm and by value on gradient
descent, and the powers of a matrix next to a tanh unit that uses it.
"""

import dataclasses
from collections.abc import Callable, Mapping

from app.studies import gradient_flow, gradient_report, probe_settings
from app.studies.gradient_settings import Settings
from tasks import probes


def prepare(
    cells: Mapping[str, str], settings: Settings
) -> dict[str, tuple[probes.Probe, probe_settings.Config]]:
    """Returns the probe and the training config of each cell, by label.

    Raises:
        UserError: A setting is out of the probe's range.
    """
    names = ("length", "units", "steps", "learning_rate", "seed")
    shared = {name: getattr(settings, name) for name in names}
    return {
        label: probe_settings.of_settings(settings.probe, {**shared, "cell": cell})
        for label, cell in cells.items()
    }


def measure(
    runs: Mapping[str, tuple[probes.Probe, probe_settings.Config]],
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
