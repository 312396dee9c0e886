"""Pictures of a run, and what puts them into a page or a file."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from tasks.core.evaluation import Alignment, AttentionMaps, Confusion

_TRAIN, _VALID = "#0072b2", "#d55e00"  # told apart by colour-blind readers too (Okabe & Ito)
_MOST_NUMBERS = 20  # classes up to which each cell of a matrix shows its count


def curves(history: Sequence[Mapping[str, float]], best_epoch: int) -> Figure:
    """Each figure of training and of validation over the epochs; a line marks the best one."""
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
    """A confusion matrix: the wanted class down, the given class across, shares of a row."""
    counts = np.array(matrix.counts)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 2.5 + 0.42 * len(counts)
    figure = Figure(figsize=(size + 0.8, size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    places = range(len(counts))
    axes.set_xticks(places, matrix.classes, rotation=90 if len(counts) > 4 else 0)
    axes.set_yticks(places, matrix.classes)
    axes.set_xlabel("given")
    axes.set_ylabel("wanted")
    if len(counts) <= _MOST_NUMBERS:
        for (row, column), share in np.ndenumerate(shares):
            colour = "white" if share > 0.5 else "black"
            axes.text(column, row, counts[row, column], ha="center", va="center", color=colour)
    figure.colorbar(image, label="share of the reference class", shrink=0.8)
    return figure


def attention(shown: Alignment | AttentionMaps) -> Figure:
    """What each token or word of an output looked at."""
    return _gaze(shown) if isinstance(shown, AttentionMaps) else _alignment(shown)


def saliency(shown: Alignment | AttentionMaps) -> Figure:
    """How much each token or pixel says for each answer; of a single answer as bars."""
    if isinstance(shown, AttentionMaps) or len(shown.target) != 1:
        return attention(shown)
    places = range(len(shown.source))
    figure = Figure(figsize=(1.5 + 0.32 * len(places), 2.2), layout="constrained")
    axes = figure.subplots()
    axes.bar(places, shown.weights[0], color=_TRAIN, width=0.7)
    axes.set_xticks(places, map(visible, shown.source), rotation=90)
    axes.set_xlim(-0.6, len(places) - 0.4)
    axes.set_ylabel(f"saliency for\n{visible(shown.target[0])}")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _alignment(shown):
    """Tokens of the output down, those of the source across."""
    rows, columns = max(1, len(shown.target)), max(1, len(shown.source))
    size = (2.6 + 0.32 * columns, 1.6 + 0.28 * rows)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    weights = np.array(shown.weights, float).reshape(len(shown.target), len(shown.source))
    if weights.size:
        image = axes.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        figure.colorbar(image, label="weight")
    axes.set_xlabel("what is read")
    axes.set_ylabel("what is answered")
    axes.xaxis.set_label_position("top")
    axes.set_xticks(range(len(shown.source)), map(visible, shown.source), rotation=90)
    axes.set_yticks(range(len(shown.target)), map(visible, shown.target))
    axes.xaxis.tick_top()
    return figure


def _gaze(shown):
    """The image, and again under each word, bright where the word looked."""
    image = np.array(Image.open(io.BytesIO(shown.image_bytes)).convert("RGB")) / 255.0
    height, width, _ = image.shape
    count = len(shown.words) + 1
    columns = min(count, 6)
    rows = -(-count // columns)
    side = 1.6 * max(0.5, min(2.0, width / height))
    size = (side * columns, (1.6 * side * height / width * 0.8 + 0.3) * rows)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    panels[0].imshow(image)
    for axes, word, weights in zip(panels[1:], shown.words, shown.maps, strict=False):
        weights = np.array(weights, float)
        light = Image.fromarray((weights / max(weights.max(), 1e-9)).astype("f"))
        light = np.clip(light.resize((width, height), Image.Resampling.BICUBIC), 0, 1)
        axes.imshow(image * (0.25 + 0.75 * light[..., None]))
        axes.set_title(visible(word), fontsize=9)
    return figure


def visible(token: str) -> str:
    """A token with nothing in it that matplotlib would read."""
    return token.replace("$", r"\$")


def save(figure: Figure, path: Path) -> None:
    """Writes a picture into a file that is not there yet."""
    with path.open("xb") as file:
        figure.savefig(file, format="png", dpi=150)


def png(figure: Figure) -> bytes:
    """The figure as the bytes of a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def svg(figure: Figure) -> str:
    """The figure as an <svg> element, without the lines that only a file needs."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
