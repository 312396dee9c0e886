"""Tables with one word per row and a header, as in Kaggle's annotated corpora for named entities.

    Sentence #,Word,POS,Tag
    Sentence: 1,Thousands,NNS,O
    ,of,IN,O

Columns are recognised by these names, in any order and case. A sentence begins at a row that names
another sentence than the rows before it; it need not be repeated.
"""

import csv
import dataclasses
from collections.abc import Iterator, Sequence

from tasks.core.errors import UserError
from tasks.corpora import filesystem
from tasks.corpora.filesystem import AnyPath
from tasks.corpora.tables import DELIMITERS

_SENTENCE, _WORD, _POS, _TAG = "sentence #", "word", "pos", "tag"


@dataclasses.dataclass(frozen=True)
class WordTable:
    """A table with a word in each row.

    Attributes:
        path: The file.
        encoding: Its encoding; "" to detect it.
        access: What may be read.
        delimiter: Character between two columns.
        header: Names of the columns.
    """

    path: AnyPath
    encoding: str
    access: filesystem.Access
    delimiter: str
    header: tuple[str, ...]

    def column(self, flag: str, key: str, default: str) -> int:
        """Returns the index of a column.

        Args:
            flag: Flag that selects it, for messages.
            key: Name or number of the column; "" for the default.
            default: Name of the default.

        Raises:
            UserError: There is no such column, or more than one.
        """
        if key.isdecimal() and key not in self.header and 1 <= int(key) <= len(self.header):
            return int(key) - 1
        names = [name.casefold() for name in self.header]
        if names.count((key or default).casefold()) != 1:
            raise UserError(
                f"{self.path}:1: {flag} must be one of the columns {list(self.header)} or its "
                f"number, got {key or default!r}."
            )
        return names.index((key or default).casefold())

    def words(self, token: int, tag: int) -> Iterator[tuple[str, str, str] | None]:
        """Yields each word with its tag and its origin, and None before each sentence.

        Rows without a word are left out; `notes` counts them.

        Raises:
            UserError: A row has other columns than the header, or is not CSV.
        """
        sentence, last = self._index(_SENTENCE), ""
        for origin, row in self._rows():
            if row[sentence].strip() not in ("", last):
                last = row[sentence].strip()
                yield None
            if row[token].strip():
                yield row[token].strip(), row[tag].strip(), origin

    def notes(self, token: int, tag: int) -> Iterator[str]:
        """Yields how the table is read, and the number of rows without a word, if there are any."""
        yield f"{self.path.name}: words in column {self.header[token]}, tags in {self.header[tag]}"
        if count := sum(not row[token].strip() for _, row in self._rows()):
            yield f"{self.path.name}: rows without a word, which are left out: {count:,}"

    def _rows(self) -> Iterator[tuple[str, list[str]]]:
        """Yields the origin and the fields of each row after the header that is not empty."""
        lines = filesystem.csv_lines(self.path, self.encoding, self.access)
        reader = csv.reader(lines, delimiter=self.delimiter, strict=True)
        try:
            next(reader)
            for row in reader:
                if not any(field.strip() for field in row):
                    continue
                origin = f"{self.path}:{reader.line_num}"
                if len(row) != len(self.header):
                    raise UserError(
                        f"{origin}: expected {len(self.header)} columns as in the header, "
                        f"got {len(row)}."
                    )
                yield origin, row
        except csv.Error as error:
            raise UserError(f"{self.path}:{reader.line_num}: not valid CSV: {error}.") from error

    def _index(self, name: str) -> int:
        return [column.casefold() for column in self.header].index(name)


def find(path: AnyPath, encoding: str, access: filesystem.Access) -> WordTable | None:
    """Returns the table in a `.csv` file; None if its header has no sentence or no word."""
    if filesystem.stem_and_suffix(path)[1] != ".csv":
        return None
    first = next(filesystem.csv_lines(path, encoding, access), "")
    for delimiter in DELIMITERS:
        header = _header(first, delimiter)
        if {_SENTENCE, _WORD} <= {name.casefold() for name in header}:
            return WordTable(path, encoding, access, delimiter, header)
    return None


def _header(line: str, delimiter: str) -> tuple[str, ...]:
    row: Sequence[str] = next(csv.reader([line], delimiter=delimiter), ())
    return tuple(name.strip() for name in row)


def default_tags(tags: str) -> str:
    """Returns the column that a value of `--tags` selects: POS, of the Penn Treebank, for xpos."""
    return {"xpos": _POS}.get(tags, _TAG)
