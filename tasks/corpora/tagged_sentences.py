"""Corpora of tagged sentences, for tasks of the form N→N.

A corpus is a folder, a zip archive or a single file. File names define its parts:

    xx_name-ud-train.conllu ...      as in releases of Universal Dependencies
    eng.train eng.testa eng.testb    as in CoNLL-2003; files of the other names precede them
    train.conllu valid.conllu ...    or one of the other suffixes in `SUFFIXES`

`dev` and `val` are accepted for `valid`. The format of a file is determined by
its suffix, .conllu or .jsonl, and otherwise by its first line:

    CoNLL-U      ten columns, the first a number; ranges (1-2) and empty nodes (1.1) are not words
    columns      one word per line with its tag in the last column, columns separated by tabs or
                 spaces, sentences by blank lines, as in CoNLL-2000 and CoNLL-2003. Lines before a
                 sentence that begin with # and have other columns than words are comments
    word/TAG     one sentence per line; the tag follows the last slash of each item
    JSON Lines   one object per line, with the lists `tokens` and `tags`
    .csv         one word per row, with a header that has `Sentence #` and `Word`; in a folder,
                 other files precede it (`tasks.corpora.word_tables`)
"""

import dataclasses
import functools
import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from tasks.core.corpus import Corpus
from tasks.core.errors import UserError
from tasks.core.examples import Example, Stream
from tasks.core.settings import setting
from tasks.corpora import conllu, filesystem, tfds, word_tables
from tasks.corpora.conllu import COLUMNS, ID, TAGS
from tasks.corpora.filesystem import AnyPath
from tasks.corpora.samples import english_entities, english_grammar

SUFFIXES = (
    ".conllu", ".conll", ".jsonl", ".tsv", ".txt", ".bio", ".iob", ".iob2", ".pos", ".tagged",
)  # fmt: skip
# Suffixes of CoNLL-2002 and CoNLL-2003, such as eng.testa, and the parts that they mean.
_CONLL_PARTS = {".train": "train", ".testa": "valid", ".testb": "test"}
_UNIVERSAL = "-ud-"  # precedes the part in file names of Universal Dependencies
# Only spaces and tabs: a word may contain a no-break space, as French numbers do.
_BLANKS = re.compile("[ \t]+")
_HASH = re.compile("#( |$)")  # the first column of a comment, or the word #
_NOT_TAG = re.compile("[0-9=:]|^[a-z_.]+$")  # of comments such as `# 1` and `# newdoc`

Word = tuple[str, tuple[str, ...], str]  # a word, its tag of each annotation, and its origin


@dataclasses.dataclass(frozen=True)
class TaggedSentences(Corpus):
    """Location of tagged sentences; each example has `tokens` and `tags`.

    Both are tuples of str of equal length. With several annotations, each is in the example by its
    name, too, and `tags` is the first. The origin is that of the first word.
    """

    samples: ClassVar[tuple[str, ...]] = ("sample", "sample:entities")

    tags: str = setting(
        "upos",
        f"column of CoNLL-U that holds the tags: {', '.join(TAGS)}; or several, separated by "
        "commas, which one network learns jointly",
    )
    tokens_key: str = setting(
        "",
        "words: their key in .jsonl and tfds: (default: tokens), or their column in other files, "
        "by number (default: the first) or, in .csv, also by name (default: Word)",
    )
    tags_key: str = setting(
        "",
        "tags: their key in .jsonl and tfds: (default: tags), or their column in other files, by "
        "number (default: the last) or, in .csv, also by name (default: Tag)",
    )
    encoding: str = setting(
        "", "encoding of the files (default: UTF-8, or Windows-1252 where a file is not UTF-8)"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        filesystem.check_encoding(self.encoding)
        names = self.annotations
        if not set(names) <= set(TAGS) or len(set(names)) < len(names):
            raise UserError(
                f"--tags must be one of {list(TAGS)}, or several different ones separated by "
                f"commas, got {self.tags!r}."
            )

    @property
    def annotations(self) -> tuple[str, ...]:
        """The columns of CoNLL-U that hold tags."""
        return tuple(self.tags.split(","))

    def identity(self, example: Example) -> str:
        return " ".join(example.values["tokens"])

    def sample(self) -> dict[str, Stream]:
        if self.tags != "upos":
            raise UserError(
                f"the sample has a single tag for each word; --tags {self.tags} needs data in "
                "CoNLL-U: --data PATH."
            )
        sample = english_entities if self.data == "sample:entities" else english_grammar
        return sample.parts()

    def tfds_parts(self, name: str) -> tuple[dict[str, Stream], list[str]]:
        if len(self.annotations) > 1:
            raise UserError(
                f"tfds:{name}: --tags {self.tags}: several annotations are read from CoNLL-U only."
            )
        parts, notes = tfds.tagged_sentences(
            name, self.tfds_dir, self.tokens_key, self.tags_key, self.tags
        )
        if self.tags == "lemma":
            parts = {part: Stream(functools.partial(_with_scripts, s)) for part, s in parts.items()}
        return parts, notes

    def parts_in(self, path: Path) -> tuple[dict[str, Stream], list[str]]:
        if filesystem.is_plain_file(path):
            return {"train": self._file(path)}, []
        root = filesystem.corpus_root(path)
        parts = filesystem.find_parts(
            path, root, lambda names: self._part(root, names), skip=self.flagged_parts()
        )
        return parts or {"train": self._undivided(path, root)}, []

    def single_part(self, path: Path) -> Stream:
        if filesystem.is_plain_file(path):
            return self._file(path)
        return self._undivided(path, filesystem.corpus_root(path))

    def _part(self, root: AnyPath, names: tuple[str, ...]) -> filesystem.Matches:
        """Returns the candidates below `root` that have one of the names of a part."""
        return [
            (entry.name, self._file(entry))
            for entry, stem in self._candidate_files(root)
            if stem.rpartition(_UNIVERSAL)[2] in names
        ]

    def _undivided(self, path: AnyPath, root: AnyPath) -> Stream:
        """Returns the examples below a `root` that is not divided into parts."""
        matches = [
            (entry.name, self._file(entry))
            for entry, stem in self._candidate_files(root)
            if not filesystem.accompanies_data(stem)
        ]
        layouts = (
            "train, valid and test as .conllu (or NAME-ud-train.conllu), as .jsonl, as columns "
            f"or as word/TAG ({', '.join(SUFFIXES[3:])}), or as .csv with the header "
            "Sentence #,Word,POS,Tag; or a single such file"
        )
        return filesystem.single_match(path, root, matches, layouts)

    def _candidate_files(self, root: AnyPath) -> list[tuple[AnyPath, str]]:
        """Returns the readable files below `root`, each with the name that may be that of a part.

        Tables of words are among them if there is no other.
        """
        candidates = list(_candidates(root))
        if all(filesystem.accompanies_data(stem) for _, stem in candidates):
            entries = (entry for entry in filesystem.entries(root) if entry.is_file())
            tables = [entry for entry in entries if self._word_table(entry)]
            candidates += [(entry, filesystem.stem_and_suffix(entry)[0]) for entry in tables]
        return candidates

    # --- Readers -------------------------------------------------------------

    def _file(self, path: AnyPath) -> Stream:
        def read() -> Iterator[Example]:
            names = self.annotations
            names = names if len(names) > 1 else ()
            return filesystem.require_examples(path, _sentences(self._reader(path)(path), names))

        def notes() -> Iterator[str]:
            yield from filesystem.encoding_notes([path], self.encoding, filesystem.Access.of(self))
            if table := self._word_table(path):
                yield from table.notes(*self._table_columns(table))

        return Stream(read, notes)

    def _word_table(self, path: AnyPath) -> word_tables.WordTable | None:
        """Returns the table of words in a `.csv` file; None if it is another file."""
        return word_tables.find(path, self.encoding, filesystem.Access.of(self))

    def _reader(self, path: AnyPath) -> Callable[[AnyPath], Iterator[Word | None]]:
        """Returns the reader of a file, which yields words, and None after each sentence."""
        if table := self._word_table(path):
            return lambda path: self._table_words(table)
        by_suffix = {".conllu": self._conllu, ".jsonl": self._jsonl}
        reader = by_suffix.get(filesystem.stem_and_suffix(path)[1])
        if reader is None:
            reader = self._reader_by_content(path)
        if reader != self._conllu:
            self._reject_conllu_column(path)
        return reader

    def _reader_by_content(self, path: AnyPath) -> Callable[[AnyPath], Iterator[Word | None]]:
        _, first_line = self._first_words(path)
        columns = first_line.split("\t")
        if len(columns) == len(COLUMNS) and ID.fullmatch(columns[0]):
            return self._conllu
        items = _BLANKS.split(first_line.strip(" \t"))
        with_slash = sum("/" in item for item in items)
        # More than half, since a word in a column may contain a slash, such as "1/2".
        if len(columns) == 1 and with_slash > len(items) / 2:
            return self._slashed
        return self._columns

    def _first_words(self, path: AnyPath) -> tuple[str, str]:
        """Returns the origin and the text of the first line that is certainly not a comment.

        If all lines begin with `#`, it is the first of them.
        """
        first = ("", "")
        for origin, line in filesystem.lines(path, self.encoding, filesystem.Access.of(self)):
            if not line.strip() or line.startswith("-DOCSTART-"):
                continue
            if not line.startswith("#"):
                return origin, line
            first = first if first[1] else (origin, line)
        return first

    def _reject_conllu_column(self, source: object) -> None:
        if self.tags != "upos":
            raise UserError(
                f"{source}: --tags {self.tags} names a column of CoNLL-U, but this is not CoNLL-U; "
                "select the tags with --tags-key."
            )

    def _conllu(self, path: AnyPath) -> Iterator[Word | None]:
        self._check_filled(path)
        columns = {name: COLUMNS.index(name) for name in self.annotations}
        for origin, row in self._conllu_rows(path):
            if not row:
                yield None
                continue
            form = row[COLUMNS.index("form")]
            for name, column in columns.items():
                _check(name if len(columns) > 1 else "tag", row[column], origin)
            tags = (_trained_tag(name, form, row[column]) for name, column in columns.items())
            yield form, tuple(tags), origin

    def _check_filled(self, path: AnyPath) -> None:
        """Checks that words and tags are not `_` throughout, as in some treebanks.

        Reads only until both columns have had a value.
        """
        filled, required = set(), {"form", *self.annotations}
        for _, row in self._conllu_rows(path):
            filled.update(name for name, value in zip(COLUMNS, row, strict=False) if value != "_")
            if required <= filled:
                return
        if filled and "form" not in filled:
            raise UserError(
                f"{path}: every form is _: this treebank is distributed without its words."
            )
        if filled:
            empty = next(name for name in self.annotations if name not in filled)
            raise UserError(
                f"{path}: every {empty} is _; --tags must be one of "
                f"{[name for name in TAGS if name in filled]} here, got {self.tags!r}."
            )

    def _conllu_rows(self, path: AnyPath) -> Iterator[tuple[str, list[str]]]:
        """Yields the origin and columns of each word, and empty columns between sentences."""
        for origin, line, row in conllu.rows(
            filesystem.lines(path, self.encoding, filesystem.Access.of(self))
        ):
            if row or not line.strip():
                yield origin, row

    def _columns(self, path: AnyPath) -> Iterator[Word | None]:
        first_origin, first_line = self._first_words(path)
        if not first_line:
            return
        count = len(_split(first_line))
        token = self._column("--tokens-key", self.tokens_key or "1", count, first_origin)
        tag = self._column("--tags-key", self.tags_key or str(count), count, first_origin)

        @functools.cache
        def known_tags() -> set[str]:
            lines = filesystem.lines(path, self.encoding, filesystem.Access.of(self))
            rows = (_split(line) for _, line in lines if not line.startswith("#"))
            return {row[tag] for row in rows if len(row) == count}

        def is_comment(row: list[str]) -> bool:
            if len(row) != count:
                return True
            if not _HASH.match(row[0]) or row[tag] in known_tags():
                return False
            return row[0] != "#" or "=" in row or bool(_NOT_TAG.search(row[tag]))

        starts_sentence = True
        for origin, line in filesystem.lines(path, self.encoding, filesystem.Access.of(self)):
            row = _split(line)
            if not line.strip() or row[0] == "-DOCSTART-":
                yield None
                starts_sentence = True
                continue
            if starts_sentence and line.startswith("#") and is_comment(row):
                continue
            starts_sentence = False
            if len(row) != count or count < 2:
                expected = f"{count} columns as above" if count > 1 else "a word and its tag"
                has_commas = filesystem.stem_and_suffix(path)[1] == ".csv"
                hint = " Columns are separated by tabs or spaces, not by commas." * has_commas
                raise UserError(
                    f"{origin}: expected {expected}, got {filesystem.columns(len(row))}: "
                    f"{filesystem.shorten(line)}.{hint}"
                )
            yield row[token], (row[tag],), origin

    def _column(self, flag: str, number: str, count: int, origin: str) -> int:
        """Returns the index of a column, given its number as the value of a flag."""
        if not number.isdecimal() or not 1 <= int(number) <= count:
            raise UserError(
                f"{origin}: {flag} must be a column number from 1 to {count}, got {number!r}."
            )
        return int(number) - 1

    def _table_columns(self, table: word_tables.WordTable) -> tuple[int, int]:
        """Returns the columns of the words and of the tags of a table."""
        if self.tags not in ("upos", "xpos"):
            self._reject_conllu_column(table.path)
        return (
            table.column("--tokens-key", self.tokens_key, "Word"),
            table.column("--tags-key", self.tags_key, word_tables.default_tags(self.tags)),
        )

    def _table_words(self, table: word_tables.WordTable) -> Iterator[Word | None]:
        for word in table.words(*self._table_columns(table)):
            yield word and (word[0], (word[1],), word[2])

    def _slashed(self, path: AnyPath) -> Iterator[Word | None]:
        for origin, line in filesystem.lines(path, self.encoding, filesystem.Access.of(self)):
            if _HASH.match(line):  # a comment, since the word # would have a tag
                continue
            for item in filter(None, _BLANKS.split(line)):
                token, _, tag = item.rpartition("/")
                if not token or not tag:
                    raise UserError(
                        f"{origin}: expected word/TAG items separated by spaces, got "
                        f"{filesystem.shorten(item)}."
                    )
                yield token, (tag,), origin
            yield None

    def _jsonl(self, path: AnyPath) -> Iterator[Word | None]:
        tokens_key, tags_key = self.tokens_key or "tokens", self.tags_key or "tags"
        flags = {tokens_key: "--tokens-key", tags_key: "--tags-key"}
        for origin, row in filesystem.json_objects(
            path, self.encoding, flags, filesystem.Access.of(self)
        ):
            for key in flags:
                if not isinstance(row[key], list):
                    value = filesystem.shorten(json.dumps(row[key]))
                    raise UserError(f"{origin}: {key!r} must be a list, got {value}.")
            tokens, tags = row[tokens_key], row[tags_key]
            if len(tokens) != len(tags):
                raise UserError(
                    f"{origin}: {tokens_key!r} and {tags_key!r} must have the same length, "
                    f"got {len(tokens)} and {len(tags)}."
                )
            for token, tag in zip(tokens, tags, strict=True):
                if not isinstance(token, str):
                    raise UserError(
                        f"{origin}: {tokens_key!r} must contain strings, got {json.dumps(token)}."
                    )
                if not isinstance(tag, (str, int)):
                    raise UserError(
                        f"{origin}: {tags_key!r} must contain strings or integers, "
                        f"got {json.dumps(tag)}."
                    )
                tag = tag if isinstance(tag, str) else json.dumps(tag)
                # JSON can contain an unpaired surrogate, which UTF-8 cannot encode.
                token, tag = (text.encode("utf-8", "replace").decode() for text in (token, tag))
                yield token, (tag,), origin
            yield None


def _trained_tag(column: str, form: str, tag: str) -> str:
    """Returns the tag that is trained for a tag of CoNLL-U: an edit script for a lemma."""
    return _edit_script(form, tag) if column == "lemma" else tag


@functools.lru_cache(maxsize=2**17)
def _edit_script(form: str, lemma: str) -> str:
    """Returns the edit script from a form to its lemma."""
    from models.text.edit_scripts import edit_script  # imports TensorFlow, unlike this module

    return edit_script(form, lemma)


def _with_scripts(examples: Stream) -> Iterator[Example]:
    """Yields examples whose tags are lemmas with edit scripts instead."""
    for example in examples:
        tokens = example.values["tokens"]
        scripts = tuple(map(_edit_script, tokens, example.values["tags"]))
        yield Example({"tokens": tokens, "tags": scripts}, example.origin)


def _split(line: str) -> list[str]:
    """Returns the columns of a line, which are separated by tabs, or else by blanks."""
    row = [column.strip(" ") for column in line.split("\t")]
    return _BLANKS.split(row[0]) if len(row) == 1 else row


def _candidates(root: AnyPath) -> Iterator[tuple[AnyPath, str]]:
    """Yields the readable files below `root`, each with its name without the suffix.

    The name of `eng.testa`, and of others with suffixes in `_CONLL_PARTS`, is that of the part.
    """
    is_empty = True
    for entry in filesystem.entries(root):
        stem, suffix = filesystem.stem_and_suffix(entry)
        # Releases also contain NAME-ud-train.txt: the text of the .conllu without tags.
        suffixes = SUFFIXES[:1] if _UNIVERSAL in stem else SUFFIXES
        if entry.is_file() and suffix in suffixes:
            is_empty = is_empty and filesystem.accompanies_data(stem)
            yield entry, stem
    if not is_empty:
        return
    for entry in filesystem.entries(root):
        stem, suffix = filesystem.stem_and_suffix(entry)
        if entry.is_file() and suffix in _CONLL_PARTS and "." not in stem:
            yield entry, _CONLL_PARTS[suffix]


def _sentences(words: Iterator[Word | None], names: Sequence[str]) -> Iterator[Example]:
    """Groups words into sentences; None ends a sentence.

    Args:
        words: The words.
        names: Names of the annotations, if they are several.
    """
    tokens, tags, first_origin = [], [], ""
    for word in itertools.chain(words, [None]):
        if word is not None:
            token, own, origin = word
            _check("word", token, origin)
            for tag in own:
                _check("tag", tag, origin)
            tokens.append(token)
            tags.append(own)
            first_origin = first_origin or origin
        elif tokens:
            columns = list(zip(*tags, strict=True))
            values = {"tokens": tuple(tokens), "tags": columns[0]}
            if names:
                values |= dict(zip(names, columns, strict=True))
            yield Example(values, first_origin)
            tokens, tags, first_origin = [], [], ""


def _check(kind: str, text: str, origin: str) -> None:
    if not text:
        raise UserError(f"{origin}: the {kind} is empty.")
    if "\n" in text or "\r" in text:
        raise UserError(
            f"{origin}: a {kind} must not contain line breaks, got {filesystem.shorten(text)}."
        )
