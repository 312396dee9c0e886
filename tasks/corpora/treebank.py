"""Files of labelled trees, an s-expression in each line: `(3 (2 It) (4 (2 's) (4 good)))`.

This is the format of the Stanford Sentiment Treebank (Socher et al. 2013): a node is a label and
a word, or a label and nodes. Empty lines are skipped.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tasks.core.errors import UserError
from tasks.core.examples import Example, Stream
from tasks.corpora import filesystem

_TOKENS = re.compile(r"[()]|[^()\s]+")


class Tree(NamedTuple):
    """Labelled tree, its nodes in the order of their opening brackets.

    Attributes:
        labels: Label of each node.
        words: Word of each node, "" if it has nodes below it.
        parents: Index of each node's parent, -1 for the root.
    """

    labels: list[str]
    words: list[str]
    parents: list[int]


def read(path: Path, children: int | None = None) -> Stream:
    """Returns the trees of a UTF-8 file, as examples with the line as `text`.

    Args:
        path: The file.
        children: Largest number of children of a node; None for any number.

    Raises:
        UserError: While it is read: a line is not a tree, with file and line; or there is none.
    """

    def examples() -> Iterator[Example]:
        for origin, line in filesystem.lines(path, "UTF-8"):
            if not line.strip():
                continue
            try:
                tree = parse(line)
            except ValueError as error:
                raise UserError(f"{origin}: {error}") from error
            most = max(Counter(tree.parents[1:]).values(), default=0)
            if children is not None and most > children:
                raise UserError(
                    f"{origin}: a node must have at most {children} children, got {most}."
                )
            yield Example({"text": line}, origin)

    return Stream(lambda: filesystem.require_examples(path, examples()))


def parse(text: str) -> Tree:
    """Parses an s-expression.

    Raises:
        ValueError: It is not a tree; the message states the first fault and its column.
    """
    tree, open_nodes = Tree([], [], []), []
    tokens = [(match[0], match.start() + 1) for match in _TOKENS.finditer(text)]
    before = ""  # "(", "label", "word" or ")"
    for token, column in tokens:
        if before and not open_nodes:
            raise ValueError(f"column {column}: the tree has ended, got {token!r}.")
        if (token if token in "()" else "atom") not in _EXPECTED[before]:
            raise ValueError(f"column {column}: expected {_choices(before)}, got {token!r}.")
        if token == "(":
            tree.parents.append(open_nodes[-1] if open_nodes else -1)
            open_nodes.append(len(tree.labels))
            tree.labels.append("")
            tree.words.append("")
            before = token
        elif token == ")":
            open_nodes.pop()
            before = token
        elif before == "(":
            tree.labels[-1], before = token, "label"
        else:
            tree.words[-1], before = token, "word"
    if not tokens or open_nodes:
        raise ValueError(f"the line ends before the tree, with {len(open_nodes)} open brackets.")
    return tree


# Tokens that may follow a token; an atom is a label or a word.
_EXPECTED = {
    "": ("(",),
    "(": ("atom",),
    "label": ("(", "atom"),
    "word": (")",),
    ")": ("(", ")"),
}


def _choices(before: str) -> str:
    """Names the tokens that are expected after one."""
    atom = "a label" if before == "(" else "a word"
    return " or ".join(atom if token == "atom" else repr(token) for token in _EXPECTED[before])
