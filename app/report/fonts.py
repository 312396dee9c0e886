"""Fonts that have the characters of a figure, and numbers in place of texts that none has.

Matplotlib's own font has no Chinese, Japanese or Korean characters and few emoji, and draws a
box for what it lacks.
"""

import functools
from collections.abc import Iterator

from matplotlib import font_manager
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

_REGULAR = 400  # weight of a font
_PLACEHOLDERS = "Last Resort"  # a font of matplotlib with a box for every character


def make_legible(figure: Figure) -> list[list[str]]:
    """Chooses fonts for the texts of a figure, and numbers those that no font can draw.

    Args:
        figure: The figure, which is changed.

    Returns:
        The numbered texts: a row for each, with its number and the text. It belongs below the
        figure, where the reader's own fonts draw it.
    """
    texts = [text for text in _texts(figure) if text.get_text()]
    own = font_manager.findfont(font_manager.FontProperties())
    lacking = {c for text in texts for c in text.get_text() if not _is_drawn(c, own)}
    if not lacking:
        return []
    families, missing = _families(frozenset(lacking))
    if families:
        for text in texts:
            text.set_fontfamily([*text.get_fontfamily(), *families])
    numbers: dict[str, str] = {}

    def shown(text: str) -> str:
        if missing.isdisjoint(text):
            return text
        return numbers.setdefault(text, f"[{len(numbers) + 1}]")

    if missing:
        _replace(figure, shown)
    return [[number, text.replace(r"\$", "$")] for text, number in numbers.items()]


def _axes(figure: Figure) -> Iterator[Axis]:
    for axes in figure.axes:
        yield from (axes.xaxis, axes.yaxis)


def _texts(figure: Figure) -> list[Text]:
    """Returns the texts of a figure; those of ticks exist only once they are asked for."""
    for axis in _axes(figure):
        axis.get_ticklabels()
    return figure.findobj(Text)


def _replace(figure: Figure, shown) -> None:
    """Replaces the texts of a figure by what a function returns for them."""
    for axis in _axes(figure):
        labels = [label.get_text() for label in axis.get_ticklabels()]
        if labels != (replaced := list(map(shown, labels))):
            axis.set_ticklabels(replaced)
    for text in _texts(figure):
        text.set_text(shown(text.get_text()))


def _is_drawn(character: str, path: str) -> bool:
    """Returns whether a font draws a character, or it needs none, as a line break."""
    return not character.isprintable() or character == " " or ord(character) in _characters(path)


@functools.cache
def _characters(path: str) -> frozenset[int]:
    """Returns the characters of a font as code points; none if matplotlib cannot draw it."""
    try:
        font = FT2Font(path)
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except (OSError, RuntimeError):  # what FreeType cannot read
        return frozenset()


@functools.cache
def _families(characters: frozenset[str]) -> tuple[list[str], frozenset[str]]:
    """Returns fonts that have some characters, by their families, and the characters none has."""
    paths = {}
    for font in sorted(font_manager.fontManager.ttflist, key=lambda font: font.fname):
        if font.style == "normal" and not font.name.startswith(_PLACEHOLDERS):
            distance = abs(font.weight - _REGULAR) if isinstance(font.weight, int) else _REGULAR
            paths.setdefault(font.name, (distance, font.fname))
            paths[font.name] = min(paths[font.name], (distance, font.fname))
    points = {ord(character) for character in characters}
    families = []
    while points and paths:
        best = max(paths, key=lambda name: len(points & _characters(paths[name][1])))
        drawn = points & _characters(paths[best][1])
        if not drawn:
            break
        families.append(best)
        points -= drawn
    return families, frozenset(map(chr, points))
