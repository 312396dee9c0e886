"""Page of the gradient experiment: four figures, and text that states their numbers."""

import csv
import dataclasses
import io
import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from app.core.console import ESCAPE
from app.report import colours, layout, plots
from app.studies.gradient_flow import (
    CLIPPED,
    CLIPPED_PROBE,
    CLIPPED_RADIUS,
    Descent,
    Moment,
    Powers,
    Trained,
)
from tasks import probes
from tasks.core.evaluation import Table

_MARKERS = "os^Dv"
_SHARE = 0.01  # share of the gradient below which it counts as vanished
_TURNED = 0.1  # degrees; smaller angles are rounding errors
_FLOOR, _CEILING = 1e-14, 1e8  # range of the plotted norms


@dataclasses.dataclass(frozen=True)
class Results:
    """Results of the gradient experiment.

    Attributes:
        command: Command line of the experiment.
        settings: Settings that were used, including the name of the probe.
        probe: The probe.
        trained: Measurements of each cell before and after training.
        powers: Matrix powers and the tanh unit, by kind of matrix and spectral radius.
        descents: Runs of gradient descent by kind of clipping; the first is not clipped.
    """

    command: str
    settings: Mapping
    probe: probes.Probe
    trained: Sequence[Trained]
    powers: Sequence[Powers]
    descents: Mapping[str, Descent]

    @property
    def name(self) -> str:
        """Name of the probe, with spaces."""
        return self.settings["probe"].replace("_", " ")

    @property
    def score(self) -> str:
        """Name of the probe's main score."""
        return next(iter(self.probe.chance()))

    @property
    def chance(self) -> float:
        """Main score of the best predictor without memory."""
        return self.probe.chance()[self.score]

    @property
    def lags(self) -> int:
        """Longest lag, in steps."""
        return len(self.trained[0].before.norms) - 1


def files(results: Results) -> dict[str, bytes]:
    """Returns the page, its figures and a CSV of the norms, by file name."""
    draws = {"reach": reach, "spectra": spectra, "clipping": clipping, "powers": powers}
    drawn: dict[str, bytes] = {}

    def add(name: str) -> str:
        def write(figure: Figure) -> None:
            drawn[f"{name}.png"] = plots.png(figure, dpi=120)

        return layout.figure(name, lambda: draws[name](results), write)

    svgs = {name: add(name) for name in draws}
    page = _page(results, svgs)
    return {**drawn, "norms.csv": _csv(results), "index.html": page.encode("utf-8")}


def rows(results: Results) -> list[list]:
    """Returns the table of cells before and after training; the first row is the header."""
    head = [
        "cell",
        "training",
        f"lag of {_SHARE:.0%}",
        f"norm at lag {results.lags}",
        results.score,
    ]
    lines = [head]
    for cell in results.trained:
        for when, moment in (("before", cell.before), ("after", cell.after)):
            decayed = moment.decay_lag(_SHARE)
            lag = f"none to {results.lags}" if decayed is None else str(decayed)
            norm, score = f"{moment.norms[-1]:.1e}", f"{moment.score:.3g}"
            lines.append([cell.label, when, lag, norm, score])
    return [*lines, ["without memory", "", "", "", f"{results.chance:.3g}"]]


def reach(results: Results) -> Figure:
    """Plots the gradient norm over the lag, before and after training, one colour per cell."""
    figure = Figure(figsize=(6.2, 4.6), layout="constrained")
    axes = figure.subplots()
    lags = np.arange(results.lags + 1)
    bands = []
    for cell, colour in zip(results.trained, colours.SERIES, strict=False):
        axes.plot(lags, cell.before.norms, "--", lw=1.6, color=colour)
        axes.plot(lags, cell.after.norms, "-", lw=2, color=colour, label=plots.label(cell.label))
        ends = (cell.after.log_norms.min(axis=0), cell.after.log_norms.max(axis=0))
        low, high = (np.clip(np.exp(end), _FLOOR, _CEILING) for end in ends)
        bands += [low, high]
        axes.fill_between(lags, low, high, color=colour, alpha=0.13, lw=0)
    axes.plot([], [], "--", color=colours.FAINT, label="before training")
    axes.plot([], [], "-", color=colours.FAINT, label="after training")
    moments = [m for cell in results.trained for m in (cell.before, cell.after)]
    _logarithmic(axes, [*bands, *(moment.norms for moment in moments)])
    _one(axes)
    axes.set_xlim(0, results.lags)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("lag k, in steps")
    axes.set_ylabel("norm of the gradient of the last state\nw.r.t. the state k steps before")
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=9)
    return figure


def spectra(results: Results) -> Figure:
    """Plots eigenvalues before and after training, and singular values; one row per cell."""
    count = len(results.trained)
    figure = Figure(figsize=(10.5, 0.4 + 3.1 * count), layout="constrained")
    panels = figure.subplots(count, 3, squeeze=False)
    for (first, second, third), cell in zip(panels, results.trained, strict=True):
        label = plots.label(cell.label)
        if not cell.after.matrices:
            for axes in (first, second, third):
                axes.set_axis_off()
            second.text(0.5, 0.5, f"{label} has no recurrent matrices", ha="center")
            continue
        matrices = (*cell.before.matrices.values(), *cell.after.matrices.values())
        reach = 1.12 * max(1.0, *map(_radius, matrices))
        for axes, when, moment in ((first, "before", cell.before), (second, "after", cell.after)):
            _eigenvalues(axes, moment, reach)
            axes.set_title(f"{label}: eigenvalues {when}", fontsize=10)
        _singular_values(third, cell)
        third.set_title(f"{label}: singular values", fontsize=10)
    return figure


def _eigenvalues(axes, moment: Moment, reach: float) -> None:
    turn = np.linspace(0, 2 * np.pi, 200)
    axes.plot(np.cos(turn), np.sin(turn), color=colours.FAINT, lw=1)
    for (_, matrix), colour, marker in _styled(moment):
        values = np.linalg.eigvals(matrix)
        axes.plot(values.real, values.imag, marker, ms=4, mfc="none", mew=1, color=colour)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-reach, reach)
    axes.set_aspect("equal")
    axes.set_xlabel("real part", fontsize=9)
    axes.set_ylabel("imaginary part", fontsize=9)
    axes.tick_params(labelsize=8)


def _singular_values(axes, cell: Trained) -> None:
    before = [np.linalg.svd(m, compute_uv=False) for m in cell.before.matrices.values()]
    for values, ((name, matrix), colour, marker) in zip(before, _styled(cell.after), strict=True):
        after = np.linalg.svd(matrix, compute_uv=False)
        ranks = np.arange(1, len(after) + 1)
        axes.plot(ranks, values, "--", lw=1, color=colour)
        axes.plot(ranks, after, marker + "-", ms=3, lw=1, mfc="none", color=colour, label=name)
    axes.plot([], [], "--", lw=1, color=colours.FAINT, label="before")
    axes.axhline(1, color=colours.FAINT, lw=1, zorder=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("rank", fontsize=9)
    axes.set_ylabel("singular value", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _styled(moment: Moment):
    """Yields the matrices of a moment, each with a colour and a marker."""
    styles = zip(itertools.cycle(colours.SERIES), itertools.cycle(_MARKERS), strict=False)
    for item, (colour, marker) in zip(moment.matrices.items(), styles, strict=False):
        yield item, colour, marker


def clipping(results: Results) -> Figure:
    """Plots the norm of the gradient, the loss, and the angle due to clipping, by step."""
    figure = Figure(figsize=(6.2, 6.6), layout="constrained")
    panels = figure.subplots(3, 1, sharex=True)
    for (label, descent), colour in zip(results.descents.items(), colours.SERIES, strict=False):
        steps = np.arange(len(descent.losses))
        for axes, values in zip(
            panels, (descent.norms, descent.losses, descent.angles), strict=True
        ):
            axes.plot(steps, values, lw=1, color=colour, label=label)
    for axes, label in zip(
        panels,
        ("norm of the gradient", "loss", "angle from gradient to step,\ndegrees"),
        strict=True,
    ):
        axes.set_ylabel(label)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_yscale("log")
    panels[0].legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1), fontsize=9)
    panels[2].set_xlabel("step of gradient descent")
    panels[2].set_xlim(0, len(steps))
    return figure


def powers(results: Results) -> Figure:
    """Plots norms of matrix powers, their prediction r^k, and norms of the tanh unit."""
    kinds = list(dict.fromkeys(power.kind for power in results.powers))
    figure = Figure(figsize=(7.4, 4.6), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(kinds), sharey=True))
    for axes, kind in zip(panels, kinds, strict=True):
        drawn = [power for power in results.powers if power.kind == kind]
        for power, colour in zip(drawn, colours.SERIES, strict=False):
            lags = np.arange(len(power.linear))
            axes.plot(lags, power.radius**lags, ":", lw=3, color=colour, alpha=0.6)
            axes.plot(lags, np.exp(power.linear), "--", lw=1.4, color=colour)
            real = np.exp(power.real.mean(axis=0))
            axes.plot(lags, real, "-", lw=1.8, color=colour, label=f"r = {power.radius:g}")
        for line, label in (
            (":", "$r^k$"),
            ("--", "norm of the matrix power"),
            ("-", "tanh unit with that matrix"),
        ):
            axes.plot([], [], line, color=colours.FAINT, label=label)
        _logarithmic(axes, [np.exp(c) for e in results.powers for c in (e.linear, e.real.mean(0))])
        _one(axes)
        axes.set_xlim(0, lags[-1])
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_title(f"{kind} matrix of spectral radius r", fontsize=10)
        axes.set_xlabel("lag k, in steps")
    panels[0].set_ylabel("norm of the product over the lag")
    handles, names = panels[-1].get_legend_handles_labels()
    figure.legend(handles, names, frameon=False, loc="outside lower left", ncols=3, fontsize=9)
    return figure


def _logarithmic(axes, curves) -> None:
    """Sets a logarithmic axis that covers the curves, within the plotted range."""
    values = np.concatenate([np.ravel(curve) for curve in curves])
    low, high = max(values.min(), _FLOOR), min(values.max(), _CEILING)
    axes.set_yscale("log")
    axes.set_ylim(low / 3, high * 3)


def _one(axes) -> None:
    axes.axhline(1, color=colours.FAINT, lw=1, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)


def _csv(results: Results) -> bytes:
    """Returns the norms by cell and lag as CSV: mean and range over sequences."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(["cell", "training", "lag", "geometric_mean", "least", "most"])
    for cell in results.trained:
        for when, moment in (("before", cell.before), ("after", cell.after)):
            norms = np.exp(moment.log_norms)
            for lag, (mean, low, high) in enumerate(
                zip(moment.norms, norms.min(axis=0), norms.max(axis=0), strict=True)
            ):
                figures = (f"{value:.6g}" for value in (mean, low, high))
                writer.writerow([cell.label, when, lag, *figures])
    return buffer.getvalue().encode("utf-8", ESCAPE)


def _radius(matrix: np.ndarray) -> float:
    return float(np.abs(np.linalg.eigvals(matrix)).max())


def _page(results: Results, svgs: Mapping[str, str]) -> str:
    head, *body = rows(results)
    extremes = _extremes(results)
    title = f"How far gradients reach: {results.name}"
    parts = [
        *_paragraphs([", ".join(f"{name} {value}" for name, value in results.settings.items())]),
        layout.table(Table("Gradient of the last state with respect to earlier ones", head, body)),
        svgs["reach"],
        *_paragraphs(_of_reach(results)),
        "<h2>Recurrent matrices</h2>",
        svgs["spectra"],
        *_paragraphs(_of_spectra(results)),
        *([layout.table(Table("Extreme values", _EXTREMES, extremes))] if extremes else []),
        "<h2>Clipping</h2>",
        svgs["clipping"],
        *_paragraphs(_of_clipping(results)),
        "<h2>Powers of a matrix</h2>",
        svgs["powers"],
        *_paragraphs(_of_powers(results)),
        layout.table(Table("Norms", _POWERS, _powers(results))),
    ]
    return layout.whole(title, parts, results.command)


def _paragraphs(lines: Sequence[str]) -> list[str]:
    return [layout.paragraph(line) for line in lines]


def _of_reach(results: Results) -> list[str]:
    def ends(moments):
        last = {e.label: m.norms[-1] for e, m in zip(results.trained, moments, strict=True)}
        least, most = min(last, key=last.get), max(last, key=last.get)
        return f"from {last[least]:.1e} ({least}) to {last[most]:.1e} ({most})"

    def listed(cells: Sequence[Trained]) -> str:
        return ", ".join(f"{e.label} ({e.after.score:.3g})" for e in cells) or "none"

    count = len(results.trained[0].before.log_norms)
    retained = [cell for cell in results.trained if cell.after.norms[-1] > _SHARE]
    vanished = [cell for cell in results.trained if cell.after.norms[-1] <= _SHARE]
    return [
        "The norm is the largest singular value of the product of the Jacobians of the steps in "
        "between, taken over all states of the cell. Lines are geometric means over "
        f"{count} test sequences; bands show their range after training.",
        f"Over {results.lags} steps the norms range {ends([e.before for e in results.trained])} "
        f"before training and {ends([e.after for e in results.trained])} after it.",
        f"Cells that retain more than {_SHARE:.0%} over {results.lags} steps after training, with "
        f"their {results.score} (without memory {results.chance:.3g}): {listed(retained)}. Cells "
        f"that retain less: {listed(vanished)}.",
    ]


_EXTREMES = (
    "cell",
    "matrix of",
    "largest |eigenvalue| before",
    "largest |eigenvalue| after",
    "largest singular value before",
    "largest singular value after",
    "smallest singular value before",
    "smallest singular value after",
)


def _extremes(results: Results) -> list[list]:
    lines = []
    for cell in results.trained:
        for name, before in cell.before.matrices.items():
            two = (before, cell.after.matrices[name])
            singular = [np.linalg.svd(matrix, compute_uv=False) for matrix in two]
            lines.append(
                [
                    cell.label,
                    name,
                    *map(_radius, two),
                    *(float(values[0]) for values in singular),
                    *(float(values[-1]) for values in singular),
                ]
            )
    return lines


def _of_spectra(results: Results) -> list[str]:
    def sizes(moments):
        matrices = [m for moment in moments for m in moment.matrices.values()]
        values = [np.abs(np.linalg.eigvals(matrix)) for matrix in matrices]
        return f"from {min(map(np.min, values)):.2f} to {max(map(np.max, values)):.2f}"

    recurrent = [cell for cell in results.trained if cell.after.matrices]
    without = [cell.label for cell in results.trained if not cell.after.matrices]
    lines = []
    if without:
        lines.append(
            f"Cells without recurrent matrices: {', '.join(without)}. Their gates and candidate "
            "depend on the input alone."
        )
    if not recurrent:
        return lines
    growth = [
        f"{cell.label}: {max(map(_radius, cell.after.matrices.values())):.2f}, and "
        f"{cell.after.norms[-1] ** (1 / results.lags):.3f} per step"
        for cell in recurrent
    ]
    return [
        *lines,
        "Each gate and the candidate multiply h by their own matrix; the grey circle has radius 1. "
        f"The absolute eigenvalues range {sizes([e.before for e in recurrent])} before training "
        f"and {sizes([e.after for e in recurrent])} after it.",
        "A step multiplies the gradient not only by such a matrix but also by the slopes of "
        "activations and the values of gates. After training, the largest absolute eigenvalue of "
        "any matrix of a cell, and the mean factor per step by which its gradient changed over "
        f"the longest lag: {'; '.join(growth)}.",
    ]


def _of_clipping(results: Results) -> list[str]:
    lines = []
    for label, descent in results.descents.items():
        tenth = max(1, len(descent.losses) // 10)
        first, last = descent.losses[:tenth].mean(), descent.losses[-tenth:].mean()
        lines.append(
            f"{label[0].upper()}{label[1:]}: the median norm of the gradient is "
            f"{np.median(descent.norms):.2g} and its maximum {descent.norms.max():.2g}; the loss "
            f"is {first:.3f} over the first {tenth} steps and {last:.3f} over the last; accuracy "
            f"{descent.score:.3f}. " + _turns(descent.angles)
        )
    name, chance = next(iter(probes.find(CLIPPED_PROBE)().chance().items()))
    return [
        f"The same vanilla unit learns {CLIPPED_PROBE.replace('_', ' ')} over {CLIPPED['length']} "
        f"steps ({name} without memory {chance:g}) by plain gradient descent with learning rate "
        f"{CLIPPED['learning_rate']}, from the same initial weights (recurrent: an orthogonal "
        f"matrix times {CLIPPED_RADIUS}) and on the same batches.",
        *lines,
    ]


def _turns(angles: np.ndarray) -> str:
    turned = angles[angles > _TURNED]
    if not len(turned):
        return "Every step has the direction of the gradient."
    return (
        f"Clipping turned the gradient in {len(turned)} of {len(angles)} steps, by "
        f"a median of {np.median(turned):.0f}° and at most {turned.max():.0f}°."
    )


def _of_powers(results: Results) -> list[str]:
    closed = [
        np.abs(power.linear - np.arange(len(power.linear)) * math.log(power.radius)).max()
        for power in results.powers
        if power.kind == "orthogonal"
    ]
    grown = [power for power in results.powers if power.real.mean(axis=0)[-1] > 0]
    named = ", ".join(f"{power.kind} {power.radius:g}" for power in grown) or "none"
    return [
        "In the linear case the product over a lag k is the k-th power of the recurrent matrix. "
        "An orthogonal matrix times r has all its singular values equal to r, so the norm of its "
        f"power is r^k (relative error here: {np.expm1(max(closed)):.0e}); a Gaussian matrix has "
        "larger ones, so its powers may grow at first, whatever its eigenvalues are.",
        f"The tanh unit has the same matrix and reads sequences of {results.name}. The slopes of "
        "tanh are at most 1, so no step amplifies a gradient more than the matrix does; how much "
        "less depends on the input. Matrices for which the unit's norm exceeds 1 over "
        f"{results.lags} steps: {named}.",
    ]


_POWERS = (
    "matrix",
    "r",
    "r^k at lag",
    "norm of the power",
    "maximum over lags",
    "norm of the tanh unit",
    "its maximum over lags",
)


def _powers(results: Results) -> list[list[str]]:
    lines = []
    for power in results.powers:
        lag, real = len(power.linear) - 1, power.real.mean(axis=0)
        logs = (power.linear[-1], power.linear.max(), real[-1], real.max())
        norms = (f"{value:.3g}" for value in np.exp(logs))
        closed = f"{power.radius**lag:.3g} at {lag}"
        lines.append([power.kind, f"{power.radius:g}", closed, *norms])
    return lines
