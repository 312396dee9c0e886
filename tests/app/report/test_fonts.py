"""Labels in any script: drawn by a font that has them, or numbered."""

import warnings

import matplotlib
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

from app.report import fonts, layout, plots
from tasks.core.evaluation import Alignment, Confusion
from tests.app.report.test_figures import drawings

LACKING = "\u4f53\u80b2\u8d22\u7ecf\U0001f9e0"
LABELS = ["\u4f53\u80b2", "\u8d22\u7ecf $", "\U0001f9e0", "caf\u00e9"]


def square():
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((0, 700), (700, 700), (700, 0)):
        pen.lineTo(point)
    pen.closePath()
    return pen.glyph()


def write_font(path, family, characters):
    """Writes a font whose characters are squares."""
    builder = FontBuilder(1000, isTTF=True)
    names = [".notdef", *(f"c{ord(character)}" for character in characters)]
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(c): name for c, name in zip(characters, names[1:], strict=True)})
    builder.setupGlyf({name: square() for name in names})
    builder.setupHorizontalMetrics(dict.fromkeys(names, (800, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2(usWeightClass=400)
    builder.setupPost()
    builder.save(path)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Installs fonts for one test, beside matplotlib's own alone: family by characters."""
    manager = font_manager.fontManager
    folder = matplotlib.get_data_path()
    own = [font for font in manager.ttflist if font.fname.startswith(folder)]
    monkeypatch.setattr(manager, "ttflist", own)

    def forget():
        fonts._families.cache_clear()
        manager._findfont_cached.cache_clear()

    def install(families):
        for family, characters in families.items():
            path = tmp_path / f"{family}.ttf"
            write_font(path, family, characters)
            manager.addfont(path)
        forget()

    install({})
    yield install
    forget()


def texts(figure):
    figure.draw_without_rendering()
    return {text.get_text() for text in figure.findobj(Text)}


def test_without_a_font_a_label_is_numbered_and_listed_below(installed):
    matrix = Confusion("Classes", LABELS, [[1] * 4] * 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        html = layout.figure("classes", lambda: plots.confusion(matrix))
    for number, text in enumerate(LABELS[:3], start=1):
        assert f"<td class=short>[{number}]</td><td class=short>{text}</td></tr>" in html
    assert "caf\u00e9" not in html.split("<table>")[1]


def test_no_figure_warns_of_a_character(installed):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for figure in drawings(LABELS):
            assert fonts.make_legible(figure)
            assert not [text for text in texts(figure) if set(text) & set(LACKING)]
            plots.svg(figure)
            plots.png(figure)


def test_a_font_that_has_the_characters_is_chosen(installed):
    installed({"Han": "\u4f53\u80b2\u8d22", "Other": "\u7ecf\u80b2", "Emoji": "\U0001f9e0"})
    figure = plots.confusion(Confusion("Classes", LABELS, [[1] * 4] * 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fonts.make_legible(figure) == []
        plots.svg(figure)
    labels = [text for text in figure.findobj(Text) if text.get_text() == LABELS[0]]
    assert labels[0].get_fontfamily()[-3:] == ["Han", "Emoji", "Other"]
    assert set(LABELS) - {"\u8d22\u7ecf $"} <= texts(figure)


def test_characters_without_a_font_are_numbered_beside_those_with_one(installed):
    installed({"Han": "\u4f53\u80b2"})
    figure = plots.attention(Alignment(LABELS, LABELS[:1], [[0.5] * 4]))
    assert fonts.make_legible(figure) == [["[1]", LABELS[1]], ["[2]", LABELS[2]]]
    assert {LABELS[0], LABELS[3], "[1]", "[2]"} <= texts(figure)


def test_a_font_that_matplotlib_cannot_draw_is_not_chosen(installed, tmp_path, monkeypatch):
    installed({"Broken": "\u4f53"})
    fonts._characters.cache_clear()
    (tmp_path / "Broken.ttf").write_bytes(b"no font")
    figure = plots.attention(Alignment(["\u4f53"], ["a"], [[0.5]]))
    assert fonts.make_legible(figure) == [["[1]", "\u4f53"]]
    fonts._characters.cache_clear()


def test_a_figure_with_known_characters_is_unchanged():
    figure = Figure()
    axes = figure.subplots()
    axes.set_xticks([0, 1], ["caf\u00e9", "two\nlines"])
    axes.set_title("")
    before = texts(figure)
    assert fonts.make_legible(figure) == []
    assert texts(figure) == before


def test_a_saved_figure_reports_its_numbers(installed, tmp_path):
    figure = plots.attention(Alignment(["\u4f53"], ["a"], [[0.5]]))
    assert plots.save(figure, tmp_path / "a.png") == [["[1]", "\u4f53"]]
