"""Requests and responses of generation on the command line."""

import abc
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from tasks.core import request_format
from tasks.core.errors import UserError

if TYPE_CHECKING:  # it needs NumPy, which takes long to import
    from tasks.core.evaluation import Alignment, AttentionMaps


@dataclasses.dataclass(frozen=True)
class RequestFormat(request_format.RequestFormat):
    """Requests whose attention weights can be drawn.

    Class attributes:
        figure_field: The field that names the file of the figure. The signature that returns
            attention weights has the same name.
    """

    figure_field: ClassVar[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_new_file("already exists")

    def _check_new_file(self, problem: str) -> None:
        path = getattr(self, self.figure_field)
        if path and Path(path).exists():
            raise UserError(f"--{self.figure_field}: {path} {problem}.")

    @property
    def signature(self) -> str:
        return self.figure_field if self.draws else "serving_default"

    @property
    def draws(self) -> bool:
        return bool(getattr(self, self.figure_field))

    def drawing(
        self, context: object, response: dict
    ) -> "tuple[str, Alignment | AttentionMaps] | None":
        path = getattr(self, self.figure_field)
        if not path:
            return None
        self._check_new_file("holds the figure of the first request; give only one")
        return path, self.attention(context, response)

    @abc.abstractmethod
    def attention(self, context: object, response: dict) -> "Alignment | AttentionMaps":
        """Returns the attention weights of a response, to be drawn."""
