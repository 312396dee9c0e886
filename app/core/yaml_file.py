"""YAML as `app.core.config_file` reads it: scalars as they are written, and no key twice."""

from typing import Any

import yaml

_NULL, _MERGE = "tag:yaml.org,2002:null", "tag:yaml.org,2002:merge"


class DuplicateKeyError(Exception):
    """A mapping has a key twice; the argument is the key."""


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, True) for key, _ in node.value if key.tag != _MERGE]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                raise DuplicateKeyError(key)
        return super().construct_mapping(node, deep)


class _WrittenLoader(_Loader):
    """Every scalar is a string, but for null."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag in (_NULL, _MERGE)]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def parse(text: str) -> Any:
    """Returns the content of a text in YAML.

    The values of a mapping, and the items of its lists, are the strings that are written, because
    YAML reads `on` as true and `010` as 8; null is None. What mappings in it contain, such as the
    spec of a cell or the settings of a record, has the types of YAML.

    Args:
        text: The text.

    Raises:
        DuplicateKeyError: A mapping has a key twice.
        yaml.YAMLError, ValueError: The text is malformed.
    """
    typed = yaml.load(text, _Loader)
    if not isinstance(typed, dict):
        return typed
    written = yaml.load(text, _WrittenLoader)
    return {
        key: value if isinstance(value, dict) else as_written
        for value, (key, as_written) in zip(typed.values(), written.items(), strict=True)
    }
