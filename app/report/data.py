"""Page of a corpus: classes, lengths, words, and suspicious examples."""

import functools
from collections import Counter
from collections.abc import Sequence
from html import escape

import numpy as np
from matplotlib.figure import Figure

from app.report import colours, layout, plots
from tasks.core.evaluation import Table
from tasks.core.examples import PARTS
from tasks.core.survey import Survey, distinctive_words

_MAX_LABELS = 50  # rows of a table
_MAX_BARS = 20
_WORDS = 15
_MAX_CHARACTERS = 200  # of the text of a suspicious example
_COLOURS = colours.SERIES[: len(PARTS)]


def page(title: str, remarks: Sequence[str], survey: Survey, command: str = "") -> str:
    """Returns the page of a corpus as HTML.

    Args:
        title: Title of the page.
        remarks: Notes on the corpus, in sentences.
        survey: What is shown.
        command: Command that writes the page.
    """
    sizes = [f"{part} {len(survey.summaries[part]):,}" for part in PARTS]
    parts = [
        f"<p>Examples: {', '.join(sizes)}.</p>",
        "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in remarks) + "</ul>",
    ]
    counts = {part: survey.summaries[part].labels for part in PARTS}
    if counts["train"]:
        draw = functools.partial(_class_counts, counts)
        parts += [layout.table(_label_table(counts)), layout.figure("class counts", draw)]
    if survey.values["train"]:
        parts.append(layout.table(_value_table(survey.values)))
    draw = functools.partial(_lengths, survey.lengths)
    parts += [
        "<h2>Lengths</h2>",
        layout.rows(_length_table(survey.lengths)),
        layout.figure("lengths", draw),
        layout.table(_word_table(survey)),
    ]
    rows = [
        [s.reason, s.part, _short(s.text), _short(s.target), s.origin] for s in survey.suspicions
    ]
    columns = ["reason", "part", "text", "target", "origin"]
    parts.append(layout.table(Table("Examples to look at", columns, rows)))
    return layout.whole(title, parts, command)


def _short(text: str) -> str:
    return text if len(text) <= _MAX_CHARACTERS else text[:_MAX_CHARACTERS] + " ..."


def _ordered(counts: dict[str, Counter]) -> list[str]:
    """Returns the labels of all parts, the most frequent of the train part first."""
    labels = sorted(set().union(*counts.values()))
    return sorted(labels, key=lambda label: -counts["train"][label])


def _label_table(counts: dict[str, Counter]) -> Table:
    labels = _ordered(counts)
    shown = _MAX_LABELS if len(labels) > _MAX_LABELS + 1 else len(labels)  # no single other
    rows = [[label, *(counts[part][label] for part in PARTS)] for label in labels[:shown]]
    if rest := labels[shown:]:
        sums = [sum(counts[part][label] for label in rest) for part in PARTS]
        rows.append([f"{len(rest)} others", *sums])
    return Table("Classes", ["label", *PARTS], rows)


def _class_counts(counts: dict[str, Counter]) -> Figure:
    """Plots the share of each class in each part."""
    labels = _ordered(counts)[:_MAX_BARS]
    names = [plots.label(name) for name in labels]
    size = (plots.WIDTH + plots.room(names), 1.5 + 0.35 * len(labels))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    positions = np.arange(len(labels))
    for number, (part, colour) in enumerate(zip(PARTS, _COLOURS, strict=True)):
        total = max(1, sum(counts[part].values()))
        shares = [counts[part][label] / total for label in labels]
        axes.barh(positions + 0.27 * (number - 1), shares, 0.25, color=colour, label=part)
    axes.set_yticks(positions, names)
    axes.invert_yaxis()
    axes.set_xlabel("share of the part")
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(PARTS))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _value_table(values: dict[str, Sequence[float]]) -> Table:
    """Returns quantiles of the numbers of each part."""
    rows = []
    for part, numbers in values.items():
        if len(numbers):
            quantiles = np.percentile(numbers, [0, 25, 50, 75, 100])
            rows.append([part, *(f"{value:g}" for value in [*quantiles, np.mean(numbers)])])
    return Table(
        "Numbers", ["part", "smallest", "25\u00a0%", "median", "75\u00a0%", "largest", "mean"], rows
    )


def _length_table(lengths: dict[str, Counter]) -> Table:
    rows = []
    for part, counter in lengths.items():
        values = np.repeat(sorted(counter), [counter[n] for n in sorted(counter)])
        if len(values):
            quantiles = np.percentile(values, [50, 90, 99]).astype(int).tolist()
            rows.append([part, int(values.min()), *quantiles, int(values.max())])
    return Table("", ["words", "shortest", "median", "90\u00a0%", "99\u00a0%", "longest"], rows)


def _lengths(lengths: dict[str, Counter]) -> Figure:
    """Plots the share of each part that has at most a number of words."""
    figure = Figure(figsize=(plots.WIDTH, 3), layout="constrained")
    axes = figure.subplots()
    for (part, counter), colour in zip(lengths.items(), _COLOURS, strict=True):
        if counter:
            values = sorted(counter)
            shares = np.cumsum([counter[value] for value in values]) / counter.total()
            axes.step([0, *values], [0, *shares], where="post", color=colour, label=part)
    axes.set_xscale("symlog", linthresh=10)
    longest = max(1, *(max(counter, default=0) for counter in lengths.values()))
    powers = [10**power for power in range(1, len(str(longest))) if 10**power < longest / 1.7]
    axes.set_xticks([0, *powers, longest], [f"{tick:,}" for tick in (0, *powers, longest)])
    axes.set_xlim(0, 1.05 * longest)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("words")
    axes.set_ylabel("share with at most as many words")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _word_table(survey: Survey) -> Table:
    if set(survey.words) <= {""}:
        words = [word for word, _ in survey.words.get("", Counter()).most_common(3 * _WORDS)]
        return Table("Frequent words of the train part", ["words"], [[" ".join(words)]])
    sizes = survey.summaries["train"].labels
    labels = sorted(survey.words, key=lambda label: (-sizes[label], label))[:_MAX_LABELS]
    rows = [
        [
            label,
            " ".join(word for word, _ in survey.words[label].most_common(_WORDS)),
            " ".join(distinctive_words(survey, label, _WORDS)),
        ]
        for label in labels
    ]
    return Table(
        "Words of the train part", ["label", "most frequent", "more frequent than elsewhere"], rows
    )
