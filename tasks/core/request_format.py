"""Format of requests and responses on the command line."""

import abc
import dataclasses
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from tasks.core.settings import check

if TYPE_CHECKING:  # it needs NumPy, which takes long to import
    from tasks.core.evaluation import Alignment, AttentionMaps


@dataclasses.dataclass(frozen=True)
class RequestFormat(abc.ABC):
    """How `app.predict` reads requests and prints responses; its fields are flags.

    A request is a pair: the row of inputs that is sent, and a context of any type that
    formatting the response needs.
    """

    def __post_init__(self) -> None:
        check(self)

    @property
    def signature(self) -> str:
        """Signature that the requests are sent to."""
        return "serving_default"

    @property
    def draws(self) -> bool:
        """Whether the response is drawn to a file, which allows a single request only."""
        return False

    @property
    def by_line(self) -> bool:
        """Whether each line is a request."""
        return True

    @abc.abstractmethod
    def requests(self, lines: Iterable[bytes]) -> Iterator[tuple[dict, object]]:
        """Reads requests lazily, without reading lines beyond a request before yielding it.

        Args:
            lines: Lines without their line ends.

        Yields:
            The row of a request, with a value for each input of the signature by name, and
            its context.

        Raises:
            UserError: The lines are malformed.
        """

    @abc.abstractmethod
    def show(self, context: object, response: dict) -> str:
        """Formats a response for people, in one or more lines.

        Args:
            context: Context of the request.
            response: A value for each output, by name; strings are `str`.
        """

    def echo(self, row: dict, context: object) -> dict:
        """Returns the values that represent the request in JSON output: the row by default."""
        return row

    def to_json(self, response: dict) -> dict:
        """Returns the values that represent a response in JSON output: the outputs by default.

        Args:
            response: A value for each output, by name, as in `show`.
        """
        return response

    def failure(self, context: object, response: dict | None = None) -> str:
        """Returns why a request gets no response; "" by default: every request gets one.

        Args:
            context: Context of the request.
            response: A value for each output, by name; None before there is a response.
        """
        return ""

    def drawing(
        self, context: object, response: dict
    ) -> "tuple[str, Alignment | AttentionMaps] | None":
        """Returns the path and content of the figure to be drawn; None by default."""
        return None
