"""Location of a task's examples: files, TensorFlow Datasets, or the embedded sample."""

import abc
import dataclasses
import functools
import glob
import itertools
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, Self

from tasks.core.errors import UserError
from tasks.core.examples import PARTS, Example, Splits, Stream, position
from tasks.core.settings import check, flag, setting
from tasks.core.splitting import StratifiedSplit


@dataclasses.dataclass(frozen=True)
class Corpus(abc.ABC):
    """Location and format of a task's examples; its fields are flags.

    Subclasses implement the reading in `sample`, `parts_in`, `single_part` and `tfds_parts`.

    Class attributes:
        is_labelled: Whether each example has one label, of which each part gets its share.
        samples: Names of the embedded samples, as values of --data.
    """

    is_labelled: ClassVar[bool] = False
    identified_by: ClassVar[str] = "text"  # what the key of `identity` is computed from
    samples: ClassVar[tuple[str, ...]] = ("sample",)

    data: str = setting(
        "sample", "sample, the path of a folder, file or zip, a glob pattern, or tfds:NAME"
    )
    train: str = setting("", "path or glob pattern of the train part, instead of --data")
    valid: str = setting("", "path or glob pattern of the valid part; needs --train or --data")
    test: str = setting("", "path or glob pattern of the test part; needs --train or --data")
    split: str = setting(
        "80/10/10", "proportions of train/valid/test, for data without separate parts"
    )
    tfds_dir: str = setting("", "folder of prepared TensorFlow Datasets")
    max_line: int = setting(
        2**26, "maximum number of characters of a line; protects the memory", at_least=1
    )
    follow_links: bool = setting(False, "follow links in the corpus to files outside of it")

    def __post_init__(self) -> None:
        check(self)
        if self.data.startswith("sample:") and not self.is_sample:
            raise UserError(f"--data: the samples are {list(self.samples)}, got {self.data!r}.")
        self.shares()
        for name in ("data", *PARTS):
            try:
                Path(getattr(self, name)).expanduser()
            except RuntimeError as error:
                raise UserError(f"{flag(name)}: {getattr(self, name)!r}: {error}") from error

    @property
    def is_sample(self) -> bool:
        """Whether the examples are those of an embedded sample, unless a flag names others."""
        return self.data in self.samples

    @property
    def location(self) -> str:
        """What names the examples: `train` if it is given, otherwise `data`."""
        return self.train or self.data

    def resolved(self) -> tuple[Self, list[str]]:
        """Returns the corpus with a value for each setting that is None, and notes on these."""
        return self, []

    def shares(self) -> tuple[float, ...]:
        """Returns the three proportions of `split`, normalised to a sum of 1.

        Raises:
            UserError: They are not three positive numbers.
        """
        try:
            shares = tuple(float(share) for share in self.split.split("/"))
        except ValueError:
            shares = ()
        if len(shares) != 3 or not all(0 < share < math.inf for share in shares):
            raise UserError(
                "--split must be three positive numbers separated by slashes, such as 80/10/10, "
                f"got {self.split!r}."
            )
        shares = tuple(share / max(shares) for share in shares)  # their sum may exceed a float
        return tuple(share / sum(shares) for share in shares)

    def open(self) -> Splits:
        """Finds the corpus and returns its three parts.

        Raises:
            UserError: The corpus does not exist, or this task cannot read it.
        """
        parts, notes = self._existing_parts()
        for stream in parts.values():
            notes.extend(stream.notes())
        return self._fill_missing_parts(parts, notes)

    def part(self, name: str) -> tuple[Stream, tuple[str, ...]]:
        """Returns one part of `PARTS` and the notes on it.

        Other parts need not exist if a flag names this one.
        """
        if getattr(self, name):
            stream = self._part_of_flag(name)
            return stream, tuple(stream.notes())
        parts, notes = self._existing_parts()
        notes.extend(parts.get(name, parts["train"]).notes())
        splits = self._fill_missing_parts(parts, notes)
        return getattr(splits, name), splits.notes

    def check_paths(self, part: str = "") -> None:
        """Checks that what the flags name exists, without reading it.

        Args:
            part: The only part of `PARTS` that will be read; "" for all.

        Raises:
            UserError: A flag names nothing that exists, or cannot be combined with another.
        """
        if part and getattr(self, part):
            names = [part]
        else:
            self._check_flags()
            names = ["data", *PARTS]
        for name in names:
            value = getattr(self, name)
            if value in ("", *self.samples) or (name == "data" and value.startswith("tfds:")):
                continue
            if _is_pattern(value):
                self._paths_of_pattern(value, flag(name))
            else:
                self.resolve(value, flag(name))

    def check_first_examples(self) -> None:
        """Reads the first example of each part that exists, unless that takes TensorFlow.

        Raises:
            UserError: One cannot be read, such as for want of a column.
        """
        if self.data.startswith("tfds:"):
            return
        corpus, _ = self.resolved()
        parts, _ = corpus._existing_parts()
        for stream in parts.values():
            next(iter(stream), None)

    def _check_flags(self) -> None:
        """Checks that the flags that name parts can be combined."""
        flags = self.flagged_parts()
        if "train" in flags and not self.is_sample:
            raise UserError("--train and --data both specify the train part; give only one.")
        if self.is_sample and flags and "train" not in flags:
            raise UserError(f"--{flags[0]} requires --train or --data.")

    def _existing_parts(self) -> tuple[dict[str, Stream], list[str]]:
        """Returns the parts that exist before any is split off train, and notes on them."""
        self._check_flags()
        flags = self.flagged_parts()
        if "train" in flags:
            parts, notes = {}, []
        elif self.is_sample:
            parts, notes = self.sample(), []
        elif self.data.startswith("tfds:"):
            parts, notes = self.tfds_parts(self.data.removeprefix("tfds:"))
        elif _is_pattern(self.data):
            parts, notes = {"train": self._stream_of_pattern(self.data, "--data")}, []
        else:
            parts, notes = self.parts_in(self.resolve(self.data, "--data"))
        return parts | {part: self._part_of_flag(part) for part in flags}, notes

    def flagged_parts(self) -> list[str]:
        """Returns the parts whose own flags (`--train`, `--valid`, `--test`) are set."""
        return [part for part in PARTS if getattr(self, part)]

    def _part_of_flag(self, part: str) -> Stream:
        path = getattr(self, part)
        if _is_pattern(path):
            return self._stream_of_pattern(path, f"--{part}")
        return self.single_part(self.resolve(path, f"--{part}"))

    def _stream_of_pattern(self, pattern: str, flag: str) -> Stream:
        """Chains the files that match a pattern such as `train-*.tsv.gz`, in order of name."""
        streams = [self.single_part(path) for path in self._paths_of_pattern(pattern, flag)]
        return Stream(
            lambda: itertools.chain.from_iterable(streams),
            lambda: itertools.chain.from_iterable(stream.notes() for stream in streams),
        )

    def _paths_of_pattern(self, pattern: str, flag: str) -> list[Path]:
        """Returns the paths that match a pattern; none is an error."""
        try:
            paths = self.glob(pattern)
        except (ValueError, NotImplementedError, re.error) as error:
            raise UserError(f"{flag}: {pattern!r} is not a valid pattern: {error}.") from error
        if not paths:
            raise UserError(f"{flag}: no files match {pattern!r}.")
        return paths

    def glob(self, pattern: str) -> list[Path]:
        """Returns the paths that match a pattern and `single_part` can read, in order of name.

        As in a shell, wildcards do not match the dot of a hidden file.
        """
        expanded = str(Path(pattern).expanduser())
        # Path.glob would match hidden files.
        return sorted(map(Path, glob.glob(expanded, recursive=True)))  # noqa: PTH207

    def roots(self) -> tuple[Path, ...]:
        """Returns the paths that the flags name, and the folders of those that are files.

        Of a pattern it is the folder before the first wildcard.
        """
        roots = []
        for value in (self.data, self.train, self.valid, self.test):
            if value in ("", *self.samples) or value.startswith("tfds:"):
                continue
            path = Path(value).expanduser()
            if _is_pattern(value):
                path = Path(
                    *itertools.takewhile(lambda part: not set(part) & set("*?["), path.parts)
                )
            roots.append(path)
            if not path.is_dir():  # a file, or the start of the names of several
                roots.append(path.parent)
                if path.parent.name == "annotations":  # of COCO: the images are next to it
                    roots.append(path.parent.parent)
        return tuple(roots)

    def resolve(self, path: str, flag: str) -> Path:
        """Returns the existing file or folder that a flag names.

        Raises:
            UserError: It does not exist.
        """
        resolved = Path(path).expanduser()
        if not resolved.exists():
            raise UserError(f"{flag}: no such file or folder: {path!r}.")
        return resolved

    def _fill_missing_parts(self, parts: dict[str, Stream], notes: list[str]) -> Splits:
        """Splits missing parts off train, by the hash of each example's identity."""
        missing = [part for part in PARTS[1:] if part not in parts]
        if missing:
            all_shares = dict(zip(PARTS, self.shares(), strict=True))
            shares = {part: all_shares[part] for part in ("train", *missing)}
            train, total = parts["train"], sum(shares.values())
            parts |= self._split(train, {part: share / total for part, share in shares.items()})
            percentages = ", ".join(
                f"{part} {100 * share / total:.3g} %" for part, share in shares.items()
            )
            lacking = " and no ".join(missing)
            rule = "by label and the hash" if self.is_labelled else "by the hash"
            notes = [
                *notes,
                f"no {lacking} part: split {rule} of the {self.identified_by} into {percentages}",
            ]
        return Splits(**parts, notes=tuple(notes))

    def _split(self, train: Stream, shares: Mapping[str, float]) -> dict[str, Stream]:
        """Returns the parts of a stream, given their shares, whose sum is 1."""
        names = list(shares)
        if self.is_labelled:

            @functools.cache
            def split() -> StratifiedSplit:
                values = [*shares.values()]
                return StratifiedSplit(train, self.identity, self.label, values)

            def is_in(index: int) -> Callable[[Example], bool]:
                return lambda example: split().part(example) == index

            return {name: train.filter(is_in(index)) for index, name in enumerate(names)}
        parts, low = {}, 0.0
        for name in names:
            high = low + shares[name] if name != names[-1] else 1.0
            parts[name] = train.filter(self._position_between(low, high))
            low = high
        return parts

    def _position_between(self, low: float, high: float) -> Callable[[Example], bool]:
        return lambda example: low <= position(self.identity(example)) < high

    def label(self, example: Example) -> str:
        """Returns the label of an example, if `is_labelled`."""
        return example.values["label"]

    def identity(self, example: Example) -> str:
        """Returns the key by which examples are split; equal keys share a part."""
        return example.values["text"].strip()

    def readable(self, splits: Splits) -> Splits:
        """Returns the parts with inputs as people read them; by default as they are."""
        return splits

    @abc.abstractmethod
    def sample(self) -> dict[str, Stream]:
        """Returns the parts of the embedded sample that `data` names, of `samples`."""

    @abc.abstractmethod
    def parts_in(self, path: Path) -> tuple[dict[str, Stream], list[str]]:
        """Returns the parts in a folder, file or zip, and notes on them."""

    @abc.abstractmethod
    def single_part(self, path: Path) -> Stream:
        """Returns all examples of a file or folder that is one part."""

    @abc.abstractmethod
    def tfds_parts(self, name: str) -> tuple[dict[str, Stream], list[str]]:
        """Returns the parts of a data set of TensorFlow Datasets, and notes on them."""


def _is_pattern(path: str) -> bool:
    """Whether a path contains wildcards (`*`, `?`, `[`) and is not an existing file."""
    return any(wildcard in path for wildcard in "*?[") and not Path(path).expanduser().exists()
