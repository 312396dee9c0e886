"""Corpora of labelled texts, for tasks of the form N→1.

A corpus is a folder, a zip archive or a single file. File and folder names define its parts:

    train.tsv valid.tsv test.tsv     one text, tab and label per line
    train.csv ...                    with a header; other delimiters are detected
    train.jsonl ...                  one JSON object per line
    train.json ...                   a JSON array of objects, or one object per line
    train.xlsx train.parquet ...     with a header; the first sheet of a workbook
    train.pos train.neg ...          one text per line, one file per class
    train/pos/*.txt ...              one file per text (the layout of aclImdb)
    dataset_dict.json ...            a data set of Hugging Face, see `hugging_face`

`dev` and `val` are accepted for `valid`. A corpus that is not divided into parts is one
such file, one set of class files (`NAME.pos`, `NAME.neg`), or one folder of
class folders (`pos/*.txt`). With `--trees` it is a treebank, see `treebank`.
"""

import csv
import dataclasses
import functools
import itertools
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tasks.core import targets
from tasks.core.corpus import Corpus
from tasks.core.errors import UserError
from tasks.core.examples import Example, Splits, Stream
from tasks.core.settings import flag, setting
from tasks.core.trees import trees_setting
from tasks.corpora import binary_tables, filesystem, hugging_face, tables, tfds, treebank
from tasks.corpora.filesystem import AnyPath
from tasks.corpora.samples import review_trees, reviews

TABLES = (".tsv", ".csv", ".jsonl")
_NOT_CLASSES = {
    *TABLES,
    *binary_tables.SUFFIXES,
    "",
    ".txt",
    ".md",
    ".json",
    ".xml",
    ".zip",
    ".gz",
    ".tgz",
    ".tar",
    ".bz2",
}
_OF_TABLES = ("text_key", "label_key", "delimiter", "header")
_OTHER_TEST_NAMES = ("testing", "holdout")  # if there is no test part of the usual names
_UNLABELLED = "unsup"  # folder of unlabelled reviews in aclImdb


@dataclasses.dataclass(frozen=True)
class LabelledTexts(Corpus):
    """Location of labelled texts; each example has `text`, and `label` or `value`.

    The value of `label` is a class, or a tuple of labels with the target `labels`; that of
    `value` is the text of a number. See `tasks.core.targets`.
    """

    target: str = targets.target_setting()
    trees: bool = trees_setting()
    text_key: str = setting("", "column of the text in tables, .jsonl and tfds: (default: text)")
    label_key: str = setting("", "column of the label in tables, .jsonl and tfds: (default: label)")
    encoding: str = setting(
        "", "encoding of the files (default: UTF-8, or Windows-1252 where a file is not UTF-8)"
    )
    delimiter: str = setting(
        "", "character between the columns of tables, or tab (default: detected)"
    )
    header: bool | None = setting(
        None, "whether the first row of tables names the columns (default: detected)"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        filesystem.check_encoding(self.encoding)
        tables.delimiter_of(self.delimiter)
        if self.trees:
            self._check_trees()

    def _check_trees(self) -> None:
        """Checks that no flag is set that has no meaning for trees."""
        values = {name: getattr(self, name) for name in _OF_TABLES}
        flags = [flag(name) for name, value in values.items() if value not in ("", None)]
        if flags:
            raise UserError(f"--trees: a file of trees is not a table and has no {flags[0]}.")
        if self.target not in (targets.AUTO, targets.CLASSES):
            raise UserError(
                f"--trees: each node has one label, which is a class; got --target {self.target}."
            )
        if self.data.startswith("tfds:"):
            raise UserError(f"--trees: data sets of tfds: are not trees, got --data {self.data}.")

    @property
    def is_labelled(self) -> bool:
        """Whether each part gets its share of every label."""
        return self.target != targets.NUMBER

    def label(self, example: Example) -> str:
        """Returns the label by which an example is split; of several, the first."""
        label = example.values.get("label", "")
        return label if isinstance(label, str) else next(iter(label), "")

    def resolved(self) -> tuple[Self, list[str]]:
        """Returns the corpus with a target, which the first labels decide on, and notes."""
        if self.target != targets.AUTO:
            return self, []
        classes = dataclasses.replace(self, target=targets.CLASSES)
        if self.trees:
            return classes, []
        if (self.data == "sample" and not self.train) or self.data.startswith("tfds:"):
            return classes, []
        labels = dataclasses.replace(self, target=targets.LABELS)
        try:
            examples = itertools.islice(labels._existing_parts()[0]["train"], targets.DETECTED)
            several, count, total = targets.several(e.values["label"] for e in examples)
        except UserError:  # reading the classes reports what is malformed
            return classes, []
        if not count:
            return classes, []
        texts = f"{count:,} of the first {total:,} texts"
        if several:
            note = (
                f"--target labels: {texts} have several labels, separated by {targets.SEPARATOR} "
                "or in a list, that recur; with --target classes each combination is a class"
            )
            return labels, [note]
        note = (
            f"--target classes: {texts} have several labels, separated by {targets.SEPARATOR} or "
            "in a list, but most of these do not recur; --target labels predicts each of them"
        )
        return classes, [note]

    def readable(self, splits: Splits) -> Splits:
        return treebank.sentences(splits) if self.trees else splits

    def sample(self) -> dict[str, Stream]:
        return review_trees.parts() if self.trees else reviews.parts()

    def _existing_parts(self) -> tuple[dict[str, Stream], list[str]]:
        """Returns the parts, those of the sample as examples of the target too."""
        parts, notes = super()._existing_parts()
        if self.data == "sample" and self.target in (targets.LABELS, targets.NUMBER):
            flagged = self.flagged_parts()
            parts = {
                part: stream if part in flagged else self._converted(stream)
                for part, stream in parts.items()
            }
        return parts, notes

    def tfds_parts(self, name: str) -> tuple[dict[str, Stream], list[str]]:
        parts, notes = tfds.labelled_texts(name, self.tfds_dir, self.text_key, self.label_key)
        if self.target in (targets.AUTO, targets.CLASSES):
            return parts, notes
        return {part: self._converted(stream) for part, stream in parts.items()}, notes

    def _converted(self, stream: Stream) -> Stream:
        """Returns examples with classes as examples of the target."""

        def read() -> Iterator[Example]:
            for example in stream:
                yield self._example(example.values["text"], example.values["label"], example.origin)

        return Stream(read, stream.notes)

    def parts_in(self, path: Path) -> tuple[dict[str, Stream], list[str]]:
        if self.trees:
            return treebank.parts(self, path)
        if _is_table_file(path):
            return {"train": self._table(path)}, []
        root = filesystem.corpus_root(path)
        shards, unused = hugging_face.parts(root, filesystem.Access.of(self))
        if shards:
            streams = {
                part: self._columnar(files)
                for part, files in shards.items()
                if part not in self.flagged_parts()
            }
            return streams, [f"not read: parts {', '.join(unused)}"] if unused else []
        notes, used = [], set()

        def find(names: tuple[str, ...]) -> filesystem.Matches:
            matches = self._part(root, names)
            if not matches and names == filesystem.PART_NAMES["test"]:
                matches = self._part(root, _OTHER_TEST_NAMES)
                notes.extend(f"{name} is the test part" for name, _ in matches)
            used.update(name for name, _ in matches)
            return matches

        parts = filesystem.find_parts(path, root, find, skip=self.flagged_parts())
        if parts and (unused := self._unused_tables(root, used)):
            notes.append(f"not read: {', '.join(unused)}; --valid and --test name other parts")
        if "train" in parts and (root / "train" / _UNLABELLED).is_dir():
            notes.append(f"train/{_UNLABELLED} contains unlabelled texts: skipped")
        return parts or {"train": self._undivided(path, root)}, notes

    def _unused_tables(self, root: AnyPath, used: Collection[str]) -> list[str]:
        """Returns the names of the tables below `root` that no part and no flag uses."""
        flagged = [name for part in self.flagged_parts() for name in filesystem.PART_NAMES[part]]
        return [
            entry.name
            for entry in filesystem.entries(root)
            if entry.name not in used
            and filesystem.stem_and_suffix(entry)[1] in (*TABLES, *binary_tables.SUFFIXES)
            and filesystem.stem_and_suffix(entry)[0] not in flagged
            and entry.is_file()
            and not self._is_flagged(entry)
        ]

    def _is_flagged(self, entry: AnyPath) -> bool:
        """Whether a flag for a part names a file."""
        flagged = [Path(getattr(self, part)).expanduser() for part in self.flagged_parts()]
        return isinstance(entry, Path) and entry in flagged

    def single_part(self, path: Path) -> Stream:
        if self.trees:
            return treebank.single_part(self, path)
        if _is_table_file(path):
            return self._table(path)
        return self._undivided(path, filesystem.corpus_root(path))

    def _part(self, root: AnyPath, names: tuple[str, ...]) -> filesystem.Matches:
        """Returns the candidates below `root` that have one of the names of a part."""
        matches = []
        for entry in filesystem.entries(root):
            stem, suffix = filesystem.stem_and_suffix(entry)
            if stem in names and entry.is_file() and suffix in TABLES:
                matches.append((entry.name, self._table(entry)))
            elif stem in names and entry.is_dir() and not suffix and self._classes(entry):
                matches.append((entry.name, self._class_folders(entry)))
        families = self._class_files(root)
        for name in names:
            if family := families.get(name):
                matches.append((", ".join(f.name for f in family.values()), self._lines(family)))
        return matches or self._other_tables(root, names)

    def _other_tables(
        self, root: AnyPath, names: tuple[str, ...] | None = None
    ) -> filesystem.Matches:
        """Returns the workbooks and Parquet files below `root`, or else the `.json` files.

        Other layouts precede both.
        """
        for suffixes in (binary_tables.SUFFIXES, (".json",)):
            matches = []
            for entry in filesystem.entries(root):
                stem, suffix = filesystem.stem_and_suffix(entry)
                if suffix in suffixes and (names is None or stem in names) and entry.is_file():
                    matches.append((entry.name, self._table(entry)))
            if matches:
                return matches
        return []

    def _undivided(self, path: AnyPath, root: AnyPath) -> Stream:
        """Returns the examples below a `root` that is not divided into parts."""
        matches = [
            (entry.name, self._table(entry))
            for entry in filesystem.entries(root)
            if entry.is_file() and filesystem.stem_and_suffix(entry)[1] in TABLES
        ]
        for name, family in self._class_files(root).items():
            matches.append((f"{name}.*", self._lines(family)))
        if self._classes(root):
            matches.append(("folders of texts", self._class_folders(root)))
        matches = matches or self._other_tables(root)
        layouts = (
            "train, valid and test as .tsv, .csv or .jsonl, as one file per class "
            "(train.pos, train.neg) or as folders of texts (train/pos/*.txt); or a single such "
            "file, set of class files or folder"
        )
        return filesystem.single_match(path, root, matches, layouts)

    def _class_files(self, root: AnyPath) -> dict[str, dict[str, AnyPath]]:
        """Finds sets of files NAME.CLASS, one text per line: {NAME: {CLASS: file}}."""
        families = {}
        for entry in filesystem.entries(root):
            stem, suffix = filesystem.stem_and_suffix(entry)
            if entry.is_file() and suffix not in _NOT_CLASSES:
                families.setdefault(stem, {})[suffix[1:]] = entry
        return {stem: family for stem, family in families.items() if len(family) > 1}

    def _classes(self, root: AnyPath) -> dict[str, AnyPath]:
        """Finds folders that contain texts, by class."""
        return {
            entry.name: entry
            for entry in filesystem.entries(root)
            if entry.is_dir()
            and entry.name != _UNLABELLED
            and any(file.name.endswith(".txt") for file in filesystem.visible(entry))
        }

    # --- Readers -------------------------------------------------------------

    def _table(self, path: AnyPath) -> Stream:
        suffix = filesystem.stem_and_suffix(path)[1]
        if suffix in (".jsonl", ".json"):
            return Stream(
                lambda: filesystem.require_examples(path, self._json(path, suffix)),
                lambda: self._encoding_notes([path]),
            )
        if suffix == ".parquet":
            return self._columnar([path])
        if suffix == ".xlsx":
            return self._workbook(path)
        table = functools.cache(lambda: self._format(path))

        def read() -> Iterator[Example]:
            reader = self._csv if table().is_quoted else self._tsv
            return filesystem.require_examples(path, reader(path, table()))

        def notes() -> Iterator[str]:
            name = filesystem.encoding_of(path, self.encoding, filesystem.Access.of(self))
            yield from self._encoding_notes([path])
            if note := self._format(path, name).note:
                yield note

        return Stream(read, notes)

    def _encoding_notes(self, paths: Iterable[AnyPath]) -> Iterator[str]:
        return filesystem.encoding_notes(paths, self.encoding, filesystem.Access.of(self))

    def _format(self, path: AnyPath, encoding: str = "") -> tables.TableFormat:
        """Returns the format of a table, by its first lines and the settings.

        Args:
            path: The file.
            encoding: Name of its encoding, for the note.
        """
        options = dataclasses.replace(self._options(), encoding=encoding)
        access = filesystem.Access.of(self)
        if filesystem.stem_and_suffix(path)[1] == ".csv":
            lines = filesystem.csv_lines(path, self.encoding, access)
            return tables.csv_format(path, lines, options)
        lines = (f"{line}\n" for _, line in filesystem.lines(path, self.encoding, access))
        return tables.text_format(path, lines, options)

    def _options(self) -> tables.Options:
        return tables.Options(
            self.text_key,
            self.label_key,
            tables.delimiter_of(self.delimiter),
            self.header,
        )

    def _workbook(self, path: AnyPath) -> Stream:
        """Reads the first sheet of an Excel workbook."""
        access = filesystem.Access.of(self)

        def sheet_format(book: binary_tables.Workbook) -> tables.TableFormat:
            rows = itertools.islice(book.rows(), tables.SAMPLE_ROWS)
            return tables.named_format(path, [cells for _, cells in rows], self._options())

        def read() -> Iterator[Example]:
            book = binary_tables.Workbook(path, access)
            table = sheet_format(book)
            for number, cells in itertools.islice(book.rows(), int(table.skips_first), None):
                if len(cells) > table.count:
                    raise UserError(
                        f"{path}:{number}: expected {filesystem.columns(table.count)} as in the "
                        f"first row, got {len(cells)}."
                    )
                cells += [""] * (table.count - len(cells))
                yield self._example(cells[table.text], cells[table.label], f"{path}:{number}")

        def notes() -> Iterator[str]:
            book = binary_tables.Workbook(path, access)
            if len(book.sheets) > 1:
                yield f"{path.name}: {len(book.sheets)} sheets, of which {book.sheets[0]!r} is read"
            if note := sheet_format(book).note:
                yield note

        return Stream(lambda: filesystem.require_examples(path, read()), notes)

    def _columnar(self, paths: Sequence[AnyPath]) -> Stream:
        """Reads the Parquet or Arrow files of a part, whose columns always have names."""
        access = filesystem.Access.of(self)
        options = dataclasses.replace(self._options(), header=True)

        def table_format(path: AnyPath) -> tables.TableFormat:
            names = binary_tables.ColumnarFile(path, access).names
            return tables.named_format(path, [names], options)

        def read() -> Iterator[Example]:
            for path in paths:
                table, file = table_format(path), binary_tables.ColumnarFile(path, access)
                # The names of the file, which may have spaces around those of the header.
                keys = [file.names[table.text], file.names[table.label]]
                for number, row in file.rows(keys):
                    yield self._typed_example(row, *keys, f"{path}:{number}")

        def notes() -> Iterator[str]:
            if note := table_format(paths[0]).note:
                yield note

        return Stream(lambda: filesystem.require_examples(paths[0], read()), notes)

    def _tsv(self, path: AnyPath, table: tables.TableFormat) -> Iterator[Example]:
        """Yields the examples of a table with tabs, in which quotes have no meaning."""
        is_first = True
        for origin, line in self._nonblank_lines(path):
            row = line.split("\t")
            is_header, is_first = is_first and table.skips_first, False
            if is_header:
                continue
            if len(row) != table.count:
                columns, line = filesystem.columns(len(row)), filesystem.shorten(line)
                if table.count > 2:
                    raise UserError(
                        f"{origin}: expected {table.count} columns as in the first line, got "
                        f"{columns}: {line}."
                    )
                raise UserError(
                    f"{origin}: expected a text, a tab and a label, got {columns}: {line}."
                )
            yield self._example(row[table.text], row[table.label], origin)

    def _csv(self, path: AnyPath, table: tables.TableFormat) -> Iterator[Example]:
        """Yields the examples of a table whose fields may be quoted."""
        rows = csv.reader(
            filesystem.csv_lines(path, self.encoding, filesystem.Access.of(self)),
            delimiter=table.delimiter,
            strict=True,
        )
        try:
            yield from self._csv_examples(path, rows, table)
        except csv.Error as error:
            raise UserError(f"{path}:{rows.line_num}: not valid CSV: {error}.") from error

    def _csv_examples(
        self, path: AnyPath, rows: Any, table: tables.TableFormat
    ) -> Iterator[Example]:
        """Yields the examples of a `csv.reader`."""
        place = "as in the header" if table.header else "as in the first row"
        is_first = True
        for row in rows:
            if is_first and not any(
                field.strip() for field in row
            ):  # blank lines may precede the header of a .txt
                continue
            is_header, is_first = is_first and table.skips_first, False
            if is_header or not row:
                continue
            origin = f"{path}:{rows.line_num}"
            if len(row) != table.count:
                raise UserError(
                    f"{origin}: expected {filesystem.columns(table.count)} {place}, got {len(row)}."
                )
            yield self._example(row[table.text], row[table.label], origin)

    def _json(self, path: AnyPath, suffix: str) -> Iterator[Example]:
        """Yields the examples of a `.jsonl`, or of a `.json` that is an array or lines too."""
        text_key, label_key = self.text_key or "text", self.label_key or "label"
        flags = {text_key: "--text-key", label_key: "--label-key"}
        access = filesystem.Access.of(self)
        read_objects = filesystem.json_objects
        starts = ("", "{")  # of lines of objects
        if (
            suffix == ".json"
            and filesystem.first_character(path, self.encoding, access) not in starts
        ):
            read_objects = filesystem.json_array
        for origin, row in read_objects(path, self.encoding, flags, access):
            yield self._typed_example(row, text_key, label_key, origin)

    def _lines(self, family: dict[str, AnyPath]) -> Stream:
        """Reads a set of class files, one text per line."""

        def read() -> Iterator[Example]:
            for label, path in sorted(family.items()):
                examples = (
                    self._example(line, label, origin)
                    for origin, line in self._nonblank_lines(path)
                )
                yield from filesystem.require_examples(path, examples)

        return Stream(read, lambda: self._encoding_notes(family.values()))

    def _class_folders(self, root: AnyPath) -> Stream:
        """Reads class folders, one text per file."""

        def read() -> Iterator[Example]:
            for label, folder in sorted(self._classes(root).items()):
                for path in filesystem.entries(folder):
                    if path.name.endswith(".txt"):
                        text = filesystem.read_text(path, self.encoding, filesystem.Access.of(self))
                        yield self._example(" ".join(text.split()), label, str(path))

        def files() -> Iterator[AnyPath]:
            for _, folder in sorted(self._classes(root).items()):
                yield from (f for f in filesystem.entries(folder) if f.name.endswith(".txt"))

        return Stream(read, lambda: self._encoding_notes(files()))

    def _typed_example(
        self, row: Mapping[str, Any], text_key: str, label_key: str, origin: str
    ) -> Example:
        """Returns the example of a row whose values have the types of JSON."""
        text, label = row[text_key], row[label_key]
        if not isinstance(text, str):
            raise UserError(
                f"{origin}: {text_key!r} must be a string, got {filesystem.shorten(str(text))}."
            )
        if self.target == targets.LABELS and isinstance(label, list | tuple):
            names = [_name(item) for item in label]
            if None not in names:
                return self._example(text, names, origin)
        is_number = self.target == targets.NUMBER and isinstance(label, float)
        name = str(label) if is_number else _name(label)
        if name is None:
            kinds = {
                targets.LABELS: "a string, an integer, a Boolean or a list of these",
                targets.NUMBER: "a number",
            }
            raise UserError(
                f"{origin}: {label_key!r} must be "
                f"{kinds.get(self.target, 'a string, an integer or a Boolean')}, got "
                f"{filesystem.shorten(json.dumps(label, default=str))}.{self._hint(label)}"
            )
        return self._example(text, name, origin)

    def _hint(self, label: object) -> str:
        """Returns a sentence about the target that a label of an unexpected type asks for."""
        if self.target not in (targets.AUTO, targets.CLASSES):
            return ""
        if isinstance(label, list | tuple):
            return " --target labels reads lists of labels."
        return " --target number reads numbers." if isinstance(label, float) else ""

    def _example(self, text: str, label: str | Sequence[str], origin: str) -> Example:
        values = targets.values_of(self.target, label, origin)
        # JSON can contain an unpaired surrogate, which UTF-8 cannot encode.
        text = text.strip().encode("utf-8", "replace").decode("utf-8")
        return Example({"text": text, **values}, origin)

    def _nonblank_lines(self, path: AnyPath) -> Iterator[tuple[str, str]]:
        for origin, line in filesystem.lines(path, self.encoding, filesystem.Access.of(self)):
            if line.strip():
                yield origin, line


def _is_table_file(path: AnyPath) -> bool:
    """Whether a path is a table; a workbook is one, although it is a zip archive."""
    is_workbook = path.is_file() and filesystem.stem_and_suffix(path)[1] == ".xlsx"
    return is_workbook or filesystem.is_plain_file(path)


def _name(label: object) -> str | None:
    """Returns a label of JSON as text; None if its type is not one of labels."""
    if isinstance(label, str):
        return label
    return json.dumps(label) if isinstance(label, int) else None
