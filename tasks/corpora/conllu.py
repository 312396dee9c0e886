"""CoNLL-U, the format of Universal Dependencies: ten columns, a word a line.

Rows of ranges (1-2) and of empty nodes (1.1) are no words, nor are comments.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Sequence

from tasks.core.errors import UserError
from tasks.corpora import filesystem

COLUMNS = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
TAGS = ("lemma", "upos", "xpos", "feats", "deprel")  # the columns that can be tags
ID = re.compile(r"[0-9]+([-.][0-9]+)?")


def rows(lines: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str, list[str]]]:
    """Holds lines against the format.

    Args:
        lines: Each with where it is, for messages.

    Returns:
        The same, each with its columns if it is that of a word, else with none.

    Raises:
        UserError: A line is none of CoNLL-U.
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
                    f"{origin}: expected the {len(COLUMNS)} columns of CoNLL-U with tabs "
                    f"between, got {len(row)}: {filesystem.shown(line)}."
                )
            if not ID.fullmatch(row[0]):
                raise UserError(
                    f"{origin}: the id must be a number (1), a range (1-2) or that of an "
                    f"empty node (1.1), got {row[0]!r}."
                )
            if row[0].isdecimal():
                count += 1
                if int(row[0]) != count:
                    raise UserError(
                        f"{origin}: the ids of words must count from 1 in each sentence, "
                        f"expected {count}, got {row[0]}."
                    )
            else:
                row = []
        yield origin, line, row


@dataclasses.dataclass
class Sentence:
    """The lines of a sentence, each with the columns of its word or with none."""

    lines: list[tuple[str, list[str]]]

    @classmethod
    def of(cls, tokens: Sequence[str]) -> "Sentence":
        """A sentence of which nothing but its tokens is known.

        Programs that read CoNLL-U want a tree: each word hangs on the one before.
        """
        lines = [(f"# text = {' '.join(tokens)}", [])]
        for at, token in enumerate(tokens):
            relation = "dep" if at else "root"
            row = [str(at + 1), token, *"____", str(at), relation, "_", "_"]
            lines.append(("\t".join(row), row))
        return cls(lines)

    def tokens(self) -> list[str]:
        """The forms of its words."""
        return [row[COLUMNS.index("form")] for _, row in self.lines if row]

    def tagged(self, column: str, tags: Iterable[str]) -> str:
        """Its lines and an empty one after them, with one column of its words written anew."""
        tags, written = iter(tags), []
        for line, row in self.lines:
            if row:
                row = [*row]
                row[COLUMNS.index(column)] = next(tags)
                line = "\t".join(row)
            written.append(line)
        return "\n".join([*written, ""])


def sentences(lines: Iterable[bytes]) -> Iterator[Sentence]:
    """The sentences of a file in UTF-8, its lines without their ends.

    Raises:
        UserError: A line is none of CoNLL-U.
    """
    numbered = (
        (f"line {number}", line.decode(filesystem.decoder("utf-8"), "replace"))
        for number, line in enumerate(lines, 1)
    )
    kept = []
    for _, line, row in rows(numbered):
        if line.strip():
            kept.append((line, row))
        elif kept:
            yield Sentence(kept)
            kept = []
    if kept:
        yield Sentence(kept)
