"""Page of an inspection: how a published version computed one response."""

import base64
import re
from collections.abc import Sequence
from html import escape

import numpy as np
from matplotlib.figure import Figure

from app.report import fonts, heatmaps, pages, plots
from tasks.core.evaluation import Alignment, AttentionMaps, Table
from tasks.core.inspection import Inspection, Reading, numbered_tokens

_MAX_WORDS = 23  # words whose attention map is drawn
_SALIENCY = {
    Alignment: "Norm of the gradient of the log-probability of each output times the features of "
    "each token, relative to its maximum for that output.",
    AttentionMaps: "Norm of the gradient of the log-probability of each word of the caption with "
    "respect to each pixel, relative to its maximum for that word.",
}


class _Figures:
    """PNG files of a page, numbered_tokens in the order of the page."""

    def __init__(self):
        self.files: dict[str, bytes] = {}

    def add(self, name: str, figure: Figure, alt: str) -> str:
        """Adds a figure, and returns it as HTML that contains the image."""
        slug = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")
        numbered = fonts.make_legible(figure)
        image = plots.png(figure)
        self.files[f"{len(self.files) + 1:02}-{slug}.png"] = image
        data = base64.b64encode(image).decode()
        style = "max-width: 100%; max-height: none"
        element = f'<img style="{style}" alt="{escape(alt)}" src="data:image/png;base64,{data}">'
        return element + pages.numbered_texts(numbered)


def inspection_files(
    inspection: Inspection, title: str, request: str, equations: Sequence[str]
) -> dict[str, bytes]:
    """Returns the page and its figures by file name; the page also contains the figures.

    Args:
        inspection: Result of the inspection.
        title: Title of the page: the task and the version.
        request: The request, as text.
        equations: Equations of the cells, in lines.
    """
    figures = _Figures()
    shown, note = _window(inspection.saliency, inspection.token)
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>Request: {escape(request)}<br>Response: <b>{escape(inspection.response)}</b></p>",
        *(f"<p>{escape(line)}</p>" for line in inspection.notes),
        "<h2>Saliency</h2>",
        f"<p>{_SALIENCY[type(inspection.saliency)]}</p>",
        note,
        figures.add("saliency", plots.saliency(shown), "saliency for the response"),
    ]
    if inspection.attention:
        shown, note = _window(inspection.attention, inspection.token)
        parts += [
            "<h2>Attention</h2>",
            note,
            figures.add("attention", plots.attention(shown), "attention weights"),
        ]
    parts += ["<h2>Equations of the cells</h2>", f"<pre>{escape(chr(10).join(equations))}</pre>"]
    for reading in inspection.readings:
        parts += _cell_section(reading, inspection.token, figures)
    page = pages.whole(f"{title}: {request}", parts)
    return {**figures.files, "index.html": page.encode("utf-8")}


def _cell_section(reading: Reading, token: str, figures: _Figures) -> list[str]:
    """Returns the section of one cell; `token` is the token whose changes are shown."""
    step, count = heatmaps.marked_step(reading, token), len(reading.steps)
    shown = heatmaps.window(count, step)
    parts = [f"<h2>{escape(reading.name)}</h2>"]
    if shown.stop - shown.start < count:
        parts.append(f"<p>Steps {shown.start + 1} to {shown.stop} of {count} are shown.</p>")
    alt = f"{reading.name}: gates and states of every unit at each step"
    parts.append(figures.add(reading.name, heatmaps.traces(reading, step), alt))
    if shares := heatmaps.gate_shares(reading):
        columns = ["gate", "mean", "share below 0.1", "share above 0.9"]
        parts.append(pages.rows(Table("", columns, shares)))
    label = reading.steps[step]
    changes, alt = heatmaps.state_changes(reading, step), f"changes of state at {label}"
    return [
        *parts,
        f"<h3>Units that change most at {escape(label)}, step {step + 1}</h3>",
        figures.add(f"{reading.name} changes", changes, alt),
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
        words, maps = weights.words[:_MAX_WORDS], weights.maps[:_MAX_WORDS]
        note = ""
        if len(words) < len(weights.words):
            note = f"<p>The first {_MAX_WORDS} of {len(weights.words)} words are shown.</p>"
        return AttentionMaps(weights.image_bytes, words, maps), note
    slices = []
    for tokens in (weights.target, weights.source):
        labels = numbered_tokens(tokens)
        slices.append(heatmaps.window(len(labels), labels.index(token) if token in labels else 0))
    rows, columns = slices
    target, source = weights.target[rows], weights.source[columns]
    note = ""
    if len(target) < len(weights.target) or len(source) < len(weights.source):
        note = f"<p>At most {heatmaps.MAX_STEPS} tokens around {escape(token)} are shown.</p>"
    values = np.asarray(weights.weights, float)[rows, columns]
    return Alignment(source, target, values), note
