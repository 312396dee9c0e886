"""One problem a module: the modules of this package, not its packages, are the tasks.

shapes/   what a task is, and what tasks of one form share
corpora/  where examples come from
"""

import importlib
import pkgutil


class UserError(Exception):
    """Something that the person at the keyboard can mend; its text says what and how."""


def names() -> list[str]:
    """Names every task there is."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg)


def find(name: str) -> type:
    """Returns the `Task` of the module `tasks.<name>`.

    Raises:
        UserError: There is no such task.
    """
    if name not in names():
        raise UserError(f"task must be one of {names()}, got {name!r}.")
    return importlib.import_module(f"{__name__}.{name}").Task
