"""Pages in one style: rules that hold for each of them."""

import io
import re
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from app.report import colours, data, layout, pages, plots
from app.studies import report as study_report
from app.studies.experiments import Experiment
from tasks.core.evaluation import Alignment, AttentionMaps, Confusion, Evaluation, Table
from tests.app.report.test_figures import HISTORY, image_bytes
from tests.app.report.test_figures import record as run_record

LONG = "a long sentence of several words that does not fit into a line of a table"


def test_a_page_has_a_viewport_colour_schemes_date_and_command():
    page = layout.whole("a <b> & c", ["<h2>One</h2>"], "python -m app.look 'a <i>'")
    head, body = page.split("<body>")
    assert '<meta name=viewport content="width=device-width, initial-scale=1">' in head
    assert "color-scheme: light dark" in head and "prefers-color-scheme: dark" in head
    assert "overflow-wrap: anywhere" not in head and "break-all" not in head
    assert body.count("<h1>a &lt;b&gt; &amp; c</h1>") == 1
    assert re.search(r"Written on \d{4}-\d\d-\d\d \d\d:\d\d UTC\.", body)
    assert "python -m app.look &#x27;a &lt;i&gt;&#x27;" in body
    assert "2020-01-31" in layout.whole("a", [], written="2020-01-31 12:00 UTC")


@pytest.mark.parametrize(
    ("name", "title"),
    [({}, "sentiment: d"), ({"name": "sentiment"}, "sentiment: d"),
     ({"name": "films"}, "films (sentiment): d")],
)  # fmt: skip
def test_the_title_of_a_report_names_the_model(name, title):
    page = pages.page(run_record(**name), HISTORY, Evaluation(2, {"accuracy": 0.5}))
    assert f"<title>{title}</title>" in page and f"<h1>{title}</h1>" in page


def test_a_long_page_has_a_table_of_contents_that_leads_to_its_sections():
    sections = [f"<h2>Section {number} &amp; more</h2>" for number in range(5)]
    page = layout.whole("title", sections)
    links = dict(re.findall(r'<a href="#([\w-]+)">(.*?)</a>', page))
    headings = dict(re.findall(r"<h2 id=([\w-]+)>(.*?)</h2>", page))
    assert links == headings and len(links) == 5
    assert "<nav" not in layout.whole("title", sections[:3])


def test_cells_of_a_table_are_numbers_short_or_long():
    rows = [["positive", "1,444", 0.51234, LONG, "1e-05"], ["sample:test:36", "-3 %", 2, "", ""]]
    html = layout.rows(Table("Title", ["label", "count", "score", "text", "norm"], rows))
    kinds = re.findall(r"<td class=(\w+)>(.*?)</td>", html)
    first = ["short", "number", "number", "long", "number"]
    second = ["short", "number", "number", "short", "number"]
    assert [kind for kind, _ in kinds] == first + second
    assert kinds[2][1] == "0.512"
    assert html.startswith("<div class=scroll ") and "tabindex=0" in html


def test_a_paragraph_breaks_no_number():
    html = layout.paragraph("from 6.0e-01 (<lstm>) to 1.5e+10, 3 to 4, the 95 % interval")
    numbers = re.findall("<span class=short>(.*?)</span>", html)
    assert numbers == ["6.0e-01", "1.5e+10", "95 %"]
    assert "(&lt;lstm&gt;)" in html


def test_a_figure_takes_the_ink_of_the_page_and_scrolls_rather_than_shrinks():
    html = layout.figure('curve "a"', lambda: plots.curves(HISTORY, 1, ["loss"]))
    assert html.startswith("<div class=scroll ") and 'aria-label="curve &quot;a&quot;"' in html
    svg = html[html.index("<svg") :]
    head = svg[: svg.index(">")]
    assert "role=img" in head and "viewBox" in head
    assert not re.search(r"\b(width|height)=", head)
    width = int(re.search(r"--width: (\d+)px", head)[1])
    assert 300 < 0.84 * width <= 360 - 32  # a telephone shows it as a whole
    assert svg.count("fill: currentColor") > 5 and colours.INK not in svg  # texts
    assert not re.search(r"fill: #ffffff|fill: white", svg)  # no background


@pytest.mark.parametrize("count", [1, 2, 3, 7, 150])
def test_epochs_are_whole_numbers(count):
    history = [{"epoch": n, "loss": 1 / n, "val_loss": 2 / n} for n in range(1, count + 1)]
    figure = plots.curves(history, 1)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    low, high = axes.get_xlim()
    ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert ticks and all(tick == round(tick) for tick in ticks)
    assert all(1 <= tick <= count for tick in ticks)


@pytest.mark.parametrize("longest", [0, 1, 8, 12, 3000])
def test_numbers_of_words_are_whole(longest):
    figure = data._lengths({"train": Counter({longest: 3}), "valid": Counter(), "test": Counter()})
    figure.draw_without_rendering()
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    numbers = [int(label.replace(",", "")) for label in labels]
    assert numbers == sorted(set(numbers)) and numbers[0] == 0
    assert numbers[-1] == max(1, longest)


def margins(figure):
    """The outermost pixels of a figure as grey levels."""
    pixels = np.array(Image.open(io.BytesIO(plots.png(figure))).convert("L"))
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])


def figures_with_long_labels():
    """Figures whose labels need more room than what they describe."""
    long = "an unusually long label of one class"
    yield plots.attention(Alignment(["the", "women", "slept"], ["schliefen"], [[1, 0, 0]]))
    yield plots.attention(Alignment([long], [long], [[1]]))
    yield plots.contributions(Alignment(["dull"], [long], [[-1.0]]))
    yield plots.confusion(Confusion("Classes", [long, "b"], [[1, 2], [3, 4]]))
    yield plots.attention(AttentionMaps(image_bytes(), ["unusually long word"], [[[0.0, 1.0]]]))
    scores = {"scores": {"an_unusually_long_name_of_a_score": 0.5}, "parameters": 1, "seconds": 1.0}
    settings = tuple((f"setting_{n}", 1000 * n) for n in range(4))
    groups = [study_report.Group(long, [scores, scores])]
    yield study_report.overview([study_report.Comparison("adding", settings, groups, {})])


def test_labels_are_not_clipped_at_the_edge():
    for figure in figures_with_long_labels():
        assert margins(figure).min() > 250


def test_heat_maps_are_capped():
    target = [f"t{n}" for n in range(400)]
    weights = np.ones([400, 5]) / 5
    for draw in (plots.attention, plots.contributions):
        figure = draw(Alignment(list("abcde"), target, weights))
        figure.draw_without_rendering()
        assert figure.get_figheight() < 12
        _, bar = figure.axes
        assert bar.get_window_extent().height / figure.dpi < 2.6
    maps = AttentionMaps(image_bytes(), ["word"] * 400, [[[0.0, 1.0]]] * 400)
    assert plots.attention(maps).get_figheight() < 12


def test_attention_is_visible_on_dark_and_light_images():
    for colour in ("black", "white", "red", "gray"):
        file = io.BytesIO()
        Image.new("RGB", (60, 60), colour).save(file, "PNG")
        weights = np.zeros([4, 4])
        weights[0, 0] = 1
        maps = AttentionMaps(file.getvalue(), ["word"], [weights])
        axes = plots.attention(maps).axes[1]
        drawn = axes.get_images()[0].get_array()
        difference = np.abs(drawn[5, 5] - drawn[50, 50]).max()
        assert difference > 0.2, colour
        assert len(axes.collections) == 2  # a dark and a light line
        signed = plots.contributions(AttentionMaps(file.getvalue(), ["word"], [weights - 0.1]))
        drawn = signed.axes[1].get_images()[0].get_array()
        assert np.ptp(drawn[5, 5]) > 0.2 and drawn[5, 5, 0] > drawn[5, 5, 2]  # orange
        assert drawn[50, 50, 2] > drawn[50, 50, 0]  # blue


def test_bars_of_contributions_show_their_sign():
    figure = plots.contributions(Alignment(["good", "bad"], ["positive"], [[0.5, -0.25]]))
    up, down = figure.axes[0].patches
    assert (up.get_height(), down.get_height()) == (0.5, -0.25)
    assert up.get_facecolor() != down.get_facecolor()


def test_marks_of_blanks_are_not_shown():
    figure = plots.attention(Alignment(["\u2581the", "er"], ["\u2581der"], [[1, 0]]))
    figure.draw_without_rendering()
    labels = [t.get_text() for t in (*figure.axes[0].get_xticklabels(),)]
    assert labels == ["the", "er"]


def study(values, subject="adding", settings=(("length", 100), ("batch_tokens", 8))):
    score = {"adding": "squared_error", "sentiment": "accuracy"}[subject]
    runs = [{"scores": {score: v}, "parameters": 1, "seconds": 1.0} for v in values]
    groups = [study_report.Group("lstm", runs)]
    return study_report.Comparison(subject, settings, groups, {score: 0.167})


def test_titles_and_whiskers_of_studies_are_in_words():
    comparison = study([0.1, 0.2, 0.15])
    assert comparison.heading == "adding, length 100, batch tokens 8"
    figure = study_report.overview([comparison])
    (axes,) = figure.axes
    assert axes.get_title().replace("\n", " ") == comparison.heading
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "one run",
        "mean of the runs",
        "95 % confidence interval of the mean",
        "without memory",
    ]


def test_a_single_run_has_neither_mean_nor_deviation(tmp_path):
    (legend,) = study_report.overview([study([0.1])]).legends
    assert [text.get_text() for text in legend.get_texts()] == ["one run", "without memory"]
    record = {"scores": {"squared_error": 0.1}, "parameters": 1444, "seconds": 1.0}
    records = {Experiment("adding", "lstm", "lstm", 0, ()): record}
    study_report.write(tmp_path, study_report.Preset("A study", {}, [], []), "command", records)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "Each dot is the run of a cell." in page and ">nan<" not in page


@pytest.mark.parametrize("values", [[0.1, 0.2, 0.15], [0.10, 0.101], [0.5, 0.5, 0.5], [1e-6, 0.2]])
def test_whiskers_are_within_the_axis_or_end_in_an_arrow(values):
    comparison = study(values)
    (axes,) = study_report.overview([comparison]).axes
    (group,) = comparison.groups
    low, high = axes.get_xlim()
    lines = {line.get_label(): line for line in axes.get_lines()}
    whisker = lines["95 % confidence interval of the mean"].get_xdata()
    assert low < min(whisker) and max(whisker) < high
    ends = (group.mean - group.interval, group.mean + group.interval)
    marks = [line for line in axes.get_lines() if line.get_marker() in tuple("<>|")][-2:]
    for end, drawn, mark, arrow in zip(ends, whisker, marks, "<>", strict=True):
        assert mark.get_xdata() == [drawn]
        assert mark.get_marker() == ("|" if drawn == pytest.approx(end) else arrow)


def test_whiskers_of_shares_stay_between_0_and_1():
    (axes,) = study_report.overview([study([0.2, 1.0], "sentiment")]).axes
    low, high = axes.get_xlim()
    assert -0.1 < low < 0 and 1 < high < 1.1
    assert {line.get_marker() for line in axes.get_lines()} > {"<", ">"}


def test_curves_of_many_cells_have_room_beside_their_legend():
    history = [{"steps": steps, "accuracy": 0.5} for steps in (10, 20)]
    run = {"scores": {"accuracy": 0.5}, "parameters": 1, "seconds": 1.0, "history": history}
    groups = [study_report.Group(f"lstm, forget gate blind to {n}", [run]) for n in range(18)]
    figure = study_report.progress(study_report.Comparison("adding", (), groups, {}))
    plots.png(figure)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    box, (legend,) = axes.get_window_extent(), figure.legends
    assert box.width > 0.6 * figure.bbox.width and box.height > 2 * figure.dpi
    assert not box.overlaps(legend.get_window_extent())


def test_scores_over_training_are_plotted_if_all_runs_have_them():
    comparison = study([0.1, 0.2])
    assert study_report.evaluated_steps(comparison) == []
    for record, scores in zip(comparison.groups[0].records, ((3, 1), (5, 2)), strict=True):
        record["history"] = [
            {"steps": 50 * (n + 1), "squared_error": score} for n, score in enumerate(scores)
        ]
    assert study_report.evaluated_steps(comparison) == [50, 100]
    (axes,) = study_report.progress(comparison).axes
    line, chance = axes.get_lines()
    assert [*line.get_xdata()] == [50, 100] and [*line.get_ydata()] == [4, 1.5]
    assert set(chance.get_ydata()) == {0.167}
    record["history"] = record["history"][:1]  # a run that diverged
    assert study_report.evaluated_steps(comparison) == []


def test_settings_that_are_paths_are_not_in_a_heading():
    settings = (("data", "/home/me/x"), ("units", 3))
    assert Experiment("tagging", "", "", 0, settings).title == "tagging units=3"
    assert study([0.5], "sentiment", settings).heading == "sentiment, units 3"
