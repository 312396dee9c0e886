"""Pictures of what a cell did: its gates, candidate and states over the steps it read."""

import numpy as np
from matplotlib.figure import Figure

from app.report.plots import visible
from tasks.core.inspection import Reading, numbered_tokens

STEPS = 80  # that a picture shows at most
_CHANGED = 10  # units shown of those that change
_LONGEST = 18  # characters of a label
_MARK = "#d55e00"
_TITLES = {"c": "cell state c", "h": "output h"}
_GATE = {"cmap": "cividis", "vmin": 0.0, "vmax": 1.0}  # both maps read by colour-blind eyes


def window(count: int, at: int) -> slice:
    """Which of so many steps are shown: all, or `STEPS` of them around one."""
    first = min(max(0, at - STEPS // 2), max(0, count - STEPS))
    return slice(first, min(count, first + STEPS))


def place(reading: Reading, at: str) -> int:
    """The step that is looked at closely: of the token, or where the states change most."""
    labels = numbered_tokens(reading.steps)
    if at in labels:
        return labels.index(at)
    return int(np.abs(_change(reading)).sum(axis=1).argmax())


def order(values: np.ndarray) -> np.ndarray:
    """The units of values (T, H), those that go alike beside one another.

    By their angle on the first two principal axes of the units' courses, which are not
    centred: a unit's level is what is seen first.
    """
    if min(values.shape) < 2 or not values.any():
        return np.argsort(-values.mean(axis=0), kind="stable")
    first, second = np.linalg.svd(values, full_matrices=False)[2][:2]
    second = second * np.std(first) / max(np.std(second), 1e-12)
    return np.argsort(np.arctan2(second, first), kind="stable")


def shares(reading: Reading) -> list[list[str | float]]:
    """Of each gate its name, its mean, and the shares of its values below 0.1 and above 0.9."""
    return [
        [name, *(float(np.mean(part)) for part in (values, values < 0.1, values > 0.9))]
        for name, values in reading.trace.gates.items()
    ]


def maps(reading: Reading) -> dict[str, np.ndarray]:
    """All that is drawn, (T, H) by title: gates first, the output last."""
    seen = reading.trace
    states = {name: values for name, values in seen.states.items() if name not in seen.gates}
    return {
        **{f"{name} gate": values for name, values in seen.gates.items()},
        "candidate": seen.candidate,
        **{_TITLES.get(name, name): states[name] for name in reversed(states)},
    }


def strips(reading: Reading, at: int) -> Figure:
    """Each map of a cell: the mean over its units as a line, and all units below it.

    Args:
        reading: What the cell did.
        at: The step that is marked.
    """
    drawn, shown = maps(reading), window(len(reading.steps), at)
    labels, marked = reading.steps[shown], at - shown.start
    states = reading.trace.states
    # All maps of as many units have one order; a projected h has its own.
    units = {states[name].shape[1]: order(states[name]) for name in ("h", _state(reading))}
    tall = float(np.clip(0.012 * reading.trace.candidate.shape[1], 1.0, 2.4))
    size = (2.6 + max(4.0, 0.3 * len(labels)), 1.2 + (0.6 + tall) * len(drawn))
    figure = Figure(figsize=size, layout="constrained")
    figure.get_layout_engine().set(h_pad=0.025, hspace=0)
    figure.suptitle(visible(reading.name), fontsize=11)
    panels = figure.subplots(len(drawn) * 2, 1, height_ratios=[0.35, tall] * len(drawn))
    for (title, values), pair in zip(drawn.items(), panels.reshape(-1, 2), strict=True):
        is_gate = title.removesuffix(" gate") in reading.trace.gates
        _strip(figure, pair, values[shown][:, units[values.shape[1]]], title, is_gate)
        for axes in pair:
            axes.set(xticks=[], xlim=(-0.5, len(labels) - 0.5))
            axes.axvline(marked - 0.5, color=_MARK, lw=1)
            axes.axvline(marked + 0.5, color=_MARK, lw=1)
    panels[-1].set_xticks(range(len(labels)), map(_short, labels), rotation=90)
    panels[-1].get_xticklabels()[marked].set(color=_MARK, fontweight="bold")
    panels[-1].set_xlabel("what is read, step by step")
    return figure


def _strip(figure, pair, values, title, is_gate):
    """The mean line and the heat map of values (T, H)."""
    line, heat = pair
    scale = _GATE
    if not is_gate:
        most = max(float(np.abs(values).max()), 1e-6)
        scale = {"cmap": "RdBu_r", "vmin": -most, "vmax": most}
    steps, units = values.shape
    line.plot(range(steps), values.mean(axis=1), "o-", ms=3, lw=1.2, color="#333333")
    line.set_title(title, loc="left", fontsize=10, fontweight="bold")
    line.set_ylabel("mean", fontsize=8)
    line.tick_params(axis="y", labelsize=7)
    line.locator_params(axis="y", nbins=3)
    line.spines[["top", "right", "bottom"]].set_visible(False)
    if is_gate:
        line.set_ylim(-0.1, 1.1)
    else:
        line.axhline(0, color="#bbbbbb", lw=0.8, zorder=0)
    image = heat.imshow(values.T, aspect="auto", interpolation="nearest", **scale)
    heat.set_ylabel(f"{units} units", fontsize=8)
    heat.set_yticks([])
    bar = figure.colorbar(image, ax=heat, pad=0.01, aspect=8)
    bar.ax.tick_params(labelsize=7)
    bar.set_label("value", fontsize=8)


def changes(reading: Reading, at: int) -> Figure:
    """The units that change most at a step: before and after it, and what else they had there."""
    seen, state, change = reading.trace, _state(reading), _change(reading)[at]
    units = np.argsort(-np.abs(change), kind="stable")[:_CHANGED]
    after = seen.states[state][at, units]
    gates = {name: values[at, units] for name, values in seen.gates.items()}
    signed = {"candidate": seen.candidate[at, units]}
    if state != "h" and seen.states["h"].shape[1] == len(change):
        signed["output h"] = seen.states["h"][at, units]
    beside = [part for part in ((gates, True), (signed, False)) if part[0]]
    widths = [4.0, *(0.8 * len(columns) for columns, _ in beside)]
    figure = Figure(figsize=(sum(widths) + 1, 1.3 + 0.28 * len(units)), layout="constrained")
    panels = figure.subplots(1, len(widths), width_ratios=widths, sharey=True, squeeze=False)[0]
    _arrows(panels[0], after - change[units], after)
    panels[0].set_xlabel(_TITLES[state])
    panels[0].locator_params(axis="x", nbins=6)
    panels[0].legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    panels[0].set_yticks(range(len(units)), [f"unit {unit}" for unit in units])
    for axes, (columns, are_gates) in zip(panels[1:], beside, strict=True):
        _numbers(axes, columns, are_gates)
    panels[0].set_ylim(len(units) - 0.5, -0.5)
    return figure


def _arrows(axes, before, after):
    places = range(len(before))
    axes.axvline(0, color="#bbbbbb", lw=0.8, zorder=0)
    axes.hlines(places, before, after, color="#888888", lw=1.5, zorder=1)
    axes.plot(before, places, "o", mfc="white", mec="#333333", ms=6, label="before")
    axes.plot(after, places, "o", color=_MARK, ms=6, label="after")
    axes.spines[["top", "right"]].set_visible(False)


def _numbers(axes, columns, are_gates):
    """Columns of numbers by name, each on its colour."""
    values = np.stack(list(columns.values()), axis=1)
    scale = _GATE if are_gates else {"cmap": "RdBu_r", "vmin": -1.0, "vmax": 1.0}
    image = axes.imshow(values, aspect="auto", **scale)
    for (row, column), value in np.ndenumerate(values):
        dark = np.dot(image.cmap(image.norm(value))[:3], (0.3, 0.6, 0.1)) < 0.5
        told = {"ha": "center", "va": "center", "fontsize": 8}
        axes.text(column, row, f"{value:.2f}", color="white" if dark else "black", **told)
    axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
    axes.tick_params(axis="y", left=False, labelleft=False)


def _state(reading):
    """The state that a cell keeps things in: c where there is one."""
    return "c" if "c" in reading.trace.states else "h"


def _change(reading):
    """How that state changes at each step, (T, H), in the order in which it is read."""
    name, seen = _state(reading), reading.trace
    values, first = seen.states[name], seen.first[name][None]
    if seen.backward:
        return values - np.concatenate([values[1:], first])
    return values - np.concatenate([first, values[:-1]])


def _short(label):
    whole = len(label) <= _LONGEST
    return visible(label if whole else f"{label[: _LONGEST - 1]}…")
