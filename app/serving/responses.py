"""Responses as text for people or as JSON for programs."""

import json
from collections.abc import Mapping

from app.core.console import printable
from tasks.core.task import RequestFormat


def as_text(request_format: RequestFormat, context: object, response: Mapping) -> str:
    """Formats a response for people, in one or more lines.

    The strings of the response are escaped, because they may come from a stranger's model.

    Args:
        request_format: The task's format of requests and responses.
        context: Second value of the pair that `RequestFormat.requests` returned.
        response: One row of outputs, by name.
    """
    return request_format.show(context, _printable(decoded(response)))


def as_json(request_format: RequestFormat, row: Mapping, context: object, response: Mapping) -> str:
    """Formats a request and its response as a JSON object in one line.

    Args:
        request_format: The task's format of requests and responses.
        row, context: The pair that `RequestFormat.requests` returned.
        response: One row of outputs, by name.
    """
    request = request_format.echo(row, context)
    request = {name: _plain(value) for name, value in request.items()}
    return json.dumps(request | request_format.to_json(decoded(response)))


def decoded(response: Mapping) -> dict[str, object]:
    """Converts a response to Python values, by name in alphabetical order.

    A signature has no order of outputs. `bytes` become `str`, invalid UTF-8 U+FFFD, and
    arrays become lists.
    """
    return {name: _plain(response[name]) for name in sorted(response)}


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _printable(value: object) -> object:
    """Escapes the strings in nested lists and dictionaries."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [_printable(item) for item in value]
    if isinstance(value, dict):
        return {name: _printable(item) for name, item in value.items()}
    return value
