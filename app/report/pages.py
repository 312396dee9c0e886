"""Report of a run: its scores, learning curves, mistakes and model card, as one HTML page."""

import functools
from collections.abc import Mapping, Sequence
from html import escape

from app.core.console import counted
from app.report import plots
from app.report.layout import figure, figures, paragraph, table, whole
from tasks.core.evaluation import Alignment, AttentionMaps, Confusion, Evaluation, Table

# Stages of a training whose names in `run.json` are older than the glossary.
_STAGES = {"export_and_judge": "export and evaluate"}


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
    scores = "".join(
        f"<li class=short>{escape(name.replace('_', ' '))} <b>{value:.4f}</b></li>"
        for name, value in evaluation.scores.items()
    )
    contexts = [
        f"{name.replace('_', ' ')}: {context}"
        for name in evaluation.scores
        if (context := evaluation.context(name))
    ]
    parts = [
        f"<p>Scores of the SavedModel's signature <code>{escape(evaluated['signature'])}</code> "
        f"on {counted(evaluated['examples'], 'example')} of the {escape(evaluated['part'])} "
        "part.</p>",
        f"<ul class=scores>{scores}</ul>",
        *map(paragraph, contexts),
        *(f"<p><b>{escape(line)}</b></p>" for line in evaluation.below_baselines()),
        *(f"<p>Warning: {escape(line)}</p>" for line in record.get("warnings", ())),
        "<h2>Learning curves</h2>",
        figures([_curve(history, record["best_epoch"], n) for n in plots.metrics(history)]),
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
    title = f"{_model(record)}: {record['data']['source']}"
    return whole(title, parts, record.get("command", ""), record.get("date", ""))


def _model(record: Mapping) -> str:
    """Returns the name of the model, and its task where that is another."""
    name, task = record.get("name", record["task"]), record["task"]
    return task if name == task else f"{name} ({task})"


def _curve(history: Sequence[Mapping[str, float]], best_epoch: int, name: str) -> str:
    """Returns the learning curve of one metric as HTML."""
    draw = functools.partial(plots.curves, history, best_epoch, [name])
    return figure(f"learning curve of {name}", draw)


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
        "seconds": ", ".join(
            f"{_STAGES.get(stage, stage)} {seconds:g}"
            for stage, seconds in record["seconds"].items()
        ),
        "versions": ", ".join(f"{k} {v}" for k, v in record["versions"].items()),
        "commit": record["commit"] or "none",
        "device": record["device"],
    }
    settings = [[name, str(value)] for name, value in config.items()]
    return [
        items,
        table(Table("Data and training", ["item", "value"], list(facts.items()))),
        table(Table("Configuration", ["setting", "value"], settings)),
    ]
