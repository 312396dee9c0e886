"""Declaration of a task: its settings and formats, importable without TensorFlow."""

from typing import TYPE_CHECKING, ClassVar

from tasks.core.config import Config
from tasks.core.corpus import Corpus
from tasks.core.request_format import RequestFormat

if TYPE_CHECKING:
    from tasks.core.evaluation import Evaluator


class Declaration:
    """What a task declares about a shape; commands make flags and check them from it alone.

    `tasks.find` completes a declaration with the class that implements its shape, which comes
    after it in the order of inheritance. A method of the declaration thus overrides one of the
    implementation.

    Class attributes:
        Config: Dataclass of the settings.
        Corpus: Dataclass of the location of the examples.
        RequestFormat: Dataclass of the format of requests and responses on the command line.
        Evaluator: Class that computes the scores; by default that of the implementation.
        implementation: Module and name of the class that implements the shape.
    """

    Config: ClassVar[type[Config]]
    Corpus: ClassVar[type[Corpus]]
    RequestFormat: ClassVar[type[RequestFormat]]
    if TYPE_CHECKING:
        Evaluator: ClassVar[type[Evaluator]]
    implementation: ClassVar[tuple[str, str]]
