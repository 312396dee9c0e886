"""The page of how far gradients reach: four pictures, and in words what their numbers say."""

import csv
import dataclasses
import io
import itertools
import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from matplotlib.figure import Figure

from app.studies.gradient_flow import CLIPPED, CLIPPED_PROBE, CLIPPED_RADIUS, Descent, Moment, Powers, Trained
from app.report import pages, plots
from tasks import probes
from tasks.core.evaluation import Table

# Told apart by colour-blind readers too (Okabe & Ito).
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_MARKERS = "os^Dv"
_SHARE = 0.01  # of the gradient, at which it counts as gone
_TURNED = 0.1  # degrees; less is rounding
_FLOOR, _CEILING = 1e-14, 1e8  # norms that are drawn


@dataclasses.dataclass(frozen=True)
class Look:
    """All that was measured.

    Attributes:
        command: What was asked for.
        settings: Those that it was measured with, the probe's name among them.
        probe: The probe.
        trained: Each cell before and after training.
        powers: The linear case and the real one, by kind of matrix and radius.
        descents: By how they are clipped, the first not at all.
    """

    command: str
    settings: Mapping
    probe: probes.Probe
    trained: Sequence[Trained]
    powers: Sequence[Powers]
    descents: Mapping[str, Descent]

    @property
    def name(self) -> str:
        """That of the probe, in words."""
        return self.settings["probe"].replace("_", " ")

    @property
    def score(self) -> str:
        """The name of the score."""
        return next(iter(self.probe.chance()))

    @property
    def chance(self) -> float:
        """What it is without memory."""
        return self.probe.chance()[self.score]

    @property
    def lags(self) -> int:
        """The longest lag."""
        return len(self.trained[0].before.norms) - 1


def files(look: Look) -> dict[str, bytes]:
    """The page, its pictures and the norms by the names of their files."""
    figures = {
        "reach": reach(look),
        "spectra": spectra(look),
        "clipping": clipping(look),
        "powers": powers(look),
    }
    drawn = {f"{name}.png": _png(figure) for name, figure in figures.items()}
    svgs = {name: plots.svg(figure) for name, figure in figures.items()}
    page = _page(look, svgs)
    return {**drawn, "norms.csv": _csv(look), "index.html": page.encode("utf-8")}


def rows(look: Look) -> list[list]:
    """The table of reach under its heads: of each cell before and after."""
    head = ["cell", "training", f"lag of {_SHARE:.0%}", f"norm at lag {look.lags}", look.score]
    found = [head]
    for each in look.trained:
        for told, moment in (("before", each.before), ("after", each.after)):
            fallen = moment.fallen(_SHARE)
            lag = f"none to {look.lags}" if fallen is None else str(fallen)
            norm, score = f"{moment.norms[-1]:.1e}", f"{moment.score:.3g}"
            found.append([each.label, told, lag, norm, score])
    return [*found, ["without memory", "", "", "", f"{look.chance:.3g}"]]


def reach(look: Look) -> Figure:
    """The norm for each lag, a colour a cell, before and after training."""
    figure = Figure(figsize=(8.2, 4.8), layout="constrained")
    axes = figure.subplots()
    lags = np.arange(look.lags + 1)
    for each, colour in zip(look.trained, _COLOURS, strict=False):
        axes.plot(lags, each.before.norms, "--", lw=1.6, color=colour)
        axes.plot(lags, each.after.norms, "-", lw=2, color=colour, label=each.label)
        low, high = np.exp(each.after.log_norms.min(axis=0)), np.exp(each.after.log_norms.max(0))
        axes.fill_between(lags, low, high, color=colour, alpha=0.13, lw=0)
    axes.plot([], [], "--", color="#555555", label="before training")
    axes.plot([], [], "-", color="#555555", label="after training")
    moments = [m for each in look.trained for m in (each.before, each.after)]
    _logarithmic(axes, [moment.norms for moment in moments])
    _one(axes)
    axes.set_xlim(0, look.lags)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("lag k, in steps")
    axes.set_ylabel("norm of the gradient of the last state\nby the state k steps before")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def spectra(look: Look) -> Figure:
    """Of each cell a row: eigenvalues before and after training, and singular values."""
    count = len(look.trained)
    figure = Figure(figsize=(10.5, 0.4 + 3.1 * count), layout="constrained")
    panels = figure.subplots(count, 3, squeeze=False)
    for (first, second, third), each in zip(panels, look.trained, strict=True):
        widest = max(map(_radius, (*each.before.matrices.values(), *each.after.matrices.values())))
        reach = 1.12 * max(1.0, widest)
        for axes, told, moment in ((first, "before", each.before), (second, "after", each.after)):
            _eigenvalues(axes, moment, reach)
            axes.set_title(f"{each.label}: eigenvalues {told}", fontsize=10)
        _singular_values(third, each)
        third.set_title(f"{each.label}: singular values", fontsize=10)
    return figure


def _eigenvalues(axes, moment: Moment, reach: float) -> None:
    turn = np.linspace(0, 2 * np.pi, 200)
    axes.plot(np.cos(turn), np.sin(turn), color="#999999", lw=1)
    for (_, matrix), colour, marker in _styled(moment):
        values = np.linalg.eigvals(matrix)
        axes.plot(values.real, values.imag, marker, ms=4, mfc="none", mew=1, color=colour)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-reach, reach)
    axes.set_aspect("equal")
    axes.set_xlabel("real part", fontsize=9)
    axes.set_ylabel("imaginary part", fontsize=9)
    axes.tick_params(labelsize=8)


def _singular_values(axes, each: Trained) -> None:
    before = [np.linalg.svd(m, compute_uv=False) for m in each.before.matrices.values()]
    for values, ((name, matrix), colour, marker) in zip(before, _styled(each.after), strict=True):
        after = np.linalg.svd(matrix, compute_uv=False)
        ranks = np.arange(1, len(after) + 1)
        axes.plot(ranks, values, "--", lw=1, color=colour)
        axes.plot(ranks, after, marker + "-", ms=3, lw=1, mfc="none", color=colour, label=name)
    axes.plot([], [], "--", lw=1, color="#555555", label="before")
    axes.axhline(1, color="#999999", lw=1, zorder=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("rank", fontsize=9)
    axes.set_ylabel("singular value", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _styled(moment: Moment):
    """The matrices of a moment with the colour and the marker of each."""
    styles = zip(itertools.cycle(_COLOURS), itertools.cycle(_MARKERS), strict=False)
    for each, (colour, marker) in zip(moment.matrices.items(), styles, strict=False):
        yield each, colour, marker


def clipping(look: Look) -> Figure:
    """The gradient's norm, the loss, and the turn of the gradient, step by step."""
    figure = Figure(figsize=(8.2, 7.2), layout="constrained")
    panels = figure.subplots(3, 1, sharex=True)
    for (told, each), colour in zip(look.descents.items(), _COLOURS, strict=False):
        steps = np.arange(len(each.losses))
        for axes, values in zip(panels, (each.norms, each.losses, each.angles), strict=True):
            axes.plot(steps, values, lw=1, color=colour, label=told)
    for axes, told in zip(
        panels, ("norm of the gradient", "loss", "from gradient to step,\ndegrees"), strict=True
    ):
        axes.set_ylabel(told)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_yscale("log")
    panels[0].legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    panels[2].set_xlabel("step of descent")
    panels[2].set_xlim(0, len(steps))
    return figure


def powers(look: Look) -> Figure:
    """Norms of powers, what the eigenvalues alone say of them, and of a real unit."""
    kinds = list(dict.fromkeys(each.kind for each in look.powers))
    figure = Figure(figsize=(10.5, 4.4), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(kinds), sharey=True))
    for axes, kind in zip(panels, kinds, strict=True):
        some = [each for each in look.powers if each.kind == kind]
        for each, colour in zip(some, _COLOURS, strict=False):
            lags = np.arange(len(each.linear))
            axes.plot(lags, each.radius**lags, ":", lw=3, color=colour, alpha=0.6)
            axes.plot(lags, np.exp(each.linear), "--", lw=1.4, color=colour)
            real = np.exp(each.real.mean(axis=0))
            axes.plot(lags, real, "-", lw=1.8, color=colour, label=f"r = {each.radius:g}")
        for line, told in (
            (":", "$r^k$"),
            ("--", "power of the matrix"),
            ("-", "tanh unit with it"),
        ):
            axes.plot([], [], line, color="#555555", label=told)
        _logarithmic(axes, [np.exp(c) for e in look.powers for c in (e.linear, e.real.mean(0))])
        _one(axes)
        axes.set_xlim(0, lags[-1])
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_title(f"{kind} matrix of spectral radius r", fontsize=10)
        axes.set_xlabel("lag k, in steps")
    panels[0].set_ylabel("norm of the product over the lag")
    panels[-1].legend(frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def _logarithmic(axes, curves) -> None:
    """A logarithmic axis that shows the curves as far as they can be told from nothing."""
    values = np.concatenate([np.ravel(curve) for curve in curves])
    low, high = max(values.min(), _FLOOR), min(values.max(), _CEILING)
    axes.set_yscale("log")
    axes.set_ylim(low / 3, high * 3)


def _one(axes) -> None:
    axes.axhline(1, color="#999999", lw=1, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def _csv(look: Look) -> bytes:
    """The norm of each cell for each lag: its mean and its range over sequences."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(["cell", "training", "lag", "geometric_mean", "least", "most"])
    for each in look.trained:
        for told, moment in (("before", each.before), ("after", each.after)):
            norms = np.exp(moment.log_norms)
            for lag, (mean, low, high) in enumerate(
                zip(moment.norms, norms.min(axis=0), norms.max(axis=0), strict=True)
            ):
                figures = (f"{value:.6g}" for value in (mean, low, high))
                writer.writerow([each.label, told, lag, *figures])
    return buffer.getvalue().encode()


def _radius(matrix: np.ndarray) -> float:
    return float(np.abs(np.linalg.eigvals(matrix)).max())


def _page(look: Look, svgs: Mapping[str, str]) -> str:
    head, *body = rows(look)
    title = f"How far gradients reach: {look.name}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p><code>{escape(look.command)}</code></p>",
        *_told([", ".join(f"{name} {value}" for name, value in look.settings.items())]),
        pages.table(Table("The last state by each earlier one", head, body)),
        svgs["reach"],
        *_told(_of_reach(look)),
        "<h2>Recurrent matrices</h2>",
        svgs["spectra"],
        *_told(_of_spectra(look)),
        pages.table(Table("Their extremes", _EXTREMES, _extremes(look))),
        "<h2>Clipping</h2>",
        svgs["clipping"],
        *_told(_of_clipping(look)),
        "<h2>Powers of a matrix</h2>",
        svgs["powers"],
        *_told(_of_powers(look)),
        pages.table(Table("Their norms", _POWERS, _powers(look))),
    ]
    return pages.whole(title, parts)


def _told(lines: Sequence[str]) -> list[str]:
    return [f"<p>{escape(line)}</p>" for line in lines]


def _of_reach(look: Look) -> list[str]:
    def ends(moments):
        last = {e.label: m.norms[-1] for e, m in zip(look.trained, moments, strict=True)}
        least, most = min(last, key=last.get), max(last, key=last.get)
        return f"from {last[least]:.1e} ({least}) to {last[most]:.1e} ({most})"

    def listed(some):
        return ", ".join(f"{e.label} ({e.after.score:.3g})" for e in some) or "none"

    count = len(look.trained[0].before.log_norms)
    left = [each for each in look.trained if each.after.norms[-1] > _SHARE]
    gone = [each for each in look.trained if each.after.norms[-1] <= _SHARE]
    return [
        "The norm is the largest singular value of the product of the Jacobians of all steps "
        "between, each of all states of the cell side by side. Lines are geometric means over "
        f"{count} test sequences; the bands are their range after training.",
        f"Over {look.lags} steps the norms go {ends([e.before for e in look.trained])} before "
        f"training and {ends([e.after for e in look.trained])} after it.",
        f"Cells that keep more than {_SHARE:.0%} over {look.lags} steps after training, each with "
        f"its {look.score} (without memory {look.chance:.3g}): {listed(left)}. Cells that keep "
        f"less: {listed(gone)}.",
    ]


_EXTREMES = (
    "cell",
    "matrix of",
    "largest |eigenvalue| before",
    "after",
    "largest singular value before",
    "after",
    "least singular value before",
    "after",
)


def _extremes(look: Look) -> list[list]:
    found = []
    for each in look.trained:
        for name, before in each.before.matrices.items():
            two = (before, each.after.matrices[name])
            singular = [np.linalg.svd(matrix, compute_uv=False) for matrix in two]
            found.append(
                [
                    each.label,
                    name,
                    *map(_radius, two),
                    *(float(values[0]) for values in singular),
                    *(float(values[-1]) for values in singular),
                ]
            )
    return found


def _of_spectra(look: Look) -> list[str]:
    def sizes(moments):
        matrices = [m for moment in moments for m in moment.matrices.values()]
        values = [np.abs(np.linalg.eigvals(matrix)) for matrix in matrices]
        return f"from {min(map(np.min, values)):.2f} to {max(map(np.max, values)):.2f}"

    told = [
        f"{each.label}: {max(map(_radius, each.after.matrices.values())):.2f}, and "
        f"{each.after.norms[-1] ** (1 / look.lags):.3f} a step"
        for each in look.trained
    ]
    return [
        "Each map of a cell multiplies h by a matrix of its own; the grey circle has radius 1. The "
        f"absolute eigenvalues go {sizes([e.before for e in look.trained])} before training and "
        f"{sizes([e.after for e in look.trained])} after it.",
        "A step multiplies the gradient not by such a matrix alone but also by the slopes of "
        "activations and the values of gates. After training, the largest absolute eigenvalue of "
        "any matrix of a cell, and the factor a step by which its gradient changed on average over "
        f"the longest lag: {'; '.join(told)}.",
    ]


def _of_clipping(look: Look) -> list[str]:
    lines = []
    for told, each in look.descents.items():
        tenth = max(1, len(each.losses) // 10)
        first, last = each.losses[:tenth].mean(), each.losses[-tenth:].mean()
        lines.append(
            f"{told[0].upper()}{told[1:]}: the norm of the gradient is {np.median(each.norms):.2g} "
            f"in the median and {each.norms.max():.2g} at most; the loss is {first:.3f} over the "
            f"first {tenth} steps and {last:.3f} over the last; accuracy {each.score:.3f}. "
            + _turns(each.angles)
        )
    name, chance = next(iter(probes.find(CLIPPED_PROBE)().chance().items()))
    return [
        f"The same vanilla unit learns {CLIPPED_PROBE.replace('_', ' ')} over {CLIPPED['length']} "
        f"steps ({name} without memory {chance:g}) by plain gradient descent of rate "
        f"{CLIPPED['rate']}, from the same weights (recurrent ones: an orthogonal matrix times "
        f"{CLIPPED_RADIUS}) and on the same batches.",
        *lines,
    ]


def _turns(angles: np.ndarray) -> str:
    turned = angles[angles > _TURNED]
    if not len(turned):
        return "Each step has the direction of the gradient."
    return (
        f"Clipping turned the gradient in {len(turned)} of {len(angles)} steps, by "
        f"{np.median(turned):.0f}° in the median of these and {turned.max():.0f}° at most."
    )


def _of_powers(look: Look) -> list[str]:
    closed = [
        np.abs(each.linear - np.arange(len(each.linear)) * math.log(each.radius)).max()
        for each in look.powers
        if each.kind == "orthogonal"
    ]
    grown = [each for each in look.powers if each.real.mean(axis=0)[-1] > 0]
    named = ", ".join(f"{each.kind} {each.radius:g}" for each in grown) or "none"
    return [
        "In the linear case the product over a lag k is the k-th power of the recurrent matrix. An "
        "orthogonal matrix times r has all its singular values at r, so the norm of its power is "
        f"r^k (here to {np.expm1(max(closed)):.0e} of it); one of Gaussian numbers has some that "
        "are larger, so its powers may grow at first whatever its eigenvalues are.",
        f"The tanh unit has the same matrix and reads sequences of {look.name}. The slopes of tanh "
        "are at most 1, so no step of it lengthens a gradient by more than the matrix can; how "
        "much less it is depends on what it reads. Matrices with which the norm is above 1 over "
        f"{look.lags} steps in the unit: {named}.",
    ]


_POWERS = ("matrix", "r", "r^k at lag", "norm of the power", "its most", "tanh unit", "its most")


def _powers(look: Look) -> list[list[str]]:
    found = []
    for each in look.powers:
        lag, real = len(each.linear) - 1, each.real.mean(axis=0)
        logs = (each.linear[-1], each.linear.max(), real[-1], real.max())
        norms = (f"{value:.3g}" for value in np.exp(logs))
        closed = f"{each.radius**lag:.3g} at {lag}"
        found.append([each.kind, f"{each.radius:g}", closed, *norms])
    return found
