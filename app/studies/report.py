"""Output of a study: a table as CSV, figures, and a page that contains both."""

import csv
import dataclasses
import functools
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from app import cli
from app.core.console import ESCAPE
from app.report import colours, layout, plots
from app.studies import experiments
from app.studies.experiments import Experiment
from app.studies.presets import Claim, Preset
from tasks.core.evaluation import Table

# Student's t for intervals of 95 %, by degrees of freedom.
_STUDENT = (math.nan, 12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
_CONFIRMED, _CONTRADICTED, _EQUAL = "confirmed", "contradicted", "no difference"
_UNLEARNT = "neither learns it"
_CHANCE_LABEL = "without memory"
_RUN, _MEAN = "one run", "mean of the runs"
_INTERVAL = "95 % confidence interval of the mean"
_MAX_TITLE = 34  # characters of a line of the title of a panel
_MARKERS = "osD^v*X"
_MIN_GAIN = 0.1  # gain over chance, relative to chance, above which a subject counts as learnt
_MAX_COLUMNS = 4  # panels side by side
_MAX_WHISKER = 1.0  # length beyond the runs up to which an interval is drawn, by their range
_SHARES = ("accuracy", "f1")  # end the names of scores from 0 to 1
_LEGEND_COLUMNS = 2
_MARGIN = 2.0  # standard errors that a difference must exceed
_COLUMNS = ("subject", "cell", "score", "value", "spread", "runs", "parameters", "seconds")
_CLAIM_COLUMNS = ("claim", "source", "subject", "difference", "standard error", "result")


class Group:
    """Runs of one cell on one subject, which differ in their seeds.

    Attributes:
        label: Name of the cell.
        records: Records of the runs.
        name: Name of the main score.
        values: Main score of each run, (runs,).
        mean: Mean of the main score.
        spread: Standard deviation of the main score; nan for a single run.
        parameters: Number of weights of the network.
        seconds: Mean seconds of training.
        cpu_seconds: Mean processor time of training; nan if a record has none.
    """

    def __init__(self, label: str, records: Sequence[Mapping]):
        self.label, self.records = label, records
        self.name = next(iter(records[0]["scores"]))
        self.values = np.array([record["scores"][self.name] for record in records], float)
        self.mean = float(self.values.mean())
        self.spread = float(self.values.std(ddof=1)) if len(self.values) > 1 else math.nan
        self.parameters = records[0]["parameters"]
        self.seconds = float(np.mean([record["seconds"] for record in records]))
        cpu_seconds = [record.get("cpu_seconds", math.nan) for record in records]
        self.cpu_seconds = float(np.mean(cpu_seconds))

    @property
    def standard_error(self) -> float:
        """Standard error of the mean."""
        return self.spread / math.sqrt(len(self.values))

    @property
    def interval(self) -> float:
        """Half the width of the 95 % confidence interval of the mean."""
        freedom = len(self.values) - 1
        student = _STUDENT[freedom] if freedom < len(_STUDENT) else 1.96
        return student * self.standard_error


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Results of all cells on one subject with its settings.

    Attributes:
        subject: Name of the task or the probe.
        settings: Settings as pairs of name and value.
        groups: Results of each cell.
        chance: Scores of the best predictor without memory; empty for a task.
    """

    subject: str
    settings: tuple[tuple[str, object], ...]
    groups: Sequence[Group]
    chance: Mapping[str, float]

    @property
    def title(self) -> str:
        """The subject and its settings."""
        return Experiment(self.subject, "", "", 0, self.settings).title

    @property
    def heading(self) -> str:
        """The subject and its settings in words, such as "temporal order, length 100"."""
        settings = Experiment(self.subject, "", "", 0, self.settings).shown_settings
        shown = [f"{name} {value}" for name, value in settings]
        return ", ".join([self.subject, *shown]).replace("_", " ")

    @property
    def score(self) -> str:
        """Name of the main score."""
        return self.groups[0].name

    @property
    def sign(self) -> int:
        """1 if a greater main score is better, -1 if a smaller one is."""
        return 1 if experiments.greater_is_better(self.subject, self.score) else -1


def compare(records: Mapping[Experiment, Mapping], labels: Sequence[str] = ()) -> list[Comparison]:
    """Groups records by subject with settings, and by cell.

    Args:
        records: Record of each experiment.
        labels: Order of the cells; others follow in the order of the experiments.
    """
    by_subject = {}
    for experiment, record in records.items():
        key = (experiment.subject, experiment.settings)
        by_label = by_subject.setdefault(key, {})
        by_label.setdefault(experiment.label, []).append((experiment.seed, record))
    comparisons = []
    for (subject, settings), by_label in by_subject.items():
        ordered = [label for label in labels if label in by_label]
        ordered += [label for label in by_label if label not in labels]
        groups = [Group(label, _by_seed(by_label[label])) for label in ordered]
        chance = experiments.chance(subject, settings)
        comparisons.append(Comparison(subject, settings, groups, chance))
    return comparisons


def _by_seed(runs: Sequence[tuple[int, Mapping]]) -> list[Mapping]:
    return [record for _, record in sorted(runs, key=lambda run: run[0])]


def write(folder: Path, study: Preset, command: str, records: Mapping[Experiment, Mapping]) -> str:
    """Writes results.csv, the figures and index.html, and returns the table as text.

    Args:
        folder: Folder of the files, which are overwritten; created if missing.
        study: The study.
        command: Command line that the page shows.
        records: Record of each experiment.
    """
    folder.mkdir(parents=True, exist_ok=True)
    comparisons = compare(records, list(study.cells))
    rows = [_row(comparison, group) for comparison in comparisons for group in comparison.groups]
    _write_csv(folder / "results.csv", comparisons)
    figures = [_figures(comparison, folder) for comparison in comparisons]
    _figure(folder / "overview.png", functools.partial(overview, comparisons), dpi=100)
    claims = check_claims(study.claims, comparisons)
    page = _page(study, command, comparisons, figures, claims)
    (folder / "index.html").write_text(page, encoding="utf-8")
    tables = [cli.columns([_COLUMNS, *(list(map(_cell_text, row)) for row in rows)])]
    if _has_summary(comparisons):
        content = summary(comparisons)
        lines = [list(map(_cell_text, row)) for row in content.rows]
        tables.append(cli.columns([content.columns, *lines]))
    if claims:
        tables.append(cli.columns([_CLAIM_COLUMNS, *claims]))
    return "\n\n".join(tables)


def _write_csv(path: Path, comparisons: Sequence[Comparison]) -> None:
    with path.open("w", encoding="utf-8", errors=ESCAPE, newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*_COLUMNS, "values"])
        for comparison in comparisons:
            for group in comparison.groups:
                values = " ".join(f"{value:.6g}" for value in group.values)
                writer.writerow([*_row(comparison, group), values])


def summary(comparisons: Sequence[Comparison]) -> Table:
    """Returns the mean scores of all subjects in one table.

    A row is a cell with the settings that differ between the comparisons of a subject. The last
    column has the processor time of training on all probes, for cells that were trained on all.
    """
    varied, columns = _varied(comparisons), {}
    rows = {}  # cells by name of a column, by label and varied settings
    for comparison in comparisons:
        settings = dict(comparison.settings)
        values = tuple(str(settings.get(name, "")) for name in varied)
        better = "" if comparison.sign > 0 else " (smaller is better)"
        column = f"{comparison.subject}, {comparison.score}{better}".replace("_", " ")
        columns.setdefault(column, []).append(comparison.chance.get(comparison.score))
        for group in comparison.groups:
            rows.setdefault((group.label, *values), {})[column] = group
    lines = []
    for key, groups in rows.items():
        means = [groups[name].mean if name in groups else "" for name in columns]
        times = [group.cpu_seconds for group in groups.values() if group.cpu_seconds > 0]
        is_complete = len(groups) == len(columns) and times
        lines.append([*key, *means, f"{sum(times):.0f}" if is_complete else ""])
    chances = [values[0] if len(set(values)) == 1 else "" for values in columns.values()]
    if any(isinstance(value, float) for value in chances):
        shown = ["" if value is None else value for value in chances]
        lines.append([_CHANCE_LABEL, *[""] * len(varied), *shown, ""])
    headings = ["cell", *(name.replace("_", " ") for name in varied), *columns]
    return Table("All subjects", [*headings, "processor seconds, probes"], lines)


def _has_summary(comparisons: Sequence[Comparison]) -> bool:
    return len({comparison.subject for comparison in comparisons}) > 1


def _varied(comparisons: Sequence[Comparison]) -> list[str]:
    """Returns the names of settings that differ between comparisons of the same subject."""
    values = {}  # by subject and name
    for comparison in comparisons:
        for name, value in comparison.settings:
            values.setdefault((comparison.subject, name), set()).add(value)
    return list(dict.fromkeys(name for (_, name), own in values.items() if len(own) > 1))


def check_claims(claims: Sequence[Claim], comparisons: Sequence[Comparison]) -> list[list[str]]:
    """Returns a row with the result of each claim on each subject that it is about."""
    rows = []
    for claim in claims:
        for comparison in comparisons:
            if claim.subjects and comparison.subject not in claim.subjects:
                continue
            by_label = {group.label: group for group in comparison.groups}
            if claim.first not in by_label or claim.second not in by_label:
                continue
            first, second = by_label[claim.first], by_label[claim.second]
            difference = comparison.sign * (first.mean - second.mean)
            error = math.hypot(first.standard_error, second.standard_error)
            rows.append(
                [
                    f"{claim.text} ({claim.first}, {claim.second})",
                    claim.source,
                    comparison.heading,
                    f"{difference:+.3g}",
                    f"{error:.2g}",
                    _result(claim, comparison, first, second),
                ]
            )
    return rows


def _result(claim: Claim, comparison: Comparison, first: Group, second: Group) -> str:
    """Returns whether a claim is confirmed, in words."""
    difference = comparison.sign * (first.mean - second.mean)
    error = math.hypot(first.standard_error, second.standard_error)
    chance = comparison.chance.get(comparison.score, math.nan)
    gains = [comparison.sign * (group.mean - chance) for group in (first, second)]
    if all(gain <= _MIN_GAIN * abs(chance) for gain in gains):
        return _UNLEARNT
    if math.isnan(difference):
        diverged = [group.label for group in (first, second) if math.isnan(group.mean)]
        return f"{' and '.join(diverged)} diverged"
    if abs(difference) <= _MARGIN * error or difference == 0:
        return f"{_CONFIRMED}: {_EQUAL}" if claim.equal else _EQUAL
    if claim.equal:
        return f"{first.label if difference > 0 else second.label} is better"
    return _CONFIRMED if difference > 0 else _CONTRADICTED


def _figures(comparison: Comparison, folder: Path) -> list[str]:
    """Writes the figures of a subject as PNG files, and returns them as HTML."""
    draws = {"": functools.partial(overview, [comparison])}
    for title, names in experiments.curves(comparison.subject).items():
        draws[f" by {title.split(',')[0]}"] = functools.partial(curve, comparison, title, names)
    if evaluated_steps(comparison):
        draws[" by training batches"] = functools.partial(progress, comparison)
    return [
        _figure(folder / f"{_file_name(comparison.title + suffix)}.png", draw)
        for suffix, draw in draws.items()
    ]


def _figure(path: Path, draw: Callable[[], Figure], dpi: int = 120) -> str:
    """Writes a figure as a PNG file, and returns it as HTML."""
    return layout.figure(
        path.stem.replace("-", " "), draw, lambda f: path.write_bytes(plots.png(f, dpi))
    )


def overview(comparisons: Sequence[Comparison]) -> Figure:
    """Plots the runs of each cell as dots, with mean, interval and chance; a panel per subject."""
    labels = list(dict.fromkeys(g.label for comparison in comparisons for g in comparison.groups))
    columns = min(len(comparisons), _MAX_COLUMNS)
    rows = -(-len(comparisons) // columns)
    names = list(map(plots.label, labels))
    size = (
        plots.WIDTH + 2.9 * (columns - 1) + plots.room(names),
        (1.3 + 0.3 * len(labels)) * rows + 0.6,
    )
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axes, comparison in zip(panels, comparisons, strict=False):
        _plot_runs(axes, comparison, labels)
    for axes in panels[len(comparisons) :]:
        axes.set_axis_off()
    panels[0].set_yticks(range(len(labels)), names)
    panels[0].set_ylim(len(labels) - 0.5, -0.5)
    legend = {}
    for axes in panels:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            legend.setdefault(name, handle)
    figure.legend(
        legend.values(),
        legend.keys(),
        frameon=False,
        loc="outside lower left",
        fontsize=9,
        ncols=columns,  # one panel has room for one
    )
    return figure


def _plot_runs(axes: Axes, comparison: Comparison, labels: Sequence[str]) -> None:
    """Plots the runs of one subject, with a row for each label."""
    chance = comparison.chance.get(comparison.score)
    low, high = _set_range(axes, comparison, chance)
    for group in comparison.groups:
        row = labels.index(group.label)
        axes.plot(
            group.values,
            [row] * len(group.values),
            "o",
            ms=5,
            alpha=0.75,
            color=colours.BLUE,
            mec=colours.INK,
            mew=0.4,
            label=_RUN,
        )
        if len(group.values) == 1:
            continue
        axes.plot(group.mean, row, "|", ms=12, mew=2, color=colours.INK, label=_MEAN)
        if math.isnan(group.interval):
            continue
        ends = (group.mean - group.interval, group.mean + group.interval)
        drawn = (max(ends[0], low), min(ends[1], high))
        axes.plot(drawn, [row, row], "-", lw=1, color=colours.INK, label=_INTERVAL)
        for end, limit, inner, outer in zip(ends, drawn, "||", "<>", strict=True):
            axes.plot(limit, row, inner if end == limit else outer, ms=5, color=colours.INK)
    if chance is not None:
        axes.axvline(chance, color=colours.ORANGE, ls="--", lw=1.2, label=_CHANCE_LABEL)
    better = "greater" if comparison.sign > 0 else "smaller"
    axes.set_xlabel(f"{comparison.score.replace('_', ' ')} ({better} is better)")
    axes.set_title(plots.without_math(_wrapped(comparison.heading)), fontsize=10)
    axes.grid(axis="y", color=colours.FAINT, alpha=0.3, lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _wrapped(heading: str) -> str:
    """Returns a heading in lines that a panel has room for."""
    return textwrap.fill(heading, _MAX_TITLE, max_lines=3, placeholder=" …")


def _set_range(axes: Axes, comparison: Comparison, chance: float | None) -> tuple[float, float]:
    """Sets the range of scores, and returns that of the intervals, which may exceed it.

    Intervals of few runs may be far wider than the range of the runs. What exceeds it too far
    is cut off, and an arrow points there.
    """
    values = [*np.concatenate([group.values for group in comparison.groups]), chance or np.nan]
    low, high = np.nanmin(values), np.nanmax(values)
    if comparison.sign < 0 and low > 0 and high / low > 30:
        axes.set_xscale("log")
        axes.set_xlim(low / 2, high * 2)
        return low / 1.5, high * 1.5
    room = _MAX_WHISKER * (high - low) or 0.05
    least, greatest = low - room, high + room
    if comparison.score.endswith(_SHARES):
        least, greatest = max(0, least), min(1, greatest)
    ends = [g.mean + way * g.interval for g in comparison.groups for way in (-1, 1)]
    ends = np.clip([end for end in ends if not math.isnan(end)], least, greatest)
    low, high = min([low, *ends]), max([high, *ends])
    margin = 0.05 * (high - low) or 0.05
    axes.set_xlim(low - margin, high + margin)
    axes.locator_params(axis="x", nbins=4)  # more would overlap in narrow panels
    return low, high


def curve(comparison: Comparison, title: str, names: Sequence[str]) -> Figure:
    """Plots scores over difficulty: the mean of each cell, and the range of its runs.

    Args:
        comparison: Results of the cells.
        title: Title of the axis of difficulty.
        names: Names of the scores, by increasing difficulty.
    """
    figure, axes = _curve_axes(comparison)
    positions = np.arange(len(names))
    for index, group in enumerate(comparison.groups):
        values = np.array([[r["scores"][name] for name in names] for r in group.records], float)
        _plot_range(axes, index, positions, values, group.label)
    chance = comparison.chance
    # A name such as "0 attractors of a bag of words" states the method.
    for suffix in sorted({key.removeprefix(names[0]) for key in chance if names[0] in key}):
        values = [chance[f"{name}{suffix}"] for name in names]
        label = suffix.removeprefix(" of ").strip()
        axes.plot(positions, values, "--", color=colours.FAINT, label=label)
    axes.set_xticks(positions, [name.split()[0] for name in names])
    axes.set_xlabel(_wrapped(title))
    _finish_curves(axes, comparison)
    return figure


def _curve_axes(comparison: Comparison) -> tuple[Figure, Axes]:
    """Returns an empty figure with room for a legend of the cells above it."""
    rows = math.ceil(len(comparison.groups) / _LEGEND_COLUMNS)
    figure = Figure(figsize=(plots.WIDTH, 3.4 + 0.23 * rows), layout="constrained")
    return figure, figure.subplots()


def evaluated_steps(comparison: Comparison) -> list[int]:
    """Returns the steps at which all runs were evaluated; none if they differ or are too few."""
    runs = [record.get("history", ()) for group in comparison.groups for record in group.records]
    steps = {tuple(entry["steps"] for entry in history) for history in runs}
    (first, *others) = steps
    return list(first) if not others and len(first) > 1 else []


def progress(comparison: Comparison) -> Figure:
    """Plots the main score over training: the mean of each cell, and the range of its runs."""
    figure, axes = _curve_axes(comparison)
    steps, score = evaluated_steps(comparison), comparison.score
    for index, group in enumerate(comparison.groups):
        values = np.array([[e[score] for e in record["history"]] for record in group.records])
        _plot_range(axes, index, steps, values, group.label)
    if score in comparison.chance:
        chance = comparison.chance[score]
        axes.axhline(chance, color=colours.ORANGE, ls="--", lw=1.2, label=_CHANCE_LABEL)
    axes.set_xlim(0, 1.03 * steps[-1])
    axes.xaxis.get_major_locator().set_params(integer=True, nbins=6)
    axes.set_xlabel("training batches")
    _finish_curves(axes, comparison)
    return figure


def _plot_range(
    axes: Axes, index: int, positions: Sequence[float], values: np.ndarray, label: str
) -> None:
    """Plots the mean and the range of runs, (runs, positions), in the style of a cell."""
    colour = colours.SERIES[index % len(colours.SERIES)]
    style = f"{_MARKERS[index % len(_MARKERS)]}-"
    axes.fill_between(positions, values.min(0), values.max(0), color=colour, alpha=0.15, lw=0)
    axes.plot(positions, values.mean(0), style, color=colour, label=plots.label(label))


def _finish_curves(axes: Axes, comparison: Comparison) -> None:
    """Adds the name of the score and the legend of the cells."""
    axes.set_ylabel(comparison.score.replace("_", " "))
    axes.figure.legend(frameon=False, loc="outside upper left", ncols=_LEGEND_COLUMNS, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)


def _row(comparison: Comparison, group: Group) -> list:
    return [
        comparison.title,
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


def _file_name(title: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in title)


def _page(
    study: Preset,
    command: str,
    comparisons: Sequence[Comparison],
    figures: Sequence[Sequence[str]],
    claims: Sequence[Sequence[str]],
) -> str:
    counts = {len(g.values) for comparison in comparisons for g in comparison.groups}
    explanation = "Each dot is the run of a cell."
    if counts != {1}:
        explanation = (
            f"Each dot is one run; the runs of a cell ({', '.join(map(str, sorted(counts)))}) "
            "differ in their seeds. Upright bars are means, and lines their 95 % confidence "
            "intervals; an arrow marks an interval that is longer than shown. Curves are means of "
            "runs, and bands their range."
        )
    parts = [layout.paragraph(explanation)]
    if claims:
        parts += [
            layout.table(Table("Published claims", _CLAIM_COLUMNS, claims)),
            "<p>Differences are positive where the first cell in parentheses is better. A claim "
            f"is confirmed or contradicted by a difference of more than {_MARGIN:g} standard "
            "errors, which are rough estimates with so few runs.</p>",
        ]
    if _has_summary(comparisons):
        parts.append(layout.table(summary(comparisons)))
    for comparison, of_subject in zip(comparisons, figures, strict=True):
        rows = [
            [
                g.label,
                g.mean,
                "" if math.isnan(g.spread) else g.spread,
                f"{g.parameters:,}",
                f"{g.seconds:.0f}",
            ]
            for g in comparison.groups
        ]
        score = comparison.score.replace("_", " ")
        columns = ["cell", f"mean {score}", "standard deviation", "parameters", "seconds"]
        parts += [
            layout.table(Table(comparison.heading, columns, rows)),
            layout.figures(of_subject),
            _all_scores(comparison),
        ]
    return layout.whole(study.title, parts, command)


def _all_scores(comparison: Comparison) -> str:
    """Returns the mean of every score, with baselines, as HTML; "" if there is one score."""
    names = list(comparison.groups[0].records[0]["scores"])
    if len(names) == 1:
        return ""
    rows = [
        [g.label, *(float(np.mean([r["scores"][n] for r in g.records])) for n in names)]
        for g in comparison.groups
    ]
    baselines = {}
    for key, value in comparison.chance.items():
        # A name such as "accuracy of a bag of words" states the method.
        name, _, method = key.partition(" of ")
        baselines.setdefault(method or _CHANCE_LABEL, {})[name] = value
    for method, scores in baselines.items():
        rows.append([method, *(scores.get(name, "") for name in names)])
    content = Table("", ["cell", *(name.replace("_", " ") for name in names)], rows)
    return f"<h3>All scores</h3>{layout.rows(content)}"
