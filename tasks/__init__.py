"""Tasks: each module of this package, but not its packages, is one.

core/     concepts that all tasks share
shapes/   what tasks of one form share: N→1, N→N, 1→N, N→M
corpora/  readers of files, TensorFlow Datasets and the embedded samples
probes/   generated sequences for studies; not tasks
"""

import importlib
import pkgutil

from tasks.core.errors import UserError


def names() -> list[str]:
    """Returns the names of all tasks."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg)


def find(name: str) -> type:
    """Returns the `Task` of the module `tasks.<name>`.

    Raises:
        UserError: There is no such task.
    """
    if name not in names():
        raise UserError(f"task must be one of {names()}, got {name!r}.")
    return importlib.import_module(f"{__name__}.{name}").Task
