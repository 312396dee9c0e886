"""Streams: texts that a published version reads in pieces, with the state kept by the client.

A version whose network reads forward has the signatures `start`, `feed` and `finish`.
"""

import codecs
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO, Self

import numpy as np

from app.serving import payloads
from tasks.core.errors import UserError
from tasks.core.predictor import Predictor

MAX_READ = 2**14  # bytes that are read at once
START, FEED, FINISH = "start", "feed", "finish"


class PredictionStream:
    """A text that is read in pieces.

    The predictor keeps nothing, so there may be any number of streams at once, and a stream may
    be abandoned at any time.

    Args:
        predictor: A session with a version, or a client of a server.
        state: State to continue from, also that of another process; None for a new text.

    Attributes:
        state: The state after what was fed, ASCII bytes that can be stored.

    Raises:
        UserError: The version has no streams, or the request failed.

    Example::

        with session.stream() as stream:
            stream.feed("The old man the bo")["tags"]
            stream.feed("ats.")["tags"]
            stream.finish()["tags"]
    """

    def __init__(self, predictor: Predictor, state: bytes | None = None):
        self._predictor = predictor
        if FEED not in predictor.signatures:
            raise UserError(
                "this version cannot read streams, only whole texts. Train tagging and sentiment "
                "with --direction forward, and translation with --stream, to publish one that can."
            )
        if state is None:
            [response] = predictor.predict([{"batch": 0}], START)
            state = response["state"]
        self.state: bytes = state

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def feed(self, text: str | bytes) -> dict:
        """Reads the next piece of the text, of any size, cut anywhere.

        Returns:
            The response for what is final, or, for classes, for the text so far.

        Raises:
            UserError: The state does not belong to the version, or the request failed.
        """
        rest = text.encode() if isinstance(text, str) else text
        responses = []
        while rest or not responses:
            request = {"state": self.state, "text": rest}
            [response] = self._predictor.predict([request], FEED)
            self._check(response)
            count = int(response.pop("bytes_read"))
            if rest and not 0 < count <= len(rest):
                raise UserError(f"feed read {count} bytes of {len(rest)}; is it another model?")
            self.state = response.pop("state")
            rest = rest[count:]
            responses.append(response)
        return joined(responses)

    def finish(self) -> dict:
        """Ends the text, and returns the response for the rest of it, or for all of it."""
        [response] = self._predictor.predict([{"state": self.state}], FINISH)
        self._check(response)
        return response

    @staticmethod
    def _check(response: dict) -> None:
        """Raises an error if the state of a request was not valid, and removes that output."""
        if not response.pop("valid"):
            raise UserError(
                "the state of the stream is not valid: it is damaged or of another version. Start "
                "the stream again; with a server, give --version."
            )


def joined(responses: Sequence[dict]) -> dict:
    """Returns the responses for consecutive pieces as one; without lengths, the last counts."""
    if "lengths" not in responses[0]:
        return responses[-1]
    return {
        name: np.concatenate([each[name] for each in responses])
        if payloads.has_time(name, value)
        else value
        if np.ndim(value)
        else sum(each[name] for each in responses)
        for name, value in responses[-1].items()
    }


def pieces_of_lines(file: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    """Yields the pieces of lines as they arrive, and whether each ends its line.

    Args:
        file: The file, whose method `read1` returns what has arrived.
    """
    is_open = has_begun = False
    carriage_returns = b""  # which may belong to the end of a line
    while data := file.read1(MAX_READ):
        if not has_begun:
            data, has_begun = data.removeprefix(codecs.BOM_UTF8), True
        read = carriage_returns + data
        data = read.rstrip(b"\r")
        carriage_returns = read[len(data) :]
        *ended, rest = data.split(b"\n")
        yield from ((piece.rstrip(b"\r"), True) for piece in ended)
        if rest:
            yield rest, False
        is_open = bool(rest or carriage_returns) or (is_open and not ended)
    if is_open:
        yield b"", True


def with_states(predictor: Predictor, rows: Sequence[Mapping]) -> list[dict]:
    """Returns rows with inputs for the signatures of streams, if the version has them.

    Args:
        predictor: A session with the version.
        rows: Rows, with the input `text`.

    Returns:
        The rows, with the inputs `batch` and `state`: that after the first words of each text.
    """
    rows = [dict(row) for row in rows]
    if FEED not in predictor.signatures or not rows:
        return rows
    started = predictor.predict([{"batch": 0}] * len(rows), START)
    texts = [{"text": row["text"], **start} for row, start in zip(rows, started, strict=True)]
    fed = predictor.predict(texts, FEED)
    states = [{"batch": 0, "state": response["state"]} for response in fed]
    return [{**row, **state} for row, state in zip(rows, states, strict=True)]
