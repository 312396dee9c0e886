"""`app.look`: a self-contained page, its figures, and invalid requests."""

import re
from html import escape
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

import tasks
from app import cli, look
from app.report import heatmaps
from app.serving import versions
from models.cells.recurrent import GatedRNN
from models.cells.specs import CELLS
from models.cells.tracing import trace
from tasks.core.inspection import Reading
from tests.support import by_task
from tests.support.cells import PLAIN, REST, slow_except
from tests.support.untrained import examples

T, D, H = 5, 4, 6
TEXT = "the old man saw the tower , and the women slept ."
EACH = (*PLAIN, *REST, "lstm_projected")
TITLES = {"c": "cell state c", "h": "output h"}

# Text of a response, by task.
RESPONSE_TEXTS = {
    "sentiment": lambda response: response["label"].decode(),
    "tagging": lambda response: b" ".join(
        word + b"/" + tag for word, tag in zip(response["tokens"], response["tags"], strict=True)
    ).decode(),
    "translation": lambda response: response["translation"].decode(),
    "captioning": lambda response: response["caption"].decode(),
    "language_model": lambda response: f"perplexity {response['perplexity']:.4g}",
}


@pytest.fixture
def request_text(tmp_path):
    """Request by task: a text, or the path of an image."""
    image = tmp_path / "image.png"
    image.write_bytes(next(iter(examples("captioning"))).values["image_bytes"])
    return lambda task: str(image) if task == "captioning" else TEXT


class Page(HTMLParser):
    """Tags, number of figures, and links of a page that lead out of it."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.figures, self.links = set(), 0, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        attributes = dict(attrs)
        if tag == "svg":
            self.figures += 1
            assert attributes["role"] == "img" and attributes["aria-label"]
        names = ("href", "src", "xlink:href", "srcset", "action")
        links = [attributes[name] for name in names if name in attributes]
        self.links += [link for link in links if not link.startswith(("#", "data:image/png;"))]


@pytest.mark.parametrize("task", slow_except(["sentiment", "tagging"], tasks.names()))
def test_every_task_can_be_inspected(
    task, untrained_versions, here, request_text, tmp_path, capsys
):
    argv = [task, request_text(task), "--saved-models", str(untrained_versions)]
    folder = look.main([*argv, "--out", str(tmp_path / "out")])
    text = (folder / "index.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not page.tags & {"script", "link", "iframe", "object"} and not page.links
    assert not re.search(r"url\((?!#)", text) and "@import" not in text
    figures = sorted(folder.glob("*.png"))
    assert len(figures) == page.figures
    assert [path.name[:2] for path in figures] == [f"{n:02}" for n in range(1, len(figures) + 1)]
    for figure in figures:
        pixels = np.array(Image.open(figure).convert("L"))
        assert pixels.std() > 5 and max(pixels.shape) < 3000
    assert len(list(folder.iterdir())) == len(figures) + 1
    assert "Integrated gradients" in text and f"python -m app.look {task}" in text
    lines = capsys.readouterr().out.splitlines()
    assert f"<b>{escape(lines[0])}</b>" in text
    assert str(folder / "index.html") in lines[1]
    requests = tasks.find(task).RequestFormat().requests([request_text(task).encode()])
    row, _ = next(iter(requests))
    (response,) = here(versions.find(untrained_versions, task)).predict([row])
    response_text = by_task.lookup(RESPONSE_TEXTS, task, "RESPONSE_TEXTS of tests/app/test_look.py")
    assert lines[0].split(" (")[0] == response_text(response)


def test_a_token_can_be_selected_and_unknown_tokens_are_rejected(
    untrained_versions, here, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "looks/sentiment/4").mkdir(parents=True)
    odd = "not dull , dull <b> $x$ \udcff"  # as the shell passes invalid UTF-8
    argv = ["sentiment", odd, "--saved-models", str(untrained_versions)]
    folder = look.main([*argv, "--token", "dull:2"])
    assert str(folder) == "looks/sentiment/5"  # the next number
    text = (folder / "index.html").read_text(encoding="utf-8")
    assert text.count("Units that change most at dull, step 4") == 2
    assert "not dull , dull &lt;b&gt; $x$ \ufffd" in text
    assert (
        str(untrained_versions) not in text and f"--saved-models {untrained_versions.name}" in text
    )
    tokens = r"--token must be one of \['not', 'dull', ',', 'dull:2'"
    with pytest.raises(cli.UserError, match=tokens):
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
def test_invalid_requests_are_rejected(argv, message, untrained_versions, here, capsys):
    places = ["--saved-models", str(untrained_versions)] if argv[0] != "sentiments" else []
    with pytest.raises(SystemExit) as ended:
        cli.run(lambda: look.main([*argv, *places]))
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_help_names_the_gradient_experiment(capsys):
    for argv, text in ((["--help"], "\n    gradients "), (["gradients", "--help"], "gradients")):
        with pytest.raises(SystemExit):
            look.main(argv)
        assert text in capsys.readouterr().out


# --- Figures -----------------------------------------------------------


def read(name, steps=T, **kwargs):
    """Returns the trace of a cell with random weights."""
    layer = GatedRNN(H, CELLS[name], return_sequences=True, **kwargs)
    layer.build((None, None, D))
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    with trace(layer) as traces:
        layer(rng.normal(size=(1, steps, D)).astype("float32"))
    return Reading("a $reader", [f"${step}" for step in range(steps)], traces[0].row(0))


@pytest.mark.parametrize("cell", slow_except((*PLAIN, "nas", "rwkv", "lstm_projected"), EACH))
def test_the_maps_of_every_equation_are_plotted_by_name(cell):
    reading = read(cell)
    plotted = heatmaps.maps(reading)
    gates = [f"{gate} gate" for gate in reading.trace.gates]
    gate_names = CELLS[cell].definition.gates
    states = [name for name in reading.trace.states if name not in gate_names]
    states = [TITLES.get(name, name) for name in reversed(states)]
    assert list(plotted) == [*gates, "candidate", *states]
    figure = heatmaps.traces(reading, 2)
    assert [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")] == [
        *plotted
    ]
    labels = [label.get_text() for label in figure.axes[2 * len(plotted) - 1].get_xticklabels()]
    assert labels == [rf"\${step}" for step in range(T)]
    heatmaps.state_changes(reading, 2)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_the_units_that_change_most_are_plotted(direction):
    reading = read("lstm", direction=direction)
    c = reading.trace.states["c"]
    direction_step = 1 if direction == "forward" else -1
    for step in (0, 2, T - 1):
        before = step - direction_step
        old = c[before] if 0 <= before < T else np.zeros(H)
        expected = np.argsort(-np.abs(c[step] - old))
        axes = heatmaps.state_changes(reading, step).axes[0]
        assert [label.get_text() for label in axes.get_yticklabels()] == [
            f"unit {unit}" for unit in expected
        ]
        start, end = (line.get_xdata() for line in axes.get_lines()[1:3])
        np.testing.assert_allclose(start, old[expected], atol=1e-6)
        np.testing.assert_allclose(end, c[step][expected], atol=1e-6)


def test_gate_shares_are_counted():
    reading = read("gru", steps=40)
    for name, mean, low, high in heatmaps.gate_shares(reading):
        values = reading.trace.gates[name].ravel().tolist()
        assert mean == pytest.approx(sum(values) / len(values), rel=1e-5)
        assert low == sum(value < 0.1 for value in values) / len(values) > 0
        assert high == sum(value > 0.9 for value in values) / len(values) > 0


def test_similar_units_are_side_by_side():
    rng = np.random.default_rng(0)
    courses = np.stack([np.sin(np.arange(30) / 4), np.linspace(-1, 1, 30), -np.ones(30)])
    kinds = rng.permutation(np.repeat([0, 1, 2], 7))
    values = courses[kinds].T + rng.normal(scale=0.02, size=(30, 21))
    ordered = kinds[heatmaps.unit_order(values)]
    turns = sum(one != other for one, other in zip(ordered, np.roll(ordered, 1), strict=True))
    assert turns <= 4  # the least is three, around a circle
    for odd in (np.zeros([3, 4]), rng.normal(size=(1, 5)), rng.normal(size=(4, 1))):
        assert sorted(heatmaps.unit_order(odd)) == list(range(odd.shape[1]))


def test_of_many_steps_those_around_the_marked_one_are_plotted():
    assert heatmaps.window(7, 3) == slice(0, 7)
    for step in (0, 39, 41, 150, 199):
        shown = heatmaps.window(200, step)
        assert shown.stop - shown.start == heatmaps.MAX_STEPS
        assert 0 <= shown.start <= step < shown.stop <= 200
    reading = read("gru", steps=heatmaps.MAX_STEPS + 9)
    figure = heatmaps.traces(reading, heatmaps.MAX_STEPS + 5)
    labels = [re.sub(r"\D", "", t.get_text()) for t in figure.axes[7].get_xticklabels()]
    assert labels == [str(step) for step in range(9, heatmaps.MAX_STEPS + 9)]
