"""A look inside a version: a page that stands alone, its pictures, and what it refuses."""

import base64
import io
import re
from html import escape
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

import tasks
from app import cli, look
from app.report import heatmaps
from app.serving import export
from models.cells.recurrent import GatedRNN
from models.cells.specs import CELLS
from models.cells.tracing import trace
from tasks.core.inspection import Reading
from tests.support import by_task
from tests.support.untrained import examples

T, D, H = 5, 4, 6
TEXT = "the old man saw the tower , and the women slept ."
EACH = {spec.equation: name for name, spec in CELLS.items()} | {"projected": "lstm_projected"}

# What each answers, of what its signature gives.
ANSWERS = {
    "sentiment": lambda answer: answer["label"].decode(),
    "tagging": lambda answer: b" ".join(
        word + b"/" + tag for word, tag in zip(answer["tokens"], answer["tags"], strict=True)
    ).decode(),
    "translation": lambda answer: answer["translation"].decode(),
    "captioning": lambda answer: answer["caption"].decode(),
}


@pytest.fixture
def asked(tmp_path):
    """What each task is asked: a text, or the path of an image."""
    image = tmp_path / "image.png"
    image.write_bytes(next(iter(examples("captioning"))).values["image_bytes"])
    return lambda task: str(image) if task == "captioning" else TEXT


class Page(HTMLParser):
    """The headings, pictures and outer links of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sources, self.links = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        told = dict(attrs)
        if tag == "img":
            self.sources.append(told["src"])
            assert told["alt"]
        self.links += [told[name] for name in ("href", "srcset", "action") if name in told]


@pytest.mark.parametrize("task", tasks.names())
def test_every_task_is_looked_into(task, untrained_versions, here, asked, tmp_path, capsys):
    argv = [task, asked(task), "--saved-models", str(untrained_versions)]
    folder = look.main([*argv, "--out", str(tmp_path / "out")])
    text = (folder / "index.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not page.tags & {"script", "link", "iframe", "object"} and not page.links
    assert "url(" not in text and "@import" not in text
    pictures = {path.read_bytes() for path in folder.glob("*.png")}
    prefix = "data:image/png;base64,"
    assert all(source.startswith(prefix) for source in page.sources)
    assert {base64.b64decode(source.removeprefix(prefix)) for source in page.sources} == pictures
    for picture in pictures:
        drawn = np.array(Image.open(io.BytesIO(picture)).convert("L"))
        assert drawn.std() > 5 and max(drawn.shape) < 3000
    assert len(list(folder.iterdir())) == len(page.sources) + 1
    told = capsys.readouterr().out.splitlines()
    assert f"<b>{escape(told[0])}</b>" in text
    assert str(folder / "index.html") in told[1]
    row, _ = next(iter(tasks.find(task).RequestFormat().requests([asked(task).encode()])))
    (answer,) = here(export.find(untrained_versions, task)).predict([row])
    assert told[0].split(" (")[0] == by_task.lookup(
        ANSWERS, task, "ANSWERS of tests/app/test_look.py"
    )(answer)


def test_a_token_is_chosen_and_others_are_told(untrained_versions, here, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "looks/sentiment/4").mkdir(parents=True)
    odd = "not dull , dull <b> $x$ \udcff"  # what the shell gives of bytes that are no UTF-8
    argv = ["sentiment", odd, "--saved-models", str(untrained_versions)]
    folder = look.main([*argv, "--token", "dull:2"])
    assert str(folder) == "looks/sentiment/5"  # the next number
    text = (folder / "index.html").read_text(encoding="utf-8")
    assert text.count("The units that change most at dull, step 4") == 2
    assert "not dull , dull &lt;b&gt; $x$ \ufffd" in text
    with pytest.raises(
        cli.UserError, match=r"--token must be one of \['not', 'dull', ',', 'dull:2'"
    ):
        look.main([*argv, "--at", "dul"])
    assert len(list(folder.parent.iterdir())) == 2
    (tmp_path / "mine").write_text("mine")
    for out in (str(folder), "mine"):
        with pytest.raises(cli.UserError, match="--out must be a new or an empty folder"):
            look.main([*argv, "--out", out])
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["sentiment", "dull", "--version", "7"], "--version must be one of [1]"),
        (["sentiment", "  "], "nothing to inspect"),
        (["captioning", "nowhere.png"], "nowhere.png: cannot be read"),
        (["sentiments", "dull"], "invalid choice"),
        (["sentiment"], "required: text"),
    ],
)
def test_what_cannot_be_looked_into_is_told(argv, message, untrained_versions, here, capsys):
    places = ["--saved-models", str(untrained_versions)] if argv[0] != "sentiments" else []
    with pytest.raises(SystemExit) as ended:
        cli.run(lambda: look.main([*argv, *places]))
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_help_names_the_gradient_experiment(capsys):
    for argv in (["--help"], ["gradients", "--help"]):
        with pytest.raises(SystemExit):
            look.main(argv)
        assert "gradients" in capsys.readouterr().out


# --- What is drawn -----------------------------------------------------------


def read(name, steps=T, **kwargs):
    """What a cell with drawn weights did."""
    layer = GatedRNN(H, CELLS[name], return_sequences=True, **kwargs)
    layer.build((None, None, D))
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    with trace(layer) as seen:
        layer(rng.normal(size=(1, steps, D)).astype("float32"))
    return Reading("a $reader", [f"${at}" for at in range(steps)], seen[0].row(0))


@pytest.mark.parametrize("name", EACH.values())
def test_the_maps_of_every_equation_are_drawn_by_their_names(name):
    reading = read(name)
    drawn = heatmaps.maps(reading)
    gates = [f"{gate} gate" for gate in reading.trace.gates]
    states = ["cell state c", "output h"] if "c" in reading.trace.states else ["output h"]
    assert list(drawn) == [*gates, "candidate", *states]
    figure = heatmaps.strips(reading, 2)
    assert [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")] == [
        *drawn
    ]
    labels = [label.get_text() for label in figure.axes[2 * len(drawn) - 1].get_xticklabels()]
    assert labels == [rf"\${at}" for at in range(T)]
    heatmaps.changes(reading, 2)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_the_units_that_change_most_are_those_of_plain_counting(direction):
    reading = read("lstm", direction=direction)
    c = reading.trace.states["c"]
    way = 1 if direction == "forward" else -1
    for step in (0, 2, T - 1):
        before = step - way
        old = c[before] if 0 <= before < T else np.zeros(H)
        want = np.argsort(-np.abs(c[step] - old))
        axes = heatmaps.changes(reading, step).axes[0]
        assert [label.get_text() for label in axes.get_yticklabels()] == [
            f"unit {unit}" for unit in want
        ]
        start, end = (line.get_xdata() for line in axes.get_lines()[1:3])
        np.testing.assert_allclose(start, old[want], atol=1e-6)
        np.testing.assert_allclose(end, c[step][want], atol=1e-6)


def test_shares_are_those_of_plain_counting():
    reading = read("gru", steps=40)
    for name, mean, low, high in heatmaps.shares(reading):
        values = reading.trace.gates[name].ravel().tolist()
        assert mean == pytest.approx(sum(values) / len(values), rel=1e-5)
        assert low == sum(value < 0.1 for value in values) / len(values) > 0
        assert high == sum(value > 0.9 for value in values) / len(values) > 0


def test_units_that_go_alike_stand_side_by_side():
    rng = np.random.default_rng(0)
    courses = np.stack([np.sin(np.arange(30) / 4), np.linspace(-1, 1, 30), -np.ones(30)])
    kinds = rng.permutation(np.repeat([0, 1, 2], 7))
    values = courses[kinds].T + rng.normal(scale=0.02, size=(30, 21))
    placed = kinds[heatmaps.order(values)]
    turns = sum(one != other for one, other in zip(placed, np.roll(placed, 1), strict=True))
    assert turns <= 4  # around a circle, three kinds could do with three
    for odd in (np.zeros([3, 4]), rng.normal(size=(1, 5)), rng.normal(size=(4, 1))):
        assert sorted(heatmaps.order(odd)) == list(range(odd.shape[1]))


def test_of_many_steps_those_around_the_chosen_are_drawn():
    assert heatmaps.window(7, 3) == slice(0, 7)
    for at in (0, 39, 41, 150, 199):
        shown = heatmaps.window(200, at)
        assert shown.stop - shown.start == heatmaps.STEPS
        assert 0 <= shown.start <= at < shown.stop <= 200
    reading = read("gru", steps=heatmaps.STEPS + 9)
    figure = heatmaps.strips(reading, heatmaps.STEPS + 5)
    labels = [re.sub(r"\D", "", t.get_text()) for t in figure.axes[7].get_xticklabels()]
    assert labels == [str(at) for at in range(9, heatmaps.STEPS + 9)]
