"""Console output: the one place where engines print for a person."""

import codecs
import contextlib
import re
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TextIO, TypeVar

from tasks.core.examples import Stream

# Control characters, line separators, characters that reorder text (U+202A to U+202E, U+2066 to
# U+2069), and surrogates.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
LOG_SECONDS = 60  # between two lines on the progress of an activity in a log
_DELAY = 5  # seconds before a bar appears
_Item = TypeVar("_Item")
ESCAPE = "app-escape"  # error handler of encodings, for `str.encode`, `open` and `reconfigure`


def _escape(error: UnicodeError) -> tuple[str, int]:
    """Replaces characters by escapes, and the bytes of a file name that is not UTF-8 by theirs."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    escapes = (
        f"\\x{ord(character) - 0xDC00:02x}"
        if "\udc80" <= character <= "\udcff"  # as `os.fsdecode` represents such bytes
        else character.encode("ascii", "backslashreplace").decode("ascii")
        for character in error.object[error.start : error.end]
    )
    return "".join(escapes), error.end


codecs.register_error(ESCAPE, _escape)


def encodable(text: str, encoding: str = "utf-8") -> str:
    r"""Returns text with escapes for the characters that an encoding does not have.

    In UTF-8 these are the bytes of file names that are not UTF-8: `caf\xe9.tsv`.
    """
    return text.encode(encoding, ESCAPE).decode(encoding)


def counted(number: int, noun: str) -> str:
    """Returns a number of things, such as "1 example" or "2 examples"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def printable(text: str, limit: int | None = None) -> str:
    r"""Returns a text of a stranger for a terminal, in one line.

    Characters that control a terminal, end a line or change the direction of a text become
    escapes: `\x1b[2J`.

    Args:
        text: The text.
        limit: Most characters of the text; longer texts are cut and end in `...`. None for no
            limit.
    """
    cut = limit is not None and len(text) > limit
    text = _UNPRINTABLE.sub(
        lambda match: (
            match[0].encode("ascii", "backslashreplace").decode()
            if ord(match[0]) > 127
            else repr(match[0])[1:-1]
        ),
        text[:limit],
    )
    return text + "..." if cut else text


def say(*lines: str) -> None:
    """Prints lines at once, also where the output goes to a file or a pipe, in any encoding."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    for line in lines:
        print(encodable(line, encoding), flush=True)


@contextlib.contextmanager
def output_to(stream: TextIO | None) -> Iterator[None]:
    """Sends what is printed to a stream, the progress bars of Keras included.

    Args:
        stream: The stream; None leaves the output where it is.
    """
    with contextlib.ExitStack() as stack:
        if stream is not None:
            stack.enter_context(contextlib.redirect_stdout(stream))
        yield


def with_progress(stream: Stream, activity: str) -> Stream:
    """Returns the same examples, with their progress where reading them takes long.

    Args:
        stream: The examples.
        activity: Name of the activity, such as "reading train".
    """
    return Stream(lambda: show_progress(stream, activity))


def show_progress(
    items: Iterable[_Item], activity: str, total: int | None = None, unit: str = "examples"
) -> Iterator[_Item]:
    """Yields items, and shows the progress where they take long.

    On a terminal that is a bar; in a log file or a pipe it is a line each minute.

    Args:
        items: The items.
        activity: Name of the activity, such as "evaluating test".
        total: Number of items, if it is known.
        unit: What the items are.
    """
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, activity, total, unit=f" {unit}", delay=_DELAY, leave=False)
        return
    log = ProgressLog(activity, total, unit)
    for item in items:
        yield item
        log.count_one()


class ProgressLog:
    """Lines of a log on the progress of a long activity, one each minute.

    Args:
        activity: Name of the activity.
        total: Number of items, if it is known.
        unit: What the items are.
    """

    def __init__(self, activity: str, total: int | None = None, unit: str = "examples"):
        self._activity, self._total, self._unit, self._count = activity, total, unit, 0
        self._began = self._printed = time.monotonic()

    def count_one(self) -> None:
        """Counts an item, and prints a line if the last one is a minute old."""
        self._count += 1
        now = time.monotonic()
        if now - self._printed < LOG_SECONDS:
            return
        self._printed = now
        of_all = f" of {self._total}" if self._total else ""
        minutes = (now - self._began) / 60
        say(f"{self._activity}: {self._count}{of_all} {self._unit} after {minutes:.0f} min")
