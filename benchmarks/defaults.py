"""Settings that follow from the corpus, next to fixed ones, on parts of public corpora.

    DATA_DIR=... python -m benchmarks.defaults          # runs missing rows, prints all
    DATA_DIR=... python -m benchmarks.defaults --show   # prints the rows that have been run
    DATA_DIR=... python -m benchmarks.defaults --only sequoia-200 --flags "--epochs 30"

Each row trains on the first sentences, or pairs of them, of the train part. No test part is
read: the first half of the validation part selects the epoch, and the served model is scored on
the second half. Records are stored in runs/benchmarks/, so an interrupted command resumes.
"""

import argparse
import functools
import gzip
import shlex
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import records


class Corpus(NamedTuple):
    """The first sentences or pairs of the train part of a corpus in DATA_DIR; None for all."""

    task: str
    folder: str
    sentences: int | None


CORPORA = {
    "sequoia-200": Corpus("tagging", "tagging/fr_sequoia", 200),
    "ewt-200": Corpus("tagging", "tagging/en_ewt", 200),
    "sequoia-1000": Corpus("tagging", "tagging/fr_sequoia", 1000),
    "ewt-1000": Corpus("tagging", "tagging/en_ewt", 1000),
    "sequoia": Corpus("tagging", "tagging/fr_sequoia", None),
    "multi30k-200": Corpus("translation", "translation/multi30k", 200),
    "multi30k-1000": Corpus("translation", "translation/multi30k", 1000),
}
# Settings that do not depend on the corpus: the defaults of large ones.
FIXED = {
    "tagging": ["--batch-tokens", "640", "--epochs", "12", "--patience", "3"],
    "translation": ["--batch-tokens", "1024", "--epochs", "15", "--patience", "3"],
}
LANGUAGES = ("de", "en")
# By task: the score, and the factor with which it is shown.
SCORES = {"tagging": ("accuracy", 100), "translation": ("bleu", 1)}


def measure(corpus: Corpus, flags: Sequence[str], seed: int) -> dict:
    """Trains a version, and returns the part of its record that is stored."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "data"
        data.mkdir()
        argv = ["--data", str(data), "--seed", str(seed), *flags]
        if corpus.task == "translation":
            write_pairs(corpus, data)
            argv += ["--source", LANGUAGES[0], "--target", LANGUAGES[1]]
        else:
            write_treebank(corpus, data)
        record = records.train(corpus.task, folder, *argv)
    return {key: record[key] for key in ("scores", "intervals", "epochs", "seconds", "config")}


def write_treebank(corpus: Corpus, folder: Path) -> None:
    """Writes the parts of a treebank to a folder."""
    source = records.data_dir() / corpus.folder
    [train], [dev] = (list(source.glob(f"*-{part}.conllu")) for part in ("train", "dev"))
    for part, own in split(_sentences(train), _sentences(dev), corpus.sentences).items():
        (folder / f"{part}.conllu").write_text("\n\n".join(own) + "\n\n", encoding="utf-8")


def write_pairs(corpus: Corpus, folder: Path) -> None:
    """Writes the parts of a parallel corpus to a folder."""
    source = records.data_dir() / corpus.folder
    for language in LANGUAGES:
        train, valid = (_lines(source / f"{part}.{language}.gz") for part in ("train", "val"))
        for part, own in split(train, valid, corpus.sentences).items():
            path = folder / f"{part}.{language}"
            path.write_text("\n".join(own) + "\n", encoding="utf-8")


def split(
    train: Sequence[str], held_out: Sequence[str], count: int | None
) -> dict[str, Sequence[str]]:
    """Returns the parts of a row, given the train and the validation part of its corpus."""
    middle = len(held_out) // 2
    return {"train": train[:count], "valid": held_out[:middle], "test": held_out[middle:]}


def _sentences(path: Path) -> list[str]:
    sentences = path.read_text(encoding="utf-8").split("\n\n")
    return [sentence for sentence in sentences if sentence.strip()]


def _lines(path: Path) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
        return file.read().split("\n")[:-1]


def row(name: str, by_settings: Iterable[dict | None]) -> list[str]:
    """Returns a row of the table.

    Args:
        name: A key of `CORPORA`.
        by_settings: The records with fixed and with automatic settings, or None.
    """
    cells, corpus = [], CORPORA[name]
    key, factor = SCORES[corpus.task]
    for record in by_settings:
        if record is None:
            cells += ["not run", "", ""]
            continue
        config, score = record["config"], record["scores"][key]
        settings = f"{config['batch_tokens']}, {config['epochs']}, {config['patience']}"
        minutes = sum(record["seconds"].values()) / 60
        cells += [f"{factor * score:.2f}", settings, f"{minutes:.1f}"]
    return [name, str(corpus.sentences or "all"), *cells]


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
        for settings, own in (("fixed", FIXED[corpus.task]), (automatic, flags)):
            key = f"{name}-{settings}-{args.seed}"
            if args.show or (args.only and args.only != name):
                by_settings.append(records.load("defaults", key))
            else:
                run = functools.partial(measure, corpus, own, args.seed)
                by_settings.append(records.load_or_measure("defaults", key, run))
        rows.append(row(name, by_settings))
    settings = "batch tokens, epochs, patience"
    columns = ["corpus", "sentences", "fixed", settings, "minutes"]
    columns += ["automatic", settings, "minutes"]
    print(records.markdown_table(columns, rows))
    print(
        f"\n{records.machine()}; accuracy of tags in %, BLEU of translations; second half of the "
        f"validation part; seed {args.seed}"
    )


if __name__ == "__main__":
    main()
