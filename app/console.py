"""Console output: the one place where engines print for a person."""

import contextlib
from collections.abc import Iterator
from typing import TextIO

from tasks.core.examples import Stream


def say(*lines: str) -> None:
    """Prints lines at once, also where the output goes to a file or a pipe."""
    for line in lines:
        print(line, flush=True)


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
    """Returns the same examples, with a progress line where reading them takes long.

    Args:
        stream: The examples.
        activity: Name of the activity, such as "reading train".
    """

    def read():
        from tqdm import tqdm

        return iter(tqdm(stream, activity, unit=" examples", delay=5, disable=None, leave=False))

    return Stream(read)
