"""Corpora of parallel sentences, for tasks of the form N→M.

A corpus is a folder, a zip archive or files. File names define its parts:

    train.de train.en valid.de ...   one sentence per line, one file per language
    train.tsv ...                    one sentence, tab and translation per line
    train.jsonl ...                  one JSON object per line

`dev` and `val` are accepted for `valid`. If no file has exactly that name, a name that
continues with a digit or one of `._-` is accepted: test_2016_flickr.de,
dev2010.en, train.de-en.de. If several qualify, a flag must name one. Each file
may be compressed, as in train.de.gz. A corpus that is not divided into parts is one such
file, or one such pair of files.

The meaning of `--source` and `--target` depends on the format:

    parallel files   the languages, which are the suffixes: NAME.de and NAME.en;
                     by default NAME.source and NAME.target
    tables           columns, by number, or by name if the first line is a header; by default
                     the first and the second. A first line that names them as source and
                     target, or as two languages, is skipped, and a note says so. Other columns
                     are ignored, but every line must have as many columns as the first. Any
                     suffix that is not one of the others is read as a table, not only .tsv
                     A .csv without tabs is separated by , ; or | and may quote fields; in a
                     folder, other files precede it
    JSON Lines       keys of the object, or of an object of languages under its key
                     `translation`; by default `text` and `translation`
    tfds:            languages; by default the source and target that the data set declares

Pairs with one empty side are skipped and counted in a note; lines where both sides are
empty are not pairs. White space around a sentence is removed.
"""

import csv
import dataclasses
import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tasks.core.corpus import Corpus
from tasks.core.errors import UserError
from tasks.core.examples import Example, Stream
from tasks.core.settings import setting
from tasks.corpora import filesystem, tables, tfds
from tasks.corpora.filesystem import AnyPath
from tasks.corpora.samples import english_german

TABLES = (".tsv", ".txt", ".jsonl")
# First rows that name columns and are not pairs: these, and two different languages.
_HEADERS = {
    ("source", "target"),
    ("src", "tgt"),
    ("src", "trg"),
    ("src", "ref"),
    ("text", "translation"),
    ("sentence", "translation"),
}
_LANGUAGES = re.compile(
    """
    ( (ar|bg|bn|cs|da|de|el|en|es|et|fa|fi|fr|he|hi|hr|hu|id|it|ja|ko|lt|lv|nl|no|pl|pt|ro|ru|sk|
       sl|sr|sv|sw|ta|te|th|tr|uk|ur|vi|zh) ([_-][a-z]{2})?
    | arabic|bengali|bulgarian|chinese|croatian|czech|danish|dutch|english|estonian|finnish|french|
      german|greek|hebrew|hindi|hungarian|indonesian|italian|japanese|korean|latvian|lithuanian|
      norwegian|persian|polish|portuguese|romanian|russian|serbian|slovak|slovenian|spanish|
      swahili|swedish|tamil|telugu|thai|turkish|ukrainian|urdu|vietnamese
    ) ([ _](words/sentences|sentences?|texts?))?
    """,
    re.VERBOSE,
)
_NESTED = "translation"  # key of an object of languages

Pair = tuple[str, str, str]  # an origin, a sentence and its translation; one may be empty


@dataclasses.dataclass(frozen=True)
class ParallelSentences(Corpus):
    """Location of pairs of sentences; each example has `text` and `translation`.

    Neither is ever empty. The origin is that of the text.
    """

    data: str = setting(
        "sample",
        "sample, the path of a folder, file, zip or PREFIX of two files, a glob pattern, or "
        "tfds:NAME",
    )
    train: str = setting(
        "",
        "path of the train part, PREFIX of PREFIX.SOURCE and PREFIX.TARGET, or a glob pattern; "
        "instead of --data",
    )
    valid: str = setting(
        "", "path, PREFIX or glob pattern of the valid part, or its name in --data"
    )
    test: str = setting("", "path, PREFIX or glob pattern of the test part, or its name in --data")
    source: str = setting(
        "", "language to translate from: a file suffix, column, key or feature of the corpus"
    )
    target: str = setting(
        "", "language to translate into: a file suffix, column, key or feature of the corpus"
    )
    encoding: str = setting(
        "", "encoding of the files (default: UTF-8, or Windows-1252 where a file is not UTF-8)"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        filesystem.check_encoding(self.encoding)
        if self.source and not self.target:
            raise UserError("--source requires --target.")
        if self.target and not self.source:
            raise UserError("--target requires --source.")
        if self.source and self.source == self.target:
            raise UserError(f"--source and --target must differ, got {self.source!r} for both.")

    def sample(self) -> dict[str, Stream]:
        if self.source:
            raise UserError(
                "--source and --target cannot be used with the sample, which is English to German."
            )
        return english_german.parts()

    def tfds_parts(self, name: str) -> tuple[dict[str, Stream], list[str]]:
        return tfds.translations(name, self.tfds_dir, self.source, self.target)

    def resolve(self, path: str, flag: str) -> Path:
        """Returns the existing file or folder that a flag names, or the prefix of a pair of files.

        A part may also be named by its name inside `--data`.
        """
        candidates, data = [Path(path).expanduser()], Path(self.data).expanduser()
        names_part = flag != "--data" and self.data != "sample"
        if names_part and data.exists() and not filesystem.is_plain_file(data):
            candidates.append(filesystem.corpus_root(data) / path)
        for candidate in candidates:
            if candidate.exists() or self._pair(candidate):
                return candidate
        pair = " and ".join(f"{path}.{language}" for language in self._languages())
        raise UserError(f"{flag}: no such file or folder: {path!r}, and no such pair: {pair}.")

    def glob(self, pattern: str) -> list[Path]:
        suffixes = {f".{language.lower()}" for language in self._languages()}
        paths = {}  # pairs of files by their common prefix; a dict keeps the order
        for path in super().glob(pattern):
            stem, suffix = filesystem.stem_and_suffix(path)
            prefix = path.parent / stem
            if suffix in suffixes and not self._pair(prefix):
                raise UserError(f"{path}: the file of the other language is missing.")
            paths[prefix if suffix in suffixes else path] = None
        return list(paths)

    def parts_in(self, path: Path) -> tuple[dict[str, Stream], list[str]]:
        if not path.exists() or filesystem.is_plain_file(path):
            return {"train": self.single_part(path)}, []
        root = filesystem.corpus_root(path)
        parts = filesystem.find_parts(
            path, root, lambda names: self._part(root, names), skip=self.flagged_parts()
        )
        return parts or {"train": self._undivided(path, root)}, []

    def single_part(self, path: Path) -> Stream:
        if not path.exists():
            return self._parallel(*self._pair(path))
        if filesystem.is_plain_file(path):
            return self._table(path)
        return self._undivided(path, filesystem.corpus_root(path))

    def _part(self, root: AnyPath, names: tuple[str, ...]) -> filesystem.Matches:
        """Returns the candidates below `root` that have one of the names of a part."""
        candidates = self._candidates(root)
        exact = [(label, stream) for label, name, stream in candidates if name in names]
        if exact:
            return exact
        longer = re.compile(rf"({'|'.join(names)})[\d._-]")
        return [(label, stream) for label, name, stream in candidates if longer.match(name)]

    def _undivided(self, path: AnyPath, root: AnyPath) -> Stream:
        """Returns the examples below a `root` that is not divided into parts."""
        matches = [(label, stream) for label, _, stream in self._candidates(root)]
        families = [family for family in _families(root).values() if len(family) > 1]
        if families and not matches:
            languages = sorted({language for family in families for language in family})
            raise UserError(
                f"{path}: --source and --target must be two of {languages}, the suffixes of its "
                f"files, got {self.source!r} and {self.target!r}."
            )
        layouts = (
            f"train, valid and test as {' and '.join(f'train.{x}' for x in self._languages())} "
            "(or .gz), as .tsv or as .jsonl; or a single such file or pair"
        )
        return filesystem.single_match(path, root, matches, layouts)

    def _candidates(self, root: AnyPath) -> list[tuple[str, str, Stream]]:
        """Returns the readable files and pairs of files below `root`.

        Each is a label, which a flag can use, its name without languages, and its examples.
        """
        candidates = [
            (entry.name, filesystem.stem_and_suffix(entry)[0], self._table(entry))
            for entry in filesystem.entries(root)
            if entry.is_file() and _is_table(entry) and not filesystem.accompanies_data(entry.name)
        ]
        csv_files = [
            (entry.name, filesystem.stem_and_suffix(entry)[0], self._table(entry))
            for entry in filesystem.entries(root)
            if entry.is_file()
            and filesystem.stem_and_suffix(entry)[1] == ".csv"
            and not filesystem.accompanies_data(entry.name)
        ]
        first, second = (
            ".{}-{}".format(*order) for order in itertools.permutations(self._languages())
        )
        for stem, family in _families(root).items():
            if sides := self._sides(family):
                name = stem.removesuffix(first).removesuffix(second)
                candidates.append((stem, name, self._parallel(*sides)))
        return candidates or csv_files

    def _pair(self, prefix: AnyPath) -> list[AnyPath]:
        """Returns the source and target files with a common prefix; [] if one is missing."""
        families = _families(prefix.parent) if prefix.parent.is_dir() else {}
        return self._sides(families.get(prefix.name, {}))

    def _languages(self) -> tuple[str, str]:
        """Returns the two languages, as suffixes of parallel files."""
        return self.source or "source", self.target or "target"

    def _sides(self, family: dict[str, list[AnyPath]]) -> list[AnyPath]:
        """Returns the source and the target file of a family; [] if one is missing."""
        sides = [family.get(language.lower(), []) for language in self._languages()]
        if not all(sides):
            return []
        for side in sides:
            if len(side) > 1:
                names = " and ".join(entry.name for entry in side)
                raise UserError(f"{side[0]}: {names} are the same side of a pair; keep only one.")
        return [entry for side in sides for entry in side]

    # --- Readers -------------------------------------------------------------

    def _parallel(self, source: AnyPath, target: AnyPath) -> Stream:
        def pairs() -> Iterator[Pair]:
            rows = itertools.zip_longest(
                *(
                    filesystem.lines(path, self.encoding, filesystem.Access.of(self))
                    for path in (source, target)
                )
            )
            for index, (source_line, target_line) in enumerate(rows):
                if source_line is None or target_line is None:
                    longer = index + 1 + sum(1 for _ in rows)
                    counts = (longer, index) if source_line else (index, longer)
                    raise UserError(
                        f"{source} has {counts[0]} lines and {target} has {counts[1]}; line n of "
                        "one must be the translation of line n of the other."
                    )
                yield (*source_line, target_line[1])

        return self._with_encoding_notes([source, target], _stream(source, pairs))

    def _with_encoding_notes(self, paths: Sequence[AnyPath], stream: Stream) -> Stream:
        """Returns a stream with notes on the detected encodings of its files."""
        access = filesystem.Access.of(self)

        def notes() -> Iterator[str]:
            yield from filesystem.encoding_notes(paths, self.encoding, access)
            yield from stream.notes()

        return Stream(lambda: stream, notes)

    def _table(self, path: AnyPath) -> Stream:
        stem, suffix = filesystem.stem_and_suffix(path)
        if suffix in {f".{language.lower()}" for language in self._languages()}:
            raise UserError(
                f"{path}: one side of a pair of files; give their common prefix, "
                f"{str(path.parent / stem)!r}."
            )
        if suffix == ".csv":
            return self._csv_stream(path)
        if suffix == ".jsonl":
            return self._with_encoding_notes([path], _stream(path, lambda: self._jsonl(path)))
        stream = _stream(path, lambda: self._tsv(path))

        def notes() -> Iterator[str]:
            if header := self._header(path, "\t"):
                yield f"{path.name}: separated by tabs, {header}"
            yield from stream.notes()

        return self._with_encoding_notes([path], Stream(lambda: stream, notes))

    def _header(self, path: AnyPath, delimiter: str) -> str:
        """Returns the columns of a first row that is taken for a header unasked, as a note."""
        if not all(side.isdecimal() for side in self._sides_of_tables()):
            return ""  # flags name the columns
        origin, first_row = next(self._rows(path, delimiter), ("", []))
        if not first_row:
            return ""
        text, translation, has_header = self._columns(first_row, origin)
        if not has_header:
            return ""
        names = [first_row[column].strip() for column in (text, translation)]
        return f"the first row is a header: {names[0]} is the source and {names[1]} the target"

    def _csv_stream(self, path: AnyPath) -> Stream:
        """Returns the examples of a `.csv`, which may have tabs, and a note on how it is read."""
        access = filesystem.Access.of(self)

        def delimiter() -> str:
            sample = filesystem.csv_lines(path, self.encoding, access)
            return tables.csv_delimiter(sample, (self.source, self.target))

        def read() -> Iterator[Pair]:
            character = delimiter()
            if character == "\t":
                return self._tsv(path)
            return self._csv(path, character)

        stream = _stream(path, read)

        def notes() -> Iterator[str]:
            character = delimiter()
            if character != "\t":
                columns = f"{self.source or 1} is the source and {self.target or 2} the target"
                read_as = self._header(path, character) or f"column {columns}"
                yield f"{path.name}: separated by {character!r}, {read_as}"
            elif header := self._header(path, character):
                yield f"{path.name}: separated by tabs, {header}"
            yield from stream.notes()

        return self._with_encoding_notes([path], Stream(lambda: stream, notes))

    def _csv(self, path: AnyPath, delimiter: str) -> Iterator[Pair]:
        """Yields the pairs of a table whose fields may be quoted."""
        for origin, *sides in self._pairs_of_rows(self._rows(path, delimiter)):
            yield origin, *(" ".join(side.split()) for side in sides)

    def _tsv(self, path: AnyPath) -> Iterator[Pair]:
        return self._pairs_of_rows(self._rows(path, "\t"))

    def _rows(self, path: AnyPath, delimiter: str) -> Iterator[tuple[str, list[str]]]:
        """Yields the origin and the fields of each row that is not blank; tabs allow no quotes."""
        access = filesystem.Access.of(self)
        if delimiter == "\t":
            for origin, line in filesystem.lines(path, self.encoding, access):
                if line.strip():
                    yield origin, line.split("\t")
            return
        lines = filesystem.csv_lines(path, self.encoding, access)
        rows = csv.reader(lines, delimiter=delimiter, strict=True)
        try:
            for row in rows:
                if any(field.strip() for field in row):
                    yield f"{path}:{rows.line_num}", row
        except csv.Error as error:
            raise UserError(f"{path}:{rows.line_num}: not valid CSV: {error}.") from error

    def _pairs_of_rows(self, rows: Iterator[tuple[str, list[str]]]) -> Iterator[Pair]:
        """Yields the pairs of a table, without its header."""
        count = 0
        for origin, row in rows:
            if not count:
                count = len(row)
                text, translation, has_header = self._columns(row, origin)
                if has_header:
                    continue
            if len(row) != count:
                shown = filesystem.shorten("\t".join(row))
                raise UserError(
                    f"{origin}: expected {count} columns as above, got {len(row)}: {shown}."
                )
            yield origin, row[text], row[translation]

    def _columns(self, first_row: Sequence[str], origin: str) -> tuple[int, int, bool]:
        """Returns the indices of the two columns, and whether the first row is a header.

        It is one if flags name columns, or if it has names of columns or of two languages there.
        """
        shown = filesystem.shorten("\t".join(first_row))
        if len(first_row) < 2:
            raise UserError(
                f"{origin}: expected a sentence, a tab and its translation, got 1 column: {shown}."
            )
        sides = self._sides_of_tables()
        has_header = not all(side.isdecimal() for side in sides)
        if has_header:
            columns = [name.strip() for name in first_row]
        else:
            columns = [str(number) for number in range(1, len(first_row) + 1)]
        for side, flag in zip(sides, ("--source", "--target"), strict=True):
            if side not in columns:
                raise UserError(
                    f"{origin}: {flag} must be a column number from 1 to {len(first_row)}, or a "
                    f"column name in the first line, got {side!r}; the line is {shown}."
                )
        text, translation = (columns.index(side) for side in sides)
        return text, translation, has_header or _is_header(first_row[text], first_row[translation])

    def _sides_of_tables(self) -> tuple[str, str]:
        """Returns the numbers or names of the two columns of a table."""
        return self.source or "1", self.target or "2"

    def _jsonl(self, path: AnyPath) -> Iterator[Pair]:
        keys = {self.source or "text": "--source", self.target or "translation": "--target"}
        for origin, row in filesystem.json_objects(
            path, self.encoding, {}, filesystem.Access.of(self)
        ):
            row = row[_NESTED] if isinstance(row.get(_NESTED), dict) else row
            filesystem.check_keys(row, keys, origin)
            for key in keys:
                if not isinstance(row[key], str):
                    value = filesystem.shorten(json.dumps(row[key]))
                    raise UserError(f"{origin}: {key!r} must be a string, got {value}.")
            # JSON can contain an unpaired surrogate, which UTF-8 cannot encode.
            yield origin, *(row[key].encode("utf-8", "replace").decode() for key in keys)


def _is_header(source: str, target: str) -> bool:
    """Returns whether two fields of a first row are names of columns rather than a pair."""
    names = source.strip().casefold(), target.strip().casefold()
    are_languages = names[0] != names[1] and all(_LANGUAGES.fullmatch(name) for name in names)
    return names in _HEADERS or are_languages


def _is_table(entry: AnyPath) -> bool:
    return filesystem.stem_and_suffix(entry)[1] in TABLES


def _families(folder: AnyPath) -> dict[str, dict[str, list[AnyPath]]]:
    """Finds files NAME.LANGUAGE, compressed or not: {NAME: {LANGUAGE: files}}."""
    families = {}
    for entry in filesystem.entries(folder):
        stem, suffix = filesystem.stem_and_suffix(entry)
        if entry.is_file() and suffix not in ("", ".csv") and not _is_table(entry):
            families.setdefault(stem, {}).setdefault(suffix[1:], []).append(entry)
    return families


def _stream(path: AnyPath, read: Callable[[], Iterator[Pair]]) -> Stream:
    """Returns the pairs with two non-empty sides; a note counts those with one empty side."""

    def pairs() -> Iterator[Pair]:
        stripped = ((origin, *(side.strip() for side in sides)) for origin, *sides in read())
        return (pair for pair in stripped if pair[1] or pair[2])

    def examples() -> Iterator[Example]:
        for origin, text, translation in pairs():
            if text and translation:
                yield Example({"text": text, "translation": translation}, origin)

    def notes() -> Iterator[str]:
        count, skipped, first_origin = 0, 0, ""
        for origin, text, translation in pairs():
            count += 1
            if not (text and translation):
                skipped += 1
                first_origin = first_origin or origin
        if skipped:
            yield (
                f"{path}: skipped {skipped} of {count} pairs because one side is empty; the first "
                f"is {first_origin}"
            )

    return Stream(lambda: filesystem.require_examples(path, examples()), notes)
