"""Requests and responses of language modelling on the command line."""

import dataclasses
import math
from collections.abc import Iterable, Iterator

from tasks.core import request_format
from tasks.core.errors import UserError
from tasks.core.settings import setting


@dataclasses.dataclass(frozen=True)
class RequestFormat(request_format.RequestFormat):
    """A text per line; the response is its perplexity, what follows it, or a continuation."""

    next: bool = setting(False, "show the most probable next tokens, with their probabilities")
    generate: bool = setting(False, "continue the text")
    seed: int = setting(0, "seed of a continuation; equal seeds give equal ones", at_least=0)
    temperature: float = setting(
        1.0,
        "temperature of a continuation: below 1 more probable, above 1 more varied; 0: the most "
        "probable token at each step",
        at_least=0,
    )
    length: int = setting(50, "maximum number of tokens of a continuation", at_least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.next and self.generate:
            raise UserError("--next and --generate exclude each other; give one of them.")

    @property
    def signature(self) -> str:
        if self.generate:
            return "generate"
        return "next" if self.next else "serving_default"

    def requests(self, lines: Iterable[bytes]) -> Iterator[tuple[dict, str]]:
        sampling = {}
        if self.generate:
            sampling = {name: getattr(self, name) for name in ("seed", "temperature", "length")}
        for line in lines:
            yield {"text": line, **sampling}, line.decode("utf-8", "replace")

    def show(self, context: str, response: dict) -> str:
        if "continuation" in response:
            return f"{context}{_joint(context, response)}{response['continuation']}".replace(
                "\n", " "
            )
        pairs = zip(response["tokens"], response["log_probabilities"], strict=True)
        if "perplexity" in response:
            return f"{response['perplexity']:.4g}\t{context}"
        if "lengths" in response:  # a piece of a stream
            return " ".join(f"{token}/{value:.2f}" for token, value in pairs)
        return "\t".join(f"{token} {math.exp(value):.3f}" for token, value in pairs)


def _joint(context: str, response: dict) -> str:
    """Returns a blank if the continuation consists of words, which have none."""
    words = response["continuation"] == " ".join(response["tokens"])
    is_open = context and not context[-1].isspace()
    return " " if words and is_open and response["continuation"] else ""
