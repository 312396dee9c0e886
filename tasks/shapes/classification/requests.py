"""Requests and responses of classification on the command line."""

import dataclasses
from collections.abc import Iterable, Iterator

from tasks.core import request_format


@dataclasses.dataclass(frozen=True)
class RequestFormat(request_format.RequestFormat):
    """A text per line; the response is its label, the probability, and the text."""

    def requests(self, lines: Iterable[bytes]) -> Iterator[tuple[dict, str]]:
        for line in lines:
            yield {"text": line}, line.decode("utf-8", "replace")

    def show(self, context: str, response: dict) -> str:
        return f"{response['label']}\t{response['probability']:.3f}\t{context}"
