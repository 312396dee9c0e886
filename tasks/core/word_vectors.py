"""Word vectors of a file or learnt here: settings, what a task keeps of them, and coverage.

The vocabulary of a task with word vectors has the words of the training part, as without them,
and after these the other words whose vectors were kept. What counts words, such as
`models.layers.evidence`, knows the words of the training part alone.

Importable without TensorFlow.
"""

import contextlib
import dataclasses
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from models.text import vectors
from tasks.core import config, trained_vectors, unlabelled
from tasks.core.errors import UserError
from tasks.core.settings import setting

MODES = ("tuned", "frozen", "both")
FLAG = "--vectors"
TRAIN = "train"  # in place of a file
_WORDS = "words.txt"  # the vocabulary of a task, which is extended
_RECORD, _TABLE = "vectors.json", "vectors.npy"  # the table is not part of a SavedModel
_FIRST = 2  # id of the first word of a vocabulary
_UNCOVERED = 10  # words without a vector that are named


@dataclasses.dataclass(frozen=True)
class Config(config.Config):
    """Settings of tasks that read words."""

    vectors: str = setting(
        "",
        "file of word vectors, whose dimensions replace --embedding: text of GloVe, word2vec or "
        "fastText, or word2vec binary, each also gzipped; or train: vectors are learnt from the "
        "words of the training part and of --unlabelled",
    )
    vectors_size: int = setting(
        100, "dimensions of the vectors of --vectors train", at_least=1, at_most=4096
    )
    unlabelled: str = setting(
        "",
        "texts without labels, one per line: a file, or a folder of .txt files. A language model "
        "is trained on them and on the training part first, and its weights initialise this "
        "network; with --vectors train, word vectors are learnt from them instead",
    )
    pretraining_epochs: int = setting(
        10,
        "maximum number of epochs of the language model of --unlabelled",
        at_least=1,
        affects="training",
    )
    vectors_top: int = setting(
        50_000,
        "rows of --vectors, from the first, that are kept for words that the training and "
        "validation parts do not have",
        at_least=0,
    )
    vectors_mode: str = setting(
        "frozen",
        "whether training changes the vectors of --vectors: tuned, frozen, or both, which are two "
        "channels",
        choices=MODES,
        affects="training",
    )
    vectors_licence: str = setting(
        "", "licence of --vectors, for the record of the version", affects="serving"
    )

    def __post_init__(self):
        super().__post_init__()
        if self.vectors_licence and not self.vectors:
            raise UserError("--vectors-licence needs --vectors.")
        if self.unlabelled and self.vectors not in ("", TRAIN):
            raise UserError(
                f"--unlabelled cannot be combined with the file of --vectors, {self.vectors}: such "
                "texts are for a language model, without --vectors, or for --vectors "
                f"{TRAIN}."
            )

    @property
    def has_language_model(self) -> bool:
        """Whether a language model of texts without labels gives the initial weights."""
        return bool(self.unlabelled) and not self.vectors

    def check_files(self) -> None:
        if self.has_language_model:
            unlabelled.files(unlabelled.path_of(self.unlabelled))
        elif self.vectors == TRAIN:
            trained_vectors.check(self.unlabelled)
        elif self.vectors:
            with _user_errors():
                vectors.detect(unlabelled.path_of(self.vectors, FLAG))

    def resolved(self, size: config.CorpusSize) -> Self:
        """Returns the settings for a record, which has the names of files without their folders."""
        return dataclasses.replace(
            super().resolved(size),
            vectors=unlabelled.path_of(self.vectors, FLAG).name,
            unlabelled=unlabelled.path_of(self.unlabelled).name,
        )


@dataclasses.dataclass(frozen=True)
class KeptVectors:
    """What a task keeps of a file of word vectors.

    Attributes:
        file: Name of the file, or what the vectors were learnt from.
        sha256: Checksum of the file.
        format: Its format, or the method, for people.
        dimensions: Features of a vector.
        rows: Rows of the file.
        malformed: Rows that were skipped.
        malformed_examples: Descriptions of the first of them.
        vocabulary: One more than the largest id of a word of the training part.
        rest: Number of other words.
        covered_types: Share of the different words of the training part that have a vector.
        covered_tokens: Share of all words of the training part that have a vector.
        uncovered: The most frequent words without a vector, with their counts.
    """

    file: str
    sha256: str
    format: str
    dimensions: int
    rows: int
    malformed: int
    malformed_examples: tuple[str, ...]
    vocabulary: int
    rest: int
    covered_types: float
    covered_tokens: float
    uncovered: tuple[tuple[str, int], ...]

    def layer(self, mode: str) -> dict[str, Any]:
        """Returns the arguments of `models.layers.word_vectors.WordVectors` but the vocabulary."""
        return {"rest": self.rest, "dimensions": self.dimensions, "mode": mode}

    def remarks(self, mode: str) -> Sequence[str]:
        """Returns what a user should know, in sentences."""
        channels = 2 if mode == "both" else 1
        numbers = (channels * self.vocabulary + self.rest) * self.dimensions
        uncovered = " ".join(word for word, _ in self.uncovered)
        lines = [
            f"word vectors of {self.file} ({self.format}, {self.rows} rows of {self.dimensions} "
            f"dimensions, {mode}) cover {self.covered_types:.1%} of the different words and "
            f"{self.covered_tokens:.1%} of all words of the train part"
            + (f"; the most frequent without a vector: {uncovered}" if uncovered else ""),
            f"{self.rest} words that training does not see are known by their vectors; the vectors "
            f"take {numbers * 4 / 1e6:.1f} MB of the served model",
        ]
        if self.malformed:
            shown = " ".join(self.malformed_examples)
            lines.append(f"{self.malformed} malformed rows of {self.file} are skipped: {shown}")
        return lines

    def record(self, settings: Config) -> dict[str, Any]:
        """Returns the entry of `run.json`."""
        return {**dataclasses.asdict(self), "licence": settings.vectors_licence}


def learn(
    settings: Config,
    counts: Mapping[str | bytes, int],
    valid: Iterable[str | bytes],
    folder: Path,
    sentences: Iterable[Sequence[str]] = (),
) -> None:
    """Reads or learns the vectors, extends the vocabulary in a folder and adds assets.

    Args:
        settings: The settings, with `fold_case` of a task.
        counts: Occurrences of the words of the training part, as they are looked up.
        valid: Words of the validation part, as they are looked up.
        folder: Folder of the assets, with the vocabulary of the training part.
        sentences: The words of each text, as they are looked up, from which vectors are learnt if
            the settings say so.

    Raises:
        UserError: The file is not a file of word vectors, or has none of the words; or vectors
            cannot be learnt.
    """
    if settings.vectors != TRAIN:
        _keep(settings, counts, valid, folder, unlabelled.path_of(settings.vectors, FLAG))
        return
    with tempfile.TemporaryDirectory() as name:
        path = trained_vectors.learn(sentences, settings.vectors_size, settings.seed, Path(name))
        source = "the train part"
        if settings.unlabelled:
            source += f" and {unlabelled.path_of(settings.unlabelled).name}"
        _keep(settings, counts, valid, folder, path, source)


def _keep(
    settings: Config,
    counts: Mapping[str | bytes, int],
    valid: Iterable[str | bytes],
    folder: Path,
    path: Path,
    learnt_from: str = "",
) -> None:
    """Keeps the vectors of a file; `learnt_from` names the texts of which they were learnt."""
    fold = settings.fold_case
    counts = {_text(word): count for word, count in counts.items()}
    lines = (folder / _WORDS).read_text(encoding="utf-8").split("\n")[:-1]
    needed = {*counts, *map(_text, valid), *lines}
    if not fold:
        needed |= {word.lower() for word in needed}
    with _user_errors():
        selected = vectors.read(path, needed, settings.vectors_top, str.lower if fold else str)
    index = {word: number for number, word in enumerate(selected.words)}

    def find(word: str) -> int | None:
        return index.get(word, index.get(word.lower()))

    covered = {word: count for word, count in counts.items() if find(word) is not None}
    if not covered:
        raise UserError(
            f"{FLAG}: {path} has a vector for none of the {len(counts)} words of the train part, "
            "such as "
            + ", ".join(repr(word) for word in lines[:3])
            + "; choose vectors of the language of the texts."
        )
    own = set(lines)
    rest = [word for word in selected.words if word not in own]
    table = np.zeros([_FIRST + len(lines) + len(rest), selected.format.dimensions], np.float32)
    for number, word in enumerate((*lines, *rest), start=_FIRST):
        row = find(word)
        if row is not None:
            table[number] = selected.table[row]
    with (folder / _WORDS).open("a", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{word}\n" for word in rest)
    np.save(folder / _TABLE, table)
    uncovered = sorted(
        (item for item in counts.items() if item[0] not in covered),
        key=lambda item: (-item[1], item[0]),
    )
    summary = KeptVectors(
        file=learnt_from or path.name,
        sha256=selected.checksum,
        format="skip-gram" if learnt_from else str(selected.format),
        dimensions=selected.format.dimensions,
        rows=selected.rows,
        malformed=selected.malformed,
        malformed_examples=tuple(line.replace(str(path), path.name) for line in selected.examples),
        vocabulary=_FIRST + len(lines),
        rest=len(rest),
        covered_types=len(covered) / len(counts),
        covered_tokens=sum(covered.values()) / sum(counts.values()),
        uncovered=tuple(uncovered[:_UNCOVERED]),
    )
    record = json.dumps(dataclasses.asdict(summary), indent=2)
    (folder / _RECORD).write_text(record, encoding="utf-8")


def record_file(folder: Path) -> Path:
    """Returns the asset that describes what was kept."""
    return folder / _RECORD


def restore(folder: Path) -> KeptVectors:
    """Returns what was kept, from a folder of assets."""
    values = json.loads(record_file(folder).read_text(encoding="utf-8"))
    uncovered = tuple((word, count) for word, count in values.pop("uncovered"))
    examples = tuple(values.pop("malformed_examples"))
    return KeptVectors(**values, uncovered=uncovered, malformed_examples=examples)


def table(folder: Path) -> np.ndarray:
    """Returns the vectors of all ids, from the folder of assets of a run; 0 where there is none."""
    return np.load(folder / _TABLE)


def _text(word: str | bytes) -> str:
    return word.decode("utf-8") if isinstance(word, bytes) else word


@contextlib.contextmanager
def _user_errors() -> Iterator[None]:
    """Reports a `VectorFileError` as a `UserError`."""
    try:
        yield
    except vectors.VectorFileError as error:
        raise UserError(f"{FLAG}: {error}") from error
