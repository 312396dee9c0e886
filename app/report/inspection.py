"""Page of an inspection: how a published version computed one response."""

import functools
import re
from collections.abc import Callable, Sequence
from html import escape

import numpy as np
from matplotlib.figure import Figure

from app.report import heatmaps, layout, plots
from tasks.core.evaluation import Alignment, AttentionMaps, Table
from tasks.core.inspection import Inspection, Reading, Saliency, numbered_tokens, relative

_INPUTS = {
    Alignment: ("token", "if all features of the tokens are 0"),
    AttentionMaps: ("pixel", "for an image whose rescaled pixels are all 0"),
}


class _Figures:
    """PNG files of the figures of a page, numbered in its order."""

    def __init__(self):
        self.files: dict[str, bytes] = {}

    def add(self, name: str, draw: Callable[[], Figure], alt: str) -> str:
        """Draws a figure, adds it as a file, and returns it as HTML."""
        slug = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")

        def write(figure: Figure) -> None:
            self.files[f"{len(self.files) + 1:02}-{slug}.png"] = plots.png(figure)

        return layout.figure(alt, draw, write)


def inspection_files(
    inspection: Inspection, title: str, request: str, equations: Sequence[str], command: str
) -> dict[str, bytes]:
    """Returns the page and its figures by file name; the page also contains the figures.

    Args:
        inspection: Result of the inspection.
        title: Title of the page: the task and the version.
        request: The request, as text.
        equations: Equations of the cells, in lines.
        command: Command that writes the page.
    """
    figures = _Figures()
    parts = [
        f"<p>Request: {escape(request)}<br>Response: <b>{escape(inspection.response)}</b></p>",
        *(f"<p>{escape(line)}</p>" for line in inspection.notes),
        "<h2>Saliency</h2>",
        *_saliency_section(inspection.saliency, inspection.token, figures),
    ]
    if inspection.attention:
        shown, note = _window(inspection.attention, inspection.token)
        draw = functools.partial(plots.attention, shown)
        parts += ["<h2>Attention</h2>", note, figures.add("attention", draw, "attention weights")]
    parts += [
        "<h2>Equations of the cells</h2>",
        f"<pre tabindex=0>{escape(chr(10).join(equations))}</pre>",
    ]
    for reading in inspection.readings:
        parts += _cell_section(reading, inspection.token, figures)
    page = layout.whole(title, parts, command)
    return {**figures.files, "index.html": page.encode("utf-8")}


def _saliency_section(saliency: Saliency, token: str, figures: _Figures) -> list[str]:
    """Returns the section of the contributions; `token` is the token around which it is cut."""
    contributions = saliency.contributions
    unit, baseline = _INPUTS[type(contributions)]
    lines = [
        f"Integrated gradients (Sundararajan et al. 2017): the contribution of each {unit} to the "
        f"{saliency.quantity} of each output. Orange raises it, blue lowers it. The "
        "contributions to an output sum to the difference between its value and its value "
        f"{baseline}."
    ]
    if isinstance(contributions, AttentionMaps):
        lines.append("The scale of a word ends at the 99th percentile of its contributions.")
    shown, note = _window(contributions, token)
    draw = functools.partial(plots.contributions, shown)
    parts = [
        *(f"<p>{line}</p>" for line in lines),
        note,
        figures.add("saliency", draw, "contributions to the response"),
    ]
    if isinstance(contributions, Alignment) and len(contributions.target) == 1:
        parts.insert(1, _marked_text(contributions))
    names = contributions.target if isinstance(contributions, Alignment) else contributions.words
    weights = contributions.weights if isinstance(contributions, Alignment) else contributions.maps
    rows = [
        [plots.plain_token(name), float(value), float(base), float(np.sum(values))]
        for name, value, base, values in zip(
            names, saliency.values, saliency.baselines, weights, strict=True
        )
    ]
    columns = ["output", saliency.quantity, "baseline", "sum of contributions"]
    return [*parts, layout.rows(Table("", columns, rows))]


def _marked_text(contributions: Alignment) -> str:
    """Returns the tokens of a text with their contributions to its only output as colours."""
    (shares,) = relative(np.asarray(contributions.weights, float))
    marked = []
    for token, share in zip(contributions.source, shares, strict=True):
        name = "plus" if share > 0 else "minus"
        colour = f"color-mix(in srgb, var(--{name}) {abs(share):.0%}, transparent)"
        # At full strength a text would not be legible.
        style = f"background: color-mix(in srgb, {colour} 55%, transparent)"
        marked.append(f'<span style="{style}">{escape(token)}</span>')
    return f"<p class=tokens>{' '.join(marked)}</p>"


def _cell_section(reading: Reading, token: str, figures: _Figures) -> list[str]:
    """Returns the section of one cell; `token` is the token whose changes are shown."""
    step, count = heatmaps.marked_step(reading, token), len(reading.steps)
    shown = heatmaps.window(count, step)
    parts = [f"<h2>{escape(reading.name)}</h2>"]
    if shown.stop - shown.start < count:
        parts.append(f"<p>Steps {shown.start + 1} to {shown.stop} of {count} are shown.</p>")
    if reading.trace.gates:
        parts.append(
            layout.paragraph(
                "Gates are white at 0.5, blue below and orange above; other values are white at 0. "
                "The scale of each map covers 98 % of its values."
            )
        )
    alt = f"{reading.name}: gates and states of every unit at each step"
    draw = functools.partial(heatmaps.traces, reading, step)
    parts.append(figures.add(reading.name, draw, alt))
    if shares := heatmaps.gate_shares(reading):
        columns = ["gate", "mean", "share below 0.1", "share above 0.9"]
        parts.append(layout.rows(Table("", columns, shares)))
    label = plots.plain_token(reading.steps[step])
    changes = functools.partial(heatmaps.state_changes, reading, step)
    return [
        *parts,
        f"<h3>Units that change most at {escape(label)}, step {step + 1}</h3>",
        figures.add(f"{reading.name} changes", changes, f"changes of state at {label}"),
    ]


def _window(
    weights: Alignment | AttentionMaps, token: str
) -> tuple[Alignment | AttentionMaps, str]:
    """Returns the part of the weights that a figure shows, and a note if others are left out.

    Args:
        weights: Saliency or attention weights.
        token: Token around which the part is cut.
    """
    if isinstance(weights, AttentionMaps):
        note = ""
        if len(weights.words) > plots.MAX_WORDS:
            note = f"<p>The first {plots.MAX_WORDS} of {len(weights.words)} words are shown.</p>"
        return weights, note
    slices = []
    for tokens, most in (
        (weights.target, plots.MAX_OUTPUT),
        (weights.source, plots.MAX_SOURCE),
    ):
        labels = numbered_tokens(tokens)
        center = labels.index(token) if token in labels else 0
        slices.append(heatmaps.window(len(labels), center, most))
    rows, columns = slices
    target, source = weights.target[rows], weights.source[columns]
    note = ""
    if len(target) < len(weights.target) or len(source) < len(weights.source):
        note = (
            f"<p>At most {plots.MAX_SOURCE} source tokens and {plots.MAX_OUTPUT} output tokens "
            f"around {escape(plots.plain_token(token))} are shown.</p>"
        )
    values = np.asarray(weights.weights, float)[rows, columns]
    return Alignment(source, target, values), note
