"""Labelled texts: the corpora of N→1, in the layouts that people have them in.

A corpus is a folder or a zip, or one file. What it holds is told by names:

    train.tsv valid.tsv test.tsv     a text, a tab and a label a line, no header
    train.csv ...                    with a header
    train.jsonl ...                  an object a line
    train.pos train.neg ...          a text a line, one file for each class
    train/pos/*.txt ...              one file for each text (as aclImdb has it)

`dev` and `val` are names of the valid part too. A corpus without parts is one
such file, one family of class files (`NAME.pos`, `NAME.neg`), or one folder of
class folders (`pos/*.txt`).
"""

import csv
import dataclasses
import io
import json
from collections.abc import Iterator
from pathlib import Path

from tasks.core.corpus import Corpus
from tasks.core.errors import UserError
from tasks.core.examples import Example, Stream
from tasks.core.settings import setting
from tasks.corpora import filesystem, tfds
from tasks.corpora.samples import reviews

TABLES = (".tsv", ".csv", ".jsonl")
_NOT_CLASSES = {*TABLES, "", ".txt", ".md", ".json", ".xml", ".zip", ".gz", ".tgz", ".tar", ".bz2"}
_UNLABELLED = "unsup"  # aclImdb's folder of reviews without a label
_LONGEST_FIELD = 2**27  # characters in a field of a .csv: more than Python's 131 072


@dataclasses.dataclass(frozen=True)
class LabelledTexts(Corpus):
    """Where the labelled texts are; the values of an example are `text` and `label`."""

    text_key: str = setting("", "column of the text in .csv, .jsonl and tfds: (default: text)")
    label_key: str = setting("", "column of the label, likewise (default: label)")
    encoding: str = setting("utf-8", "encoding of the files")

    def __post_init__(self):
        super().__post_init__()
        filesystem.check_encoding(self.encoding)

    def sample(self):
        return reviews.parts()

    def dataset(self, name):
        return tfds.labelled_texts(name, self.tfds_dir, self.text_key, self.label_key)

    def files(self, path):
        if filesystem.is_one_file(path):
            return {"train": self._table(path)}, []
        root = filesystem.root(path)
        parts = filesystem.parts(path, root, lambda names: self._part(root, names), self.named())
        notes = []
        if "train" in parts and (root / "train" / _UNLABELLED).is_dir():
            notes.append(f"train/{_UNLABELLED} holds texts without a label: left out")
        return parts or {"train": self._whole(path, root)}, notes

    def one_file(self, path):
        if filesystem.is_one_file(path):
            return self._table(path)
        return self._whole(path, filesystem.root(path))

    def _part(self, root, names) -> filesystem.Found:
        """All below `root` that goes by one of the names of a part."""
        found = []
        for entry in filesystem.entries(root):
            stem, suffix = filesystem.stem_and_suffix(entry)
            if stem in names and entry.is_file() and suffix in TABLES:
                found.append((entry.name, self._table(entry)))
            elif stem in names and entry.is_dir() and not suffix and self._classes(entry):
                found.append((entry.name, self._class_folders(entry)))
        families = self._class_files(root)
        for name in names:
            if family := families.get(name):
                found.append((", ".join(f.name for f in family.values()), self._lines(family)))
        return found

    def _whole(self, path, root) -> Stream:
        """The examples below a `root` that knows no parts."""
        found = [
            (entry.name, self._table(entry))
            for entry in filesystem.entries(root)
            if entry.is_file() and filesystem.stem_and_suffix(entry)[1] in TABLES
        ]
        for name, family in self._class_files(root).items():
            found.append((f"{name}.*", self._lines(family)))
        if self._classes(root):
            found.append(("folders of texts", self._class_folders(root)))
        rule = (
            "train, valid and test as .tsv, .csv or .jsonl, as one file for each class "
            "(train.pos, train.neg) or as folders of texts (train/pos/*.txt); or one of these alone"
        )
        return filesystem.the_only(path, root, found, rule)

    def _class_files(self, root) -> dict[str, dict[str, Path]]:
        """Families of files NAME.CLASS, a text a line: {NAME: {CLASS: file}}."""
        families = {}
        for entry in filesystem.entries(root):
            stem, suffix = filesystem.stem_and_suffix(entry)
            if entry.is_file() and suffix not in _NOT_CLASSES:
                families.setdefault(stem, {})[suffix[1:]] = entry
        return {stem: family for stem, family in families.items() if len(family) > 1}

    def _classes(self, root) -> dict[str, Path]:
        """Folders that hold texts, by class."""
        return {
            entry.name: entry
            for entry in filesystem.entries(root)
            if entry.is_dir()
            and entry.name != _UNLABELLED
            and any(e.name.endswith(".txt") for e in entry.iterdir())
        }

    # --- Readers -------------------------------------------------------------

    def _table(self, path) -> Stream:
        suffix = filesystem.stem_and_suffix(path)[1]
        reader = {".csv": self._csv, ".jsonl": self._jsonl}.get(suffix, self._tsv)
        return Stream(lambda: filesystem.told(path, reader(path)))

    def _tsv(self, path) -> Iterator[Example]:
        for origin, line in self._numbered(path):
            columns = line.split("\t")
            if len(columns) != 2:
                raise UserError(
                    f"{origin}: expected a text, a tab and a label, got {len(columns)} "
                    f"column{'s' * (len(columns) != 1)}: {filesystem.shown(line)}."
                )
            yield _example(*columns, origin)

    def _csv(self, path) -> Iterator[Example]:
        text_key, label_key = self.text_key or "text", self.label_key or "label"
        csv.field_size_limit(_LONGEST_FIELD)
        with filesystem.open_bytes(path) as file:
            decoded = io.TextIOWrapper(file, encoding=filesystem.decoder(self.encoding), newline="")
            rows = csv.reader(decoded, strict=True)
            try:
                header = [name.strip() for name in next(rows, [])]
                for key, name in ((text_key, "text"), (label_key, "label")):
                    if key not in header:
                        raise UserError(
                            f"{path}:1: the header has no column {key!r}, only {header}; "
                            f"name it with --{name}-key."
                        )
                text, label = header.index(text_key), header.index(label_key)
                for row in rows:
                    origin = f"{path}:{rows.line_num}"
                    if not row:
                        continue
                    if len(row) != len(header):
                        raise UserError(
                            f"{origin}: expected {len(header)} columns as in the header, "
                            f"got {len(row)}."
                        )
                    yield _example(row[text], row[label], origin)
            except csv.Error as error:
                raise UserError(f"{path}:{rows.line_num}: not valid CSV: {error}.") from error
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{path}: after line {rows.line_num}: not {self.encoding}: {error.reason}; "
                    "name another with --encoding."
                ) from error

    def _jsonl(self, path) -> Iterator[Example]:
        text_key, label_key = self.text_key or "text", self.label_key or "label"
        flags = {text_key: "--text-key", label_key: "--label-key"}
        for origin, row in filesystem.objects(path, self.encoding, flags):
            text, label = row[text_key], row[label_key]
            if not isinstance(text, str):
                raise UserError(
                    f"{origin}: {text_key!r} must be a string, got {filesystem.shown(str(text))}."
                )
            if isinstance(label, (dict, list, float)) or label is None:
                raise UserError(
                    f"{origin}: {label_key!r} must be a string, a whole number or a truth value, "
                    f"got {filesystem.shown(json.dumps(label))}."
                )
            yield _example(text, label if isinstance(label, str) else json.dumps(label), origin)

    def _lines(self, family: dict[str, Path]) -> Stream:
        def read():
            for label, path in sorted(family.items()):
                yield from filesystem.told(
                    path, (_example(line, label, at) for at, line in self._numbered(path))
                )

        return Stream(read)

    def _class_folders(self, root) -> Stream:
        def read():
            for label, folder in sorted(self._classes(root).items()):
                for path in sorted(folder.iterdir(), key=lambda entry: entry.name):
                    if path.name.endswith(".txt"):
                        with filesystem.open_bytes(path) as file:
                            text = filesystem.decode(file.read(), self.encoding, path)
                        yield _example(" ".join(text.split()), label, str(path))

        return Stream(read)

    def _numbered(self, path) -> Iterator[tuple[str, str]]:
        """The lines of a file that are not blank, each with `path:number`."""
        return (
            numbered for numbered in filesystem.lines(path, self.encoding) if numbered[1].strip()
        )


def _example(text: str, label: str, origin: str) -> Example:
    label = label.strip()
    if not label:
        raise UserError(f"{origin}: the label is empty.")
    if not label.isprintable():
        raise UserError(f"{origin}: a label must be printable and in one line, got {label!r}.")
    # JSON can tell half a surrogate pair, which no UTF-8 can.
    text = text.strip().encode("utf-8", "replace").decode("utf-8")
    return Example({"text": text, "label": label}, origin)
