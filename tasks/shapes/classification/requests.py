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

    def to_json(self, response: dict) -> dict:
        """Returns the outputs with the probabilities by label.

        A version published before responses had labels gives the probabilities as a list.
        """
        if "labels" not in response:
            return response
        values = {name: value for name, value in response.items() if name != "labels"}
        pairs = zip(response["labels"], response["probabilities"], strict=True)
        return values | {"probabilities": dict(pairs)}
