"""Attributes of packages that are imported on first use."""

import importlib
from collections.abc import Callable, Mapping


def lazy_attributes(package: str, modules: Mapping[str, str]) -> Callable[[str], object]:
    """Returns the function `__getattr__` of a package whose attributes are in its modules.

    The settings of a shape can thus be read without TensorFlow, which its network needs.

    Args:
        package: Name of the package.
        modules: Name of the module of each attribute, relative to the package.
    """

    def find(name: str) -> object:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)

    return find
