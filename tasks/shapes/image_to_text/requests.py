"""Requests and responses of image-to-text tasks on the command line."""

import dataclasses
from collections.abc import Iterable, Iterator
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


def attention_maps(image_bytes: bytes, response: dict) -> "AttentionMaps":
    """Returns the attention maps of a response of the signature `attend`.

    Subwords are joined to words; the map of a word is the mean of those of its subwords.
    """
    import numpy as np

    from models.text.subwords import BLANK
    from tasks.core.evaluation import AttentionMaps

    words, maps = [], []
    length = response["lengths"]
    tokens, weights = response["tokens"][:length], response["attention"][:length]
    for piece, grid in zip(tokens, weights, strict=True):
        piece = piece.decode("utf-8") if isinstance(piece, bytes) else piece
        if words and not piece.startswith(BLANK):
            words[-1] += piece
            maps[-1].append(grid)
        else:
            words.append(piece.removeprefix(BLANK))
            maps.append([grid])
    return AttentionMaps(image_bytes, words, [np.mean(grids, axis=0) for grids in maps])
