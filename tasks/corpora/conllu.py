"""CoNLL-U, the format of Universal Dependencies: ten columns, one word per line.

Ranges of multiword tokens (1-2), empty nodes (1.1) and comments are not words.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tasks.core.errors import UserError
from tasks.corpora import filesystem

COLUMNS = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
TAGS = ("lemma", "upos", "xpos", "feats", "deprel")  # columns that can serve as tags
ID = re.compile(r"[0-9]+([-.][0-9]+)?")


def rows(lines: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str, list[str]]]:
    """Parses and validates lines.

    Args:
        lines: Pairs of an origin, for messages, and a line.

    Yields:
        `(origin, line, columns)`; `columns` is empty if the line is not that of a word.

    Raises:
        UserError: A line is not valid CoNLL-U.
    """
    count = 0
    for origin, line in lines:
        row = []
        if not line.strip():
            count = 0
        elif not line.startswith("#"):
            row = line.split("\t")
            if len(row) != len(COLUMNS):
                raise UserError(
                    f"{origin}: expected the {len(COLUMNS)} tab-separated columns of CoNLL-U, "
                    f"got {len(row)}: {filesystem.shorten(line)}."
                )
            if not ID.fullmatch(row[0]):
                raise UserError(
                    f"{origin}: the id must be a number (1), a range (1-2) or the id of an "
                    f"empty node (1.1), got {row[0]!r}."
                )
            if row[0].isdecimal():
                count += 1
                if int(row[0]) != count:
                    raise UserError(
                        f"{origin}: word ids must be consecutive and start at 1 in each sentence, "
                        f"expected {count}, got {row[0]}."
                    )
            else:
                row = []
        yield origin, line, row


@dataclasses.dataclass
class Sentence:
    """One sentence.

    Attributes:
        lines: Its lines, each with the columns of its word, or with [] if it is not a word.
    """

    lines: list[tuple[str, list[str]]]

    @classmethod
    def from_tokens(cls, tokens: Sequence[str]) -> "Sentence":
        """Builds a sentence of which only the tokens are known.

        Programs that read CoNLL-U require a tree, so every word is attached to the previous one.
        """
        lines = [(f"# text = {' '.join(tokens)}", [])]
        for index, token in enumerate(tokens):
            relation = "dep" if index else "root"
            row = [str(index + 1), token, *"____", str(index), relation, "_", "_"]
            lines.append(("\t".join(row), row))
        return cls(lines)

    def tokens(self) -> list[str]:
        """Returns the forms of the words."""
        return [row[COLUMNS.index("form")] for _, row in self.lines if row]

    def with_tags(self, column: str, tags: Iterable[str]) -> str:
        """Returns the text of the sentence with one column replaced by `tags`.

        All other bytes are unchanged. The text ends with an empty line.
        """
        return self.with_columns({column: tags})

    def with_columns(self, columns: Mapping[str, Iterable[str]]) -> str:
        """Returns the text of the sentence with the values of some columns replaced.

        All other bytes are unchanged. The text ends with an empty line.
        """
        values, text = zip(*columns.values(), strict=True), []
        for line, row in self.lines:
            if row:
                row = [*row]
                for column, value in zip(columns, next(values), strict=True):
                    row[COLUMNS.index(column)] = value
                line = "\t".join(row)
            text.append(line)
        return "\n".join([*text, ""])


def sentences(lines: Iterable[bytes]) -> Iterator[Sentence]:
    """Yields the sentences of a UTF-8 file, given its lines without line endings.

    Raises:
        UserError: A line is not valid CoNLL-U.
    """
    numbered = (
        (f"line {number}", line.decode("utf-8", "replace").removeprefix("\ufeff"))
        for number, line in enumerate(lines, 1)
    )
    pending = []
    for _, line, row in rows(numbered):
        if line.strip():
            pending.append((line, row))
        elif pending:
            yield Sentence(pending)
            pending = []
    if pending:
        yield Sentence(pending)
