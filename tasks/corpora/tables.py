"""Formats of tables of labelled texts: delimiter, header and columns, from the first rows.

A format is a function of the first `SAMPLE_ROWS` rows of a file and of the settings. The documented
layouts come first: a file that they describe is never read in another way, except that a header
of known names in a table with tabs is no example, and that a column of labels may come first.
"""

import csv
import dataclasses
from collections.abc import Iterable, Sequence

from tasks.core.errors import UserError
from tasks.corpora import filesystem

SAMPLE_ROWS = 1000  # of a file, which decide on its format
SAMPLE_CHARACTERS = 2**20
DELIMITERS = (",", ";", "\t", "|")
TEXT_NAMES = frozenset(
    (
        "text",
        "sentence",
        "review",
        "content",
        "comment",
        "message",
        "body",
        "tweet",
        "question",
        "document",
        "phrase",
    )
)
LABEL_NAMES = frozenset(
    ("label", "class", "sentiment", "target", "category", "stars", "rating", "polarity")
)
_SHOWN = {",": "commas", "\t": "tabs", " ": "spaces"}
# Bounds of a column of labels, next to a column of texts.
_MIN_ROWS, _MAX_LABEL, _MIN_TEXT = 8, 30, 10


@dataclasses.dataclass(frozen=True)
class Options:
    """Settings that decide on a format.

    Attributes:
        text_key: Name of the column of the text, or its number if there is no header; may be "".
        label_key: The same of the label.
        delimiter: One character; "" to detect it.
        header: Whether there is a header; None to detect it.
        encoding: Name of the encoding of the file, for the note.
    """

    text_key: str = ""
    label_key: str = ""
    delimiter: str = ""
    header: bool | None = None
    encoding: str = ""

    def columns(self, header: Sequence[str], exact: bool) -> tuple[int, int] | None:
        """Returns the columns of text and label in a header, or None if one is missing.

        Args:
            header: The names of the columns.
            exact: Whether to accept only the names in the settings, "text" and "label" by
                default. Otherwise known names are accepted too, if only one column has them.
        """
        text = _column(header, self.text_key, "text", () if exact else TEXT_NAMES)
        label = _column(header, self.label_key, "label", () if exact else LABEL_NAMES)
        return None if text is None or label is None else (text, label)


@dataclasses.dataclass(frozen=True)
class TableFormat:
    """Format of one table.

    Attributes:
        delimiter: Character between two columns.
        is_quoted: Whether fields may be quoted, as in CSV.
        count: Number of columns.
        header: Names of the columns; () if there is no header.
        skips_first: Whether the first row is not an example.
        text: Index of the column of the text.
        label: Index of the column of the label.
        note: Description for the user; "" for a documented layout.
    """

    delimiter: str
    is_quoted: bool
    count: int
    header: tuple[str, ...] = ()
    skips_first: bool = False
    text: int = 0
    label: int = 1
    note: str = ""


def delimiter_of(value: str) -> str:
    """Returns the character that the setting `--delimiter` means; "" to detect it.

    Raises:
        UserError: It is not one character, or one that cannot separate columns.
    """
    delimiter = "\t" if value in ("tab", "\\t") else value
    if len(delimiter) > 1 or delimiter in ("\n", "\r", '"', "\0"):
        raise UserError(
            f"--delimiter must be one character, such as ; or |, or the word tab, got {value!r}."
        )
    return delimiter


def csv_format(path: filesystem.AnyPath, lines: Iterable[str], options: Options) -> TableFormat:
    """Returns the format of a `.csv` file, in which fields may be quoted.

    Args:
        path: The file, for messages.
        lines: Its lines with their ends.
        options: Settings.

    Raises:
        UserError: The header lacks a column.
    """
    lines = _sample(lines)
    delimiters = (options.delimiter,) if options.delimiter else DELIMITERS
    if options.header is False:
        delimiter = options.delimiter or _consistent(lines) or ","
        return _without_header(path, _parse(lines, delimiter), delimiter, True, options)
    if table := _by_header(path, lines, delimiters, options, default=","):
        return table
    reader = csv.reader(lines, delimiter=delimiters[0], strict=True)
    try:
        next(reader, None)
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: not valid CSV: {error}.") from error
    headers = [_first_row(lines, delimiter) for delimiter in delimiters]
    header = max(headers, key=lambda names: min(len(names), 2))  # the first of equals
    raise _missing_column(path, header, options)


def _missing_column(path: filesystem.AnyPath, header: Sequence[str], options: Options) -> UserError:
    """Returns the error about the first column that a header lacks."""
    if not header:
        return UserError(f"{path}: the file contains no examples.")
    is_missing = _column(header, options.text_key, "text", TEXT_NAMES) is None
    key, flag = (
        (options.text_key or "text", "--text-key")
        if is_missing
        else (options.label_key or "label", "--label-key")
    )
    # A header that is certain, such as that of a Parquet file, cannot be an example.
    no_header = ", or give --no-header if the first row is an example"
    return UserError(
        f"{path}:1: missing column {key!r}; the columns are {list(header)}. Select one with "
        f"{flag}{'' if options.header else no_header}."
    )


def csv_delimiter(lines: Iterable[str], names: Sequence[str]) -> str:
    """Returns the delimiter of a `.csv` file: a tab if the first line has one.

    Args:
        lines: Its lines with their ends.
        names: Names of columns, of which those of the right delimiter are in the header.
    """
    lines = [line for line in _sample(lines) if line.strip()]
    if not lines or "\t" in lines[0]:
        return "\t"
    for delimiter in DELIMITERS:
        if set(names) <= set(_first_row(lines, delimiter)):
            return delimiter
    return _consistent(lines) or ","


def named_format(
    path: filesystem.AnyPath, rows: Sequence[list[str]], options: Options
) -> TableFormat:
    """Returns the format of a table that has columns without a delimiter, such as a sheet.

    Args:
        path: The file, for messages.
        rows: Its first rows that are not empty.
        options: Settings.

    Raises:
        UserError: The header lacks a column.
    """
    rows = list(rows)
    if options.header is False:
        return _without_header(path, rows, "", True, options)
    header = _header(rows)
    for exact in (True, False):
        if columns := options.columns(header, exact):
            table = TableFormat("", True, len(header), header, True, *columns)
            return _describe(path, table, options, is_default=exact)
    raise _missing_column(path, header, options)


def text_format(path: filesystem.AnyPath, lines: Iterable[str], options: Options) -> TableFormat:
    """Returns the format of a `.tsv` or `.txt` file: with tabs, or quoted with another delimiter.

    Args:
        path: The file, for messages.
        lines: Its lines with their ends.
        options: Settings.

    Raises:
        UserError: The header lacks a column.
    """
    lines = [line for line in _sample(lines) if line.strip()]
    has_tabs = not lines or any("\t" in line for line in lines)
    if options.delimiter not in ("", "\t"):
        return _delimited(path, lines, options.delimiter, options)
    if not has_tabs and not options.delimiter:
        if options.header is not False and (
            table := _by_header(path, lines, (",", ";", "|"), options)
        ):
            return table
        delimiter = _consistent(lines)
        if delimiter and (order := _order(_parse(lines, delimiter))):
            return _describe(path, TableFormat(delimiter, True, 2, (), False, *order), options)
    return _with_tabs(path, [line.rstrip("\r\n").split("\t") for line in lines], options)


def _delimited(
    path: filesystem.AnyPath, lines: list[str], delimiter: str, options: Options
) -> TableFormat:
    """Returns the format of a `.tsv` or `.txt` file whose delimiter a flag gives."""
    if options.header is not False:
        if table := _by_header(path, lines, (delimiter,), options):
            return table
        if options.header:
            return csv_format(path, lines, options)
    return _without_header(path, _parse(lines, delimiter), delimiter, True, options)


def _with_tabs(path: filesystem.AnyPath, rows: list[list[str]], options: Options) -> TableFormat:
    """Returns the format of a table with tabs, in which quotes are characters like others."""
    header = _header(rows)
    if options.header is not False and len(header) > 1:
        columns = options.columns(header, exact=False)
        # A label of a header is not the label of any row.
        if columns and (options.header or _is_only_header(rows, columns[1])):
            return _describe(
                path, TableFormat("\t", False, len(header), header, True, *columns), options
            )
        if options.header:
            order = _order(rows[1:]) or (0, 1)
            if len(header) > 2:
                raise UserError(
                    f"{path}:1: the columns are {list(header)}; select two with --text-key and "
                    "--label-key."
                )
            return _describe(path, TableFormat("\t", False, 2, header, True, *order), options)
    if options.header is False and (options.text_key or options.label_key or len(header) > 2):
        return _without_header(path, rows, "\t", False, options)
    order = _order(rows) or (0, 1)
    return _describe(path, TableFormat("\t", False, 2, (), False, *order), options)


def _without_header(
    path: filesystem.AnyPath,
    rows: list[list[str]],
    delimiter: str,
    is_quoted: bool,
    options: Options,
) -> TableFormat:
    """Returns the format of a table without a header, whose columns have numbers from 1."""
    count = len(next(filter(None, rows), ()))
    if options.text_key or options.label_key:
        numbers = [str(number) for number in range(1, count + 1)]
        for key, flag in ((options.text_key, "--text-key"), (options.label_key, "--label-key")):
            if key not in numbers:
                raise UserError(
                    f"{path}:1: {flag} must be a column number from 1 to {count}, because there "
                    f"is no header, got {key!r}."
                )
        columns = (numbers.index(options.text_key), numbers.index(options.label_key))
    elif count == 2 or not count:
        columns = _order(rows) or (0, 1)
    else:
        raise UserError(
            f"{path}:1: expected a text and a label, got {filesystem.columns(count)} without a "
            "header; select two by number with --text-key and --label-key, or give another "
            "--delimiter."
        )
    table = TableFormat(delimiter, is_quoted, max(count, 2), (), False, *columns)
    return _describe(path, table, options)


def _by_header(
    path: filesystem.AnyPath,
    lines: list[str],
    delimiters: Sequence[str],
    options: Options,
    default: str = "",
) -> TableFormat | None:
    """Returns the format by the first delimiter whose header has both columns, or None."""
    for exact in (True, False):
        for delimiter in delimiters:
            header = _first_row(lines, delimiter)
            if columns := options.columns(header, exact):
                table = TableFormat(delimiter, True, len(header), header, True, *columns)
                return _describe(path, table, options, exact and delimiter == default)
    return None


def _describe(
    path: filesystem.AnyPath, table: TableFormat, options: Options, is_default: bool = False
) -> TableFormat:
    """Returns a format with its note, unless the layout is a documented one.

    Args:
        path: The file.
        table: Its format.
        options: Settings.
        is_default: Whether it is the documented layout of `.csv`.
    """
    is_plain = not table.is_quoted and not table.skips_first
    if is_default or (is_plain and (table.text, table.label) == (0, 1)):
        return table
    delimiter = table.delimiter
    parts = [f"separated by {_SHOWN.get(delimiter, delimiter)}"] if delimiter else []
    if table.header:
        shown = (", " if delimiter in ("", "\t") else delimiter).join(table.header)
        parts.append(f"header {shown if len(shown) <= 80 else shown[:77] + '...'}")
        if set(table.header) != {"text", "label"}:
            text, label = table.header[table.text], table.header[table.label]
            parts.append(f"the text is {text} and the label {label}")
    else:
        parts.append("no header")
        parts.append(f"the text is column {table.text + 1} and the label column {table.label + 1}")
    if delimiter and options.encoding:
        parts.append(options.encoding)
    return dataclasses.replace(table, note=f"{path.name}: {', '.join(parts)}")


def _sample(lines: Iterable[str]) -> list[str]:
    """Returns the first lines of a file."""
    sample, characters = [], 0
    for line in lines:
        sample.append(line)
        characters += len(line)
        if len(sample) == SAMPLE_ROWS or characters >= SAMPLE_CHARACTERS:
            break
    return sample


def _parse(lines: Iterable[str], delimiter: str) -> list[list[str]]:
    """Returns the rows of quoted lines; a malformed row, which reading reports, ends them."""
    rows = []
    try:
        for row in csv.reader(lines, delimiter=delimiter, strict=True):
            rows.append(row)
    except csv.Error:
        pass
    return rows


def _first_row(lines: list[str], delimiter: str) -> tuple[str, ...]:
    """Returns the stripped fields of the first row; () if it is malformed or missing."""
    try:
        return _header([next(csv.reader(lines, delimiter=delimiter, strict=True), [])])
    except csv.Error:
        return ()


def _header(rows: list[list[str]]) -> tuple[str, ...]:
    return tuple(name.strip() for name in rows[0]) if rows else ()


def _column(header: Sequence[str], key: str, default: str, names: Iterable[str]) -> int | None:
    """Returns the index of a column: by its exact name, or else by known names if it is unique."""
    if (key or default) in header:
        return header.index(key or default)
    if key or not names:
        return None
    lower = [name.casefold() for name in header]
    if lower.count(default) == 1:
        return lower.index(default)
    matches = [index for index, name in enumerate(lower) if name in names]
    return matches[0] if len(matches) == 1 else None


def _is_only_header(rows: list[list[str]], label: int) -> bool:
    """Whether the name of a column of labels is no label of the other rows."""
    name = rows[0][label].strip()
    return all(len(row) <= label or row[label].strip() != name for row in rows[1:])


def _consistent(lines: list[str]) -> str:
    """Returns the first delimiter that gives all rows the same two or more columns, or ""."""
    for delimiter in DELIMITERS:
        rows = [row for row in _parse(lines, delimiter) if row]
        if len(rows) > 1 and len(lines) >= SAMPLE_ROWS:
            rows = rows[:-1]  # the sample may end inside of a field
        if rows and len({len(row) for row in rows}) == 1 and len(rows[0]) > 1:
            return delimiter
    return ""


def _order(rows: list[list[str]]) -> tuple[int, int] | None:
    """Returns the columns of text and label of a table of two columns; None in doubt."""
    rows = [[field.strip() for field in row] for row in rows if row]
    if len(rows) < _MIN_ROWS or any(len(row) != 2 for row in rows):
        return None
    first, second = zip(*rows, strict=True)
    if _are_labels(first, second):
        return 1, 0
    if _are_labels(second, first):
        return 0, 1
    return None


def _are_labels(labels: Sequence[str], texts: Sequence[str]) -> bool:
    """Whether one column has few and short values, and the other many that are longer."""
    label_length = sum(map(len, labels)) / len(labels)
    text_length = sum(map(len, texts)) / len(texts)
    return (
        len(set(labels)) <= len(labels) / 4
        and all(0 < len(label) <= _MAX_LABEL for label in labels)
        and len(set(texts)) >= 3 * len(texts) / 4
        and text_length >= max(_MIN_TEXT, 2 * label_length)
    )
