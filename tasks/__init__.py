"""Tasks: each module of this package, but not its packages, is one.

core/     concepts that all tasks share
shapes/   what tasks of one form share: N→1, N→N, 1→N, N→M
corpora/  readers of files, TensorFlow Datasets and the embedded samples
probes/   generated sequences for studies; not tasks
"""

import functools
import importlib
import pkgutil

from tasks.core.declaration import Declaration
from tasks.core.errors import UserError


def names() -> list[str]:
    """Returns the names of all tasks."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg)


def declaration(name: str) -> type:
    """Returns the `Task` of the module `tasks.<name>`, with its settings and formats.

    TensorFlow is not imported, unless the task implements its form itself.

    Raises:
        UserError: There is no such task.
    """
    if name not in names():
        raise UserError(f"task must be one of {names()}, got {name!r}.")
    return importlib.import_module(f"{__name__}.{name}").Task


@functools.cache
def find(name: str) -> type:
    """Returns the complete class of a task: its declaration and the implementation of its shape.

    Raises:
        UserError: There is no such task.
    """
    return complete(declaration(name))


def complete(declared: type) -> type:
    """Returns the class that joins a declaration and the implementation of its shape.

    A class that is not a declaration is returned as it is.
    """
    if not issubclass(declared, Declaration):
        return declared
    module, class_name = declared.implementation
    implementation = getattr(importlib.import_module(module), class_name)
    namespace = {"__doc__": declared.__doc__, "__module__": declared.__module__}
    return type(declared.__name__, (declared, implementation), namespace)
