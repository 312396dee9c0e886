"""Answers to the requests of a file, in another: in order, in bounded memory, resumable.

Requests are asked a block at a time. The answers to a block go to the end of `TO.part`, and
then `TO.part.json` says how far it is: how many lines of the input are answered, their SHA-256,
and how long the part is. Whatever kills a process, the next one cuts off what is beyond that
and goes on. A block has the same requests, and they share the same batches, whoever asks it,
so the answers are the same, byte for byte, however often a run was interrupted.
"""

import collections
import dataclasses
import fcntl
import gzip
import hashlib
import itertools
import json
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from app.serving import payloads
from tasks.core.errors import UserError

BLOCK = 2048  # requests that are sorted by size, asked and written together
BYTES = 64 * 2**20  # what the requests of a block may have, be they fewer: images are large


@dataclasses.dataclass(frozen=True)
class Done:
    """How much of a file is answered.

    Attributes:
        lines: The lines that are.
        sha256: That of those lines.
        answers: The answers to them.
        size: The bytes of the part that holds these.
    """

    lines: int = 0
    sha256: str = hashlib.sha256().hexdigest()
    answers: int = 0
    size: int = 0


class Lines:
    """The lines of a file without their ends, counted and hashed as they are read.

    Args:
        path: The file; what ends in `.gz` is unpacked.

    Raises:
        UserError: It cannot be read.
    """

    def __init__(self, path: Path):
        if not path.is_file():
            raise UserError(f"--from must be a file, got {str(path)!r}.")
        self.path, self.size, self.count = path, path.stat().st_size, 0
        try:
            self._stored = path.open("rb")
        except OSError as error:
            raise UserError(f"--from: {path} cannot be read: {error.strerror}.") from error
        packed = path.suffix == ".gz"
        self._file = gzip.GzipFile(fileobj=self._stored) if packed else self._stored
        self._hash = hashlib.sha256()

    @property
    def position(self) -> int:
        """The bytes of the file, as it is stored, that have been read."""
        return self._stored.tell()

    @property
    def sha256(self) -> str:
        """That of the lines so far."""
        return self._hash.hexdigest()

    def __iter__(self) -> Iterator[bytes]:
        """The lines from where it is; never one more than was asked for."""
        try:
            for line in self._file:
                self.count += 1
                self._hash.update(line)
                yield line.rstrip(b"\r\n")
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UserError(f"--from: {self.path} is no whole gzip file: {error}.") from error

    def skip(self, done: Done) -> None:
        """Passes over the lines that are answered.

        Raises:
            UserError: They are no longer those that were answered.
        """
        collections.deque(itertools.islice(self, done.lines), maxlen=0)
        if (self.count, self.sha256) != (done.lines, done.sha256):
            raise UserError(
                f"the first {done.lines} lines of {self.path} are not those that were answered: "
                "the file has changed."
            )


class Part:
    """The answers so far, in a file of which others keep off while the process has it open.

    Args:
        to: The file that the answers are for; what ends in `.gz` is packed.
        made: What makes the answers what they are, by the names that a user knows.

    Raises:
        UserError: There is such a file, or a part that is none of these answers.
    """

    def __init__(self, to: Path, made: Mapping[str, object]):
        self._to, self._made = to, dict(made)
        self.path, self.state = (to.with_name(to.name + end) for end in (".part", ".part.json"))
        self._check_is_new()
        try:
            self._file = self.path.open("ab")
        except OSError as error:
            raise UserError(f"--to: {to} cannot be written: {error.strerror}.") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process is writing {self.path}.") from None
        self.done = Done()
        if self._file.tell():
            self.done = self._read()
            self._file.truncate(self.done.size)
            self._file.seek(0, os.SEEK_END)
        else:
            self._tell(self.done)  # so that a part without a state is none of ours

    def add(self, answers: str, done: Done) -> None:
        """Keeps the answers to a block, and that they are there.

        Args:
            answers: The answers.
            done: How far it then is, but for the size.
        """
        data = answers.encode("utf-8", "surrogateescape")  # names of files may be any bytes
        self._file.write(gzip.compress(data, mtime=0) if self._to.suffix == ".gz" else data)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._tell(dataclasses.replace(done, size=self._file.tell()))

    def publish(self) -> None:
        """Gives the whole part the name of the file that it is for."""
        self._check_is_new()
        self.path.rename(self._to)
        self.state.unlink()
        self._file.close()

    def _check_is_new(self) -> None:
        if self._to.exists():
            raise UserError(f"--to: {self._to} is there already.")

    def _tell(self, done: Done) -> None:
        """Writes how far it is, whole or not at all."""
        draft = self.state.with_name(self.state.name + ".draft")
        with draft.open("w", encoding="utf-8") as file:
            json.dump({"made": self._made, "done": dataclasses.asdict(done)}, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.state)
        self.done = done

    def _read(self) -> Done:
        """How far a part is that was begun, by the same command or one that made the same."""
        begin = f"to begin anew, remove {self.path} and {self.state}"
        try:
            told = json.loads(self.state.read_text(encoding="utf-8"))
            made, done = told["made"], Done(**told["done"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            raise UserError(
                f"{self.path} is there, and {self.state} does not say how far it is; {begin}."
            ) from None
        for name in {**made, **self._made}:
            was, wanted = made.get(name), self._made.get(name)
            if was != wanted:
                raise UserError(
                    f"{self.path} has answers made with {name} {was}, and this command is with "
                    f"{name} {wanted}; to go on, repeat the first command; {begin}."
                )
        if self._file.tell() < done.size:
            raise UserError(f"{self.path} is shorter than {self.state} says; {begin}.")
        return done


def run(
    lines: Lines,
    part: Part,
    requests: Callable[[Iterable[bytes]], Iterator[tuple[dict, object]]],
    answers: Callable[[Sequence[tuple[dict, object]]], Iterable[str]],
) -> None:
    """Answers what is not yet answered of the lines, and publishes the part.

    Args:
        lines: The lines, from the first.
        part: The answers so far.
        requests: Reads requests from lines: `RequestFormat.requests`.
        answers: The answers to some requests, in their order, as they are to be written.

    Raises:
        UserError: The lines have changed, or one is none of a request's.
    """
    lines.skip(part.done)
    begun, since = part.done, time.monotonic()
    with _bar(lines) as bar:
        try:
            for block in _blocks(requests(lines)):
                text = "".join(f"{answer}\n" for answer in answers(block))
                count = part.done.answers + len(block)
                part.add(text, Done(lines.count, lines.sha256, count))
                rate = (count - begun.answers) / (time.monotonic() - since)
                bar.set_postfix_str(f"{count:,} answers, {rate:,.0f}/s", refresh=False)
                bar.update(lines.position - bar.n)
        except UserError as error:
            if not begun.lines:
                raise
            raise UserError(f"after the first {begun.lines} lines: {error}") from error
    part.publish()


def _blocks(requests: Iterable[tuple[dict, object]]) -> Iterator[list[tuple[dict, object]]]:
    """The requests in lists; not one more is read than those of a list before it is given."""
    block, size = [], 0
    for request in requests:
        block.append(request)
        size += payloads.size(request[0])
        if len(block) == BLOCK or size >= BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block


def _bar(lines: Lines):
    """A bar of how much of the file is read, where a person sees it."""
    from tqdm import tqdm

    return tqdm(
        total=lines.size,
        initial=lines.position,
        file=sys.stderr,
        disable=None,
        bar_format="{percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
    )
