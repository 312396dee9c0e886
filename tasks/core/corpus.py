"""Where the examples of a task are: files, TensorFlow Datasets, or the embedded sample."""

import abc
import dataclasses
import itertools
from pathlib import Path

from tasks.core.errors import UserError
from tasks.core.examples import PARTS, Example, Splits, Stream, position
from tasks.core.settings import check, setting


@dataclasses.dataclass(frozen=True)
class Corpus(abc.ABC):
    """Where the examples of a task are; its fields are flags.

    A subclass says how one is read, in `sample`, `files` and `dataset`.
    """

    data: str = setting(
        "sample", "sample, the path of a folder, file or zip, a pattern of files, or tfds:NAME"
    )
    train: str = setting("", "path of the train part, or a pattern of files, instead of --data")
    valid: str = setting("", "path of the valid part, beside --train or --data")
    test: str = setting("", "path of the test part, beside --train or --data")
    split: str = setting("80/10/10", "shares of train/valid/test, where the data has no such parts")
    tfds_dir: str = setting("", "folder of prepared TensorFlow Datasets")

    def __post_init__(self):
        check(self)
        self.shares()

    def shares(self) -> tuple[float, ...]:
        """The three shares of `split`, which sum to 1."""
        try:
            shares = tuple(float(share) for share in self.split.split("/"))
        except ValueError:
            shares = ()
        if len(shares) != 3 or min(shares) <= 0 or max(shares) == float("inf"):
            raise UserError(
                f"--split must be three shares above 0, such as 80/10/10, got {self.split!r}."
            )
        return tuple(share / sum(shares) for share in shares)

    def open(self) -> Splits:
        """Finds the corpus and returns its three parts.

        Raises:
            UserError: There is no such corpus, or it is not one this task reads.
        """
        parts, notes = self._found()
        for stream in parts.values():
            notes.extend(stream.notes())
        return self._completed(parts, notes)

    def part(self, name: str) -> tuple[Stream, tuple[str, ...]]:
        """One part of `PARTS`, which may be all there is, and notes on how it was made."""
        if getattr(self, name):
            stream = self._named(name)
            return stream, tuple(stream.notes())
        parts, notes = self._found()
        notes.extend(parts.get(name, parts["train"]).notes())
        splits = self._completed(parts, notes)
        return getattr(splits, name), splits.notes

    def _found(self) -> tuple[dict[str, Stream], list[str]]:
        """The parts that there are before any is carved from train, and notes on them."""
        own = self.named()
        if "train" in own and self.data != "sample":
            raise UserError("--train and --data both say where the train part is; give one.")
        if self.data == "sample" and own and "train" not in own:
            raise UserError(f"--{own[0]} needs --train or --data beside it.")
        if "train" in own:
            parts, notes = {}, []
        elif self.data == "sample":
            parts, notes = self.sample(), []
        elif self.data.startswith("tfds:"):
            parts, notes = self.dataset(self.data.removeprefix("tfds:"))
        elif _is_pattern(self.data):
            parts, notes = {"train": self._matched(self.data, "--data")}, []
        else:
            parts, notes = self.files(self.located(self.data, "--data"))
        return parts | {part: self._named(part) for part in own}, notes

    def named(self) -> list[str]:
        """The parts that are named by flags of their own."""
        return [part for part in PARTS if getattr(self, part)]

    def _named(self, part: str) -> Stream:
        """The part that its flag names."""
        told = getattr(self, part)
        if _is_pattern(told):
            return self._matched(told, f"--{part}")
        return self.one_file(self.located(told, f"--{part}"))

    def _matched(self, pattern: str, flag: str) -> Stream:
        """The examples of all files that a pattern such as `train-*.tsv.gz` matches, in turn."""
        found = self.matching(pattern)
        if not found:
            raise UserError(f"{flag}: there is no file that {pattern!r} matches.")
        streams = [self.one_file(path) for path in found]
        return Stream(
            lambda: itertools.chain.from_iterable(streams),
            lambda: itertools.chain.from_iterable(stream.notes() for stream in streams),
        )

    def matching(self, pattern: str) -> list[Path]:
        """What a pattern matches that `one_file` reads, in the order of the names."""
        path = Path(pattern).expanduser()
        return sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))

    def located(self, path: str, flag: str) -> Path:
        """The file or folder that a flag names, which must be there."""
        found = Path(path).expanduser()
        if not found.exists():
            raise UserError(f"{flag}: there is no file or folder {path!r}.")
        return found

    def _completed(self, parts: dict[str, Stream], notes: list[str]) -> Splits:
        """Carves what is missing from train, by the hash of the text."""
        missing = [part for part in PARTS[1:] if part not in parts]
        if missing:
            shares = dict(zip(PARTS, self.shares(), strict=True))
            kept = {part: shares[part] for part in ("train", *missing)}
            whole, total = parts["train"], sum(kept.values())
            low = 0.0
            for part, share in kept.items():
                high = low + share / total if part != missing[-1] else 1.0
                parts[part] = whole.where(self._between(low, high))
                low = high
            shown = ", ".join(f"{part} {100 * s / total:.3g} %" for part, s in kept.items())
            lacking = " and no ".join(missing)
            notes = [*notes, f"no {lacking} part: split by the hash of the text into {shown}"]
        return Splits(**parts, notes=tuple(notes))

    def _between(self, low, high):
        return lambda example: low <= position(self.identity(example)) < high

    def identity(self, example: Example) -> str:
        """What makes an example the same as another: its text, for splits."""
        return example.values["text"].strip()

    @abc.abstractmethod
    def sample(self) -> dict[str, Stream]:
        """The parts of the embedded sample."""

    @abc.abstractmethod
    def files(self, path: Path) -> tuple[dict[str, Stream], list[str]]:
        """The parts that a folder, a file or a zip has, and notes on them."""

    @abc.abstractmethod
    def one_file(self, path: Path) -> Stream:
        """All the examples of a file or folder that is one part."""

    @abc.abstractmethod
    def dataset(self, name: str) -> tuple[dict[str, Stream], list[str]]:
        """The parts of a data set of TensorFlow Datasets, and notes on them."""


def _is_pattern(told: str) -> bool:
    """Whether a path has `*`, `?` or `[` in it that stand for other characters."""
    return any(mark in told for mark in "*?[") and not Path(told).expanduser().exists()
