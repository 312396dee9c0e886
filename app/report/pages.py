"""The page itself: what a model is, how it came to be, how well it does, and where it fails."""

import base64
from collections.abc import Mapping, Sequence
from html import escape

from app.report import plots
from tasks.core.evaluation import Alignment, AttentionMaps, Evaluation, Table

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


def page(
    record: Mapping,
    history: Sequence[Mapping[str, float]],
    judgement: Evaluation,
    limits: Sequence[str] = (),
    looks: Sequence[Alignment | AttentionMaps] = (),
) -> str:
    """Returns the page of a run as HTML.

    Args:
        record: What `run.json` says.
        history: The figures of each epoch.
        judgement: What the judge found in the test part.
        limits: What `Task.limits` tells.
        looks: What `Task.illustrate` shows.
    """
    judged = record["evaluated"]
    scores = "".join(f"{escape(k)} <b>{v:.4f}</b>" for k, v in judgement.scores.items())
    parts = [
        f"<h1>{escape(record['task'])}</h1>",
        f"<p>Judged through <code>{escape(judged['signature'])}</code> of the SavedModel "
        f"on {judged['examples']} examples of the {escape(judged['part'])} part.</p>",
        f"<p class=scores>{scores}</p>",
        "<h2>Learning curves</h2>",
        plots.svg(plots.curves(history, record["best_epoch"])),
    ]
    parts += [table(each) for each in judgement.tables]
    for confusion in judgement.confusions:
        drawn = plots.svg(plots.confusion(confusion))
        parts += [f"<h2>{escape(confusion.title)}</h2>", drawn]
    if looks:
        drawn = [plots.svg(plots.attention(each)) for each in looks]
        parts += ["<h2>What each word looked at</h2>", *drawn]
    if judgement.mistakes:
        none = "" if judgement.mistakes.rows else "<p>None.</p>"
        parts += [table(judgement.mistakes) + none]
    parts += ["<h2>Model card</h2>", *_card(record, limits)]
    return whole(f"{record['task']}: {record['data']['source']}", parts)


def whole(title: str, parts: Sequence[str]) -> str:
    """A page of parts that are HTML: one file that needs no other and no network."""
    return (
        f"<!doctype html>\n<html lang=en><meta charset=utf-8><title>{escape(title)}</title>"
        f"<style>{_STYLE}</style>\n" + "\n".join(parts) + "\n</html>\n"
    )


def _card(record, limits) -> list[str]:
    data, config = record["data"], record["config"]
    notes = [
        f"Answers what its training data asks: {escape(data['source'])}. What it gives for other "
        "kinds of text has not been judged.",
        *map(escape, limits),
        *map(escape, data["notes"]),
    ]
    listed = "<ul>" + "".join(f"<li>{note}</li>" for note in notes) + "</ul>"
    examples = ", ".join(f"{part} {count}" for part, count in data["examples"].items())
    facts = {
        "data": data["source"],
        "examples": examples,
        "SHA-256 of the data": data["checksum"],
        "parameters": f"{record['parameters']:,}",
        "epochs": f"{record['epochs']}, the best is {record['best_epoch']}",
        "seconds": ", ".join(f"{k} {v:g}" for k, v in record["seconds"].items()),
        "versions": ", ".join(f"{k} {v}" for k, v in record["versions"].items()),
        "commit": record["commit"] or "none",
        "device": record["device"],
    }
    return [
        listed,
        table(Table("Origin", ["what", "is"], list(facts.items()))),
        table(Table("Config", ["setting", "value"], [[k, str(v)] for k, v in config.items()])),
    ]


def table(told: Table) -> str:
    """A table as HTML, under its title."""
    return f"<h2>{escape(told.title)}</h2>{rows(told)}"


def rows(told: Table) -> str:
    """A table as HTML, without its title."""
    head = "".join(f"<th>{escape(column)}</th>" for column in told.columns)
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in told.rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value) -> str:
    if isinstance(value, float):
        return f"<td class=number>{value:.3f}</td>"
    if isinstance(value, bytes):
        kind = "png" if value.startswith(b"\x89PNG") else "jpeg"
        data = base64.b64encode(value).decode()
        return f'<td><img src="data:image/{kind};base64,{data}"></td>'
    return f"<td>{escape(str(value))}</td>"
