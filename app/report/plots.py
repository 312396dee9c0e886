"""Figures of a run, and their conversion to PNG and SVG."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from PIL import Image

from app.core.console import encodable
from app.core.images import thumbnail
from app.report import colours, fonts
from models.text.subwords import BLANK
from tasks.core.evaluation import Alignment, AttentionMaps, Calibration, Confusion

_MAX_COUNTED = 20  # classes up to which a confusion matrix shows its counts
_MAX_LABEL = 40  # characters of a label
# The memory of a figure grows with its area, so these are bounded too.
MAX_SOURCE, MAX_OUTPUT = 80, 30  # tokens of a source and of an output
MAX_WORDS = 23  # words whose attention over an image is shown
_MAX_SIDE = 480  # pixels of the longer side of an image, as many as a panel shows
_MAX_ASPECT = 4.0  # of the sides of a panel
_TITLE_WIDTH = 11  # characters of the title of a panel, by inches
WIDTH = 4.0  # inches of a figure that a telephone shows as a whole
_MAX_WIDTH = 9.7  # inches of a row of images, as wide as a page
_BAR_HEIGHT = 2.4  # inches of the bar of a colour scale, at most
_IMAGE_DPI = 144  # of photographs within an SVG figure
_MARGIN = 0.04  # inches around a figure


def metrics(history: Sequence[Mapping[str, float]]) -> list[str]:
    """Returns the names of the metrics that training and validation have."""
    return [name for name in history[0] if f"val_{name}" in history[0]]


def curves(
    history: Sequence[Mapping[str, float]], best_epoch: int, names: Sequence[str] = ()
) -> Figure:
    """Plots the metrics of training and validation over epochs, and marks the best epoch.

    Args:
        history: Metrics of each epoch; those of validation have the prefix "val_".
        best_epoch: Number of the best epoch.
        names: The metrics, a panel for each; none for all.
    """
    epochs = [row["epoch"] for row in history]
    names = names or metrics(history)
    figure = Figure(figsize=(WIDTH * len(names), 3.0), layout="constrained")
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
        axes.axvline(best_epoch, color=colours.FAINT, lw=1, label="best epoch")
        for prefix, style, colour in (
            ("", "o-", colours.BLUE),
            ("val_", "s--", colours.ORANGE),
        ):
            values = [row[f"{prefix}{name}"] for row in history]
            part = "validation" if prefix else "training"
            axes.plot(epochs, values, style, ms=4, color=colour, label=part)
        axes.set_xlabel("epoch")
        axes.set_ylabel(name.replace("_", " "))
        whole_numbers(axes, min(epochs), max(epochs))
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def whole_numbers(axes: Axes, first: float, last: float) -> None:
    """Gives an axis of counts, such as epochs, whole numbers alone, even if there is only one."""
    axes.set_xlim(first - 0.5, last + 0.5)
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1, nbins=8)


def confusion(matrix: Confusion) -> Figure:
    """Plots a confusion matrix: references in rows, predictions in columns, coloured by row.

    Only the most frequent classes are shown where there are many, because the memory of a
    figure grows with its area.
    """
    matrix = matrix.most_frequent()
    counts = np.array(matrix.counts)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    classes = [label(name) for name in matrix.classes]
    size = 2.5 + 0.42 * len(counts) + room(classes)
    figure = Figure(figsize=(size + 0.8, size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap=colours.WEIGHTS, vmin=0, vmax=1, interpolation="none")
    positions = range(len(counts))
    axes.set_xticks(positions, classes, rotation=90 if len(counts) > 4 or room(classes) else 0)
    axes.set_yticks(positions, classes)
    axes.set_xlabel("prediction")
    axes.set_ylabel("reference")
    if len(counts) <= _MAX_COUNTED:
        for (row, column), share in np.ndenumerate(shares):
            colour = colours.text_on(image.cmap(share))
            axes.text(column, row, counts[row, column], ha="center", va="center", color=colour)
    _bar(figure, image, "share of the reference class")
    return figure


def reliability(calibration: Calibration) -> Figure:
    """Plots the share of correct predictions over their probability: the reliability diagram."""
    figure = Figure(figsize=(WIDTH, 3.8), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=colours.FAINT, lw=1, label="calibrated")
    served = "served"
    if calibration.temperature is not None:
        served += f", temperature {calibration.temperature:.3g}"
    for rows, style, colour, name in (
        (calibration.before, "s--", colours.ORANGE, "temperature 1"),
        (calibration.after, "o-", colours.BLUE, served),
    ):
        if rows is None:
            continue
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
    return _alignment(weights, "attention weight", signed=False)


def contributions(weights: Alignment | AttentionMaps) -> Figure:
    """Plots signed contributions of tokens or pixels; as bars if there is a single output."""
    if isinstance(weights, AttentionMaps):
        return _contribution_maps(weights)
    if len(weights.target) != 1:
        name = "contribution, relative to\nthe greatest of the row"
        return _alignment(weights, name, signed=True)
    source = list(map(token_label, weights.source[:MAX_SOURCE]))
    positions, values = range(len(source)), np.array(weights.weights[0][:MAX_SOURCE], float)
    size = (1.5 + 0.32 * max(5, len(source)), 2.2 + room(source))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    bars = [colours.ORANGE if value > 0 else colours.BLUE for value in values]
    axes.bar(positions, values, color=bars, width=0.7)
    axes.axhline(0, color=colours.FAINT, lw=0.8)
    axes.set_xticks(positions, source, rotation=90)
    axes.set_xlim(-0.6, max(5, len(source)) - 0.4)
    axes.set_xlabel(_with_count("", len(source), len(weights.source)))
    axes.set_ylabel(f"contribution to\n{label(weights.target[0])}")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _alignment(alignment: Alignment, name: str, signed: bool) -> Figure:
    """Plots weights as a matrix: tokens of the output in rows, of the source in columns.

    Args:
        alignment: Tokens and weights.
        name: Name of the weights.
        signed: Whether weights have a sign; if so, each row is relative to its greatest.
    """
    source = list(map(token_label, alignment.source[:MAX_SOURCE]))
    target = list(map(token_label, alignment.target[:MAX_OUTPUT]))
    size = (
        2.6 + 0.32 * max(4, len(source)) + room(target),
        1.6 + 0.28 * max(4, len(target)) + room(source),
    )
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    weights = np.array(alignment.weights, float)
    weights = weights.reshape(len(alignment.target), len(alignment.source))
    weights = weights[:MAX_OUTPUT, :MAX_SOURCE]
    if weights.size:
        scale = {"cmap": colours.WEIGHTS, "vmin": 0, "vmax": 1}
        if signed:
            weights = weights / np.maximum(np.abs(weights).max(axis=1, keepdims=True), 1e-30)
            scale = {"cmap": colours.DIVERGING, "vmin": -1, "vmax": 1}
        image = axes.imshow(weights, aspect="auto", interpolation="none", **scale)
        _bar(figure, image, name)
    axes.set_xlabel(_with_count("source", len(source), len(alignment.source)))
    axes.set_ylabel(_with_count("output", len(target), len(alignment.target)))
    axes.xaxis.set_label_position("top")
    axes.set_xticks(range(len(source)), source, rotation=90)
    axes.set_yticks(range(len(target)), target)
    axes.xaxis.tick_top()
    return figure


def _bar(figure: Figure, image: AxesImage, name: str) -> None:
    """Adds the bar of a colour scale, whose height does not grow with the figure."""
    shrink = min(0.8, _BAR_HEIGHT / figure.get_figheight())
    figure.colorbar(image, label=name, shrink=shrink, aspect=12, anchor=(0, 1))


def _with_count(name: str, shown: int, count: int) -> str:
    if shown == count:
        return name
    return f"{name}, the first {shown} of {count} tokens".removeprefix(", ")


def _attention_maps(maps: AttentionMaps) -> Figure:
    """Plots an image, and for each word the attention as a tint and a line around its half.

    The image is reduced to medium greys below the tint, and the line is dark and light, so that
    both are visible on every image.
    """

    def draw(axes: Axes, grey: np.ndarray, weights: np.ndarray) -> None:
        shares = weights / max(weights.max(), 1e-9)
        tint = np.array(to_rgb(colours.ORANGE))
        axes.imshow(_blend(grey, tint, _resized(shares, grey.shape)))
        if shares.min() < 0.5:
            _outline(axes, shares >= 0.5, grey.shape)

    return _over_image(maps, draw)


def _contribution_maps(maps: AttentionMaps) -> Figure:
    """Plots an image, and for each word the contributions of pixels: blue below 0."""

    def draw(axes: Axes, grey: np.ndarray, weights: np.ndarray) -> None:
        # Single pixels are far greater than the rest.
        greatest = max(np.percentile(np.abs(weights), 99), 1e-30)
        values = _resized(np.clip(weights / greatest, -1, 1), grey.shape)
        tint = colours.DIVERGING(0.5 + 0.5 * values)[..., :3]
        axes.imshow(_blend(grey, tint, np.abs(values)))

    return _over_image(maps, draw)


def _over_image(maps: AttentionMaps, draw) -> Figure:
    """Plots an image, and again for each word by a function.

    Args:
        maps: The image and maps.
        draw: Called with the axes, the image in medium greys, (H, W), and the map of the word.
    """
    image = np.array(thumbnail(maps.image_bytes, (_MAX_SIDE, _MAX_SIDE))) / 255.0
    grey = 0.3 + 0.4 * image @ (0.3, 0.6, 0.1)
    height, width = grey.shape
    words = maps.words[:MAX_WORDS]
    count = len(words) + 1
    side = 1.6 * max(0.5, min(2.0, width / height))
    columns = min(count, int(_MAX_WIDTH / side))
    rows = -(-count // columns)
    aspect = min(height / width, _MAX_ASPECT)
    size = (side * columns, (side * aspect + 0.3) * rows)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    panels[0].imshow(image)
    for axes, word, values in zip(panels[1:], words, maps.maps, strict=False):
        draw(axes, grey, np.array(values, float))
        axes.set_title(label(word, int(_TITLE_WIDTH * side)), fontsize=9)
    return figure


def _resized(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Returns values of a grid for the pixels of an image."""
    resized = Image.fromarray(values.astype("f")).resize(shape[::-1], Image.Resampling.BICUBIC)
    return np.clip(resized, values.min(), values.max())


def _blend(grey: np.ndarray, tint: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Returns an image (H, W, 3) that is tinted by shares (H, W) of at most 0.8."""
    shares = 0.8 * shares[..., None]
    return grey[..., None] * (1 - shares) + tint * shares


def _outline(axes: Axes, chosen: np.ndarray, shape: tuple[int, int]) -> None:
    """Draws a line around the chosen cells of a grid that lies over an image."""
    height, width = shape
    rows, columns = chosen.shape
    cell = max(1, round(240 / max(rows, columns)))  # pixels, for corners that look sharp
    padded = np.pad(np.kron(chosen, np.ones((cell, cell))), 1)
    x = (np.arange(padded.shape[1]) - 0.5) / (columns * cell) * width - 0.5
    y = (np.arange(padded.shape[0]) - 0.5) / (rows * cell) * height - 0.5
    for colour, size in (("black", 3.0), ("white", 1.2)):
        axes.contour(x, y, padded, [0.5], colors=[colour], linewidths=size)
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)


def room(labels: Sequence[str]) -> float:
    """Returns the inches that a figure needs beyond those that its size has for short labels."""
    return 0.08 * max(0, max(map(len, labels), default=0) - 10)


def label(text: str, longest: int = _MAX_LABEL) -> str:
    """Returns the label of a class, token or cell, shortened to `longest` characters."""
    if len(text) > longest:
        text = f"{text[: longest - 1]}…"
    return without_math(text)


def token_label(token: str, longest: int = _MAX_LABEL) -> str:
    """Returns the label of a token, without the mark of the blank before a subword."""
    return label(plain_token(token), longest)


def plain_token(token: str) -> str:
    """Returns a token without the mark of the blank before a subword."""
    return token.replace(BLANK, " ").strip() or token


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
        file.write(png(figure, dpi=150))
    return numbered


def png(figure: Figure, dpi: int = 110) -> bytes:
    """Returns a legible figure as the bytes of a PNG file that has all of its texts."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight", pad_inches=_MARGIN)
    return buffer.getvalue()


def svg(figure: Figure) -> str:
    """Returns a legible figure as an <svg> element that has all of its texts.

    It has no background, and no XML declaration, as a file would have.
    """
    buffer = io.StringIO()
    figure.savefig(
        buffer,
        format="svg",
        dpi=_IMAGE_DPI,
        transparent=True,
        metadata={"Date": None},
        bbox_inches="tight",
        pad_inches=_MARGIN,
    )
    text = buffer.getvalue()
    return text[text.index("<svg") :]
