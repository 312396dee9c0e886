"""Requests and responses of image-to-text tasks on the command line."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.core.errors import UserError
from tasks.core.settings import setting
from tasks.shapes.generation import requests

if TYPE_CHECKING:  # it needs NumPy, which takes long to import
    from tasks.core.evaluation import AttentionMaps


@dataclasses.dataclass(frozen=True)
class RequestFormat(requests.RequestFormat):
    """The path of an image per line; the response is its caption."""

    figure_field = "attend"
    attend: str = setting(
        "", "PNG file to write: the attention weights of each word; for a single image"
    )

    def requests(self, lines: Iterable[bytes]) -> Iterator[tuple[dict, Path]]:
        for line in lines:
            path = Path(line.decode("utf-8", "surrogateescape"))
            try:
                yield {"image_bytes": path.read_bytes()}, path
            except OSError as error:
                raise UserError(f"{path}: cannot be read: {error.strerror}.") from error

    def show(self, context: Path, response: dict) -> str:
        if not response["valid"]:
            return f"{context}: not an image: neither JPEG nor PNG, damaged, or too large"
        return response["caption"].replace("\n", " ")

    def echo(self, row: dict, context: Path) -> dict:
        return {"image": str(context)}

    def attention(self, context: Path, response: dict) -> "AttentionMaps":
        return attention_maps(context.read_bytes(), response)


def attention_maps(
    image_bytes: bytes, response: dict, join: Callable | None = None
) -> "AttentionMaps":
    """Returns the attention maps of a response of the signature `attend`.

    Args:
        image_bytes: The image.
        response: The response.
        join: Function that joins the maps of the subwords of a word, (N, H, W), along axis 0;
            `np.mean` if none is given.
    """
    import numpy as np

    from models.text.subwords import BLANK
    from tasks.core.evaluation import AttentionMaps

    length = response["lengths"]
    pieces = [
        piece.decode("utf-8") if isinstance(piece, bytes) else piece
        for piece in response["tokens"][:length]
    ]
    starts = word_starts(pieces)
    spans = list(zip(starts, [*starts[1:], len(pieces)], strict=True)) if starts else []
    words = ["".join(pieces[first:end]).removeprefix(BLANK) for first, end in spans]
    join = join or np.mean
    maps = [join(response["attention"][first:end], axis=0) for first, end in spans]
    return AttentionMaps(image_bytes, words, maps)


def word_starts(pieces: Sequence[str]) -> list[int]:
    """Returns the indices of the subwords that begin words.

    >>> word_starts(["▁a", "▁tow", "er"])
    [0, 1]
    """
    from models.text.subwords import BLANK

    return [index for index, piece in enumerate(pieces) if index == 0 or piece.startswith(BLANK)]
