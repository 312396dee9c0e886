"""Parallel sentences: the corpora of N→M, in the layouts that people have them in.

A corpus is a folder or a zip, or files. Its parts are told by names:

    train.de train.en valid.de ...   a sentence a line, a file for each language
    train.tsv ...                    a sentence, a tab and its translation a line
    train.jsonl ...                  an object a line

`dev` and `val` are names of the valid part too. Where no file is called just so, one
whose name goes on after a digit or one of `._-` is the part: test_2016_flickr.de,
dev2010.en, train.de-en.de. Where that holds of several, a flag has to name one. Each of
the files may be compressed, as in train.de.gz. A corpus without parts is one such file,
or one such pair of files.

What `--source` and `--target` name depends on how a corpus is written:

    parallel files   the languages, which are the ends of the names: NAME.de and NAME.en;
                     else NAME.source and NAME.target
    tables           columns, by number, or by name if the first line has names; else the
                     first and the second. Other columns are passed over, but each line has
                     to have as many as the first. Not only .tsv: any other file too
    JSON lines       keys of the object, or of an object of languages that is under its key
                     `translation`; else `text` and `translation`
    tfds:            languages; else those that the data set itself has as source and target

Where one side of a pair is empty, the pair is left out, and how many were is told. Where
both are, there is no pair. White space around a sentence is not part of it.
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
from tasks.corpora import filesystem, tfds
from tasks.corpora.samples import english_german

TABLES = (".tsv", ".txt", ".jsonl")
_ABOUT = re.compile("_?(about|readme|licen|changelog)", re.IGNORECASE)  # lies beside a corpus
_NESTED = "translation"  # the key of an object of languages

Pair = tuple[str, str, str]  # where it is, a sentence and its translation, one perhaps empty


@dataclasses.dataclass(frozen=True)
class ParallelSentences(Corpus):
    """Where the pairs of sentences are; the values of an example are `text` and `translation`.

    Neither is ever empty. The origin is that of the text.
    """

    data: str = setting(
        "sample",
        "sample, the path of a folder, file, zip or PREFIX of two files, a pattern of files, or "
        "tfds:NAME",
    )
    train: str = setting(
        "",
        "path of the train part, PREFIX of PREFIX.SOURCE and PREFIX.TARGET, or a pattern of files, "
        "not with --data",
    )
    valid: str = setting("", "that of the valid part, beside --train; or a name in --data")
    test: str = setting("", "that of the test part, beside --train; or a name in --data")
    source: str = setting(
        "", "language to translate from: the end of a file name, or a column, key or feature"
    )
    target: str = setting("", "language to translate into, likewise")
    encoding: str = setting("utf-8", "encoding of the files")

    def __post_init__(self):
        super().__post_init__()
        filesystem.check_encoding(self.encoding)
        if bool(self.source) != bool(self.target):
            given, lacking = ("source", "target") if self.source else ("target", "source")
            raise UserError(f"--{given} needs --{lacking} beside it.")
        if self.source and self.source == self.target:
            raise UserError(f"--source and --target must differ, got {self.source!r} for both.")

    def sample(self):
        if self.source:
            raise UserError(
                "the sample: --source and --target choose among the languages of other corpora; "
                "this one has English and German."
            )
        return english_german.parts()

    def dataset(self, name):
        return tfds.translations(name, self.tfds_dir, self.source, self.target)

    def located(self, path, flag):
        """What a flag names: a file or folder, or what the names of two files begin with.

        Of a part it may also be the name of one of these in `--data`.
        """
        places, data = [Path(path).expanduser()], Path(self.data).expanduser()
        if flag != "--data" and self.data != "sample" and data.exists():
            places += [] if filesystem.is_one_file(data) else [filesystem.root(data) / path]
        for place in places:
            if place.exists() or self._pair(place):
                return place
        try:
            return super().located(path, flag)
        except UserError as error:
            pair = " and ".join(f"{path}.{name}" for name in self._languages())
            raise UserError(f"{str(error).rstrip('.')}, nor are there {pair}.") from None

    def matching(self, pattern):
        ends = {f".{language.lower()}" for language in self._languages()}
        found = {}  # of two files that are a pair, what their names begin with
        for path in super().matching(pattern):
            stem, suffix = filesystem.stem_and_suffix(path)
            prefix = path.parent / stem
            if suffix in ends and not self._pair(prefix):
                raise UserError(
                    f"{path}: is one side of a pair of files, and the other is missing."
                )
            found[prefix if suffix in ends else path] = None
        return list(found)

    def files(self, path):
        if not path.exists() or filesystem.is_one_file(path):
            return {"train": self.one_file(path)}, []
        root = filesystem.root(path)
        parts = filesystem.parts(path, root, lambda names: self._part(root, names), self.named())
        return parts or {"train": self._whole(path, root)}, []

    def one_file(self, path):
        if not path.exists():
            return self._parallel(*self._pair(path))
        return (
            self._table(path)
            if filesystem.is_one_file(path)
            else self._whole(path, filesystem.root(path))
        )

    def _part(self, root, names) -> filesystem.Found:
        """All below `root` that goes by one of the names of a part."""
        found, longer = self._candidates(root), re.compile(rf"({'|'.join(names)})[\d._-]")
        exact = [(shown, stream) for shown, name, stream in found if name in names]
        return exact or [(shown, stream) for shown, name, stream in found if longer.match(name)]

    def _whole(self, path, root) -> Stream:
        """The examples below a `root` that knows no parts."""
        found = [(shown, stream) for shown, _, stream in self._candidates(root)]
        families = [family for family in _families(root).values() if len(family) > 1]
        if families and not found:
            languages = sorted({language for family in families for language in family})
            raise UserError(
                f"{path}: --source and --target must be two of {languages}, the ends of the names "
                f"of its files, got {self.source!r} and {self.target!r}."
            )
        rule = (
            f"train, valid and test as {' and '.join(f'train.{x}' for x in self._languages())} "
            "(or .gz), as .tsv or as .jsonl; or one of these alone"
        )
        return filesystem.the_only(path, root, found, rule)

    def _candidates(self, root) -> list[tuple[str, str, Stream]]:
        """What may be read below `root`: how a flag names it, what it is called, its pairs."""
        found = [
            (entry.name, filesystem.stem_and_suffix(entry)[0], self._table(entry))
            for entry in filesystem.entries(root)
            if entry.is_file() and _is_table(entry) and not _ABOUT.match(entry.name)
        ]
        both = [".{}-{}".format(*order) for order in itertools.permutations(self._languages())]
        for stem, family in _families(root).items():
            if sides := self._sides(family):
                name = stem.removesuffix(both[0]).removesuffix(both[1])
                found.append((stem, name, self._parallel(*sides)))
        return found

    def _pair(self, place) -> list[Path]:
        """The two files whose names are that of a path and a language; none if one lacks."""
        families = _families(place.parent) if place.parent.is_dir() else {}
        return self._sides(families.get(place.name, {}))

    def _languages(self) -> tuple[str, str]:
        """The two languages, as the names of parallel files end."""
        return self.source or "source", self.target or "target"

    def _sides(self, family: dict[str, list[Path]]) -> list[Path]:
        """The source and the target file of a family; none if one lacks."""
        sides = [family.get(language.lower(), []) for language in self._languages()]
        for side in sides if all(sides) else []:
            if len(side) > 1:
                names = " and ".join(entry.name for entry in side)
                raise UserError(f"{side[0]}: {names} are the same side of a pair; leave one.")
        return [entry for side in sides for entry in side] if all(sides) else []

    # --- Readers -------------------------------------------------------------

    def _parallel(self, source, target) -> Stream:
        def pairs():
            both = itertools.zip_longest(
                *(filesystem.lines(s, self.encoding) for s in (source, target))
            )
            for number, (one, other) in enumerate(both):
                if one is None or other is None:
                    more = number + 1 + sum(1 for _ in both)
                    counts = (more, number) if one else (number, more)
                    raise UserError(
                        f"{source} has {counts[0]} lines and {target} has {counts[1]}; each line "
                        "of one must be the translation of that of the other."
                    )
                yield (*one, other[1])

        return _stream(source, pairs)

    def _table(self, path) -> Stream:
        stem, suffix = filesystem.stem_and_suffix(path)
        if suffix in {f".{language.lower()}" for language in self._languages()}:
            raise UserError(
                f"{path}: is one side of a pair of files; name both as {str(path.parent / stem)!r}."
            )
        return _stream(path, lambda: (self._jsonl if suffix == ".jsonl" else self._tsv)(path))

    def _tsv(self, path) -> Iterator[Pair]:
        count = 0
        for origin, line in filesystem.lines(path, self.encoding):
            row = line.split("\t")
            if not line.strip():
                continue
            if not count:
                count = len(row)
                text, translation, by_name = self._columns(row, origin)
                if by_name:
                    continue
            if len(row) != count:
                raise UserError(
                    f"{origin}: expected {count} columns as above, got {len(row)}: "
                    f"{filesystem.shown(line)}."
                )
            yield origin, row[text], row[translation]

    def _columns(self, first, origin) -> tuple[int, int, bool]:
        """Which columns are the sides, and whether the first line only names them."""
        shown = filesystem.shown("\t".join(first))
        if len(first) < 2:
            raise UserError(
                f"{origin}: expected a sentence, a tab and its translation, got 1 column: {shown}."
            )
        sides = (self.source or "1", self.target or "2")
        by_name = not all(side.isdecimal() for side in sides)
        columns = [name.strip() if by_name else str(n) for n, name in enumerate(first, start=1)]
        for side, flag in zip(sides, ("--source", "--target"), strict=True):
            if side not in columns:
                raise UserError(
                    f"{origin}: {flag} must be the number of a column, 1 to {len(first)}, or its "
                    f"name in the first line, got {side!r} and {shown}."
                )
        return columns.index(sides[0]), columns.index(sides[1]), by_name

    def _jsonl(self, path) -> Iterator[Pair]:
        keys = {self.source or "text": "--source", self.target or "translation": "--target"}
        for origin, row in filesystem.objects(path, self.encoding, {}):
            row = row[_NESTED] if isinstance(row.get(_NESTED), dict) else row
            filesystem.check_keys(row, keys, origin)
            for key in keys:
                if not isinstance(row[key], str):
                    got = filesystem.shown(json.dumps(row[key]))
                    raise UserError(f"{origin}: {key!r} must be a string, got {got}.")
            # JSON can tell half a surrogate pair, which no UTF-8 can.
            yield origin, *(row[key].encode("utf-8", "replace").decode() for key in keys)


def _is_table(entry) -> bool:
    return filesystem.stem_and_suffix(entry)[1] in TABLES


def _families(folder) -> dict[str, dict[str, list[Path]]]:
    """Files NAME.LANGUAGE, compressed or not: {NAME: {LANGUAGE: files}}."""
    families = {}
    for entry in filesystem.entries(folder):
        stem, suffix = filesystem.stem_and_suffix(entry)
        if entry.is_file() and suffix and not _is_table(entry):
            families.setdefault(stem, {}).setdefault(suffix[1:], []).append(entry)
    return families


def _stream(path, read: Callable[[], Iterator[Pair]]) -> Stream:
    """Those of the pairs that have both sides; its notes tell of those that have one."""

    def pairs() -> Iterator[Pair]:
        stripped = ((origin, *(side.strip() for side in sides)) for origin, *sides in read())
        return (pair for pair in stripped if pair[1] or pair[2])

    def examples():
        for origin, text, translation in pairs():
            if text and translation:
                yield Example({"text": text, "translation": translation}, origin)

    def notes():
        count, left_out, first = 0, 0, ""
        for origin, text, translation in pairs():
            count += 1
            if not (text and translation):
                left_out, first = left_out + 1, first or origin
        if left_out:
            yield (
                f"{path}: {left_out} of {count} pairs left out, for one side is empty; the first "
                f"is {first}"
            )

    return Stream(lambda: filesystem.told(path, examples()), notes)
