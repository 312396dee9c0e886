"""BLEU of translation on Multi30k: the default model, and one change at a time.

    DATA_DIR=... python -m benchmarks.translation          # runs what is missing, prints all
    DATA_DIR=... python -m benchmarks.translation --show # prints what there is

Each row is `app.train` with its defaults and the flags told, and then, with what that
came to, once more for each other number of beams. The test part goes through the
signature `serving_default` of each, and sacreBLEU judges the strings. The rows at a fifth
of the epochs are for comparison among themselves. Each row is a file in
runs/benchmarks/, and so is the state of one that was stopped: the command goes on.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import tasks
from app.serving.session import SavedModelSession
from benchmarks import results

FIFTH = 0.2
# A name: from, to, share of the default epochs, the flags beside the defaults, and the beams.
RUNS = {
    "de-en": ("de", "en", 1, [], (4, 1)),
    "en-de": ("en", "de", 1, [], (4, 1)),
    "en-fr": ("en", "fr", 1, [], (4, 1)),
    "fifth": ("de", "en", FIFTH, [], (4, 1, 10)),
    "fifth-no-attention": ("de", "en", FIFTH, ["--attention", "none"], (4,)),
    "fifth-input-feeding": ("de", "en", FIFTH, ["--input-feeding"], (4,)),
    "fifth-lstm": ("de", "en", FIFTH, ["--cell", "lstm"], (4,)),
    "fifth-peephole": ("de", "en", FIFTH, ["--cell", "lstm_peephole"], (4,)),
    "fifth-coupled": ("de", "en", FIFTH, ["--cell", "lstm_coupled"], (4,)),
}
COLUMNS = ["", "epochs", "flags", "beams", "BLEU, lower case", "BLEU", "chrF", "parameters"]


def folder_of(name: str) -> Path:
    """Where the versions of a row are, and its state while it trains."""
    return results.RESULTS / "translation" / name


def measure(name: str) -> dict:
    """The scores that a training comes to, by beams, and its record."""
    source, target, share, flags, beams = RUNS[name]
    task_class = tasks.find("translation")
    data = ["--data", str(results.data_dir() / "translation/multi30k")]
    data += ["--source", source, "--target", target]
    folder, found = folder_of(name), {"scores": {}, "signatures": {}}
    argv = [sys.executable, "-m", "app.train", "translation", *data, *flags]
    argv += ["--epochs", str(max(1, round(share * task_class.Config().epochs)))]
    argv += ["--saved-models", str(folder), "--runs", str(folder / "runs")]
    for width in beams:
        how = ["--beam-size", str(width), "--n-best", "1"]
        subprocess.run([*argv, *how], check=True, stdout=sys.stderr)
    for path in folder.glob("translation/*/assets"):
        task = task_class.restore(path)
        splits = task_class.Corpus(data=data[1], source=source, target=target).open()
        responses = SavedModelSession(path.parent).predict_examples(task, splits.test)
        table = task.Evaluator(task).evaluate(responses).tables[0].rows
        found["scores"][str(task.config.beam_size)] = {name: score for name, score, _ in table}
        found["signatures"] = {name: signature for name, _, signature in table}
        found["record"] = json.loads((path.parent / "assets.extra/run.json").read_text())
    shutil.rmtree(folder / "runs")
    return found


def lines(name: str, result: dict | None) -> list[list[str]]:
    """The lines of the table that a row makes."""
    source, target, _, flags, beams = RUNS[name]
    told = [f"{source}→{target}", "", " ".join(flags) or "defaults"]
    if result is None:
        return [[*told, width, "not run", "", "", ""] for width in beams]
    record, table = result["record"], []
    told[1] = f"{record['best_epoch']} of {record['epochs']}"
    for width in beams:
        scores = result["scores"][str(width)]
        figures = [f"{scores[key]:.2f}" for key in ("bleu, lower case", "bleu", "chrf")]
        table.append([*told, width, *figures, f"{record['parameters']:,}"])
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--show", action="store_true", help="print only what has been run")
    parser.add_argument("--only", choices=RUNS, help="run one row")
    args = parser.parse_args()
    table, measured = [], {}
    for name in RUNS:
        if args.show or (args.only and args.only != name):
            measured[name] = results.known("translation", name)
        else:
            measured[name] = results.result("translation", name, lambda n=name: measure(n))
        table += lines(name, measured[name])
    print(results.markdown(COLUMNS, table))
    minutes = [
        f"{name} {result['record']['seconds']['fit'] / 60:.0f}"
        for name, result in measured.items()
        if result
    ]
    print(f"\n{results.machine()}; test_2016_flickr, 1000 sentences; seed 0; minutes of training:")
    print(", ".join(minutes))
    signatures = next((each["signatures"] for each in measured.values() if each), {})
    print(*(f"{name}: {signature}" for name, signature in signatures.items()), sep="\n")


if __name__ == "__main__":
    main()
