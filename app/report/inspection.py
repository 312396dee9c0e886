"""The page of a look inside: what went on as a version answered one request."""

import base64
import re
from collections.abc import Sequence
from html import escape

import numpy as np

from app.report import heatmaps, pages, plots
from tasks.core.evaluation import Alignment, AttentionMaps, Table
from tasks.core.inspection import Inspection, Reading, numbered_tokens

_PANELS = 23  # words under which an image is drawn again


def look(inside: Inspection, title: str, asked: str, equations: Sequence[str]) -> dict[str, bytes]:
    """The page and its pictures by the names of their files; the page has the pictures in it.

    Args:
        inside: What went on.
        title: What was looked into.
        asked: What it was asked.
        equations: Those of its cells, in lines.
    """
    drawn = {}

    def picture(name: str, figure, told: str) -> str:
        name = f"{len(drawn) + 1:02}-{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')}.png"
        drawn[name] = plots.png(figure)
        return _image(drawn[name], told)

    shown, cut = _shown(inside.saliency, inside.token)
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>Asked: {escape(asked)}<br>Answered: <b>{escape(inside.response)}</b></p>",
        *(f"<p>{escape(note)}</p>" for note in inside.notes),
        "<h2>What counts for the answer</h2>",
        f"<p>{_SALIENCY[type(inside.saliency)]} Of each answer the most is 1.</p>",
        cut,
        picture("saliency", plots.saliency(shown), "saliency"),
    ]
    if inside.tokentention:
        looked, cut = _shown(inside.tokentention, inside.token)
        parts += [
            "<h2>What it looked at</h2>",
            cut,
            picture("attention", plots.attention(looked), "attention"),
        ]
    parts += ["<h2>What each cell computes</h2>", f"<pre>{escape(chr(10).join(equations))}</pre>"]
    for reading in inside.readings:
        parts += _of(reading, inside.token, picture)
    page = pages.whole(f"{title}: {asked}", parts)
    return {**drawn, "index.html": page.encode("utf-8")}


_SALIENCY = {
    Alignment: "How much each token says for the answer: the norm of the gradient of its "
    "log-probability times the features of the token.",
    AttentionMaps: "How much each pixel says for each word of the answer: the norm of the gradient "
    "of its log-probability.",
}


def _of(reading: Reading, at: str, picture) -> list[str]:
    """What one cell did."""
    step, count = heatmaps.place(reading, at), len(reading.steps)
    shown = heatmaps.window(count, step)
    told = f"{reading.name}: every gate and state of each unit, by token"
    parts = [f"<h2>{escape(reading.name)}</h2>"]
    if shown.stop - shown.start < count:
        parts.append(f"<p>Steps {shown.start + 1} to {shown.stop} of {count} are shown.</p>")
    parts.append(picture(reading.name, heatmaps.strips(reading, step), told))
    if rows := heatmaps.shares(reading):
        columns = ["gate", "mean", "share below 0.1", "share above 0.9"]
        parts.append(pages.rows(Table("", columns, rows)))
    token = reading.steps[step]
    parts += [
        f"<h3>The units that change most at {escape(token)}, step {step + 1}</h3>",
        picture(f"{reading.name} changes", heatmaps.changes(reading, step), f"changes at {token}"),
    ]
    return parts


def _shown(looked: Alignment | AttentionMaps, at: str) -> tuple[Alignment | AttentionMaps, str]:
    """As much as a picture shows, what is around a token, and a line that says so if it is cut."""
    if isinstance(looked, AttentionMaps):
        words, maps = looked.words[:_PANELS], looked.maps[:_PANELS]
        cut = len(words) < len(looked.words)
        told = f"<p>The first {_PANELS} of {len(looked.words)} words are shown.</p>" if cut else ""
        return AttentionMaps(looked.image_bytes, words, maps), told
    cuts = []
    for tokens in (looked.target, looked.source):
        labels = numbered_tokens(tokens)
        cuts.append(heatmaps.window(len(labels), labels.index(at) if at in labels else 0))
    rows, columns = cuts
    target, source = looked.target[rows], looked.source[columns]
    cut = len(target) < len(looked.target) or len(source) < len(looked.source)
    told = f"<p>At most {heatmaps.STEPS} tokens are shown, those around {escape(at)}.</p>"
    weights = np.asarray(looked.weights, float)[rows, columns]
    return Alignment(source, target, weights), told if cut else ""


def _image(png: bytes, told: str) -> str:
    data = base64.b64encode(png).decode()
    style = "max-width: 100%; max-height: none"
    return f'<img style="{style}" alt="{escape(told)}" src="data:image/png;base64,{data}">'
