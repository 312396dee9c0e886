"""Texts without labels, from which word vectors or a language model are learnt.

Importable without TensorFlow.
"""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from tasks.core.errors import UserError
from tasks.core.examples import Example, Stream

FLAG = "--unlabelled"
_MAX_LINE = 2**20  # characters of a text
_RECORD = "unlabelled.json"  # among the assets of a run, which it identifies


def files(path: Path) -> list[Path]:
    """Returns a file of texts, or the .txt files of a folder and its folders, sorted by name.

    Raises:
        UserError: There are none.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"{FLAG}: no file or folder {path}.")
    names = sorted(file for file in path.rglob("*.txt") if file.is_file())
    if not names:
        raise UserError(f"{FLAG}: the folder {path} has no .txt files.")
    return names


def texts(path: Path) -> Iterator[Example]:
    """Yields the texts of a file or folder, one per line, without empty lines, as key `text`.

    Raises:
        UserError: A line is not UTF-8, or has more than a million characters; or there is no text.
    """
    is_empty = True
    for name in files(path):
        try:
            with name.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                    if len(text) > _MAX_LINE:
                        raise UserError(
                            f"{FLAG}: {name}:{number}: a line has one text, of at most "
                            f"{_MAX_LINE} characters, got {len(text)}."
                        )
                    if text:
                        is_empty = False
                        yield Example({"text": text}, f"{name}:{number}")
        except UnicodeDecodeError as error:
            raise UserError(f"{FLAG}: {name}:{number}: not UTF-8: {error}") from error
        except OSError as error:
            raise UserError(f"{FLAG}: {name}: {error.strerror}.") from error
    if is_empty:
        raise UserError(f"{FLAG}: {path} has no texts, only empty lines.")


def stream(value: str) -> Stream:
    """Returns the texts of the file or folder that a value of the flag names."""
    return Stream(lambda: texts(path_of(value)))


def path_of(value: str, flag: str = FLAG) -> Path:
    """Returns the path that a value of a flag names.

    Raises:
        UserError: There is no such home folder.
    """
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise UserError(f"{flag}: {value!r}: {error}") from error


@dataclasses.dataclass(frozen=True)
class UnlabelledTexts:
    """Texts that a language model is trained on, as recorded in `run.json`.

    Attributes:
        file: Name of their file or folder.
        sha256: Checksum of their words.
        texts: Their number.
        words: Number of their words.
        new_words: Different words of them that follow those of the training part in the vocabulary.
    """

    file: str
    sha256: str
    texts: int
    words: int
    new_words: int

    def write(self, folder: Path) -> None:
        """Writes the record to a folder of assets."""
        record = json.dumps(dataclasses.asdict(self), indent=2)
        (folder / _RECORD).write_text(record, encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Returns the record in a folder of assets."""
        return cls(**json.loads((folder / _RECORD).read_text(encoding="utf-8")))
