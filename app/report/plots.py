"""Figures of a run, and their conversion to PNG and SVG."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from app.console import encodable
from app.images import thumbnail
from app.report import fonts
from tasks.core.evaluation import Alignment, AttentionMaps, Calibration, Confusion

_TRAIN, _VALID = "#0072b2", "#d55e00"  # distinguishable by colour-blind readers (Okabe & Ito)
_MAX_COUNTED = 20  # classes up to which a confusion matrix shows its counts
_MAX_LABEL = 40  # characters of a label
# The memory of a figure grows with its area, so these are bounded too.
_MAX_TOKENS = 100  # tokens of a source or an output
_MAX_SIDE = 480  # pixels of the longer side of an image, as many as a panel shows
_MAX_ASPECT = 4.0  # of the sides of a panel


def curves(history: Sequence[Mapping[str, float]], best_epoch: int) -> Figure:
    """Plots the metrics of training and validation over epochs, and marks the best epoch.

    Args:
        history: Metrics of each epoch; those of validation have the prefix "val_".
        best_epoch: Number of the best epoch.
    """
    epochs = [row["epoch"] for row in history]
    names = [name for name in history[0] if f"val_{name}" in history[0]]
    figure = Figure(figsize=(4.5 * len(names), 3.2), layout="constrained")
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
        axes.plot(epochs, [r[name] for r in history], "o-", ms=4, color=_TRAIN, label="train")
        axes.plot(
            epochs, [r[f"val_{name}"] for r in history], "s--", ms=4, color=_VALID, label="valid"
        )
        axes.axvline(best_epoch, color="#999999", lw=1, label="best epoch")
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def confusion(matrix: Confusion) -> Figure:
    """Plots a confusion matrix: references in rows, predictions in columns, coloured by row.

    Only the most frequent classes are shown where there are many, because the memory of a
    figure grows with its area.
    """
    matrix = matrix.most_frequent()
    counts = np.array(matrix.counts)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    classes = [label(name) for name in matrix.classes]
    size = 2.5 + 0.42 * len(counts) + _room(classes)
    figure = Figure(figsize=(size + 0.8, size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    positions = range(len(counts))
    axes.set_xticks(positions, classes, rotation=90 if len(counts) > 4 or _room(classes) else 0)
    axes.set_yticks(positions, classes)
    axes.set_xlabel("prediction")
    axes.set_ylabel("reference")
    if len(counts) <= _MAX_COUNTED:
        for (row, column), share in np.ndenumerate(shares):
            colour = "white" if share > 0.5 else "black"
            axes.text(column, row, counts[row, column], ha="center", va="center", color=colour)
    figure.colorbar(image, label="share of the reference class", shrink=0.8)
    return figure


def reliability(calibration: Calibration) -> Figure:
    """Plots the share of correct predictions over their probability: the reliability diagram."""
    figure = Figure(figsize=(4.2, 3.8), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#999999", lw=1, label="calibrated")
    for rows, style, colour, name in (
        (calibration.before, "s--", _VALID, "temperature 1"),
        (calibration.after, "o-", _TRAIN, f"served, temperature {calibration.temperature:.3g}"),
    ):
        axes.plot(rows[:, 0], rows[:, 1], style, ms=4, color=colour, label=name)
    axes.set_xlabel("probability of the prediction")
    axes.set_ylabel("share correct")
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def attention(weights: Alignment | AttentionMaps) -> Figure:
    """Plots the attention weights of each token or word of an output."""
    if isinstance(weights, AttentionMaps):
        return _attention_maps(weights)
    return _alignment(weights, "attention weight")


def saliency(weights: Alignment | AttentionMaps) -> Figure:
    """Plots the saliency of each token or pixel; as bars if there is a single output."""
    if isinstance(weights, AttentionMaps):
        return _attention_maps(weights)
    if len(weights.target) != 1:
        return _alignment(weights, "saliency")
    positions, source = range(len(weights.source)), [label(token) for token in weights.source]
    size = (1.5 + 0.32 * len(positions), 2.2 + _room(source))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.bar(positions, weights.weights[0], color=_TRAIN, width=0.7)
    axes.set_xticks(positions, source, rotation=90)
    axes.set_xlim(-0.6, len(positions) - 0.4)
    axes.set_ylabel(f"saliency for\n{label(weights.target[0])}")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _alignment(alignment: Alignment, name: str) -> Figure:
    """Plots weights as a matrix: tokens of the output in rows, of the source in columns.

    Args:
        alignment: Tokens and weights.
        name: Name of the weights.
    """
    source, target = (
        [label(token) for token in tokens[:_MAX_TOKENS]]
        for tokens in (alignment.source, alignment.target)
    )
    size = (
        2.6 + 0.32 * max(1, len(source)) + _room(target),
        1.6 + 0.28 * max(1, len(target)) + _room(source),
    )
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    weights = np.array(alignment.weights, float)
    weights = weights.reshape(len(alignment.target), len(alignment.source))
    weights = weights[:_MAX_TOKENS, :_MAX_TOKENS]
    if weights.size:
        image = axes.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        figure.colorbar(image, label=name)
    axes.set_xlabel(_with_count("source", len(source), len(alignment.source)))
    axes.set_ylabel(_with_count("output", len(target), len(alignment.target)))
    axes.xaxis.set_label_position("top")
    axes.set_xticks(range(len(source)), source, rotation=90)
    axes.set_yticks(range(len(target)), target)
    axes.xaxis.tick_top()
    return figure


def _with_count(name: str, shown: int, count: int) -> str:
    return name if shown == count else f"{name}, the first {shown} of {count} tokens"


def _attention_maps(maps: AttentionMaps) -> Figure:
    """Plots an image, and again for each word, brighter where the weights are greater."""
    image = np.array(thumbnail(maps.image_bytes, (_MAX_SIDE, _MAX_SIDE))) / 255.0
    height, width, _ = image.shape
    count = len(maps.words) + 1
    columns = min(count, 6)
    rows = -(-count // columns)
    side = 1.6 * max(0.5, min(2.0, width / height))
    aspect = min(height / width, _MAX_ASPECT)
    size = (side * columns, (1.6 * side * aspect * 0.8 + 0.3) * rows)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    panels[0].imshow(image)
    for axes, word, values in zip(panels[1:], maps.words, maps.maps, strict=False):
        weights = np.array(values, float)
        light = Image.fromarray((weights / max(weights.max(), 1e-9)).astype("f"))
        light = np.clip(light.resize((width, height), Image.Resampling.BICUBIC), 0, 1)
        axes.imshow(image * (0.25 + 0.75 * light[..., None]))
        axes.set_title(label(word), fontsize=9)
    return figure


def _room(labels: Sequence[str]) -> float:
    """Returns the inches that a figure needs beyond those that its size has for short labels."""
    return 0.08 * max(0, max(map(len, labels), default=0) - 10)


def label(text: str, longest: int = _MAX_LABEL) -> str:
    """Returns the label of a class, token or cell, shortened to `longest` characters."""
    if len(text) > longest:
        text = f"{text[: longest - 1]}…"
    return without_math(text)


def without_math(text: str) -> str:
    """Returns text that matplotlib does not interpret as mathematics.

    Every text of the user's must pass through this function or `label`: a `$` is common in
    class names, and two of them may be no valid formula. Neither can matplotlib draw the names
    of files that are not UTF-8.
    """
    return encodable(text).replace("$", r"\$")


def save(figure: Figure, path: Path) -> list[list[str]]:
    """Writes a figure to a new PNG file.

    Returns:
        The texts that are numbered in the figure, as `fonts.make_legible` returns them.

    Raises:
        FileExistsError: The file exists.
    """
    numbered = fonts.make_legible(figure)
    with path.open("xb") as file:
        figure.savefig(file, format="png", dpi=150)
    return numbered


def png(figure: Figure, dpi: int = 110) -> bytes:
    """Returns a legible figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def svg(figure: Figure) -> str:
    """Returns a legible figure as an <svg> element, without the XML declaration of a file."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
