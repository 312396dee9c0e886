"""Settings that follow from the corpus, next to fixed ones, on parts of public corpora.

    DATA_DIR=... python -m benchmarks.defaults          # runs missing rows, prints all
    DATA_DIR=... python -m benchmarks.defaults --show   # prints the rows that have been run
    DATA_DIR=... python -m benchmarks.defaults --only sequoia-200 --flags "--epochs 30"

Each row trains on the first sentences, pairs or images of the train part. No test part is read:
the first half of the validation part selects the epoch, and the served model is scored on the
second half. Records are stored in runs/benchmarks/, so an interrupted command resumes.

The images are scenes of the embedded sample of captioning, and those of easy-VQA, of whose train
part the last 400 are the validation part.
"""

import argparse
import functools
import gzip
import itertools
import shlex
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from app.serving.session import SavedModelSession
from benchmarks import records
from tasks.core.examples import Example
from tasks.corpora.samples import scenes

_Example = TypeVar("_Example", str, Example)


class Corpus(NamedTuple):
    """The first examples of the train part of a corpus.

    Attributes:
        task: The task.
        score: The score that is shown.
        folder: Folder in DATA_DIR; "" for the embedded sample.
        examples: Number of sentences, pairs or images; None for all.
    """

    task: str
    score: str
    folder: str
    examples: int | None


_SEQUOIA = ("tagging", "accuracy", "tagging/fr_sequoia")
_EWT = ("tagging", "accuracy", "tagging/en_ewt")
_MULTI30K = ("translation", "bleu", "translation/multi30k")
_SCENES = ("captioning", "true", "")
_EASY_VQA = ("captioning", "exact", "captioning/easy_vqa")
CORPORA = {
    "sequoia-200": Corpus(*_SEQUOIA, 200),
    "ewt-200": Corpus(*_EWT, 200),
    "sequoia-1000": Corpus(*_SEQUOIA, 1000),
    "ewt-1000": Corpus(*_EWT, 1000),
    "sequoia": Corpus(*_SEQUOIA, None),
    "multi30k-200": Corpus(*_MULTI30K, 200),
    "multi30k-1000": Corpus(*_MULTI30K, 1000),
    "scenes-1000": Corpus(*_SCENES, 1000),
    "easy-vqa-200": Corpus(*_EASY_VQA, 200),
}
# Settings that do not depend on the corpus: the defaults of large ones.
FIXED = {
    "tagging": ["--batch-tokens", "640", "--epochs", "12", "--patience", "3"],
    "translation": ["--batch-tokens", "1024", "--epochs", "15", "--patience", "3"],
    "captioning": ["--batch-tokens", "512", "--epochs", "15", "--patience", "3"],
}
LANGUAGES = ("de", "en")
_HELD_OUT = 400  # images of easy-VQA


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
        elif corpus.task == "captioning":
            examples = write_images(corpus, data)
        else:
            write_treebank(corpus, data)
        record = records.train(corpus.task, folder, *argv)
        if corpus.score == "true":
            record["scores"]["true"] = share_of_true_captions(folder / "captioning/1", examples)
    return {key: record[key] for key in ("scores", "intervals", "epochs", "seconds", "config")}


def write_treebank(corpus: Corpus, folder: Path) -> None:
    """Writes the parts of a treebank to a folder."""
    source = records.data_dir() / corpus.folder
    [train], [dev] = (list(source.glob(f"*-{part}.conllu")) for part in ("train", "dev"))
    for part, own in split(_sentences(train), _sentences(dev), corpus.examples).items():
        (folder / f"{part}.conllu").write_text("\n\n".join(own) + "\n\n", encoding="utf-8")


def write_pairs(corpus: Corpus, folder: Path) -> None:
    """Writes the parts of a parallel corpus to a folder."""
    source = records.data_dir() / corpus.folder
    for language in LANGUAGES:
        train, valid = (_lines(source / f"{part}.{language}.gz") for part in ("train", "val"))
        for part, own in split(train, valid, corpus.examples).items():
            path = folder / f"{part}.{language}"
            path.write_text("\n".join(own) + "\n", encoding="utf-8")


def write_images(corpus: Corpus, folder: Path) -> Sequence[Example]:
    """Writes the parts of images and captions to a folder, and returns those that are scored."""
    if corpus.folder:
        source = records.data_dir() / corpus.folder
        lines = (source / "captions_train.tsv").read_text(encoding="utf-8").splitlines()
        pairs = [line.split("\t") for line in lines]
        read = [
            Example({"image_bytes": (source / path).read_bytes(), "captions": (caption,)}, path)
            for path, caption in pairs
        ]
        parts = split(read[:-_HELD_OUT], read[-_HELD_OUT:], corpus.examples)
    else:
        sample = scenes.parts()
        train = list(itertools.islice(sample["train"], corpus.examples))
        parts = split(train, list(sample["valid"]), corpus.examples)
    for part, examples in parts.items():
        with (folder / f"captions_{part}.tsv").open("w", encoding="utf-8") as file:
            for number, example in enumerate(examples):
                image = f"{part}-{number}.png"
                (folder / image).write_bytes(example.values["image_bytes"])
                file.writelines(f"{image}\t{c}\n" for c in example.values["captions"])
    return parts["test"]


def share_of_true_captions(version: Path, examples: Sequence[Example]) -> float:
    """Returns the share of captions of a version that are true of their scenes."""
    images = [example.values["image_bytes"] for example in examples]
    captions = SavedModelSession(version).predict_columns({"image_bytes": images})["caption"]
    true = [
        scenes.is_true(caption.decode("utf-8"), example.values["scene"])
        for caption, example in zip(captions.tolist(), examples, strict=True)
    ]
    return sum(true) / len(true)


def split(
    train: Sequence[_Example], held_out: Sequence[_Example], count: int | None
) -> dict[str, Sequence[_Example]]:
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
    factor = 1 if corpus.score == "bleu" else 100
    for record in by_settings:
        if record is None:
            cells += ["not run", "", ""]
            continue
        config, score = record["config"], record["scores"][corpus.score]
        settings = f"{config['batch_tokens']}, {config['epochs']}, {config['patience']}"
        minutes = sum(record["seconds"].values()) / 60
        cells += [f"{factor * score:.2f}", settings, f"{minutes:.1f}"]
    return [name, str(corpus.examples or "all"), *cells]


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
    columns = ["corpus", "examples", "fixed", settings, "minutes"]
    columns += ["automatic", settings, "minutes"]
    print(records.markdown_table(columns, rows))
    print(
        f"\n{records.machine()}; accuracy of tags in %, BLEU of translations, captions that are "
        "true of a scene or equal that of easy-VQA in %; second half of the validation part; "
        f"seed {args.seed}"
    )


if __name__ == "__main__":
    main()
