"""Report of a run: its scores, learning curves, mistakes and model card, as one HTML page."""

import base64
import functools
from collections.abc import Callable, Mapping, Sequence
from html import escape

from matplotlib.figure import Figure

from app import images
from app.console import encodable, say
from app.report import fonts, plots
from tasks.core.evaluation import Alignment, AttentionMaps, Confusion, Evaluation, Table

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; margin: 2rem auto; max-width: 60rem;
  padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 0.9rem; }
th, td { text-align: left; vertical-align: top; padding: 0.25rem 0.75rem 0.25rem 0; }
th { border-bottom: 1px solid #999; } td { border-bottom: 1px solid #eee; }
td.number { font-variant-numeric: tabular-nums; }
td { overflow-wrap: anywhere; }
svg { max-width: 100%; height: auto; }
img { max-width: 16rem; max-height: 8rem; }
.scores { font-size: 1.25rem; } .scores b { margin-right: 2rem; }
"""

_MAX_IMAGE_BYTES = 2**16  # of an image in a table; photographs would make the page too large
_IMAGE_SIZE = (512, 256)  # twice the size of the style sheet, for screens of high density


def page(
    record: Mapping,
    history: Sequence[Mapping[str, float]],
    evaluation: Evaluation,
    limits: Sequence[str] = (),
    illustrations: Sequence[Alignment | AttentionMaps] = (),
) -> str:
    """Returns the report of a run as HTML.

    Args:
        record: Content of `run.json`.
        history: Metrics of each epoch.
        evaluation: Evaluation of the test part.
        limits: Limits of the task, such as truncated lengths, in sentences.
        illustrations: Attention over examples.
    """
    evaluated = record["evaluated"]
    scores = "".join(f"{escape(k)} <b>{v:.4f}</b>" for k, v in evaluation.scores.items())
    contexts = [f"{k}: {context}" for k in evaluation.scores if (context := evaluation.context(k))]
    parts = [
        f"<h1>{escape(record['task'])}</h1>",
        f"<p>Scores of the SavedModel's signature <code>{escape(evaluated['signature'])}</code> "
        f"on {evaluated['examples']} examples of the {escape(evaluated['part'])} part.</p>",
        f"<p class=scores>{scores}</p>",
        *(f"<p>{escape(line)}</p>" for line in contexts),
        *(f"<p><b>{escape(line)}</b></p>" for line in evaluation.below_baselines()),
        *(f"<p>Warning: {escape(line)}</p>" for line in record.get("warnings", ())),
        "<h2>Learning curves</h2>",
        figure("learning curves", lambda: plots.curves(history, record["best_epoch"])),
    ]
    parts += [table(content) for content in evaluation.tables]
    for confusion in map(Confusion.most_frequent, evaluation.confusions):
        draw = functools.partial(plots.confusion, confusion)
        parts += [f"<h2>{escape(confusion.title)}</h2>", figure(confusion.title, draw)]
    if evaluation.calibration:
        draw = functools.partial(plots.reliability, evaluation.calibration)
        sentence = evaluation.calibration.sentence()
        parts += [
            "<h2>Calibration</h2>",
            f"<p>{escape(sentence[:1].upper() + sentence[1:])}.</p>",
            figure("calibration", draw),
        ]
    if illustrations:
        parts.append("<h2>Attention</h2>")
    for number, weights in enumerate(illustrations, start=1):
        draw = functools.partial(plots.attention, weights)
        parts.append(figure(f"attention {number}", draw))
    if evaluation.mistakes:
        parts.append(table(evaluation.mistakes))
        if not evaluation.mistakes.rows:
            parts.append("<p>None.</p>")
    parts += ["<h2>Model card</h2>", *_card(record, limits)]
    return whole(f"{record['task']}: {record['data']['source']}", parts)


def figure(
    name: str, draw: Callable[[], Figure], write: Callable[[Figure], object] | None = None
) -> str:
    """Returns a figure as HTML, or a sentence in its place if it cannot be drawn.

    Below it is a table of the texts that no font of this machine can draw, if there are any.

    The page belongs to results that took long to compute, and a figure is not worth them.
    Therefore any error of a figure is printed in one line instead of raised.

    Args:
        name: Name of the figure, for the message.
        draw: Draws the figure.
        write: Also writes the figure to a file.
    """
    try:
        drawn = draw()
        numbered = fonts.make_legible(drawn)
        if write:
            write(drawn)
        return plots.svg(drawn) + numbered_texts(numbered)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        message = f"the figure {name!r} is left out, because it cannot be drawn: {reason:.300}"
        say(message)
        return f"<p>{escape(message)}</p>"


def numbered_texts(texts: Sequence[Sequence[str]]) -> str:
    """Returns the table of the texts that are numbered in a figure, as HTML; "" if none is."""
    return rows(Table("", ["number in the figure", "text"], texts)) if texts else ""


def whole(title: str, parts: Sequence[str]) -> str:
    """Returns a self-contained HTML page, which UTF-8 can encode.

    Args:
        title: Title of the page.
        parts: Content of the page, as HTML.
    """
    return encodable(
        f"<!doctype html>\n<html lang=en><meta charset=utf-8><title>{escape(title)}</title>"
        f"<style>{_STYLE}</style>\n" + "\n".join(parts) + "\n</html>\n"
    )


def _card(record: Mapping, limits: Sequence[str]) -> list[str]:
    """Returns the model card: limits and notes, origin of the model, and its configuration."""
    data, config = record["data"], record["config"]
    notes = [
        f"Training data: {escape(data['source'])}. The model has not been evaluated on other kinds "
        "of data.",
        *map(escape, limits),
        *map(escape, data["notes"]),
    ]
    items = "<ul>" + "".join(f"<li>{note}</li>" for note in notes) + "</ul>"
    facts = {
        "data": data["source"],
        "examples": ", ".join(f"{part} {count}" for part, count in data["examples"].items()),
        "SHA-256 of the data": data["checksum"],
        "parameters": f"{record['parameters']:,}",
        "epochs": f"{record['epochs']}; best epoch {record['best_epoch']}",
        "seconds": ", ".join(f"{k} {v:g}" for k, v in record["seconds"].items()),
        "versions": ", ".join(f"{k} {v}" for k, v in record["versions"].items()),
        "commit": record["commit"] or "none",
        "device": record["device"],
    }
    if record.get("command"):
        facts["command"] = record["command"]
    settings = [[name, str(value)] for name, value in config.items()]
    return [
        items,
        table(Table("Data and training", ["item", "value"], list(facts.items()))),
        table(Table("Configuration", ["setting", "value"], settings)),
    ]


def table(content: Table) -> str:
    """Returns a table as HTML, below its title."""
    return f"<h2>{escape(content.title)}</h2>{rows(content)}"


def rows(content: Table) -> str:
    """Returns a table as HTML, without its title."""
    head = "".join(f"<th>{escape(column)}</th>" for column in content.columns)
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in content.rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: object) -> str:
    """Returns a table cell as HTML: floats with three digits, bytes as an image."""
    if isinstance(value, float):
        return f"<td class=number>{value:.3f}</td>"
    if isinstance(value, bytes):
        if len(value) > _MAX_IMAGE_BYTES:
            value = images.scaled_down(value, _IMAGE_SIZE) or value
        kind = "png" if value.startswith(b"\x89PNG") else "jpeg"
        data = base64.b64encode(value).decode()
        return f'<td><img src="data:image/{kind};base64,{data}"></td>'
    return f"<td>{escape(str(value))}</td>"
