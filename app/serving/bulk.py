"""Bulk prediction from file to file: in order, in bounded memory, resumable.

Requests are predicted a block at a time. The responses to a block are appended to `TO.part`;
then `TO.part.json` records the progress: the number of input lines that are done, their
SHA-256, and the size and SHA-256 of the partial output. Whenever a process is killed, the next one
truncates the partial output to that size and resumes. A block always holds the same requests
in the same batches, so the output is the same, byte for byte, however often a run is
interrupted.
"""

import collections
import contextlib
import dataclasses
import errno
import glob
import gzip
import hashlib
import itertools
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from app.core import checksums
from app.core.atomic import atomic_write
from app.serving import payloads
from tasks.core.errors import UserError
from tasks.core.lines import read_lines, strip_line

BLOCK_REQUESTS = 2048  # most requests that are sorted by size, predicted and written together
_HASHED_BYTES = 2**20  # of a file that are hashed at once
BLOCK_BYTES = 64 * 2**20  # most bytes of the requests of a block; images are large


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Progress of a run.

    Attributes:
        lines: Input lines whose responses are written.
        sha256: Hash of those lines.
        responses: Responses that are written.
        failures: Requests among them that failed.
        size: Size in bytes of the partial output that holds them.
        output_sha256: Hash of the partial output.
    """

    lines: int = 0
    sha256: str = hashlib.sha256().hexdigest()
    responses: int = 0
    size: int = 0
    output_sha256: str = hashlib.sha256().hexdigest()
    failures: int = 0  # last, because a state file of an earlier commit has none


class Lines:
    """Lines of a file, counted and hashed as they are read.

    They have no line ends, and the first has no byte order mark.

    Args:
        path: The file; it is decompressed if its name ends in `.gz`.

    Attributes:
        count: Lines read so far.
        size: Size in bytes of the file as stored.

    Raises:
        UserError: The file cannot be read.
    """

    def __init__(self, path: Path):
        if not path.is_file():
            raise UserError(f"--from must be a file, got {str(path)!r}.")
        self.path, self.size, self.count = path, path.stat().st_size, 0
        try:
            self._stored = path.open("rb")
        except OSError as error:
            raise UserError(f"--from: {path} cannot be read: {error.strerror}.") from error
        self._file = self._stored
        if _is_compressed(path):
            self._file = gzip.GzipFile(fileobj=self._stored)
        self._hash = hashlib.sha256()

    @property
    def position(self) -> int:
        """Bytes of the stored file that have been read."""
        return self._stored.tell()

    @property
    def sha256(self) -> str:
        """Hash of the lines read so far."""
        return self._hash.hexdigest()

    def __iter__(self) -> Iterator[bytes]:
        """Yields lines from the current position, and never reads ahead."""
        try:
            for line in read_lines(self._file, f"--from: {self.path}"):
                self.count += 1
                self._hash.update(line)
                yield strip_line(line, self.count)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UserError(
                f"--from: {self.path} is not a valid gzip file (truncated?): {error}."
            ) from error

    def skip(self, checkpoint: Checkpoint) -> None:
        """Skips the lines that are done.

        Raises:
            UserError: The lines have changed since.
        """
        collections.deque(itertools.islice(self, checkpoint.lines), maxlen=0)
        if (self.count, self.sha256) != (checkpoint.lines, checkpoint.sha256):
            raise UserError(
                f"{self.path} has changed: its first {checkpoint.lines} lines are not those that "
                "were predicted."
            )


class PartialOutput:
    """The responses so far, in a file that one process at a time may write.

    The lock is a file of its own, `TO.part.lock`: on Windows a locked file can be neither
    written nor renamed through another handle.

    Args:
        path: The output file; it is compressed if its name ends in `.gz`.
        fingerprint: Everything that the responses depend on, by names known to the user.

    Attributes:
        checkpoint: Progress of the run.

    Raises:
        UserError: The output file exists, or a partial output that cannot be continued.
    """

    def __init__(self, path: Path, fingerprint: Mapping[str, object]):
        if not path.name:
            raise UserError(f"--to must be the path of a file, got {str(path)!r}.")
        self._target, self._fingerprint = path, dict(fingerprint)
        self.path = path.with_name(f"{path.name}.part")
        self.state_path = path.with_name(f"{path.name}.part.json")
        self._check_target()
        if not path.parent.is_dir():  # the lock would create it
            raise UserError(f"--to: {path} cannot be written: {os.strerror(errno.ENOENT)}.")
        self._lock_path = path.with_name(f"{path.name}.part.lock")
        self._lock = FileLock(self._lock_path)
        try:
            self._lock.acquire(blocking=False)
            self._check_target()  # another process may have published it since
            self._file = self.path.open("ab")
        except Timeout:
            raise UserError(f"another process is writing {self.path}.") from None
        except OSError as error:
            raise UserError(f"--to: {path} cannot be written: {error.strerror}.") from error
        # Drafts of killed processes: only the one that holds the lock writes the state.
        for draft in path.parent.glob(f"{glob.escape(self.state_path.name)}.draft-*"):
            draft.unlink()
        self.checkpoint, self._hash = Checkpoint(), hashlib.sha256()
        if self._file.tell():
            self.checkpoint = self._read_state()
            self._check_output()
            self._file.truncate(self.checkpoint.size)
            self._file.seek(0, os.SEEK_END)
        else:
            # From now on, a partial output without a state file is not from this program.
            self._write_state(self.checkpoint)

    def append(self, responses: str, checkpoint: Checkpoint) -> None:
        """Appends the responses to a block, then records the progress.

        Args:
            responses: The responses, in lines.
            checkpoint: The progress including the block; what it says of the output is ignored.
        """
        data = responses.encode("utf-8", "surrogateescape")  # file names may be any bytes
        if _is_compressed(self._target):
            data = gzip.compress(data, mtime=0)
        self._file.write(data)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._hash.update(data)
        size, sha256 = self._file.tell(), self._hash.hexdigest()
        self._write_state(dataclasses.replace(checkpoint, size=size, output_sha256=sha256))

    def publish(self) -> None:
        """Renames the complete partial output to the output file.

        Raises:
            UserError: The output file exists by now.
        """
        self._check_target()
        if _is_compressed(self._target) and not self._file.tell():
            self._file.write(gzip.compress(b"", mtime=0))
        self._file.close()  # Windows does not rename an open file
        self.path.rename(self._target)
        self.state_path.unlink()
        with contextlib.suppress(PermissionError):  # Windows removes it when it is released
            self._lock_path.unlink()
        self.close()

    def close(self) -> None:
        """Releases the lock."""
        self._file.close()
        self._lock.release()

    def _check_target(self) -> None:
        if self._target.exists():
            raise UserError(f"--to: {self._target} already exists.")

    def _write_state(self, checkpoint: Checkpoint) -> None:
        state = {"fingerprint": self._fingerprint, "checkpoint": dataclasses.asdict(checkpoint)}
        atomic_write(self.state_path, checksums.dump_json(state), fsync=True)
        self.checkpoint = checkpoint

    def _read_state(self) -> Checkpoint:
        """Returns the progress of an interrupted run of the same command."""
        try:
            state = checksums.load_json(self.state_path.read_bytes())
            fingerprint, checkpoint = dict(state["fingerprint"]), Checkpoint(**state["checkpoint"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            raise UserError(
                f"{self.path} exists, but {self.state_path} does not record its progress; "
                f"{self._start_over}."
            ) from None
        for name in {**fingerprint, **self._fingerprint}:
            before, now = fingerprint.get(name), self._fingerprint.get(name)
            if before != now:
                raise UserError(
                    f"{self.path} was started with {name} {before}, but this command has {name} "
                    f"{now}; to resume, repeat the first command; {self._start_over}."
                )
        return checkpoint

    def _check_output(self) -> None:
        """Checks that the partial output is as it was recorded, and hashes it."""
        with self.path.open("rb") as file:
            remaining = self.checkpoint.size
            while data := file.read(min(remaining, _HASHED_BYTES)):
                self._hash.update(data)
                remaining -= len(data)
        if remaining:
            raise UserError(
                f"{self.path} is shorter than {self.state_path} records; {self._start_over}."
            )
        if self._hash.hexdigest() != self.checkpoint.output_sha256:
            raise UserError(
                f"{self.path} is not as {self.state_path} records it; {self._start_over}."
            )

    @property
    def _start_over(self) -> str:
        return f"to start over, remove {self.path} and {self.state_path}"


def _is_compressed(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def run(
    lines: Lines,
    output: PartialOutput,
    requests: Callable[[Iterable[bytes]], Iterator[tuple[dict, object]]],
    predict: Callable[[Sequence[tuple[dict, object]]], Iterable[tuple[str, bool]]],
) -> None:
    """Predicts the remaining lines, and publishes the output.

    Args:
        lines: The input, at its first line.
        output: The responses so far.
        requests: Parses lines: `RequestFormat.requests`.
        predict: Returns the formatted responses to a block of requests, in order, and whether
            each request failed.

    Raises:
        UserError: The lines that are done have changed, or a line cannot be parsed.
    """
    lines.skip(output.checkpoint)
    resumed, start = output.checkpoint, time.monotonic()
    with _progress_bar(lines) as bar:
        try:
            for block in _blocks(requests(lines)):
                responses, failed = zip(*predict(block), strict=True)
                count = output.checkpoint.responses + len(block)
                failures = output.checkpoint.failures + sum(failed)
                progress = Checkpoint(lines.count, lines.sha256, count, failures=failures)
                output.append("".join(f"{response}\n" for response in responses), progress)
                rate = (count - resumed.responses) / (time.monotonic() - start)
                bar.set_postfix_str(f"{count:,} responses, {rate:,.0f}/s", refresh=False)
                bar.update(lines.position - bar.n)
        except UserError as error:
            if not resumed.lines:
                raise
            raise UserError(f"after the first {resumed.lines} lines: {error}") from error
    output.publish()


def _blocks(requests: Iterable[tuple[dict, object]]) -> Iterator[list[tuple[dict, object]]]:
    """Groups requests into blocks; yields a block before it reads the next request."""
    block, size = [], 0
    for request in requests:
        block.append(request)
        size += payloads.row_size(request[0])
        if len(block) == BLOCK_REQUESTS or size >= BLOCK_BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block


def _progress_bar(lines: Lines) -> tqdm:
    """Returns a bar of the bytes read, which is shown only on a terminal."""
    return tqdm(
        total=lines.size,
        initial=lines.position,
        file=sys.stderr,
        disable=None,
        bar_format="{percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
    )
