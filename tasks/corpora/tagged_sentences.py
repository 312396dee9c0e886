"""Tagged sentences: the corpora of N→N, in the layouts that people have them in.

A corpus is a folder or a zip, or one file. Its parts are told by names:

    xx_name-ud-train.conllu ...      as releases of Universal Dependencies have them
    train.conllu valid.conllu ...    or one of the other suffixes of `SUFFIXES`

`dev` and `val` are names of the valid part too. How a file is written is told by
its suffix, .conllu or .jsonl, and otherwise by its first line:

    CoNLL-U      ten columns, the first a number; ranges (1-2) and empty nodes (1.1) are no words
    columns      a word a line, its tag in the last column, blank lines between
                 sentences, between columns tabs or blanks, as in CoNLL-2000 and -2003
    word/TAG     a sentence a line; a word ends at its last slash
    JSON lines   an object a line, of lists `tokens` and `tags`
"""

import dataclasses
import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from tasks.core.corpus import Corpus
from tasks.core.errors import UserError
from tasks.core.examples import Example, Stream
from tasks.core.settings import setting
from tasks.corpora import conllu, filesystem, tfds
from tasks.corpora.conllu import COLUMNS, ID, TAGS
from tasks.corpora.samples import english_grammar

SUFFIXES = (
    ".conllu", ".conll", ".jsonl", ".tsv", ".txt", ".bio", ".iob", ".iob2", ".pos", ".tagged",
)  # fmt: skip
_UNIVERSAL = "-ud-"  # before the name of a part in a release of Universal Dependencies
_ABOUT = ("readme", "licen", "changelog")  # what lies beside a corpus and is none
# Not whatever is white: a word may hold a no-break space, and French numbers do.
_BLANKS = re.compile("[ \t]+")

Word = tuple[str, str, str]  # a word, its tag, and where they are


@dataclasses.dataclass(frozen=True)
class TaggedSentences(Corpus):
    """Where the tagged sentences are; the values of an example are `tokens` and `tags`.

    Both are tuples of str, of one length. The origin is that of the first word.
    """

    tags: str = setting("upos", "column of CoNLL-U to take as tags", choices=TAGS)
    tokens_key: str = setting(
        "",
        "key of the words in .jsonl and tfds:, or the number of their column in other files "
        "(default: tokens, or the first)",
    )
    tags_key: str = setting("", "that of the tags, likewise (default: tags, or the last)")
    encoding: str = setting("utf-8", "encoding of the files")

    def __post_init__(self):
        super().__post_init__()
        filesystem.check_encoding(self.encoding)

    def identity(self, example):
        return " ".join(example.values["tokens"])

    def sample(self):
        self._refuse_column("the sample")
        return english_grammar.parts()

    def dataset(self, name):
        return tfds.tagged_sentences(name, self.tfds_dir, self.tokens_key, self.tags_key, self.tags)

    def files(self, path):
        if filesystem.is_one_file(path):
            return {"train": self._file(path)}, []
        root = filesystem.root(path)
        parts = filesystem.parts(path, root, lambda names: self._part(root, names), self.named())
        return parts or {"train": self._whole(path, root)}, []

    def one_file(self, path):
        return (
            self._file(path)
            if filesystem.is_one_file(path)
            else self._whole(path, filesystem.root(path))
        )

    def _part(self, root, names) -> filesystem.Found:
        """All below `root` that goes by one of the names of a part."""
        return [
            (entry.name, self._file(entry))
            for entry, stem in _candidates(root)
            if stem.rpartition(_UNIVERSAL)[2] in names
        ]

    def _whole(self, path, root) -> Stream:
        """The examples below a `root` that knows no parts."""
        found = [
            (entry.name, self._file(entry))
            for entry, stem in _candidates(root)
            if not stem.lower().startswith(_ABOUT)
        ]
        rule = (
            "train, valid and test as .conllu (or NAME-ud-train.conllu), as .jsonl, as columns "
            f"or as word/TAG ({', '.join(SUFFIXES[3:])}); or one of these alone"
        )
        return filesystem.the_only(path, root, found, rule)

    # --- Readers -------------------------------------------------------------

    def _file(self, path) -> Stream:
        def read():
            return filesystem.told(path, _sentences(self._reader(path)(path)))

        return Stream(read)

    def _reader(self, path) -> Callable[[Path], Iterator[Word | None]]:
        """What reads the words of a file, with None after each sentence."""
        named = {".conllu": self._conllu, ".jsonl": self._jsonl}
        reader = named.get(filesystem.stem_and_suffix(path)[1]) or self._reader_by_content(path)
        if reader != self._conllu:
            self._refuse_column(path)
        return reader

    def _reader_by_content(self, path):
        first = next(
            (
                line
                for _, line in filesystem.lines(path, self.encoding)
                if line.strip() and not line.startswith(("#", "-DOCSTART-"))
            ),
            "",
        )
        columns = first.split("\t")
        if len(columns) == len(COLUMNS) and ID.fullmatch(columns[0]):
            return self._conllu
        words = _BLANKS.split(first.strip(" \t"))
        slashed = sum("/" in word for word in words)
        # More than half, since the word of a column may be "1/2".
        return self._slashed if len(columns) == 1 and slashed > len(words) / 2 else self._columns

    def _refuse_column(self, what):
        if self.tags != "upos":
            raise UserError(
                f"{what}: --tags {self.tags} names a column of CoNLL-U, which this is not; "
                "tags elsewhere are named with --tags-key."
            )

    def _conllu(self, path) -> Iterator[Word | None]:
        self._check_filled(path)
        form, tags = COLUMNS.index("form"), COLUMNS.index(self.tags)
        for origin, row in self._conllu_rows(path):
            yield (row[form], row[tags], origin) if row else None

    def _check_filled(self, path):
        """Reads as far as a word and a tag are met: a treebank may lack either throughout."""
        met, wanted = set(), {"form", self.tags}
        for _, row in self._conllu_rows(path):
            met.update(name for name, value in zip(COLUMNS, row, strict=False) if value != "_")
            if wanted <= met:
                return
        if met and "form" not in met:
            raise UserError(
                f"{path}: the column form is _ throughout: this treebank comes without its words."
            )
        if met:
            raise UserError(
                f"{path}: the column {self.tags} is _ throughout; --tags can be one of "
                f"{[name for name in TAGS if name in met]}."
            )

    def _conllu_rows(self, path) -> Iterator[tuple[str, list[str]]]:
        """The columns of each word; none between sentences."""
        for origin, line, row in conllu.rows(filesystem.lines(path, self.encoding)):
            if row or not line.strip():
                yield origin, row

    def _columns(self, path) -> Iterator[Word | None]:
        count = 0
        for origin, line in filesystem.lines(path, self.encoding):
            row = [column.strip(" ") for column in line.split("\t")]
            if len(row) == 1:
                row = _BLANKS.split(row[0])
            if not line.strip() or row[0] == "-DOCSTART-":
                yield None
                continue
            if not count:
                count = len(row)
                token = self._column("--tokens-key", self.tokens_key or "1", count, origin)
                tag = self._column("--tags-key", self.tags_key or str(count), count, origin)
            if len(row) != count or count < 2:
                wanted = f"{count} columns as above" if count > 1 else "a word and its tag"
                raise UserError(
                    f"{origin}: expected {wanted}, got {len(row)} "
                    f"column{'s' * (len(row) != 1)}: {filesystem.shown(line)}."
                )
            yield row[token], row[tag], origin

    def _column(self, flag, number, count, origin) -> int:
        if not number.isdecimal() or not 1 <= int(number) <= count:
            raise UserError(
                f"{origin}: {flag} must be the number of a column, 1 to {count}, got {number!r}."
            )
        return int(number) - 1

    def _slashed(self, path) -> Iterator[Word | None]:
        for origin, line in filesystem.lines(path, self.encoding):
            for pair in filter(None, _BLANKS.split(line)):
                token, _, tag = pair.rpartition("/")
                if not token or not tag:
                    raise UserError(
                        f"{origin}: expected word/TAG with blanks between, got "
                        f"{filesystem.shown(pair)}."
                    )
                yield token, tag, origin
            yield None

    def _jsonl(self, path) -> Iterator[Word | None]:
        tokens_key, tags_key = self.tokens_key or "tokens", self.tags_key or "tags"
        flags = {tokens_key: "--tokens-key", tags_key: "--tags-key"}
        for origin, row in filesystem.objects(path, self.encoding, flags):
            for key in flags:
                if not isinstance(row[key], list):
                    got = filesystem.shown(json.dumps(row[key]))
                    raise UserError(f"{origin}: {key!r} must be a list, got {got}.")
            tokens, tags = row[tokens_key], row[tags_key]
            if len(tokens) != len(tags):
                raise UserError(
                    f"{origin}: {tokens_key!r} and {tags_key!r} must be of one length, "
                    f"got {len(tokens)} and {len(tags)}."
                )
            for token, tag in zip(tokens, tags, strict=True):
                if not isinstance(token, str):
                    raise UserError(
                        f"{origin}: {tokens_key!r} must hold strings, got {json.dumps(token)}."
                    )
                if not isinstance(tag, (str, int)):
                    raise UserError(
                        f"{origin}: {tags_key!r} must hold strings or whole numbers, "
                        f"got {json.dumps(tag)}."
                    )
                tag = tag if isinstance(tag, str) else json.dumps(tag)
                # JSON can tell half a surrogate pair, which no UTF-8 can.
                yield *(text.encode("utf-8", "replace").decode() for text in (token, tag)), origin
            yield None


def _candidates(root) -> Iterator[tuple[Path, str]]:
    """The files below `root` that may be read, each with its name without the suffix."""
    for entry in filesystem.entries(root):
        stem, suffix = filesystem.stem_and_suffix(entry)
        # Beside NAME-ud-train.conllu releases have NAME-ud-train.txt, the text without tags.
        suffixes = SUFFIXES[:1] if _UNIVERSAL in stem else SUFFIXES
        if entry.is_file() and suffix in suffixes:
            yield entry, stem


def _sentences(words: Iterator[Word | None]) -> Iterator[Example]:
    """Words gathered into sentences, which None ends."""
    tokens, tags, first = [], [], ""
    for word in itertools.chain(words, [None]):
        if word is not None:
            token, tag, origin = word
            _check("word", token, origin)
            _check("tag", tag, origin)
            tokens.append(token)
            tags.append(tag)
            first = first or origin
        elif tokens:
            yield Example({"tokens": tuple(tokens), "tags": tuple(tags)}, first)
            tokens, tags, first = [], [], ""


def _check(kind, text, origin):
    if not text:
        raise UserError(f"{origin}: the {kind} is empty.")
    if "\n" in text or "\r" in text:
        raise UserError(f"{origin}: a {kind} must be in one line, got {filesystem.shown(text)}.")
