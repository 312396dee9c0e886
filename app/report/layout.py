"""Self-contained HTML pages in one style, for screens from telephones on, light and dark."""

import base64
import datetime
import re
from collections.abc import Callable, Sequence
from html import escape

from matplotlib.figure import Figure

from app.core import images
from app.core.console import encodable, say
from app.report import colours, fonts, plots
from tasks.core.evaluation import Table

# Words and numbers are never broken, except in text that has no other way to fit; tables and
# figures that are too wide scroll. A figure shrinks by a sixth at most, so that it stays legible.
_STYLE = """
:root { color-scheme: light dark; --text: #1b1d20; --faint: #5b6067; --back: #ffffff;
  --line: #d5d9de; --strong: #8a9099; --box: #f3f5f7; --link: #0b5cad; --plus: #d55e00;
  --minus: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --text: #e7e9ec; --faint: #a7adb5;
  --back: #14161a; --line: #3a3f47; --strong: #6d747d; --box: #1e2126; --link: #7cb8f2;
  --plus: #f0803a; --minus: #4aa3dd; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 62rem; padding: 1rem; color: var(--text);
  background: var(--back); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0.5rem 0; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 2.5rem 0 0.75rem;
  border-bottom: 1px solid var(--line); padding-bottom: 0.25rem; }
h3 { font-size: 1.05rem; margin: 1.5rem 0 0.5rem; }
a { color: var(--link); }
.meta { color: var(--faint); font-size: 0.9rem; margin: 0.25rem 0; }
nav { margin: 1rem 0; padding: 0.75rem 1rem; background: var(--box); border-radius: 8px; }
nav ul { list-style: none; margin: 0.25rem 0 0; padding: 0; columns: 16rem; }
nav li { padding: 0.15rem 0; break-inside: avoid; }
.scroll { overflow-x: auto; max-width: 100%; margin: 1rem 0; }
.scroll:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
table { border-collapse: collapse; font-size: 0.9rem; }
th, td { text-align: left; vertical-align: top; padding: 0.3rem 1rem 0.3rem 0;
  overflow-wrap: normal; border-bottom: 1px solid var(--line); }
th { border-bottom-color: var(--strong); vertical-align: bottom; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
td.number, .short { white-space: nowrap; }
td.long { min-width: 17rem; }
pre { overflow-x: auto; background: var(--box); border-radius: 8px; padding: 0.75rem;
  font: 0.85rem/1.5 ui-monospace, monospace; }
td img { max-width: 16rem; max-height: 8rem; display: block; }
.figures { display: flex; flex-wrap: wrap; gap: 0 1.5rem; }
.figures .scroll { margin: 0.5rem 0; }
svg.figure { display: block; height: auto; width: var(--width);
  max-width: 100%; min-width: calc(0.84 * var(--width)); }
.scores { display: flex; flex-wrap: wrap; gap: 0.25rem 2rem; font-size: 1.2rem; padding: 0;
  margin: 1rem 0; list-style: none; }
.tokens { line-height: 2; } .tokens span { padding: 0.15rem 0.2rem; border-radius: 4px; }
"""
_MAX_IMAGE_BYTES = 2**16  # of an image in a table; photographs would make the page too large
_IMAGE_SIZE = (512, 256)  # twice the size of the style sheet, for screens of high density
_MIN_CONTENTS = 4  # sections from which a page has a table of contents
_MAX_SHORT = 32  # characters of a cell that is not wrapped
_NUMBER = re.compile(r"[-+−±]?[\d,.]+(e[-+]?\d+)?( ?%)?|nan|inf")
# Numbers that browsers break: after the e- of an exponent, and before a percent sign.
_BREAKABLE = re.compile(r"[-+]?\d[\d.]*(e[-+]\d+| %)")
_PIXELS_PER_POINT = 96 / 72


def whole(title: str, parts: Sequence[str], command: str = "", written: str = "") -> str:
    """Returns a self-contained HTML page, which UTF-8 can encode.

    The page begins with its title, the date, the command and, if it is long, its contents.

    Args:
        title: Title of the page, as text.
        parts: Content of the page, as HTML; its sections begin with `<h2>`.
        command: Command that wrote the page; "" if there is none.
        written: Date and time, as `now` returns it; "" for now.
    """
    titles: list[str] = []

    def numbered(match: re.Match) -> str:
        titles.append(match[1])
        return f"<h2 id=section-{len(titles)}>{match[1]}</h2>"

    content = re.sub("<h2>(.*?)</h2>", numbered, "\n".join(parts), flags=re.DOTALL)
    return encodable(
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body><main>\n"
        f"<h1>{escape(title)}</h1>\n<p class=meta>Written on {escape(written or now())}.</p>\n"
        + (f"<pre tabindex=0>{escape(command)}</pre>\n" if command else "")
        + _contents(titles)
        + f"{content}\n</main></body></html>\n"
    )


def now() -> str:
    """Returns the date and the time, such as "2026-01-31 12:00 UTC"."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def _contents(titles: Sequence[str]) -> str:
    """Returns the table of contents, or "" for a short page."""
    if len(titles) < _MIN_CONTENTS:
        return ""
    links = "".join(
        f'<li><a href="#section-{number}">{title}</a></li>'
        for number, title in enumerate(titles, start=1)
    )
    return f"<nav aria-label=Contents><b>Contents</b><ul>{links}</ul></nav>\n"


def figure(
    name: str, draw: Callable[[], Figure], write: Callable[[Figure], object] | None = None
) -> str:
    """Returns a figure as HTML, or a sentence in its place if it cannot be drawn.

    Below it is a table of the texts that no font of this machine can draw, if there are any.

    The page belongs to results that took long to compute, and a figure is not worth them.
    Therefore any error of a figure is printed in one line instead of raised.

    Args:
        name: Name of the figure, for the message and for screen readers.
        draw: Draws the figure.
        write: Also writes the figure to a file.
    """
    try:
        with colours.inked():
            drawn = draw()
            numbered = fonts.make_legible(drawn)
            if write:
                write(drawn)
            element = _svg(plots.svg(drawn), name)
        return scrolled(element, name) + numbered_texts(numbered)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        message = f"the figure {name!r} is left out, because it cannot be drawn: {reason:.300}"
        say(message)
        return f"<p>{escape(message)}</p>"


def figures(elements: Sequence[str]) -> str:
    """Returns figures as HTML, side by side where there is room."""
    return f"<div class=figures>{''.join(elements)}</div>"


def _svg(text: str, name: str) -> str:
    """Returns an <svg> element that has the ink of the page and a width that it may leave."""
    head, rest = text.split(">", 1)
    width = float(re.search(r'\bwidth="([\d.]+)pt"', head)[1]) * _PIXELS_PER_POINT
    head = re.sub(r'\b(width|height)="[\d.]+pt" ?', "", head)
    label = f'role=img aria-label="{escape(name)}" class=figure style="--width: {width:.0f}px"'
    return f"{head} {label}>{rest}".replace(colours.INK, "currentColor")


def scrolled(element: str, name: str) -> str:
    """Returns an element that scrolls by itself if it is too wide, also with the keyboard."""
    return f'<div class=scroll role=group tabindex=0 aria-label="{escape(name)}">{element}</div>'


def numbered_texts(texts: Sequence[Sequence[str]]) -> str:
    """Returns the table of the texts that are numbered in a figure, as HTML; "" if none is."""
    return rows(Table("", ["number in the figure", "text"], texts)) if texts else ""


def paragraph(text: str) -> str:
    """Returns a text as an HTML paragraph that breaks no number."""
    return "<p>" + _BREAKABLE.sub(r"<span class=short>\g<0></span>", escape(text)) + "</p>"


def table(content: Table) -> str:
    """Returns a table as HTML, below its title."""
    return f"<h2>{escape(content.title)}</h2>{rows(content)}"


def rows(content: Table) -> str:
    """Returns a table as HTML, without its title."""
    numeric = [
        bool(content.rows) and all(_is_number(row[index]) for row in content.rows)
        for index in range(len(content.columns))
    ]
    head = "".join(
        f"<th{' class=number' if number else ''}>{escape(column)}</th>"
        for column, number in zip(content.columns, numeric, strict=True)
    )
    body = "".join("<tr>" + "".join(map(_cell, row, numeric)) + "</tr>\n" for row in content.rows)
    return scrolled(f"<table><tr>{head}</tr>{body}</table>", content.title or "table")


def _is_number(value: object) -> bool:
    """Returns whether a cell is a number, a text of one, or empty."""
    if isinstance(value, str):
        return not value or _NUMBER.fullmatch(value) is not None
    return isinstance(value, int | float)


def _cell(value: object, numeric: bool) -> str:
    """Returns a table cell as HTML: floats with three digits, bytes as an image."""
    if isinstance(value, bytes):
        if len(value) > _MAX_IMAGE_BYTES:
            value = images.scaled_down(value, _IMAGE_SIZE) or value
        kind = "png" if value.startswith(b"\x89PNG") else "jpeg"
        data = base64.b64encode(value).decode()
        return f'<td><img alt="image of the example" src="data:image/{kind};base64,{data}"></td>'
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    kind = "number" if numeric else "short" if len(text) <= _MAX_SHORT else "long"
    return f"<td class={kind}>{escape(text)}</td>"
