"""Requests and responses of classification on the command line.

A response shows by its outputs what the version predicts: a class, labels or a number. Nothing
else of a version on a server is known here.
"""

import dataclasses
from collections.abc import Iterable, Iterator

from tasks.core import request_format
from tasks.core.targets import SEPARATOR

_NO_LABEL = "(no label)"
_NO_TREE = "(not a tree, or too large)"


@dataclasses.dataclass(frozen=True)
class RequestFormat(request_format.RequestFormat):
    """A text per line; the response is its label or number, probabilities, and the text."""

    def requests(self, lines: Iterable[bytes]) -> Iterator[tuple[dict, str]]:
        for line in lines:
            yield {"text": line}, line.decode("utf-8", "replace")

    def show(self, context: str, response: dict) -> str:
        if "tree" in response:  # the words are those of the request, the labels are predicted
            if not response["valid"]:
                return f"{_NO_TREE}\t{context}"
            context = response["tree"]
        if "value" in response:
            return f"{response['value']:.4g}\t{context}"
        if "chosen" in response:
            chosen = _chosen(response)
            probabilities = SEPARATOR.join(f"{value:.3f}" for value in chosen.values())
            if not chosen:
                probabilities = f"{1 - max(response['probabilities']):.3f}"
            return f"{response['label'] or _NO_LABEL}\t{probabilities}\t{context}"
        return f"{response['label']}\t{response['probability']:.3f}\t{context}"

    def to_json(self, response: dict) -> dict:
        """Returns the outputs with the probabilities by label, and the names of chosen labels.

        A version published before responses had labels gives the probabilities as a list.
        """
        if "labels" not in response:
            return response
        values = {name: value for name, value in response.items() if name != "labels"}
        pairs = zip(response["labels"], response["probabilities"], strict=True)
        if "chosen" in response:
            values["chosen"] = list(_chosen(response))
        return values | {"probabilities": dict(pairs)}


def _chosen(response: dict) -> dict[str, float]:
    """Returns the probabilities of the chosen labels by name."""
    columns = zip(response["labels"], response["chosen"], response["probabilities"], strict=True)
    return {name: probability for name, is_chosen, probability in columns if is_chosen}
