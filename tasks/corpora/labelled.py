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
import zipfile
from collections.abc import Iterator
from pathlib import Path

from tasks import UserError
from tasks.corpora import Corpus, Example, Stream, datasets, reviews
from tasks.shapes.settings import setting

PART_NAMES = {
    "train": ("train", "training"),
    "valid": ("valid", "validation", "dev", "val"),
    "test": ("test",),
}
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
        try:
            "".encode(self.encoding)
        except LookupError:
            raise UserError(f"--encoding names no encoding: {self.encoding!r}.") from None

    def sample(self):
        return reviews.parts()

    def dataset(self, name):
        return datasets.labelled_texts(name, self.tfds_dir, self.text_key, self.label_key)

    def files(self, path):
        if _is_table(path):
            return {"train": self._table(path)}, []
        root = _inner(_opened(path))
        found = {part: self._part(root, names) for part, names in PART_NAMES.items()}
        parts = {part: stream for part, stream in found.items() if stream is not None}
        if "train" not in parts:
            if parts:
                raise UserError(
                    f"{path}: there is a {' and a '.join(parts)} part and no train part "
                    f"(named {_choices(PART_NAMES['train'])})."
                )
            parts = {"train": self._whole(root, path)}
        notes = []
        if "train" in parts and (root / "train" / _UNLABELLED).is_dir():
            notes.append(f"train/{_UNLABELLED} holds texts without a label: left out")
        return parts, notes

    def one_file(self, path):
        if _is_table(path):
            return self._table(path)
        return self._whole(_inner(_opened(path)), path)

    def _part(self, root, names) -> Stream | None:
        """The examples of one part below `root`, None if it has no such part."""
        found = []
        for entry in _entries(root):
            stem, suffix = _stem_and_suffix(entry)
            if stem in names and entry.is_file() and suffix in TABLES:
                found.append((entry.name, self._table(entry)))
            elif stem in names and entry.is_dir() and not suffix and self._classes(entry):
                found.append((entry.name, self._class_folders(entry)))
        for name in names:
            if family := self._class_files(root).get(name):
                found.append((", ".join(f.name for f in family.values()), self._lines(family)))
        if len(found) > 1:
            raise UserError(
                f"{root}: {' and '.join(name for name, _ in found)} all claim to be the "
                f"{names[0]} part; leave one."
            )
        return found[0][1] if found else None

    def _whole(self, root, path) -> Stream:
        """The examples below a `root` that knows no parts."""
        tables = [e for e in _entries(root) if e.is_file() and _stem_and_suffix(e)[1] in TABLES]
        families = self._class_files(root)
        kinds = [
            *((t.name, lambda t=t: self._table(t)) for t in tables),
            *((f"{n}.*", lambda f=f: self._lines(f)) for n, f in families.items()),
        ]
        if self._classes(root):
            kinds.append(("folders of texts", lambda: self._class_folders(root)))
        if len(kinds) == 1:
            return kinds[0][1]()
        rule = (
            "train, valid and test as .tsv, .csv or .jsonl, as one file for each class "
            "(train.pos, train.neg) or as folders of texts (train/pos/*.txt); or one of these alone"
        )
        if kinds:
            raise UserError(
                f"{path}: which of {[n for n, _ in kinds]} is meant? Give one; or {rule}."
            )
        names = sorted(entry.name for entry in _entries(root))
        shown = names[:8] + ["..."] * (len(names) > 8)
        raise UserError(f"{path}: found no corpus among {shown}. Expected {rule}.")

    def _class_files(self, root) -> dict[str, dict[str, Path]]:
        """Families of files NAME.CLASS, a text a line: {NAME: {CLASS: file}}."""
        families = {}
        for entry in _entries(root):
            stem, suffix = _stem_and_suffix(entry)
            if entry.is_file() and suffix not in _NOT_CLASSES:
                families.setdefault(stem, {})[suffix[1:]] = entry
        return {stem: files for stem, files in families.items() if len(files) > 1}

    def _classes(self, root) -> dict[str, Path]:
        """Folders that hold texts, by class."""
        return {
            entry.name: entry
            for entry in _entries(root)
            if entry.is_dir()
            and entry.name != _UNLABELLED
            and any(e.name.endswith(".txt") for e in entry.iterdir())
        }

    # --- Readers -------------------------------------------------------------

    def _table(self, path) -> Stream:
        suffix = _stem_and_suffix(path)[1]
        reader = {".csv": self._csv, ".jsonl": self._jsonl}.get(suffix, self._tsv)
        return Stream(lambda: _told(path, reader(path)))

    def _tsv(self, path) -> Iterator[Example]:
        for origin, line in self._numbered(path):
            columns = line.split("\t")
            if len(columns) != 2:
                raise UserError(
                    f"{origin}: expected a text, a tab and a label, got {len(columns)} "
                    f"column{'s' * (len(columns) != 1)}: {_shown(line)}."
                )
            yield _example(*columns, origin)

    def _csv(self, path) -> Iterator[Example]:
        text_key, label_key = self.text_key or "text", self.label_key or "label"
        csv.field_size_limit(_LONGEST_FIELD)
        with _open(path) as file:
            decoded = io.TextIOWrapper(file, encoding=self._decoder(), newline="")
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
        for origin, line in self._numbered(path):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise UserError(f"{origin}: not valid JSON: {error}.") from error
            if not isinstance(row, dict):
                raise UserError(f"{origin}: expected an object, got {_shown(line)}.")
            for key, name in ((text_key, "text"), (label_key, "label")):
                if key not in row:
                    raise UserError(
                        f"{origin}: has no key {key!r}, only {sorted(row)}; "
                        f"name it with --{name}-key."
                    )
            text, label = row[text_key], row[label_key]
            if not isinstance(text, str):
                raise UserError(
                    f"{origin}: {text_key!r} must be a string, got {_shown(str(text))}."
                )
            if isinstance(label, (dict, list, float)) or label is None:
                raise UserError(
                    f"{origin}: {label_key!r} must be a string, a whole number or a truth value, "
                    f"got {_shown(json.dumps(label))}."
                )
            yield _example(text, label if isinstance(label, str) else json.dumps(label), origin)

    def _lines(self, files: dict[str, Path]) -> Stream:
        def read():
            for label, path in sorted(files.items()):
                yield from _told(
                    path, (_example(line, label, at) for at, line in self._numbered(path))
                )

        return Stream(read)

    def _class_folders(self, root) -> Stream:
        def read():
            for label, folder in sorted(self._classes(root).items()):
                for path in sorted(folder.iterdir(), key=lambda entry: entry.name):
                    if path.name.endswith(".txt"):
                        with _open(path) as file:
                            text = self._decode(file.read(), path)
                        yield _example(" ".join(text.split()), label, str(path))

        return Stream(read)

    def _numbered(self, path) -> Iterator[tuple[str, str]]:
        """The lines of a file that are not blank, each with `path:number`."""
        with _open(path) as file:
            for number, raw in enumerate(file, start=1):
                origin = f"{path}:{number}"
                line = self._decode(raw, origin).rstrip("\r\n")
                if line.strip():
                    yield origin, line

    def _decode(self, raw: bytes, origin) -> str:
        try:
            return raw.decode(self._decoder())
        except UnicodeDecodeError as error:
            raise UserError(
                f"{origin}: not {self.encoding}: {error.reason} (byte {raw[error.start]:#04x}); "
                "name another with --encoding."
            ) from error

    def _decoder(self):
        return "utf-8-sig" if self.encoding.lower().replace("_", "-") == "utf-8" else self.encoding


def _example(text: str, label: str, origin: str) -> Example:
    label = label.strip()
    if not label:
        raise UserError(f"{origin}: the label is empty.")
    if not label.isprintable():
        raise UserError(f"{origin}: a label must be printable and in one line, got {label!r}.")
    # JSON can tell half a surrogate pair, which no UTF-8 can.
    text = text.strip().encode("utf-8", "replace").decode("utf-8")
    return Example({"text": text, "label": label}, origin)


def _told(path, examples: Iterator[Example]) -> Iterator[Example]:
    """The examples, or an error that names the file if there is none."""
    empty = True
    for example in examples:
        empty = False
        yield example
    if empty:
        raise UserError(f"{path}: the file holds no examples.")


def _is_table(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() != ".zip" and not zipfile.is_zipfile(path)


def _opened(path: Path):
    """A folder, or the root of a zip, which is walked like one."""
    if path.is_dir():
        return path
    try:
        return zipfile.Path(zipfile.ZipFile(path))
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: cannot be read as a zip: {error}.") from error


def _inner(root):
    """The first folder downwards that holds more than one folder and nothing else."""
    while True:
        entries = _entries(root)
        if len(entries) != 1 or not entries[0].is_dir():
            return root
        root = entries[0]


def _entries(root) -> list:
    """What a folder holds, by name, without hidden files and what macOS leaves in a zip."""
    entries = (e for e in root.iterdir() if not e.name.startswith((".", "__MACOSX")))
    return sorted(entries, key=lambda entry: entry.name)


def _open(path):
    try:
        return path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}.") from error


def _stem_and_suffix(path) -> tuple[str, str]:
    name, dot, suffix = path.name.rpartition(".")
    return (name, "." + suffix.lower()) if dot else (path.name, "")


def _choices(names) -> str:
    return " or ".join(names)


def _shown(text: str, longest: int = 60) -> str:
    return repr(text if len(text) <= longest else text[: longest - 3] + "...")
