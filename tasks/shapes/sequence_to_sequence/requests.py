"""Requests and responses of sequence-to-sequence tasks on the command line."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from tasks.core.settings import setting
from tasks.shapes.generation import requests

if TYPE_CHECKING:  # it needs NumPy, which takes long to import
    from tasks.core.evaluation import Alignment


@dataclasses.dataclass(frozen=True)
class RequestFormat(requests.RequestFormat):
    """A text per line; the response is its translation."""

    figure_field = "align"
    align: str = setting(
        "", "PNG file to write: the attention weights of each subword; for a single text"
    )

    def requests(self, lines: Iterable[bytes]) -> Iterator[tuple[dict, None]]:
        for line in lines:
            yield {"text": line}, None

    def show(self, context: None, response: dict) -> str:
        return response["translation"].replace("\n", " ")

    def attention(self, context: None, response: dict) -> "Alignment":
        return alignment(response)


def alignment(response: dict) -> "Alignment":
    """Returns the attention weights of a response of the signature `align`."""
    from tasks.core.evaluation import Alignment

    source = response["source_tokens"][: response["source_lengths"]]
    target = response["target_tokens"][: response["target_lengths"]]
    weights = [list(map(float, row[: len(source)])) for row in response["attention"][: len(target)]]
    return Alignment(_as_text(source), _as_text(target), weights)


def _as_text(pieces: Iterable[str | bytes]) -> list[str]:
    return [piece.decode("utf-8") if isinstance(piece, bytes) else piece for piece in pieces]
