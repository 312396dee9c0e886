"""Colours of figures: uniform scales, series, and the ink that follows the page.

The scales are straight lines in the Oklab space (Ottosson 2020), in which equal distances look
equal. They differ in lightness and between blue and orange, which colour-blind people tell
apart.
"""

import contextlib
from collections.abc import Iterator

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_rgb

INK = "#1b1d20"  # of texts and axes; SVG figures replace it by the colour of the page's text
FAINT = "#85898e"  # legible on light and on dark pages
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", INK)  # Okabe & Ito
BLUE, ORANGE = SERIES[:2]
_EQUAL_CONTRAST = 0.179  # luminance of a colour on which black and white are equally legible
_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def _linear(rgb: np.ndarray) -> np.ndarray:
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def _oklab(colour: str) -> np.ndarray:
    return _TO_OKLAB @ np.cbrt(_TO_LMS @ _linear(np.array(to_rgb(colour))))


def _rgb(oklab: np.ndarray) -> np.ndarray:
    """Returns colours of Oklab, (N, 3), in sRGB."""
    linear = np.linalg.solve(_TO_LMS, np.linalg.solve(_TO_OKLAB, oklab.T) ** 3).T.clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _scale(name: str, *anchors: str) -> LinearSegmentedColormap:
    """Returns the scale that connects colours by straight lines."""
    ends = np.array([_oklab(anchor) for anchor in anchors])
    positions = np.linspace(0, len(ends) - 1, 257)
    line = [np.interp(positions, range(len(ends)), channel) for channel in ends.T]
    return LinearSegmentedColormap.from_list(name, _rgb(np.transpose(line)), N=257)


WEIGHTS = _scale("weights", "#f4f6f8", "#08306b")  # of values from 0 to 1
# Of values around a centre, which is nearly white: below it blue, above it orange.
DIVERGING = _scale("diverging", "#0a4a86", "#f7f7f7", "#8f4400")


def text_on(colour: tuple[float, ...]) -> str:
    """Returns black or white, whichever is legible on a colour."""
    luminance = _linear(np.array(colour[:3])) @ (0.2126, 0.7152, 0.0722)
    return "black" if luminance > _EQUAL_CONTRAST else "white"


@contextlib.contextmanager
def inked() -> Iterator[None]:
    """Draws the texts and axes of the figures made and saved within the block in `INK`."""
    names = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    with matplotlib.rc_context(dict.fromkeys(names, INK)):
        yield
