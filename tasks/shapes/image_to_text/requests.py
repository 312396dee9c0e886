"""Requests and responses of image-to-text tasks on the command line."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.core.settings import setting
from tasks.shapes.generation import requests

if TYPE_CHECKING:  # it needs NumPy, which takes long to import
    from tasks.core.evaluation import AttentionMaps


_NO_IMAGE = "not an image: neither JPEG nor PNG, damaged, or too large"


@dataclasses.dataclass(frozen=True)
class ImageFile:
    """File of a request.

    Attributes:
        path: Its path.
        error: Why it cannot be read; "" if it can. The image is empty then.
    """

    path: Path
    error: str = ""


@dataclasses.dataclass(frozen=True)
class RequestFormat(requests.RequestFormat):
    """The path of an image per line; the response is its caption.

    A file that cannot be read is sent as an empty image, so that the others get a response.
    """

    figure_field = "attend"
    attend: str = setting(
        "", "PNG file to write: the attention weights of each word; for a single image"
    )

    def requests(self, lines: Iterable[bytes]) -> Iterator[tuple[dict, ImageFile]]:
        for line in lines:
            path = Path(line.decode("utf-8", "surrogateescape"))
            try:
                yield {"image_bytes": path.read_bytes()}, ImageFile(path)
            except OSError as error:
                yield {"image_bytes": b""}, ImageFile(path, f"cannot be read: {error.strerror}")
            except ValueError as error:  # a path with a null character
                yield {"image_bytes": b""}, ImageFile(path, f"cannot be read: {error}")

    def show(self, context: ImageFile, response: dict) -> str:
        if failure := self.failure(context, response):
            return f"{context.path}: {failure}"
        return response["caption"].replace("\n", " ")

    def failure(self, context: ImageFile, response: dict | None = None) -> str:
        return context.error or ("" if response is None or response["valid"] else _NO_IMAGE)

    def echo(self, row: dict, context: ImageFile) -> dict:
        image = {"image": str(context.path)}
        return image | {"error": context.error} if context.error else image

    def drawing(self, context: ImageFile, response: dict) -> "tuple[str, AttentionMaps] | None":
        return None if self.failure(context, response) else super().drawing(context, response)

    def attention(self, context: ImageFile, response: dict) -> "AttentionMaps":
        return attention_maps(context.path.read_bytes(), response)


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
