"""Rows of Excel workbooks, Parquet and Arrow files, read by libraries that are optional.

`requirements-tables.txt` lists them. Without them, a message names the format, and says how to
convert the file or install what reads it.
"""

import datetime
import importlib
import io
import json
import types
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tasks.core.errors import UserError
from tasks.corpora import filesystem
from tasks.corpora.filesystem import Access, AnyPath

SUFFIXES = (".xlsx", ".parquet")
_BATCH_ROWS = 1024


class Workbook:
    """First sheet of an Excel workbook; rows are streamed, distinct texts are in memory.

    Args:
        path: The file, on disk or in a zip archive.
        access: What may be read.

    Raises:
        UserError: It cannot be read, or openpyxl is not installed.
    """

    def __init__(self, path: AnyPath, access: Access):
        openpyxl = _library("openpyxl", path, "an Excel workbook")
        raw = filesystem.read_bytes(path, access)
        self._path = path
        try:
            with zipfile.ZipFile(io.BytesIO(raw)) as archive:
                size = sum(member.file_size for member in archive.infolist())
            filesystem.check_expansion(path, len(raw), size)
            self._book = openpyxl.load_workbook(io.BytesIO(raw), read_only=True, data_only=True)
            self.sheets = [sheet.title for sheet in self._book.worksheets]
            self._sheet = self._book.worksheets[0]
        except UserError:
            raise
        except Exception as error:  # the library documents no errors
            raise self._damaged(error) from error

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yields the number of each row that is not empty, from 1, and its cells as text.

        Raises:
            UserError: The file is damaged.
        """
        rows = self._sheet_rows()
        while True:
            try:
                number, cells = next(rows)
            except StopIteration:
                return
            except Exception as error:  # the library documents no errors
                raise self._damaged(error) from error
            yield number, cells

    def _sheet_rows(self) -> Iterator[tuple[int, list[str]]]:
        self._sheet.reset_dimensions()  # which some programs write wrongly
        for number, row in enumerate(self._sheet.iter_rows(values_only=True), start=1):
            cells = [_cell(value) for value in row]
            while cells and not cells[-1].strip():  # formatted, but empty
                cells.pop()
            if cells:
                yield number, cells

    def _damaged(self, error: Exception) -> UserError:
        return UserError(f"{self._path}: not a valid Excel workbook: {_reason(error)}.")


class ColumnarFile:
    """A Parquet or Arrow file, whose columns have names and types.

    A column of the type ClassLabel of Hugging Face, which holds numbers, has the names of its
    classes as values.

    Args:
        path: The file, `.parquet` or `.arrow`, on disk or in a zip archive.
        access: What may be read.

    Raises:
        UserError: It cannot be read, or pyarrow is not installed.
    """

    def __init__(self, path: AnyPath, access: Access):
        self._path, self._is_arrow = path, path.name.lower().endswith(".arrow")
        kind = "an Arrow file" if self._is_arrow else "a Parquet file"
        pyarrow = _library("pyarrow", path, kind)
        access.check(path)
        is_on_disk = isinstance(path, Path) and not path.name.lower().endswith(".gz")
        source = str(path) if is_on_disk else io.BytesIO(filesystem.read_bytes(path, access))
        try:
            if self._is_arrow:
                ipc = importlib.import_module("pyarrow.ipc")
                self._file = ipc.open_stream(pyarrow.OSFile(source) if is_on_disk else source)
                schema = self._file.schema
            else:
                parquet = importlib.import_module("pyarrow.parquet")
                self._file = parquet.ParquetFile(source)
                schema = self._file.schema_arrow
            self.names = list(schema.names)
            self._classes = _class_names(schema.metadata or {})
        except Exception as error:  # of pyarrow's, and of Python's
            raise self._damaged(error) from error

    def rows(self, columns: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yields the number of each row, from 1, and its values of some columns.

        Raises:
            UserError: The file is damaged.
        """
        batches = self._file if self._is_arrow else self._file.iter_batches(_BATCH_ROWS)
        batches, number = iter(batches), 0
        while True:
            try:
                batch = next(batches).select(columns)
                rows = [
                    row
                    for first in range(0, batch.num_rows, _BATCH_ROWS)
                    for row in batch.slice(first, _BATCH_ROWS).to_pylist()
                ]
            except StopIteration:
                return
            except Exception as error:  # of pyarrow's, and of Python's
                raise self._damaged(error) from error
            for row in rows:
                number += 1
                yield number, {key: self._named(key, value) for key, value in row.items()}

    def _named(self, column: str, value: Any) -> Any:
        """Returns the name of a class in place of its number; -1 stands for no class."""
        names = self._classes.get(column)
        if names is None or not isinstance(value, int):
            return value
        return names[value] if 0 <= value < len(names) else ""

    def _damaged(self, error: Exception) -> UserError:
        if self._is_arrow:
            return UserError(f"{self._path}: not a valid Arrow file: {_reason(error)}.")
        return UserError(f"{self._path}: not a valid Parquet file: {_reason(error)}.")


def _reason(error: Exception) -> str:
    """Returns the message of an error without the period at its end."""
    return str(error).rstrip(".")


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """Returns the names of classes by column, as Hugging Face keeps them in a schema."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return {
            column: [str(name) for name in feature["names"]]
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def _library(name: str, path: AnyPath, kind: str) -> types.ModuleType:
    """Imports an optional library.

    Raises:
        UserError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"{path}: this is {kind}; convert it to text, such as .csv or .tsv, or install "
            f"{name.partition('.')[0]}: pip install -r requirements-tables.txt."
        ) from error


def _cell(value: object) -> str:
    """Returns the value of a cell as text: 5, not 5.0, and true, as in JSON."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return str(value)
