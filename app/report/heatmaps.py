"""Figures of a cell trace: gates, candidate and states of every unit over the steps.

Shapes: T steps, H units.
"""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from app.report import colours
from app.report.plots import token_label
from tasks.core.inspection import Reading, numbered_tokens

MAX_STEPS = 80  # steps that a figure shows
_MAX_CHANGED = 10  # units of the figure of changes
_MAX_LABEL = 18  # characters of the label of a step
_HIGHLIGHT = colours.ORANGE
_HALF_WIDTHS = (0.05, 0.1, 0.25, 0.5)  # of the scale of gates around 0.5
_SHOWN_SHARE = 98  # percent of the values that a scale covers
_STATE_TITLES = {"c": "cell state c", "h": "output h"}


def window(count: int, center: int, most: int = MAX_STEPS) -> slice:
    """Returns the steps that a figure shows: all, or as many as it may around a step.

    Args:
        count: Number of steps.
        center: Index of a step that is shown.
        most: Number of steps that a figure may show.
    """
    start = min(max(0, center - most // 2), max(0, count - most))
    return slice(start, min(count, start + most))


def marked_step(reading: Reading, token: str) -> int:
    """Returns the step that reads a token, or the step at which the state changes most.

    Args:
        reading: Trace of a cell.
        token: Token as `numbered_tokens` labels it; need not be one that the cell reads.
    """
    labels = numbered_tokens(reading.steps)
    if token in labels:
        return labels.index(token)
    return int(np.abs(_state_change(reading)).sum(axis=1).argmax())


def unit_order(values: np.ndarray) -> np.ndarray:
    """Returns an order of units that places units of similar values side by side.

    Units are sorted by their angle in the plane of the first two singular vectors. Values are
    not centred, because the mean of a unit dominates how it looks.

    Args:
        values: Values of units, (T, H).

    Returns:
        Indices of units, (H,).
    """
    if min(values.shape) < 2 or not values.any():
        return np.argsort(-values.mean(axis=0), kind="stable")
    first, second = np.linalg.svd(values, full_matrices=False)[2][:2]
    second = second * np.std(first) / max(np.std(second), 1e-12)
    return np.argsort(np.arctan2(second, first), kind="stable")


def gate_shares(reading: Reading) -> list[list[str | float]]:
    """Returns for each gate its name, mean, and shares of values below 0.1 and above 0.9."""
    return [
        [name, *(float(np.mean(part)) for part in (values, values < 0.1, values > 0.9))]
        for name, values in reading.trace.gates.items()
    ]


def maps(reading: Reading) -> dict[str, np.ndarray]:
    """Returns the plotted values, (T, H) by title: gates, candidate, states, output."""
    cell = reading.trace
    states = {name: values for name, values in cell.states.items() if name not in cell.gates}
    return {
        **{f"{name} gate": values for name, values in cell.gates.items()},
        "candidate": cell.candidate,
        **{_STATE_TITLES.get(name, name): states[name] for name in reversed(states)},
    }


def gate_limits(values: np.ndarray) -> tuple[float, float]:
    """Returns the range of the scale of a gate, around 0.5.

    The narrowest of a few ranges that covers nearly all values, so that small differences remain
    visible in a gate that stays close to 0.5.
    """
    needed = np.percentile(np.abs(values - 0.5), _SHOWN_SHARE)
    half = next((half for half in _HALF_WIDTHS if needed <= half), _HALF_WIDTHS[-1])
    return 0.5 - half, 0.5 + half


def traces(reading: Reading, step: int) -> Figure:
    """Plots the gates, candidate and states: the mean over units, and all units below it.

    Args:
        reading: Trace of a cell.
        step: Index of the step that is marked.
    """
    plotted, shown = maps(reading), window(len(reading.steps), step)
    labels, marked = reading.steps[shown], step - shown.start
    states, gates = reading.trace.states, reading.trace.gates
    # All values of equally many units share an order; a projected h has its own.
    orders = {states[name].shape[1]: unit_order(states[name]) for name in ("h", _state(reading))}
    height = float(np.clip(0.012 * reading.trace.candidate.shape[1], 1.0, 2.4))
    size = (2.6 + max(4.0, 0.3 * len(labels)), 1.2 + (0.7 + height) * len(plotted))
    figure = Figure(figsize=size, layout="constrained")
    figure.get_layout_engine().set(h_pad=0.03, hspace=0)
    panels = figure.subplots(len(plotted) * 2, 1, height_ratios=[0.35, height] * len(plotted))
    for (title, values), (line, heat) in zip(plotted.items(), panels.reshape(-1, 2), strict=True):
        is_gate = title.removesuffix(" gate") in gates
        values = values[shown]
        _plot_mean(line, values, title, is_gate)
        scale = gate_limits(values) if is_gate else _signed_limits(values)
        _plot_units(figure, heat, values[:, orders[values.shape[1]]], scale)
        for axes in (line, heat):
            axes.set(xticks=[], xlim=(-0.5, len(labels) - 0.5))
            axes.axvline(marked - 0.5, color=_HIGHLIGHT, lw=1)
            axes.axvline(marked + 0.5, color=_HIGHLIGHT, lw=1)
    shortened = [token_label(text, _MAX_LABEL) for text in labels]
    panels[-1].set_xticks(range(len(labels)), shortened, rotation=90)
    panels[-1].get_xticklabels()[marked].set(color=_HIGHLIGHT, fontweight="bold")
    panels[-1].set_xlabel("input of each step")
    return figure


def _signed_limits(values: np.ndarray) -> tuple[float, float]:
    """Returns the range of a scale around 0; single values beyond it do not widen it."""
    greatest = max(float(np.percentile(np.abs(values), _SHOWN_SHARE)), 1e-6)
    return -greatest, greatest


def _plot_mean(axes: Axes, values: np.ndarray, title: str, is_gate: bool) -> None:
    """Plots the mean over units of values (T, H)."""
    if not is_gate:
        axes.axhline(0, color=colours.FAINT, lw=0.8, zorder=0)
    axes.plot(range(len(values)), values.mean(axis=1), "o-", ms=3, lw=1.2, color=colours.INK)
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
    axes.set_ylabel("mean", fontsize=8)
    axes.tick_params(axis="y", labelsize=8)
    axes.locator_params(axis="y", nbins=3)
    axes.margins(y=0.3)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    if is_gate:
        axes.set_ylim(-0.1, 1.1)


def _plot_units(
    figure: Figure, axes: Axes, values: np.ndarray, limits: tuple[float, float]
) -> None:
    """Plots values (T, H) as a heat map, with a row for each unit."""
    low, high = limits
    image = axes.imshow(
        values.T,
        aspect="auto",
        interpolation="none",
        cmap=colours.DIVERGING,
        vmin=low,
        vmax=high,
    )
    axes.set_ylabel(f"{values.shape[1]} units", fontsize=8)
    axes.set_yticks([])
    beyond = (values.min() < low, values.max() > high)
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}
    bar = figure.colorbar(
        image, ax=axes, pad=0.01, aspect=8, extend=extend.get(beyond, "neither"), extendfrac=0.1
    )
    bar.ax.tick_params(labelsize=8)
    bar.set_label("value", fontsize=8)


def state_changes(reading: Reading, step: int) -> Figure:
    """Plots the units whose state changes most at a step, with their gates and candidate."""
    cell, state, change = reading.trace, _state(reading), _state_change(reading)[step]
    units = np.argsort(-np.abs(change), kind="stable")[:_MAX_CHANGED]
    after = cell.states[state][step, units]
    gates = {name: values[step, units] for name, values in cell.gates.items()}
    signed = {"candidate": cell.candidate[step, units]}
    if state != "h" and cell.states["h"].shape[1] == len(change):
        signed["output h"] = cell.states["h"][step, units]
    tables = [part for part in ((gates, True), (signed, False)) if part[0]]
    widths = [4.0, *(0.8 * len(columns) for columns, _ in tables)]
    figure = Figure(figsize=(sum(widths) + 1, 1.3 + 0.28 * len(units)), layout="constrained")
    panels = figure.subplots(1, len(widths), width_ratios=widths, sharey=True, squeeze=False)[0]
    _plot_change(panels[0], after - change[units], after)
    panels[0].set_xlabel(_STATE_TITLES[state])
    panels[0].locator_params(axis="x", nbins=6)
    panels[0].legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    panels[0].set_yticks(range(len(units)), [f"unit {unit}" for unit in units])
    for axes, (columns, are_gates) in zip(panels[1:], tables, strict=True):
        _plot_numbers(axes, columns, are_gates)
    panels[0].set_ylim(len(units) - 0.5, -0.5)
    return figure


def _plot_change(axes: Axes, before: np.ndarray, after: np.ndarray) -> None:
    rows = range(len(before))
    axes.axvline(0, color=colours.FAINT, lw=0.8, zorder=0)
    axes.hlines(rows, before, after, color=colours.FAINT, lw=1.5, zorder=1)
    axes.plot(before, rows, "o", mfc="none", mec=colours.INK, ms=6, label="before the step")
    axes.plot(after, rows, "o", color=_HIGHLIGHT, ms=6, label="after the step")
    axes.spines[["top", "right"]].set_visible(False)


def _plot_numbers(axes: Axes, columns: Mapping[str, np.ndarray], are_gates: bool) -> None:
    """Plots columns of numbers by name, each number on its colour."""
    values = np.stack(list(columns.values()), axis=1)
    low = 0.0 if are_gates else -1.0
    image = axes.imshow(
        values,
        aspect="auto",
        interpolation="none",
        cmap=colours.DIVERGING,
        vmin=low,
        vmax=1.0,
    )
    for (row, column), value in np.ndenumerate(values):
        colour = colours.text_on(image.cmap(image.norm(value)))
        axes.text(column, row, f"{value:.2f}", color=colour, ha="center", va="center", fontsize=8)
    axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
    axes.tick_params(axis="y", left=False, labelleft=False)


def _state(reading: Reading) -> str:
    """Returns the name of the state that carries the memory: c if the cell has one."""
    return "c" if "c" in reading.trace.states else "h"


def _state_change(reading: Reading) -> np.ndarray:
    """Returns how that state changes at each step, (T, H), in the direction of reading."""
    name, cell = _state(reading), reading.trace
    values, initial = cell.states[name], cell.first[name][None]
    if cell.backward:
        return values - np.concatenate([values[1:], initial])
    return values - np.concatenate([initial, values[:-1]])
