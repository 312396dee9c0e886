"""What a study leaves behind: a table, a picture for each subject, and a page with both."""

import csv
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from app import cli
from app.report import pages, plots
from app.studies import experiments
from app.studies.experiments import Experiment
from app.studies.presets import Finding, Preset
from tasks.core.evaluation import Table

# Student's t for intervals of 95 %, by degrees of freedom.
_STUDENT = (math.nan, 12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
_BETTER, _WORSE, _ALIKE, _LOST = "seen", "the contrary", "no difference", "neither learns it"
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_MARKS = "osD^v*X"
_LEARNT = 0.1  # of chance, by which what has been learnt is better
_ABREAST = 4  # panels side by side
_MARGIN = 2.0  # standard errors by which a difference must exceed none
_COLUMNS = ("subject", "cell", "score", "value", "spread", "runs", "parameters", "seconds")


class Group:
    """The runs of one cell on one subject, which differ in their seeds."""

    def __init__(self, subject: str, settings: tuple, label: str, records: Sequence[Mapping]):
        self.subject, self.settings, self.label = subject, settings, label
        self.name = next(iter(records[0]["scores"]))
        self.values = np.array([record["scores"][self.name] for record in records], float)
        self.mean = float(self.values.mean())
        self.spread = float(self.values.std(ddof=1)) if len(self.values) > 1 else math.nan
        self.parameters = records[0]["parameters"]
        self.seconds = float(np.mean([record["seconds"] for record in records]))
        self.records = records

    @property
    def interval(self) -> float:
        """Half the interval of 95 % of the mean."""
        freedom = len(self.values) - 1
        student = _STUDENT[freedom] if freedom < len(_STUDENT) else 1.96
        return student * self.spread / math.sqrt(len(self.values))


def groups(known: Mapping[Experiment, Mapping]) -> dict[tuple[str, tuple], list[Group]]:
    """The groups of each subject with its settings, the cells in the order of the study."""
    found = {}
    for point, record in known.items():
        where = found.setdefault((point.subject, point.settings), {})
        where.setdefault(point.label, []).append((point.seed, record))
    return {
        where: [
            Group(*where, label, [record for _, record in sorted(some, key=lambda each: each[0])])
            for label, some in by_label.items()
        ]
        for where, by_label in found.items()
    }


def write(folder: Path, study: Preset, command: str, known: Mapping[Experiment, Mapping]) -> str:
    """Writes results.csv, pictures and index.html; returns the table as text.

    They are made anew of what was measured each time that a study is run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    order = {label: at for at, label in enumerate(study.cells)}
    some = groups(known)
    for each in some.values():
        each.sort(key=lambda group: order.get(group.label, len(order)))
    chances = {where: experiments.chance(*where) for where in some}
    rows = [_row(group) for each in some.values() for group in each]
    with (folder / "results.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*_COLUMNS, "values"])
        for row, group in zip(rows, (g for each in some.values() for g in each), strict=True):
            writer.writerow([*row, " ".join(f"{value:.6g}" for value in group.values)])
    figures = {}
    for where, each in some.items():
        figures[where] = {"": compared([(each, chances[where])])}
        for title, names in experiments.curves(where[0]).items():
            figures[where][f" by {title.split(',')[0]}"] = curve(each, title, names, chances[where])
        for by, figure in figures[where].items():
            figure.savefig(folder / f"{_file(where, by)}.png", dpi=120)
    overview = compared([(each, chances[where]) for where, each in some.items()])
    overview.savefig(folder / "overview.png", dpi=100)
    (folder / "index.html").write_text(
        _page(study, command, some, chances, figures), encoding="utf-8"
    )
    shown = [list(map(_cell_text, row)) for row in rows]
    lines = cli.columns([_COLUMNS, *shown])
    found = findings(study.findings, some, chances)
    return "\n\n".join([lines, *([cli.columns([_FOUND, *found])] if found else [])])


_FOUND = ("claim", "source", "subject", "difference", "standard error", "found")


def findings(claims: Sequence[Finding], some, chances) -> list[list[str]]:
    """What became of each claim on each subject."""
    rows = []
    for claim in claims:
        for where, each in some.items():
            by_label = {group.label: group for group in each}
            if claim.subjects and where[0] not in claim.subjects:
                continue
            if {claim.first, claim.second} <= by_label.keys():
                first, second = by_label[claim.first], by_label[claim.second]
                rows.append(
                    [
                        f"{claim.claim} ({claim.first}, {claim.second})",
                        claim.source,
                        _told(where),
                        *_found(claim, first, second, chances[where]),
                    ]
                )
    return rows


def _found(claim, first, second, chance) -> list[str]:
    """By how much the first is better, the standard error of that, and what it comes to."""
    sign = 1 if experiments.greater(first.subject) else -1
    difference = sign * (first.mean - second.mean)
    error = math.hypot(*(g.spread / math.sqrt(len(g.values)) for g in (first, second)))
    told = [f"{difference:+.3g}", f"{error:.2g}"]
    base = chance.get(first.name, math.nan)
    if all(sign * (group.mean - base) <= _LEARNT * abs(base) for group in (first, second)):
        return [*told, _LOST]
    if math.isnan(difference):
        diverged = [g.label for g in (first, second) if math.isnan(g.mean)]
        return [*told, f"{' and '.join(diverged)} diverged"]
    if abs(difference) <= _MARGIN * error or difference == 0:
        return [*told, "seen: no difference" if claim.alike else _ALIKE]
    if claim.alike:
        return [*told, f"{first.label if difference > 0 else second.label} is better"]
    return [*told, _BETTER if difference > 0 else _WORSE]


def compared(panels: Sequence[tuple[Sequence[Group], Mapping[str, float]]]) -> Figure:
    """Of each subject the runs of each cell as dots, their means with intervals, and chance.

    Args:
        panels: Of each subject its groups, and what is reached without memory.
    """
    labels = list(dict.fromkeys(group.label for some, _ in panels for group in some))
    columns = min(len(panels), _ABREAST)
    rows = -(-len(panels) // columns)
    size = (max(8.0, 1.5 + 2.9 * columns), (1.2 + 0.3 * len(labels)) * rows + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    every = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axes, (some, chance) in zip(every, panels, strict=False):
        _panel(axes, {group.label: group for group in some}, labels, chance)
    for axes in every[len(panels) :]:
        axes.set_axis_off()
    every[0].set_yticks(range(len(labels)), labels)
    every[0].set_ylim(len(labels) - 0.5, -0.5)
    handles, names = every[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, names, frameon=False, loc="outside lower right", fontsize=9)
    return figure


def _panel(axes, by_label, labels, chance):
    some = list(by_label.values())
    for at, label in enumerate(labels):
        if label not in by_label:
            continue
        group = by_label[label]
        axes.plot(group.values, [at] * len(group.values), "o", ms=5, alpha=0.55, color="#0072b2")
        axes.errorbar(
            group.mean,
            at,
            xerr=None if math.isnan(group.interval) else group.interval,
            fmt="|",
            ms=12,
            mew=2,
            color="black",
            elinewidth=1,
            capsize=3,
        )
    name, greater = some[0].name, experiments.greater(some[0].subject)
    known = chance.get(name)
    if known is not None:
        axes.axvline(known, color="#d55e00", ls="--", lw=1.2, label="without memory")
    values = np.concatenate([group.values for group in some])
    low, high = np.nanmin([*values, known or np.nan]), np.nanmax([*values, known or np.nan])
    if not greater and low > 0 and high / low > 30:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.5, high * 1.5)
    else:
        room = 0.05 * (high - low) or 0.05
        axes.set_xlim(low - room, high + room)  # an interval of few runs may reach far beyond
        axes.locator_params(axis="x", nbins=4)  # or narrow panels have numbers that touch
    axes.set_xlabel(f"{name.replace('_', ' ')} ({'more' if greater else 'less'} is better)")
    axes.set_title(_told((some[0].subject, some[0].settings)), fontsize=10)
    axes.grid(axis="y", color="#dddddd", lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def curve(
    some: Sequence[Group], title: str, names: Sequence[str], chance: Mapping[str, float]
) -> Figure:
    """A figure at several difficulties: the mean of each cell, and the range of its runs."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(names))
    for at, group in enumerate(some):
        values = np.array([[r["scores"][name] for name in names] for r in group.records], float)
        colour, mark = _COLOURS[at % len(_COLOURS)], _MARKS[at % len(_MARKS)]
        axes.fill_between(places, values.min(0), values.max(0), color=colour, alpha=0.15, lw=0)
        axes.plot(places, values.mean(0), f"{mark}-", color=colour, label=group.label)
    for kind in sorted({told.removeprefix(names[0]) for told in chance if names[0] in told}):
        values = [chance[f"{name}{kind}"] for name in names]
        axes.plot(places, values, "--", color="#666666", label=kind.removeprefix(" of ").strip())
    axes.set_xticks(places, [name.split()[0] for name in names])
    axes.set_xlabel(title)
    axes.set_ylabel(some[0].name.replace("_", " "))
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _row(group: Group) -> list:
    return [
        _told((group.subject, group.settings)),
        group.label,
        group.name,
        group.mean,
        group.spread,
        len(group.values),
        group.parameters,
        round(group.seconds, 1),
    ]


def _cell_text(value: object) -> str:
    """Returns a value as the printed table shows it."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _told(where) -> str:
    """A subject and its settings, in words."""
    subject, settings = where
    return Experiment(subject, "", "", 0, settings).told


def _file(where, by) -> str:
    return "".join(c if c.isalnum() else "-" for c in _told(where) + by)


def _page(study, command, some, chances, figures) -> str:
    runs = {len(group.values) for each in some.values() for group in each}
    parts = [
        f"<h1>{escape(study.title)}</h1>",
        f"<p><code>{escape(command)}</code></p>",
        f"<p>Dots are runs with seeds of their own ({', '.join(map(str, sorted(runs)))} each), "
        "bars their means with intervals of 95 %. A difference counts where it is more than "
        f"{_MARGIN:g} standard errors; of so few runs these are themselves rough.</p>",
    ]
    found = findings(study.findings, some, chances)
    if found:
        parts.append(pages.table(Table("What was claimed, and what was seen", _FOUND, found)))
    for where, each in some.items():
        rows = [[g.label, g.mean, g.spread, f"{g.parameters:,}", f"{g.seconds:.0f}"] for g in each]
        columns = ["cell", f"mean {each[0].name}", "spread", "parameters", "seconds"]
        parts += [
            pages.table(Table(_told(where), columns, rows)),
            *map(plots.svg, figures[where].values()),
            _detailed(each, chances[where]),
        ]
    return pages.whole(study.title, parts)


def _detailed(each: Sequence[Group], chance: Mapping[str, float]) -> str:
    """The other scores, and what is reached without memory."""
    names = list(each[0].records[0]["scores"])[1:]
    if not names:
        return ""
    rows = [
        [g.label, *(float(np.mean([r["scores"][n] for r in g.records])) for n in names)]
        for g in each
    ]
    if any(name in chance for name in names):
        rows.append(["without memory", *(chance.get(name, math.nan) for name in names)])
    for told, value in chance.items():
        if told not in names and told != each[0].name:
            rows.append([told, value, *[""] * (len(names) - 1)])
    return pages.table(Table("In detail", ["cell", *names], rows))
