"""Rows of Excel workbooks and Parquet files, read by libraries that are optional.

`requirements-tables.txt` lists them. Without them, a message names the format, and says how to
convert the file or install what reads it.
"""

import datetime
import importlib
import io
import json
import types
import zipfile
from collections.abc import Iterator
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
        """Yields the number of each row that is not empty, from 1, and its cells as text."""
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
        return UserError(f"{self._path}: not a valid Excel workbook: {error}.")


def parquet_names(path: AnyPath, access: Access) -> list[str]:
    """Returns the names of the columns of a Parquet file.

    Raises:
        UserError: It cannot be read, or pyarrow is not installed.
    """
    return list(_parquet_file(path, access).schema_arrow.names)


def parquet_rows(
    path: AnyPath, access: Access, columns: list[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the number of each row of a Parquet file, from 1, and the values of some columns.

    Raises:
        UserError: It cannot be read, or pyarrow is not installed.
    """
    batches = _parquet_file(path, access).iter_batches(_BATCH_ROWS, columns=columns)
    number = 0
    while True:
        try:
            batch = next(batches).to_pylist()
        except StopIteration:
            return
        except Exception as error:  # of pyarrow's, and of Python's
            raise UserError(f"{path}: not a valid Parquet file: {error}.") from error
        for row in batch:
            number += 1
            yield number, row


def _parquet_file(path: AnyPath, access: Access) -> Any:
    parquet = _library("pyarrow.parquet", path, "a Parquet file")
    access.check(path)
    is_on_disk = isinstance(path, Path) and not path.name.lower().endswith(".gz")
    source = path if is_on_disk else io.BytesIO(filesystem.read_bytes(path, access))
    try:
        return parquet.ParquetFile(source)
    except Exception as error:  # of pyarrow's, and of Python's
        raise UserError(f"{path}: not a valid Parquet file: {error}.") from error


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
