"""Files of labelled trees, an s-expression in each line: `(3 (2 It) (4 (2 's) (4 good)))`.

This is the format of the Stanford Sentiment Treebank (Socher et al. 2013): a node is a label and
a word, or a label and nodes. Empty lines are skipped. A corpus is a folder or a zip archive of
`train.txt`, `dev.txt` (or `valid.txt`) and `test.txt`, or one such file.
"""

import dataclasses
import functools
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tasks.core import targets
from tasks.core.corpus import Corpus
from tasks.core.errors import UserError
from tasks.core.examples import PARTS, Example, Splits, Stream
from tasks.corpora import filesystem
from tasks.corpora.filesystem import UNRESTRICTED, Access, AnyPath

_LAYOUTS = "train.txt, dev.txt and test.txt with a tree per line, or a single such file"
_TOKENS = re.compile(r"[()]|[^() \t\n\r\f\v]+")  # only blanks of ASCII, as in the served graph


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

    @property
    def most_children(self) -> int:
        """The largest number of children of a node."""
        return max(Counter(self.parents[1:]).values(), default=0)


def parts(corpus: Corpus, path: Path) -> tuple[dict[str, Stream], list[str]]:
    """Returns the parts of a corpus of trees, and notes on them; see `Corpus.parts_in`."""
    if filesystem.is_plain_file(path):
        return {"train": single_part(corpus, path)}, []
    root = filesystem.corpus_root(path)

    def find(names: tuple[str, ...]) -> filesystem.Matches:
        return [
            (file.name, _of_corpus(corpus, file))
            for file in _files(root)
            if filesystem.stem_and_suffix(file)[0] in names
        ]

    streams = filesystem.find_parts(path, root, find, skip=corpus.flagged_parts())
    return streams or {"train": single_part(corpus, path)}, []


def single_part(corpus: Corpus, path: Path) -> Stream:
    """Returns all trees of a file or folder that is one part; see `Corpus.single_part`."""
    if filesystem.is_plain_file(path):
        return _of_corpus(corpus, path)
    root = filesystem.corpus_root(path)
    matches = [(file.name, _of_corpus(corpus, file)) for file in _files(root)]
    return filesystem.single_match(path, root, matches, _LAYOUTS)


def _files(root: AnyPath) -> list[AnyPath]:
    """Returns the files below `root` that may contain trees."""
    return [
        entry
        for entry in filesystem.entries(root)
        if entry.is_file() and filesystem.stem_and_suffix(entry)[1] == ".txt"
    ]


def _of_corpus(corpus: Corpus, path: AnyPath) -> Stream:
    return read(path, encoding=corpus.encoding, access=Access.of(corpus))


def read(
    path: AnyPath,
    children: int | None = None,
    encoding: str = "UTF-8",
    access: Access = UNRESTRICTED,
) -> Stream:
    """Returns the trees of a file: examples with the line as `text`, and the root's `label`.

    Args:
        path: The file.
        children: Largest number of children of a node; None for any number.
        encoding: Its encoding; "" for UTF-8, or Windows-1252 where it is not UTF-8.
        access: What may be read.

    Raises:
        UserError: While it is read: a line is not a tree, with file and line; or there is none.
    """

    def examples() -> Iterator[Example]:
        for origin, line in filesystem.lines(path, encoding, access):
            if line.strip():
                tree = parse_line(line, origin, children)
                label = targets.values_of(targets.CLASSES, tree.labels[0], origin)
                yield Example({"text": line, **label}, origin)

    return Stream(
        lambda: filesystem.require_examples(path, examples()),
        lambda: filesystem.encoding_notes([path], encoding, access),
    )


def parse_line(text: str, origin: str, children: int | None = None) -> Tree:
    """Parses the s-expression of an example.

    Args:
        text: The s-expression.
        origin: Its source location, for messages.
        children: Largest number of children of a node; None for any number.

    Raises:
        UserError: It is not a tree, a node has more children, or a label ends with a blank.
    """
    try:
        tree = parse(text)
    except ValueError as error:
        raise UserError(f"{origin}: {error}") from error
    if children is not None and tree.most_children > children:
        raise UserError(
            f"{origin}: a node must have at most {children} children, got {tree.most_children}."
        )
    for label in tree.labels:
        if label != label.strip():
            raise UserError(
                f"{origin}: a label must not begin or end with a blank such as U+00A0, got "
                f"{label!r}."
            )
    return tree


def sentence(example: Example) -> Example:
    """Returns an example with the words of its tree as `text`."""
    words = filter(None, parse(example.values["text"]).words)
    return Example({**example.values, "text": " ".join(words)}, example.origin)


def sentences(splits: Splits) -> Splits:
    """Returns the parts of a treebank with the words of each tree as `text`."""
    parts = {part: getattr(splits, part) for part in PARTS}
    plain = {
        part: Stream(functools.partial(map, sentence, stream)) for part, stream in parts.items()
    }
    return dataclasses.replace(splits, **plain)


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
