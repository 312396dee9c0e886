"""One network for tags, features and lemmas of a treebank, next to one network for each.

    DATA_DIR=... python -m benchmarks.ud --data ewt          # runs missing rows, prints all
    DATA_DIR=... python -m benchmarks.ud --data sequoia --seeds 0,1,2
    DATA_DIR=... python -m benchmarks.ud --data ewt --show   # prints the rows that have been run

Each row is a run of `app.train` with its defaults and the listed `--tags`. UPOS, UFeats and Lemmas
are those of the official evaluation on gold tokens, of the signature `tokens` of the published
version. Seconds are those of training alone. Records are stored in runs/benchmarks/, so an
interrupted command resumes.
"""

import argparse
import functools
import hashlib
import shlex
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import records

TREEBANKS = {"ewt": "en_ewt", "sequoia": "fr_sequoia"}
RUNS = ("upos,feats,lemma", "upos", "feats", "lemma")
# Names of scores in versions with several annotations, and in those with one.
SCORES = {
    "UPOS": ("upos_accuracy", "accuracy"),
    "UFeats": ("ufeats_accuracy", "ufeats_accuracy"),
    "Lemmas": ("lemma_accuracy", "lemma_accuracy"),
}
ANNOTATIONS = {"UPOS": "upos", "UFeats": "feats", "Lemmas": "lemma"}


def measure(treebank: str, tags: str, seed: int, flags: Sequence[str]) -> dict:
    """Trains a version, and returns its scores and the seconds of its training."""
    data = str(records.data_dir() / "tagging" / treebank)
    argv = ["--data", data, "--tags", tags, "--seed", str(seed), *flags]
    with tempfile.TemporaryDirectory() as name:
        record = records.train("tagging", Path(name), *argv)
    return {name: record[name] for name in ("scores", "seconds", "epochs", "parameters")}


def scores_of(tags: str, record: dict) -> dict[str, float]:
    """Returns the scores of a record, in percent, by their official names."""
    names = tags.split(",")
    return {
        title: 100 * record["scores"][SCORES[title][len(names) == 1]]
        for title, annotation in ANNOTATIONS.items()
        if annotation in names
    }


def row(tags: str, by_seed: list[dict | None], alone: list[dict | None]) -> list[str]:
    """Returns a row of the table.

    Args:
        tags: The annotations, one of `RUNS`.
        by_seed: Record of each seed, or None if it has not been measured.
        alone: Those of the tags alone.
    """
    if None in by_seed:
        return [tags, "not run", *[""] * 6]
    scores = [scores_of(tags, record) for record in by_seed]
    cells = []
    for title in SCORES:
        values = [own[title] for own in scores if title in own]
        spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        cells.append(f"{statistics.mean(values):.2f}{spread}" if values else "")
    seconds = _mean([record["seconds"]["fit"] for record in by_seed])
    ratio = ""
    if None not in alone:
        ratio = f"{seconds / _mean([record['seconds']['fit'] for record in alone]):.2f}"
    epochs = _mean([record["epochs"] for record in by_seed])
    parameters = f"{by_seed[0]['parameters']:,}"
    return [tags, *cells, f"{seconds:.0f}", ratio, f"{epochs:.1f}", parameters]


def _mean(values: list[float]) -> float:
    return max(1e-9, statistics.mean(values))


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def main(argv: list[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--data", choices=TREEBANKS, default="ewt", help="the treebank")
    parser.add_argument("--show", action="store_true", help="print only rows that have been run")
    parser.add_argument("--only", choices=RUNS, help="run one row")
    parser.add_argument("--seeds", type=_numbers, default=[0], help="seeds, separated by commas")
    parser.add_argument("--flags", default="", help="more flags of app.train, in one argument")
    args = parser.parse_args(argv)
    flags = shlex.split(args.flags)
    digest = f"-{hashlib.sha256(args.flags.encode()).hexdigest()[:8]}" if flags else ""
    results = {}
    for tags in RUNS:
        results[tags] = []
        for seed in args.seeds:
            key = f"{args.data}-{tags.replace(',', '-')}-{seed}{digest}"
            if args.show or (args.only and args.only != tags):
                results[tags].append(records.load("ud", key))
            else:
                run = functools.partial(measure, TREEBANKS[args.data], tags, seed, flags)
                results[tags].append(records.load_or_measure("ud", key, run))
    rows = [row(tags, by_seed, results["upos"]) for tags, by_seed in results.items()]
    columns = ["--tags", *(f"{title} %" for title in SCORES)]
    columns += ["seconds", "× upos alone", "epochs", "parameters"]
    print(records.markdown_table(columns, rows))
    print(
        f"\n{records.machine()}; {args.data}, test part, gold tokens; {len(args.seeds)} seeds; "
        f"{args.flags or 'defaults'}"
    )


if __name__ == "__main__":
    main()
