"""BLEU of translation on Multi30k: the defaults, and one change at a time.

    DATA_DIR=... python -m benchmarks.translation          # runs missing rows, prints all
    DATA_DIR=... python -m benchmarks.translation --show # prints the rows that have been run

Each row is a run of `app.train` with its defaults and the listed flags; for other beam sizes the
trained weights are published again. The test part is translated through the signature
`serving_default` of each version, and evaluated with sacreBLEU. Rows with a fifth of the epochs
are comparable with each other only. Records and the state of training are stored in
runs/benchmarks/, so an interrupted command resumes.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import tasks
from app.serving.session import SavedModelSession
from benchmarks import records

EPOCHS, FIFTH = 15, 0.2  # of a corpus of this size
CONFIGS = "translation/[0-9]*/assets/config.json"  # of the versions of a row
ENSEMBLE = ["--ensemble", "3"]
# Source, target, share of the default epochs, flags of `app.train`, and beam sizes, by row.
RUNS = {
    "de-en": ("de", "en", 1, [], (4, 1)),
    "en-de": ("en", "de", 1, [], (4, 1)),
    "en-fr": ("en", "fr", 1, [], (4, 1)),
    "de-en-bpe-dropout": ("de", "en", 1, ["--bpe-dropout", "0.1"], (4, 1)),
    "de-en-cosine": ("de", "en", 1, ["--schedule", "cosine"], (4, 1)),
    "de-en-ensemble": ("de", "en", 1, ENSEMBLE, (4, 1)),
    "de-en-distilled": ("de", "en", 1, [*ENSEMBLE, "--distill"], (4, 1)),
    "en-de-ensemble": ("en", "de", 1, ENSEMBLE, (4, 1)),
    "en-de-distilled": ("en", "de", 1, [*ENSEMBLE, "--distill"], (4, 1)),
    "fifth": ("de", "en", FIFTH, [], (4, 1, 10)),
    "fifth-no-attention": ("de", "en", FIFTH, ["--attention", "none"], (4,)),
    "fifth-input-feeding": ("de", "en", FIFTH, ["--input-feeding"], (4,)),
    "fifth-lstm": ("de", "en", FIFTH, ["--cell", "lstm"], (4,)),
    "fifth-peephole": ("de", "en", FIFTH, ["--cell", "lstm_peephole"], (4,)),
    "fifth-coupled": ("de", "en", FIFTH, ["--cell", "lstm_coupled"], (4,)),
}
# Rows whose networks are trained once for all of them, so that they share the state of training.
SHARED = [[f"{pair}-ensemble", f"{pair}-distilled"] for pair in ("de-en", "en-de")]
COLUMNS = [
    "direction",
    "epochs",
    "flags",
    "beam size",
    "BLEU, lower case",
    "BLEU",
    "chrF",
    "parameters",
]


def folder_of(name: str) -> Path:
    """Returns the folder of the versions of a row."""
    return records.RECORDS / "translation" / name


def state_of(name: str) -> tuple[Path, bool]:
    """Returns the folder of the state of a row's training, and whether other rows need it."""
    rows = next((rows for rows in SHARED if name in rows), [name])
    others = [row for row in rows if row != name and not records.load("translation", row)]
    return folder_of(rows[0]) / "runs", bool(others)


def measure(name: str) -> dict:
    """Trains a row, and returns its scores by beam size, with the record of the version."""
    source, target, share, flags, beams = RUNS[name]
    task_class = tasks.find("translation")
    data = ["--data", str(records.data_dir() / "translation/multi30k")]
    data += ["--source", source, "--target", target]
    folder, result = folder_of(name), {"scores": {}, "signatures": {}}
    state, is_needed = state_of(name)
    argv = [sys.executable, "-m", "app.train", "translation", *data, *flags]
    argv += ["--epochs", str(max(1, round(share * EPOCHS)))]
    argv += ["--saved-models", str(folder), "--runs", str(state)]
    published = [json.loads(p.read_text())["beam_size"] for p in folder.glob(CONFIGS)]
    for width in beams:
        if width in published:  # before an interruption
            continue
        beam_flags = ["--beam-size", str(width), "--n-best", "1"]
        subprocess.run([*argv, *beam_flags], check=True, stdout=sys.stderr)
    for path in (config.parent for config in folder.glob(CONFIGS)):
        task = task_class.restore(path)
        splits = task_class.Corpus(data=data[1], source=source, target=target).open()
        responses = SavedModelSession(path.parent).predict_examples(task, splits.test)
        evaluation = task.Evaluator(task).evaluate(responses)
        table = evaluation.tables[0].rows
        result["scores"][str(task.config.beam_size)] = {name: score for name, score, _ in table}
        result["signatures"] = {name: signature for name, _, signature in table}
        result["record"] = json.loads((path.parent / "assets.extra/run.json").read_text())
    if not is_needed:
        shutil.rmtree(state)
    return result


def table_rows(name: str, result: dict | None) -> list[list[str]]:
    """Returns the rows of the table, one for each beam size."""
    source, target, _, flags, beams = RUNS[name]
    head = [f"{source}→{target}", "", " ".join(flags) or "defaults"]
    if result is None:
        return [[*head, width, "not run", "", "", ""] for width in beams]
    record, rows = result["record"], []
    head[1] = f"{record['best_epoch']} of {record['epochs']}"
    for width in beams:
        scores = result["scores"][str(width)]
        figures = [f"{scores[key]:.2f}" for key in ("bleu, lower case", "bleu", "chrf")]
        rows.append([*head, width, *figures, f"{record['parameters']:,}"])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--show", action="store_true", help="print only rows that have been run")
    parser.add_argument("--only", choices=RUNS, help="run one row")
    args = parser.parse_args()
    rows, results = [], {}
    for name in RUNS:
        if args.show or (args.only and args.only != name):
            results[name] = records.load("translation", name)
        else:
            results[name] = records.load_or_measure("translation", name, lambda n=name: measure(n))
        if results[name] or not args.show:
            rows += table_rows(name, results[name])
    print(records.markdown_table(COLUMNS, rows))
    minutes = [
        f"{name} {result['record']['seconds']['fit'] / 60:.0f}"
        for name, result in results.items()
        if result
    ]
    print(f"\n{records.machine()}; test_2016_flickr, 1000 sentences; seed 0; minutes of training:")
    print(", ".join(minutes))
    signatures = next((result["signatures"] for result in results.values() if result), {})
    print(*(f"{name}: {signature}" for name, signature in signatures.items()), sep="\n")


if __name__ == "__main__":
    main()
