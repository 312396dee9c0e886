"""Settings of tagging that follow from the corpus, next to fixed ones, on parts of treebanks.

    DATA_DIR=... python -m benchmarks.defaults          # runs missing rows, prints all
    DATA_DIR=... python -m benchmarks.defaults --show   # prints the rows that have been run
    DATA_DIR=... python -m benchmarks.defaults --only sequoia-200 --flags "--epochs 30"

Each row trains on the first sentences of the train part. No test part is read: the first half of
the validation part selects the epoch, and the served model is scored on the second half. Records
are stored in runs/benchmarks/, so an interrupted command resumes.
"""

import argparse
import functools
import shlex
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import records


class Corpus(NamedTuple):
    """The first sentences of the train part of a treebank; None for all."""

    treebank: str
    sentences: int | None


CORPORA = {
    "sequoia-200": Corpus("fr_sequoia", 200),
    "ewt-200": Corpus("en_ewt", 200),
    "sequoia-1000": Corpus("fr_sequoia", 1000),
    "ewt-1000": Corpus("en_ewt", 1000),
    "sequoia": Corpus("fr_sequoia", None),
}
# Settings that do not depend on the corpus: the defaults of large treebanks.
FIXED = ["--batch-tokens", "640", "--epochs", "12", "--patience", "3"]


def measure(corpus: Corpus, flags: Sequence[str], seed: int) -> dict:
    """Trains a version, and returns the part of its record that is stored."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "data"
        data.mkdir()
        write(corpus, data)
        argv = ["--data", str(data), "--seed", str(seed), *flags]
        record = records.train("tagging", folder, *argv)
    return {key: record[key] for key in ("scores", "intervals", "epochs", "seconds", "config")}


def write(corpus: Corpus, folder: Path) -> None:
    """Writes the parts of a corpus to a folder."""
    source = records.data_dir() / "tagging" / corpus.treebank
    [train], [dev] = (list(source.glob(f"*-{part}.conllu")) for part in ("train", "dev"))
    sentences, held_out = map(_sentences, (train, dev))
    middle = len(held_out) // 2
    parts = {"valid": held_out[:middle], "test": held_out[middle:]}
    for part, own in {"train": sentences[: corpus.sentences], **parts}.items():
        (folder / f"{part}.conllu").write_text("\n\n".join(own) + "\n\n", encoding="utf-8")


def _sentences(path: Path) -> list[str]:
    sentences = path.read_text(encoding="utf-8").split("\n\n")
    return [sentence for sentence in sentences if sentence.strip()]


def row(name: str, by_settings: Iterable[dict | None]) -> list[str]:
    """Returns a row of the table.

    Args:
        name: A key of `CORPORA`.
        by_settings: The records with fixed and with automatic settings, or None.
    """
    cells = []
    for record in by_settings:
        if record is None:
            cells += ["not run", "", ""]
            continue
        config, score = record["config"], record["scores"]["accuracy"]
        settings = f"{config['batch_tokens']}, {config['epochs']}, {config['patience']}"
        minutes = sum(record["seconds"].values()) / 60
        cells += [f"{100 * score:.2f}", settings, f"{minutes:.1f}"]
    return [name, str(CORPORA[name].sentences or "all"), *cells]


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--show", action="store_true", help="print only rows that have been run")
    parser.add_argument("--only", choices=CORPORA, help="run one row")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights")
    parser.add_argument("--flags", help="flags of app.train in place of the automatic settings")
    args = parser.parse_args(argv)
    flags = shlex.split(args.flags or "")
    automatic = "auto" if args.flags is None else "_".join(flags).replace("/", "-")
    rows = []
    for name, corpus in CORPORA.items():
        by_settings = []
        for settings, own in (("fixed", FIXED), (automatic, flags)):
            key = f"{name}-{settings}-{args.seed}"
            if args.show or (args.only and args.only != name):
                by_settings.append(records.load("defaults", key))
            else:
                run = functools.partial(measure, corpus, own, args.seed)
                by_settings.append(records.load_or_measure("defaults", key, run))
        rows.append(row(name, by_settings))
    settings = "batch tokens, epochs, patience"
    columns = ["corpus", "sentences", "fixed, accuracy %", settings, "minutes"]
    columns += ["automatic, accuracy %", settings, "minutes"]
    print(records.markdown_table(columns, rows))
    print(f"\n{records.machine()}; second half of the validation part; seed {args.seed}")


if __name__ == "__main__":
    main()
