"""Corpora of plain texts, for language models.

A corpus is a folder, a zip archive or a single file. File and folder names define its parts:

    train.txt valid.txt test.txt     one document per line
    wiki.train.tokens ...            the name of a part as a component of the name
    train.tsv ...                    one column of a table; a line per row
    train.jsonl ...                  one JSON object per line, with the key `text`
    train/*.txt ...                  a folder of such files

`dev` and `val` are accepted for `valid`. All of a folder that is not divided into parts is one
text. Each file may be compressed, as in train.txt.gz. With `--documents file` each file of text
is one document, with its line ends, in place of each line.

White space around a document is removed, and empty lines are not documents.
"""

import dataclasses
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from tasks.core.corpus import Corpus
from tasks.core.errors import UserError
from tasks.core.examples import Example, Stream
from tasks.core.settings import setting
from tasks.corpora import filesystem, tfds
from tasks.corpora.filesystem import AnyPath
from tasks.corpora.samples import stories

LINE, FILE = "line", "file"
SUFFIXES = (".txt", ".text", ".tokens", ".tsv", ".jsonl")
_SEPARATORS = re.compile("[._-]")


@dataclasses.dataclass(frozen=True)
class Texts(Corpus):
    """Location of texts; each example has `text`, which is not empty."""

    documents: str = setting(
        LINE,
        "what a document is: each line of the files, or each file",
        choices=(LINE, FILE),
    )
    text_key: str = setting(
        "",
        "text: its column in .tsv, by number (default: the first) or by name in the first line; "
        "its key in .jsonl or feature in tfds: (default: text)",
    )
    encoding: str = setting(
        "", "encoding of the files (default: UTF-8, or Windows-1252 where a file is not UTF-8)"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        filesystem.check_encoding(self.encoding)

    def sample(self) -> dict[str, Stream]:
        return stories.parts()

    def tfds_parts(self, name: str) -> tuple[dict[str, Stream], list[str]]:
        return tfds.texts(name, self.tfds_dir, self.text_key), []

    def parts_in(self, path: Path) -> tuple[dict[str, Stream], list[str]]:
        if filesystem.is_plain_file(path):
            return {"train": self._stream(path, [path])}, []
        root = filesystem.corpus_root(path)
        used: set[str] = set()

        def find(names: tuple[str, ...]) -> filesystem.Matches:
            matches = self._part(root, names)
            used.update(name for name, _ in matches)
            return matches

        parts = filesystem.find_parts(path, root, find, skip=self.flagged_parts())
        if not parts:
            return {"train": self._undivided(path, root)}, []
        unused = [entry.name for entry in _files(root) if entry.name not in used]
        notes = [f"not read: {', '.join(unused)}; --valid and --test name other parts"]
        return parts, notes if unused and not self.flagged_parts() else []

    def single_part(self, path: Path) -> Stream:
        if filesystem.is_plain_file(path):
            return self._stream(path, [path])
        return self._undivided(path, filesystem.corpus_root(path))

    def _part(self, root: AnyPath, names: tuple[str, ...]) -> filesystem.Matches:
        """Returns the candidates below `root` that have one of the names of a part."""
        exact, longer = [], []
        for entry in filesystem.entries(root):
            stem, suffix = filesystem.stem_and_suffix(entry)
            if entry.is_dir() and not suffix and stem in names and _files(entry):
                exact.append((entry.name, self._stream(entry, _files(entry))))
            elif _is_data(entry) and stem in names:
                exact.append((entry.name, self._stream(entry, [entry])))
            elif _is_data(entry) and set(_SEPARATORS.split(stem)) & set(names):
                longer.append((entry.name, self._stream(entry, [entry])))
        return exact or longer

    def _undivided(self, path: AnyPath, root: AnyPath) -> Stream:
        """Returns the documents of all files below a `root` that is not divided into parts."""
        files = _files(root)
        layouts = (
            "train, valid and test as .txt, .tsv or .jsonl, or as folders of such files; or any "
            "such files"
        )
        matches = [(root.name, self._stream(path, files))] if files else []
        return filesystem.single_match(path, root, matches, layouts)

    # --- Readers -------------------------------------------------------------

    def _stream(self, path: AnyPath, files: Sequence[AnyPath]) -> Stream:
        """Returns the documents of files.

        Args:
            path: The file, or the folder of the files, for messages.
            files: The files, in order.
        """
        access = filesystem.Access.of(self)

        def read() -> Iterator[Example]:
            for file in files:
                for origin, text in self._documents(file, access):
                    if text := text.strip():
                        yield Example({"text": text}, origin)

        return Stream(
            lambda: filesystem.require_examples(path, read()),
            lambda: filesystem.encoding_notes(files, self.encoding, access),
        )

    def _documents(self, file: AnyPath, access: filesystem.Access) -> Iterator[tuple[str, str]]:
        """Returns the origins and texts of the documents of a file, of which some are empty."""
        suffix = filesystem.stem_and_suffix(file)[1]
        if suffix in (".csv", ".json"):
            raise UserError(
                f"{file}: a {suffix} is not read as text; convert it to .tsv or .jsonl."
            )
        if suffix == ".jsonl":
            return self._json(file, access)
        if suffix == ".tsv":
            return self._table(file, access)
        if self.documents == FILE:
            return iter([(f"{file}:1", filesystem.read_text(file, self.encoding, access))])
        return filesystem.lines(file, self.encoding, access)

    def _json(self, file: AnyPath, access: filesystem.Access) -> Iterator[tuple[str, str]]:
        key = self.text_key or "text"
        flags = {key: "--text-key"}
        for origin, row in filesystem.json_objects(file, self.encoding, flags, access):
            if not isinstance(row[key], str):
                value = filesystem.shorten(json.dumps(row[key]))
                raise UserError(f"{origin}: {key!r} must be a string, got {value}.")
            # JSON can contain an unpaired surrogate, which UTF-8 cannot encode.
            yield origin, row[key].encode("utf-8", "replace").decode()

    def _table(self, file: AnyPath, access: filesystem.Access) -> Iterator[tuple[str, str]]:
        count = column = 0
        for origin, line in filesystem.lines(file, self.encoding, access):
            if not line.strip():
                continue
            row = line.split("\t")
            if not count:
                count = len(row)
                column, has_header = self._column(row, origin)
                if has_header:
                    continue
            if len(row) != count:
                raise UserError(
                    f"{origin}: expected {filesystem.columns(count)} as above, got {len(row)}: "
                    f"{filesystem.shorten(line)}."
                )
            yield origin, row[column]

    def _column(self, first: Sequence[str], origin: str) -> tuple[int, bool]:
        """Returns the index of the column of the text, and whether the first row is a header."""
        key = self.text_key or "1"
        has_header = not key.isdecimal()
        names = [name.strip() for name in first] if has_header else []
        columns = names or [str(number) for number in range(1, len(first) + 1)]
        if key not in columns:
            raise UserError(
                f"{origin}: --text-key must be a column number from 1 to {len(first)}, or a column "
                f"name in the first line, got {key!r}; the line is "
                f"{filesystem.shorten(chr(9).join(first))}."
            )
        return columns.index(key), has_header


def _is_data(entry: AnyPath) -> bool:
    suffix = filesystem.stem_and_suffix(entry)[1]
    return suffix in SUFFIXES and not filesystem.accompanies_data(entry.name) and entry.is_file()


def _files(root: AnyPath) -> list[AnyPath]:
    """Returns the files of texts in a folder, by name."""
    return [entry for entry in filesystem.entries(root) if _is_data(entry)]
